//! Waiting without the GIL, and what comes of it: the exceptions of `starttls.errors`.

use std::cell::RefCell;
use std::io;

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;

thread_local! {
    /// What a signal handler or an observer raised while this thread waited.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Keeps an exception until the wait is over; the first one counts.
pub(crate) fn raise_later(error: PyErr) {
    RAISED.with_borrow_mut(|raised| {
        raised.get_or_insert(error);
    });
}

/// The core's hook for EINTR and after an observer has run: runs Python's signal handlers, so that
/// Ctrl-C ends any wait at once.
pub(crate) fn check_signals() -> io::Result<()> {
    if RAISED.with_borrow(Option::is_some) {
        return Err(io::Error::other("an observer raised an exception"));
    }
    // Not when the interpreter is shutting down: then nobody is left to handle a signal.
    let checked = Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(()));
    checked.map_err(|error| {
        raise_later(error);
        io::Error::other("a signal handler raised an exception")
    })
}

/// Does this without the GIL. An exception raised meanwhile (by a signal handler, an observer) goes
/// before the core's own error; so does that of a signal which came too late to interrupt anything.
pub(crate) fn wait<T, F>(py: Python<'_>, work: F) -> PyResult<starttls::Result<T>>
where
    T: Send,
    F: FnOnce() -> starttls::Result<T> + Send,
{
    let result = py.detach(work);
    match RAISED.take() {
        Some(error) => return Err(error),
        None if result.is_err() => py.check_signals()?,
        None => {}
    }
    Ok(result)
}

/// The exception for an error of the core.
pub(crate) fn exception(py: Python<'_>, e: &starttls::Error) -> PyErr {
    make(py, e, e.os_error())
}

/// What every method but `close` says once the session is closed, with the errno of a closed socket.
pub(crate) fn closed(py: Python<'_>) -> PyErr {
    const EBADF: i32 = 9;
    let e = starttls::Error::at_border(starttls::Word::Invalid, "this session is closed");
    make(py, &e, Some(EBADF))
}

fn make(py: Python<'_>, e: &starttls::Error, os_error: Option<i32>) -> PyErr {
    let call = || -> PyResult<PyErr> {
        // Looked up each time: every interpreter of the process has classes of its own.
        let make = py.import("starttls.errors")?.getattr("make")?;
        let outcome = e.outcome().map(starttls::Outcome::to_json);
        let error = make.call1((e.word().as_str(), e.message(), e.temporary(), outcome, os_error))?;
        let events = e.tlsrpt_events();
        if !events.is_empty() {
            error.setattr("_events", crate::tlsrpt::lines(&events))?;
        }
        Ok(PyErr::from_value(error))
    };
    call().unwrap_or_else(|broken| {
        if !broken.is_instance_of::<PyException>(py) {
            // Nothing is broken: a signal handler has raised KeyboardInterrupt meanwhile.
            return broken;
        }
        let error = PyRuntimeError::new_err(e.to_string());
        error.set_cause(py, Some(broken));
        error
    })
}

/// The exception `invalid`, with this message.
pub(crate) fn invalid(py: Python<'_>, message: &str) -> PyErr {
    exception(py, &starttls::Error::at_border(starttls::Word::Invalid, message))
}
