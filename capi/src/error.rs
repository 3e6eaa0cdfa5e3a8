//! Why a call failed.

use std::ffi::{c_char, CString};

use starttls::Error;

use crate::handle::{borrowed, c_string, free, get, give, Handle, Opaque};
use crate::outcome::{starttls_outcome, Teller, Told};

/// Why a call failed: a word for programs, a sentence for people, and the outcome so far.
pub struct starttls_error {
    _opaque: [u8; 0],
}

impl Opaque for starttls_error {
    type Inner = Failure;
    const NAME: &'static str = "starttls_error";
    const MARK: u64 = 0x7374_746c_7365_7272;
}

pub(crate) struct Failure {
    word: CString,
    message: CString,
    temporary: bool,
    outcome: Handle<starttls_outcome>,
}

pub(crate) fn new(e: Error) -> *mut starttls_error {
    give(Failure {
        word: c_string(e.word().as_str()),
        message: c_string(e.message()),
        temporary: e.temporary(),
        outcome: Handle::new(Told::new(Teller::Error(e))),
    })
}

/// What a handle was made of, for tests.
#[cfg(test)]
pub(crate) unsafe fn copied(error: *const starttls_error) -> Option<Error> {
    // SAFETY: the caller's.
    match &unsafe { get(error) }.ok()?.outcome.value().by {
        Teller::Error(e) => Some(e.clone()),
        _ => None,
    }
}

/// The word for programs, from the list above; it never changes. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_error_word(error: *const starttls_error) -> *const c_char {
    guard!(borrowed(get(error).ok().map(|e| &e.word)))
}

/// The sentence for people, in English, without a line end. What the peer said is escaped in it, so
/// it can go to a log or a terminal. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_error_message(error: *const starttls_error) -> *const c_char {
    guard!(borrowed(get(error).ok().map(|e| &e.message)))
}

/// Whether the same call may succeed later with nobody changing anything: keep the mail and try
/// again, or give up. False for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_error_temporary(error: *const starttls_error) -> bool {
    guard!(get(error).is_ok_and(|e| e.temporary))
}

/// What had happened by then; NULL if the call failed before anything was tried. It belongs to the
/// error.
#[no_mangle]
pub unsafe extern "C" fn starttls_error_outcome(error: *const starttls_error) -> *const starttls_outcome {
    guard!(get(error)
        .ok()
        .filter(|e| e.outcome.value().outcome().is_some())
        .map_or(std::ptr::null(), |e| e.outcome.lend()))
}

/// Frees an error, with its strings and its outcome. Set the variable to NULL before it is used in
/// another call. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_error_free(error: *mut starttls_error) {
    guard!(free(error))
}
