//! `starttls._core.Negotiation`: a dialog whose input and output are done elsewhere, by `starttls.aio`.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::{io, mem};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use starttls::{Stage, Want, Word};

use crate::buffer::readable;
use crate::connect::own;
use crate::error::{exception, wait};
use crate::io::Io;
use crate::policy::core_of;
use crate::session::{outcome_of, Session};

/// A dialog in clear, for whoever does the input and output himself, such as an event loop.
///
/// Do what ``want`` says until it says ``handshake`` or ``plain``, make it a ``session``, and go on with
/// that one's ``try_handshake``. Nothing here waits. Methods that learn what the peer has said raise
/// ``starttls.Error``; the negotiation is then over.
#[pyclass(frozen, module = "starttls._core")]
pub(crate) struct Negotiation {
    /// None: it was made a session.
    core: Mutex<Option<starttls::Negotiation>>,
    port: u16,
}

#[pymethods]
impl Negotiation {
    /// The client's side. Its time-out, the policy's, counts from now, so dialling can be part of it:
    /// see ``on``. host, stage, policy: as for ``starttls.upgrade``.
    #[new]
    #[pyo3(signature = (protocol, host, stage, policy))]
    fn new(
        py: Python<'_>,
        protocol: &str,
        host: &str,
        stage: &str,
        policy: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let policy = core_of(policy)?;
        let make = || {
            let port = starttls::protocol::find(protocol)?.default_port();
            let stage = Stage::from_word(stage)?;
            Ok(Self::of(
                starttls::Negotiation::new(protocol, host, stage, &policy)?,
                port,
            ))
        };
        // Files are read here, by the first that uses the policy.
        wait(py, make)?.map_err(|e| exception(py, &e))
    }

    /// The server's side, as ``starttls.accept``.
    #[staticmethod]
    fn accept(py: Python<'_>, protocol: &str, policy: &Bound<'_, PyAny>) -> PyResult<Self> {
        let policy = core_of(policy)?;
        let made = wait(py, || starttls::Negotiation::accept(protocol, &policy))?;
        Ok(Self::of(made.map_err(|e| exception(py, &e))?, 0))
    }

    /// ``write``: send ``output`` and say so by ``sent``, but read first what is there. ``read``: hand
    /// what comes to ``receive``, or call ``closed``. ``handshake``, ``plain``: make it a ``session``.
    #[getter]
    fn want(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.with(py, |core| {
            Ok(match core.want() {
                Want::Write => "write",
                Want::Read => "read",
                Want::Handshake => "handshake",
                Want::Plain(_) => "plain",
            })
        })
    }

    /// The port that stands for 0.
    #[getter]
    fn default_port(&self) -> u16 {
        self.port
    }

    /// The name to look up: the host in A-labels, or an address.
    #[getter]
    fn host(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |core| Ok(core.outcome().peer.name.clone()))
    }

    /// What has happened so far: an ``Outcome``.
    #[getter]
    fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let outcome = self.with(py, |core| Ok(core.outcome().clone()))?;
        outcome_of(py, &outcome)
    }

    /// What is to be sent.
    fn output<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.with(py, |core| Ok(core.output().to_vec()))
            .map(|bytes| PyBytes::new(py, &bytes))
    }

    /// So many bytes of ``output`` were sent.
    fn sent(&self, py: Python<'_>, n: usize) -> PyResult<()> {
        self.with(py, |core| {
            core.sent(n);
            Ok(())
        })
    }

    /// These bytes came.
    fn receive(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = readable(data, |bytes| Ok(bytes.to_vec()))?;
        let core = &self.core;
        // An observer may be called.
        wait(py, || match &mut *lock(core) {
            Some(core) => core.receive(&data),
            None => Err(used_up()),
        })?
        .map_err(|e| exception(py, &e))
    }

    /// The exception for a peer that has closed the connection.
    fn closed(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.error(py, starttls::Negotiation::closed)
    }

    /// The exception for a connection that broke with this errno.
    fn lost(&self, py: Python<'_>, errno: i32) -> PyResult<Py<PyAny>> {
        self.error(py, |core| core.lost(&io::Error::from_raw_os_error(errno)))
    }

    /// The exception for a time-out that has passed.
    fn too_late(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.error(py, starttls::Negotiation::too_late)
    }

    /// Seconds that are left of the policy's time-out.
    #[getter]
    fn time_left(&self, py: Python<'_>) -> PyResult<f64> {
        self.with(py, |core| Ok(core.time_left().as_secs_f64()))
    }

    /// Before anything is said: this is the connection. A client then names itself by its address. Where
    /// it was dialled since the negotiation began, the outcome tells how long that took.
    #[pyo3(signature = (sock, dialled=false))]
    fn on(&self, py: Python<'_>, sock: &Bound<'_, PyAny>, dialled: bool) -> PyResult<()> {
        let fd: OwnedFd = Io::duplicate(sock.call_method0("fileno")?.extract()?)?;
        let core = lock(&self.core).take().ok_or_else(|| exception(py, &used_up()))?;
        // A cache may be asked, now that the port is known: not with the lock held, nor the GIL.
        let on = wait(py, || {
            if dialled {
                core.dialled(fd.as_fd())
            } else {
                core.on(fd.as_fd())
            }
        })?
        .map_err(|e| exception(py, &e))?;
        *lock(&self.core) = Some(on);
        Ok(())
    }

    /// Makes a session of it, which owns the connection: the socket is detached, and closed if this
    /// fails. The negotiation is used up.
    fn session(&self, py: Python<'_>, sock: &Bound<'_, PyAny>) -> PyResult<Session> {
        let core = mem::take(&mut *lock(&self.core)).ok_or_else(|| exception(py, &used_up()))?;
        own(sock, false, |fd| starttls::Session::negotiated(core, fd))
    }
}

impl Negotiation {
    pub(crate) fn of(core: starttls::Negotiation, port: u16) -> Self {
        Self {
            core: Mutex::new(Some(core)),
            port,
        }
    }

    fn with<T>(
        &self,
        py: Python<'_>,
        what: impl FnOnce(&mut starttls::Negotiation) -> starttls::Result<T>,
    ) -> PyResult<T> {
        let done = match &mut *lock(&self.core) {
            Some(core) => what(core),
            None => Err(used_up()),
        };
        done.map_err(|e| exception(py, &e))
    }

    fn error(
        &self,
        py: Python<'_>,
        what: impl FnOnce(&mut starttls::Negotiation) -> starttls::Error,
    ) -> PyResult<Py<PyAny>> {
        let e = self.with(py, |core| Ok(what(core)))?;
        Ok(exception(py, &e).into_value(py).into_any())
    }
}

fn used_up() -> starttls::Error {
    starttls::Error::at_border(Word::Invalid, "this negotiation was made a session")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
