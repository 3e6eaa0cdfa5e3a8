//! DANE by OpenSSL's own verifier, which the crate `openssl` does not bind.
//!
//! OpenSSL picks the strongest digest of each kind (RFC 7671 §9), walks the chain for DANE-TA and passes over
//! dates and names for DANE-EE; nothing of that is done again here.

use std::ffi::CString;
use std::os::raw::{c_char, c_int, c_uchar, c_uint, c_ulong, c_void};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::x509::X509StoreContextRef;
use openssl_sys as sys;

use crate::dns::Tlsa;

extern "C" {
    fn SSL_CTX_dane_enable(ctx: *mut sys::SSL_CTX) -> c_int;
    fn SSL_dane_enable(ssl: *mut sys::SSL, base_domain: *const c_char) -> c_int;
    fn SSL_dane_set_flags(ssl: *mut sys::SSL, flags: c_ulong) -> c_ulong;
    fn SSL_dane_tlsa_add(
        ssl: *mut sys::SSL,
        usage: u8,
        selector: u8,
        matching: u8,
        data: *const c_uchar,
        length: usize,
    ) -> c_int;
    fn SSL_add1_host(ssl: *mut sys::SSL, name: *const c_char) -> c_int;
    fn SSL_set_hostflags(ssl: *mut sys::SSL, flags: c_uint);
    fn SSL_get0_dane_authority(
        ssl: *mut sys::SSL,
        cert: *mut *mut sys::X509,
        key: *mut *mut sys::EVP_PKEY,
    ) -> c_int;
    fn SSL_get0_dane_tlsa(
        ssl: *mut sys::SSL,
        usage: *mut u8,
        selector: *mut u8,
        matching: *mut u8,
        data: *mut *const c_uchar,
        length: *mut usize,
    ) -> c_int;
    fn X509_STORE_CTX_set0_dane(ctx: *mut sys::X509_STORE_CTX, dane: *mut c_void);
    fn X509_VERIFY_PARAM_set1_host(
        param: *mut sys::X509_VERIFY_PARAM,
        name: *const c_char,
        length: usize,
    ) -> c_int;
}

/// RFC 7671 §5.1: with DANE-EE the record itself binds the key to the name.
const DANE_FLAG_NO_DANE_EE_NAMECHECKS: c_ulong = 1;

/// Lets the connections of this context use DANE; doing so again is no error. Stands for SSL_CTX_dane_enable.
///
/// # Safety
/// The context is live.
pub(crate) unsafe fn allow(ctx: *mut sys::SSL_CTX) -> Result<(), ErrorStack> {
    // SAFETY: the caller's.
    if unsafe { SSL_CTX_dane_enable(ctx) } > 0 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}

/// Has this connection's peer verified by these records; `names` are the reference names for DANE-TA, the
/// base domain first. True if OpenSSL can use at least one. Stands for SSL_dane_enable, SSL_dane_tlsa_add,
/// SSL_add1_host.
pub(crate) fn enable<'a>(
    ssl: &mut SslRef,
    records: &[Tlsa],
    names: impl Iterator<Item = &'a str>,
) -> Result<bool, ErrorStack> {
    let flags = sys::X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | super::NEVER_CHECK_SUBJECT;
    let mut base = None;
    for name in names {
        // Names were read by `ServerName`: there is no NUL in them.
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the SSL is valid, and OpenSSL copies the string.
        let set = unsafe {
            if base.is_none() {
                SSL_dane_enable(ssl.as_ptr(), name.as_ptr())
            } else {
                SSL_add1_host(ssl.as_ptr(), name.as_ptr())
            }
        };
        if set <= 0 {
            return Err(ErrorStack::get());
        }
        base = Some(());
    }
    let mut usable = false;
    // SAFETY: the SSL is valid; pointer and length are those of a live slice that OpenSSL copies.
    unsafe {
        SSL_set_hostflags(ssl.as_ptr(), flags);
        SSL_dane_set_flags(ssl.as_ptr(), DANE_FLAG_NO_DANE_EE_NAMECHECKS);
        for record in records {
            let data = record.data.as_ptr();
            let (usage, selector, matching) = (record.usage, record.selector, record.matching);
            let added = SSL_dane_tlsa_add(ssl.as_ptr(), usage, selector, matching, data, record.data.len());
            if added < 0 {
                return Err(ErrorStack::get());
            }
            usable |= added > 0;
        }
    }
    // What it says of records that it cannot use is nobody's error.
    drop(ErrorStack::get());
    Ok(usable)
}

/// The record that matched, once X509_verify_cert has found the chain good; `None` if none did. Stands for
/// SSL_get0_dane_authority and SSL_get0_dane_tlsa.
pub(crate) fn matched(ssl: &SslRef) -> Option<Tlsa> {
    let (mut usage, mut selector, mut matching) = (0, 0, 0);
    let mut data: *const c_uchar = ptr::null();
    let mut length = 0;
    // SAFETY: the SSL is valid; what is written are numbers and a pointer into its own copy of the record,
    // which is copied before anything else is called.
    unsafe {
        if SSL_get0_dane_authority(ssl.as_ptr(), ptr::null_mut(), ptr::null_mut()) < 0 {
            return None;
        }
        let depth = SSL_get0_dane_tlsa(
            ssl.as_ptr(),
            &raw mut usage,
            &raw mut selector,
            &raw mut matching,
            &raw mut data,
            &raw mut length,
        );
        (depth >= 0 && !data.is_null()).then(|| Tlsa {
            usage,
            selector,
            matching,
            data: std::slice::from_raw_parts(data, length).to_vec(),
        })
    }
}

/// Has the chain verified by PKIX, whatever TLSA records its SSL has. Stands for X509_STORE_CTX_set0_dane.
pub(crate) fn ignore(ctx: &mut X509StoreContextRef) {
    // SAFETY: the context is valid; without records it is as one that never had any.
    unsafe { X509_STORE_CTX_set0_dane(ctx.as_ptr(), ptr::null_mut()) }
}

/// Takes the names away that DANE has put into the parameters: what follows is PKIX alone, whose names are
/// compared by [`super::check_host`]. Stands for X509_VERIFY_PARAM_set1_host.
pub(super) fn forget_names(ctx: &mut X509StoreContextRef) {
    // SAFETY: the context is valid, and with it its parameters; NULL takes the names away.
    unsafe {
        X509_VERIFY_PARAM_set1_host(super::X509_STORE_CTX_get0_param(ctx.as_ptr()), ptr::null(), 0);
    }
}
