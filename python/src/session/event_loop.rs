//! The same without ever waiting, for event loops.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use starttls::Ready;

use super::{lock, Session};
use crate::buffer::{new_bytes, readable, RECORD};
use crate::connect::{borrow, own};
use crate::error::{exception, wait};
use crate::negotiation::Negotiation;

#[pymethods]
impl Session {
    /// Goes on with the handshake of a session that a ``Negotiation`` was made: ``done``, ``read`` or
    /// ``write`` (call again when that is possible). Before it is done, nothing else can be.
    fn try_handshake(&self, py: Python<'_>) -> PyResult<&'static str> {
        let io = self.io(py)?;
        match wait(py, || io.core.try_handshake())? {
            Ok(Ready::Done(())) => Ok("done"),
            Ok(Ready::WantRead) => Ok("read"),
            Ok(Ready::WantWrite) => Ok("write"),
            Err(e) => {
                let error = exception(py, &e);
                *lock(&self.failure) = Some(e);
                Err(error)
            }
        }
    }

    /// Reads what is there, at most n bytes and one TLS record: None if nothing is, ``b""`` if the peer
    /// has closed properly. Go on until None: what is left may be decrypted already.
    #[pyo3(signature = (n=16384))]
    fn try_read<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let io = self.io(py)?;
        let (bytes, memory) = new_bytes(py, n.min(RECORD))?;
        match wait(py, || io.core.try_read(memory))? {
            Ok(Ready::Done(n)) if n == memory.len() => Ok(Some(bytes)),
            Ok(Ready::Done(n)) => Ok(Some(PyBytes::new(py, memory.get(..n).unwrap_or_default()))),
            Ok(_) => Ok(None),
            Err(e) => Err(exception(py, &e)),
        }
    }

    /// Takes the beginning of data, at most one TLS record, and says how many bytes; None: try again
    /// when the descriptor is writable. What was taken may not have left yet: ``wants_write``.
    fn try_write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let io = self.io(py)?;
        readable(data, |bytes| match wait(py, || io.core.try_write(bytes))? {
            Ok(Ready::Done(n)) => Ok(Some(n)),
            Ok(_) => Ok(None),
            Err(e) => Err(exception(py, &e)),
        })
    }

    /// Gives the kernel what it has not taken yet; True when nothing is left.
    fn try_flush(&self, py: Python<'_>) -> PyResult<bool> {
        let io = self.io(py)?;
        done(py, wait(py, || io.core.try_flush())?)
    }

    /// Says that nothing more will be written: close_notify, over TLS. Reading goes on. Call it until it
    /// is True.
    fn try_finish(&self, py: Python<'_>) -> PyResult<bool> {
        let io = self.io(py)?;
        done(py, wait(py, || io.core.try_finish())?)
    }

    /// Ends the session, over TLS by close_notify. Call it until it is True, then ``close``.
    fn try_close(&self, py: Python<'_>) -> PyResult<bool> {
        let io = self.io(py)?;
        done(py, wait(py, || io.core.try_close())?)
    }

    /// Whether bytes wait for the descriptor to be writable.
    #[getter]
    fn wants_write(&self) -> bool {
        lock(&self.io).as_ref().is_some_and(|io| io.core.wants_write())
    }

    /// Seconds that are left of the policy's time-out for the handshake; None when that is done.
    #[getter]
    fn time_left(&self) -> Option<f64> {
        let left = lock(&self.io).as_ref().and_then(|io| io.core.time_left());
        left.map(|time| time.as_secs_f64())
    }

    /// After a ``try_handshake`` that failed on a connection dialled for it: the negotiation for a second
    /// connection in clear, where ``starttls.connect`` would dial again, else None.
    fn _redial(&self) -> Option<Negotiation> {
        let failure = lock(&self.failure).clone()?;
        let io = lock(&self.io).clone()?;
        Some(Negotiation::of(io.core.redial(&failure)?, 0))
    }

    /// Closes and says nothing to the peer.
    fn _drop(&self) {
        self.take();
    }

    /// Protects a second connection to the same server by the same policy, such as FTP's for data
    /// (RFC 4217 §9), after ``PROT P`` and the server's answer to the command that uses it.
    ///
    /// It resumes this session's TLS session, which many servers demand. sock: as for
    /// ``starttls.upgrade``: it stays yours. End the new session by ``close``, so that the server knows
    /// the data to be whole; that waits for the server's end, 5 s at most. Raises ``invalid`` on a
    /// session in clear or a server's, and as ``upgrade``.
    fn protect(&self, py: Python<'_>, sock: &Bound<'_, PyAny>) -> PyResult<Session> {
        let io = self.io(py)?;
        borrow(sock, |fd| io.core.protect_data(fd))
    }

    /// The same with a socket that the new session owns: it is detached, and closed if this fails.
    fn _protect_own(&self, py: Python<'_>, sock: &Bound<'_, PyAny>) -> PyResult<Session> {
        let io = self.io(py)?;
        own(sock, false, |fd| io.core.protect_data(fd))
    }
}

fn done(py: Python<'_>, result: starttls::Result<Ready<()>>) -> PyResult<bool> {
    match result {
        Ok(ready) => Ok(matches!(ready, Ready::Done(()))),
        Err(e) => Err(exception(py, &e)),
    }
}
