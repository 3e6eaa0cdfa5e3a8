//! What C holds: pointers to boxes with a mark in front, by which NULL, a handle of another type
//! and, mostly, one that was freed are told from a good one. And the arguments that C hands in.

use std::ffi::{c_char, c_void, CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use starttls::{Error, Result, Word};

/// A type that C sees only by pointers.
pub(crate) trait Opaque: Sized {
    /// What is behind the pointer.
    type Inner;
    /// The type's name, for messages; its address in front of the value is the mark.
    const NAME: &'static str;
    /// A number of its own for each type.
    const MARK: u64;
}

const FREED: u64 = 0x6672_6565_6420_2020;

/// What an opaque pointer really points to. `repr(C)`: the mark comes first in every type.
#[repr(C)]
pub(crate) struct Handle<O: Opaque> {
    mark: u64,
    value: O::Inner,
}

impl<O: Opaque> Handle<O> {
    pub(crate) fn new(value: O::Inner) -> Self {
        Self { mark: O::MARK, value }
    }

    pub(crate) fn value(&self) -> &O::Inner {
        &self.value
    }

    /// A pointer that is good for as long as this handle, which is part of another.
    pub(crate) fn lend(&self) -> *const O {
        std::ptr::from_ref(self).cast()
    }
}

/// Gives the value away; [`free`] takes it back.
pub(crate) fn give<O: Opaque>(value: O::Inner) -> *mut O {
    Box::into_raw(Box::new(Handle::<O>::new(value))).cast()
}

/// What is behind the pointer.
///
/// # Errors
/// `invalid` for NULL and for what does not bear the mark.
///
/// # Safety
/// NULL, or a handle of this library that nobody frees before the answer is done with.
pub(crate) unsafe fn get<'a, O: Opaque>(pointer: *const O) -> Result<&'a O::Inner> {
    let handle: *const Handle<O> = pointer.cast();
    if handle.is_null() {
        return Err(invalid(format!("the {} is NULL", O::NAME)));
    }
    // SAFETY: the caller's. The mark is read before anything is believed of the rest.
    if !handle.is_aligned() || unsafe { (&raw const (*handle).mark).read_volatile() } != O::MARK {
        return Err(invalid(format!(
            "this is no {}: was it freed, or is it of another type?",
            O::NAME
        )));
    }
    // SAFETY: it bears the mark, and the caller does not free it meanwhile.
    Ok(unsafe { &(*handle).value })
}

/// Frees what [`give`] gave. NULL and what is no such handle are left alone.
///
/// # Safety
/// As for [`get`], and nobody uses the handle afterwards.
pub(crate) unsafe fn free<O: Opaque>(pointer: *mut O) {
    // SAFETY: the caller's.
    if unsafe { get::<O>(pointer) }.is_ok() {
        let handle: *mut Handle<O> = pointer.cast();
        // SAFETY: it bears the mark, so `give` made it. Volatile: the mark must really go.
        unsafe {
            (&raw mut (*handle).mark).write_volatile(FREED);
            drop(Box::from_raw(handle));
        }
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::at_border(Word::Invalid, message)
}

/// A string that must be there and be UTF-8, such as a word or a host name.
///
/// # Safety
/// NULL or NUL-terminated.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: the caller's.
    unsafe { string(pointer, what) }?
        .to_str()
        .map_err(|_| invalid(format!("the {what} is not UTF-8")))
}

/// The name of a file, in whatever encoding.
///
/// # Safety
/// NULL or NUL-terminated.
pub(crate) unsafe fn path<'a>(pointer: *const c_char, what: &str) -> Result<&'a Path> {
    // SAFETY: the caller's.
    let name = unsafe { string(pointer, what) }?;
    Ok(Path::new(OsStr::from_bytes(name.to_bytes())))
}

unsafe fn string<'a>(pointer: *const c_char, what: &str) -> Result<&'a CStr> {
    if pointer.is_null() {
        return Err(invalid(format!("the {what} is NULL")));
    }
    // SAFETY: the caller's: NUL-terminated.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// Bytes to read; NULL is none.
///
/// # Safety
/// `length` bytes are there.
pub(crate) unsafe fn bytes<'a>(pointer: *const c_void, length: usize, what: &str) -> Result<&'a [u8]> {
    fits(pointer, length, what)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: the caller's; not NULL, and the length is one that a slice can have.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Room to write to.
///
/// # Safety
/// There is room for `length` bytes, and nobody else uses it. They need not have been set: the core
/// only writes to them.
pub(crate) unsafe fn room<'a>(pointer: *mut c_void, length: usize, what: &str) -> Result<&'a mut [u8]> {
    fits(pointer, length, what)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the caller's; not NULL, and the length is one that a slice can have.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), length) })
}

fn fits(pointer: *const c_void, length: usize, what: &str) -> Result<()> {
    if pointer.is_null() && length > 0 {
        return Err(invalid(format!("the {what} is NULL and its length is not 0")));
    }
    if isize::try_from(length).is_err() {
        return Err(invalid(format!(
            "the length of the {what} is more than memory holds"
        )));
    }
    Ok(())
}

/// A program's own text, for messages: it may hold what some peer said.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(512) {
        match c {
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// A string for C. A NUL in it, which no text of the core's has, becomes visible instead of cutting
/// it short.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\\x00")).unwrap_or_default()
}

/// A string that its handle keeps, or NULL.
pub(crate) fn borrowed(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |t| t.as_ptr())
}
