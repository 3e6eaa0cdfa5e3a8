//! What this library is and can do.

use std::ffi::{c_char, CString};
use std::sync::OnceLock;

use starttls::protocol::{words, Service};

use crate::handle::{borrowed, c_string};

/// The version of this header, as `starttls_version()` gives that of the library.
pub const STARTTLS_VERSION: u32 = 0x000100;

/// The version of the library that runs: major * 65536 + minor * 256 + patch, so 256 for
/// 0.1.0.
#[no_mangle]
pub unsafe extern "C" fn starttls_version() -> u32 {
    guard!(STARTTLS_VERSION)
}

/// The words that go wherever a function asks for a protocol: `smtp`, `imap` and so on, and `smtps`,
/// `imaps` and so on for TLS from the first byte. The i-th, from 0; NULL past the end. The string is
/// static.
#[no_mangle]
pub unsafe extern "C" fn starttls_protocol_name(i: usize) -> *const c_char {
    guard!(borrowed(protocols().get(i)))
}

fn protocols() -> &'static [CString] {
    static PROTOCOLS: OnceLock<Vec<CString>> = OnceLock::new();
    PROTOCOLS.get_or_init(|| words().map(Service::word).map(c_string).collect())
}

const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(n) => n,
        Err(_) => panic!("not a number"),
    }
}

const _: () = assert!(
    STARTTLS_VERSION
        == number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
            | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
            | number(env!("CARGO_PKG_VERSION_PATCH"))
);
