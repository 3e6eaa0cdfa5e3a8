//! What only servers need.
#![allow(unsafe_code)]

use std::os::raw::{c_int, c_long, c_uchar, c_uint, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{NameType, SslContextBuilder, SslRef};
use openssl_sys as sys;

use crate::tls::server::{choose_alpn, show_identity, Alpn};

type GenerateTicket = extern "C" fn(*mut sys::SSL, *mut c_void) -> c_int;
type DecryptTicket =
    extern "C" fn(*mut sys::SSL, *mut sys::SSL_SESSION, *const c_uchar, usize, c_int, *mut c_void) -> c_int;

extern "C" {
    fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut sys::SSL_CTX,
        generate: GenerateTicket,
        decrypt: DecryptTicket,
        arg: *mut c_void,
    ) -> c_int;
    fn SSL_client_hello_get0_ext(
        ssl: *mut sys::SSL,
        kind: c_uint,
        data: *mut *const c_uchar,
        length: *mut usize,
    ) -> c_int;
    fn SSL_SESSION_set1_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    fn SSL_SESSION_get0_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *mut *mut c_void,
        length: *mut usize,
    ) -> c_int;
    fn SSL_set_options(ssl: *mut sys::SSL, options: u64) -> u64;
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

/// The name in the ClientHello that is being looked at, before OpenSSL has read it: its tickets come first.
/// Stands for SSL_client_hello_get0_ext.
///
/// # Safety
/// The SSL is live; the name lives as long as the ClientHello.
unsafe fn name_in_hello<'a>(ssl: *mut sys::SSL) -> &'a [u8] {
    const SERVER_NAME: c_uint = 0;
    let mut data = ptr::null();
    let mut length = 0;
    // SAFETY: the caller's; on success `data` and `length` are those of a part of the ClientHello.
    let extension = unsafe {
        match SSL_client_hello_get0_ext(ssl, SERVER_NAME, &raw mut data, &raw mut length) {
            1 if length > 0 => std::slice::from_raw_parts(data, length),
            _ => return &[],
        }
    };
    // RFC 6066 §3: a list, of which the first entry is a host name; each with its length.
    match extension {
        [_, _, 0, high, low, name @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            name.get(..length).unwrap_or_default()
        }
        _ => &[],
    }
}

/// Binds each ticket to the name that its client has asked for (RFC 6066 §3): one for another name is no
/// ticket. Stands for SSL_CTX_set_session_ticket_cb.
pub(crate) fn bind_tickets_to_names(builder: &mut SslContextBuilder) {
    const IGNORE_AND_RENEW: c_int = 2;
    const USE: c_int = 3;
    const USE_AND_RENEW: c_int = 4;
    const DECRYPTED: c_int = 5;
    const DECRYPTED_TO_RENEW: c_int = 6;
    extern "C" fn generate(ssl: *mut sys::SSL, _: *mut c_void) -> c_int {
        // SAFETY: OpenSSL passes the SSL of this handshake; its session is live, and copies the name.
        unsafe {
            let name = SslRef::from_ptr(ssl)
                .servername_raw(NameType::HOST_NAME)
                .unwrap_or_default();
            SSL_SESSION_set1_ticket_appdata(sys::SSL_get_session(ssl), name.as_ptr().cast(), name.len())
        }
    }
    extern "C" fn decrypt(
        ssl: *mut sys::SSL,
        session: *mut sys::SSL_SESSION,
        _: *const c_uchar,
        _: usize,
        status: c_int,
        _: *mut c_void,
    ) -> c_int {
        if session.is_null() {
            return IGNORE_AND_RENEW;
        }
        // SAFETY: OpenSSL passes the SSL of this handshake and the session of the ticket, whose data lives as
        // long as it does.
        let same = unsafe {
            let asked = name_in_hello(ssl);
            let mut data = ptr::null_mut();
            let mut length = 0;
            SSL_SESSION_get0_ticket_appdata(session, &raw mut data, &raw mut length);
            let had = match length {
                0 => &[][..],
                _ => std::slice::from_raw_parts(data.cast::<u8>(), length),
            };
            asked.eq_ignore_ascii_case(had)
        };
        match status {
            DECRYPTED if same => USE,
            DECRYPTED_TO_RENEW if same => USE_AND_RENEW,
            _ => IGNORE_AND_RENEW,
        }
    }
    // SAFETY: the builder's context is valid, and the callbacks need no argument.
    unsafe { SSL_CTX_set_session_ticket_cb(builder.as_ptr(), generate, decrypt, ptr::null_mut()) };
}

/// No ticket in this handshake. Stands for SSL_set_options with SSL_OP_NO_TICKET.
pub(crate) fn give_no_ticket(ssl: &mut SslRef) {
    // SAFETY: the SSL is live.
    unsafe { SSL_set_options(ssl.as_ptr(), sys::SSL_OP_NO_TICKET) };
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
