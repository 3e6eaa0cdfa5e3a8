//! Memory of Python's objects, read and written without a copy where that is sound.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A TLS record's worth: no single read gives more.
pub(crate) const RECORD: usize = 16 * 1024;

/// A new bytes object of this length that nobody else has seen yet, and its memory.
pub(crate) fn new_bytes<'py>(py: Python<'py>, n: usize) -> PyResult<(Bound<'py, PyBytes>, &'py mut [u8])> {
    let len = ffi::Py_ssize_t::try_from(n).map_err(|_| PyValueError::new_err("too many bytes"))?;
    // SAFETY: a null source asks for an object with unset contents; the result is new or NULL with
    // an exception set. Its memory is `n` bytes long, comes from an allocator that the compiler
    // cannot look into, and is written before anything reads it. Both live on in the caller, who
    // drops the slice before it shows the object to anyone.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len);
        let bytes = Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>();
        let start = ffi::PyBytes_AsString(object).cast::<u8>();
        Ok((bytes, std::slice::from_raw_parts_mut(start, n)))
    }
}

/// Lends the memory of a bytes-like object. Only what cannot change meanwhile is lent without a
/// copy: the GIL is released while it is written.
pub(crate) fn readable<T>(
    object: &Bound<'_, PyAny>,
    use_it: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return use_it(bytes.as_bytes());
    }
    let view = contiguous(object)?;
    if view.len_bytes() == 0 {
        return use_it(&[]);
    }
    // SAFETY: the view keeps the memory, of this length and contiguous, alive and in its place.
    let bytes =
        unsafe { std::slice::from_raw_parts(view.buf_ptr().cast::<u8>().cast_const(), view.len_bytes()) };
    if view.readonly() {
        use_it(bytes)
    } else {
        let copy = bytes.to_vec();
        use_it(&copy)
    }
}

/// Lends the beginning of a writable object's memory: `n` bytes of it, or with 0 all.
pub(crate) fn writable<T>(
    object: &Bound<'_, PyAny>,
    n: usize,
    use_it: impl FnOnce(&mut [u8]) -> PyResult<T>,
) -> PyResult<T> {
    let view = contiguous(object)?;
    if view.readonly() {
        return Err(PyBufferError::new_err("the buffer is not writable"));
    }
    let len = match n {
        0 => view.len_bytes(),
        n if n <= view.len_bytes() => n,
        _ => {
            return Err(PyValueError::new_err(
                "nbytes is greater than the length of the buffer",
            ))
        }
    };
    if len == 0 {
        return use_it(&mut []);
    }
    // SAFETY: the view keeps the memory, at least this long and contiguous, alive and in its place.
    // As with socket.recv_into, who uses it meanwhile in another thread sees bytes come in.
    let memory = unsafe { std::slice::from_raw_parts_mut(view.buf_ptr().cast::<u8>(), len) };
    use_it(memory)
}

fn contiguous(object: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let view = PyUntypedBuffer::get(object)?;
    if view.is_c_contiguous() {
        Ok(view)
    } else {
        Err(PyBufferError::new_err("the buffer is not C-contiguous"))
    }
}
