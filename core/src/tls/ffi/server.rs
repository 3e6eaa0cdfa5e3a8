//! What only servers need.
#![allow(unsafe_code)]

use std::os::raw::{c_int, c_long, c_uchar, c_uint, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl_sys as sys;

use crate::tls::server::{choose_alpn, show_identity, Alpn};

extern "C" {
    fn SSL_CTX_set_timeout(ctx: *mut sys::SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_CTX_set_num_tickets(ctx: *mut sys::SSL_CTX, n: usize) -> c_int;
}

const SSL_CTRL_GET_TLSEXT_TICKET_KEYS: c_int = 58;
const SSL_CTRL_SET_TLSEXT_TICKET_KEYS: c_int = 59;

/// Has each client's certificate and ALPN identifier chosen by [`show_identity`] and [`choose_alpn`]. Stands for
/// SSL_CTX_set_tlsext_servername_callback and SSL_CTX_set_alpn_select_cb; the crate's own keep closures in
/// a map, which leak checkers take for a leak.
pub(crate) fn choose_for_clients(builder: &mut SslContextBuilder) {
    extern "C" fn server_name(ssl: *mut sys::SSL, _: *mut c_int, _: *mut c_void) -> c_int {
        // What cannot be shown, for whatever reason, leaves the default certificate.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: OpenSSL passes the SSL of this handshake, used by nobody else in this call.
            show_identity(unsafe { SslRef::from_ptr_mut(ssl) });
        }));
        sys::SSL_TLSEXT_ERR_OK
    }
    extern "C" fn alpn(
        ssl: *mut sys::SSL,
        out: *mut *const c_uchar,
        out_length: *mut c_uchar,
        offered: *const c_uchar,
        length: c_uint,
        _: *mut c_void,
    ) -> c_int {
        let chosen = catch_unwind(AssertUnwindSafe(|| {
            let length = usize::try_from(length).unwrap_or(0);
            // SAFETY: OpenSSL passes the SSL of this handshake, and what its client has sent, which it keeps
            // until it has sent its answer.
            let (ssl, offered) =
                unsafe { (SslRef::from_ptr(ssl), std::slice::from_raw_parts(offered, length)) };
            match choose_alpn(ssl, offered) {
                Alpn::Chosen(one) => {
                    // SAFETY: both pointers are valid for this call; `one` is part of `offered`.
                    unsafe {
                        *out = one.as_ptr();
                        *out_length = u8::try_from(one.len()).unwrap_or(0);
                    }
                    sys::SSL_TLSEXT_ERR_OK
                }
                Alpn::NotOurs => sys::SSL_TLSEXT_ERR_ALERT_FATAL,
                Alpn::HasNone => sys::SSL_TLSEXT_ERR_NOACK,
            }
        }));
        chosen.unwrap_or(sys::SSL_TLSEXT_ERR_ALERT_FATAL)
    }
    // SAFETY: the builder's context is valid, and the callbacks need no argument.
    unsafe {
        sys::SSL_CTX_set_tlsext_servername_callback__fixed_rust(builder.as_ptr(), Some(server_name));
        sys::SSL_CTX_set_alpn_select_cb__fixed_rust(builder.as_ptr(), Some(alpn), ptr::null_mut());
    }
}

/// The keys by which tickets are sealed. Stands for SSL_CTX_get_tlsext_ticket_keys.
pub(crate) fn ticket_keys(builder: &mut SslContextBuilder) -> Option<Vec<u8>> {
    let ctx = builder.as_ptr();
    // SAFETY: with NULL OpenSSL answers with the length; the second call writes that many bytes.
    unsafe {
        let length = sys::SSL_CTX_ctrl(ctx, SSL_CTRL_GET_TLSEXT_TICKET_KEYS, 0, ptr::null_mut());
        let mut keys = vec![0u8; usize::try_from(length).ok().filter(|n| *n > 0)?];
        let got = sys::SSL_CTX_ctrl(
            ctx,
            SSL_CTRL_GET_TLSEXT_TICKET_KEYS,
            length,
            keys.as_mut_ptr().cast(),
        );
        (got == 1).then_some(keys)
    }
}

/// Stands for SSL_CTX_set_tlsext_ticket_keys. Keys of another length are not taken.
pub(crate) fn set_ticket_keys(builder: &mut SslContextBuilder, keys: &[u8]) {
    let length = c_long::try_from(keys.len()).unwrap_or(0);
    // SAFETY: pointer and length are those of one live slice, from which OpenSSL copies.
    unsafe {
        sys::SSL_CTX_ctrl(
            builder.as_ptr(),
            SSL_CTRL_SET_TLSEXT_TICKET_KEYS,
            length,
            keys.as_ptr().cast_mut().cast(),
        );
    }
}

/// How long a session may be resumed. Stands for SSL_CTX_set_timeout.
pub(crate) fn set_session_seconds(builder: &mut SslContextBuilder, seconds: c_long) {
    // SAFETY: the builder's context is valid.
    unsafe { SSL_CTX_set_timeout(builder.as_ptr(), seconds) };
}

/// How many tickets a TLS 1.3 handshake gives out. Stands for SSL_CTX_set_num_tickets.
pub(crate) fn set_num_tickets(builder: &mut SslContextBuilder, n: usize) {
    // SAFETY: the builder's context is valid.
    unsafe { SSL_CTX_set_num_tickets(builder.as_ptr(), n) };
}
