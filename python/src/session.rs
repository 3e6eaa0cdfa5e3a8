//! `starttls.Session`: a negotiated connection with the methods of a socket.
//!
//! A plain class, not a subclass of `socket.socket`: an inherited method that this module does not
//! know (`sendfile`) would write in clear beside the TLS.

mod address;
mod event_loop;
mod methods;
mod turn;

pub(crate) use self::methods::outcome_of;

use std::net::Shutdown;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyBlockingIOError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use starttls::Word;

use self::turn::Turn;
use crate::error::{closed, exception, wait};
use crate::io::Io;

const EAGAIN: i32 = 11;

/// A connection over TLS or, where the policy allows it, in clear: ``outcome`` says which and why.
///
/// Made by ``starttls.connect``, ``starttls.upgrade``, ``starttls.accept`` and ``Context.wrap_socket``.
/// Behaves as a socket. One thread may read while others write, each in its turn. After ``fork`` the child may only close it,
/// and that sends nothing. An end of the peer's without close_notify raises ``closed``: what came
/// before may be cut short. So may what a ``with`` block that an exception leaves has sent: then no
/// close_notify is sent, and a socket given to ``upgrade`` is shut down. Time-outs (``settimeout``) count
/// from the last byte moved.
#[pyclass(frozen, weakref, module = "starttls", name = "Session")]
pub(crate) struct Session {
    /// None once it is closed.
    io: Mutex<Option<Arc<Io>>>,
    /// The caller's own socket, for a session made by `upgrade`.
    sock: Mutex<Option<Py<PyAny>>>,
    timeout: Mutex<Option<Duration>>,
    /// Bytes that a reader gets before what the peer says.
    ahead: Mutex<Vec<u8>>,
    /// What OpenSSL has taken of a `send` that could not wait for the kernel to take it.
    owed: AtomicUsize,
    /// Held from there until it is settled.
    turn: Turn,
    ragged_eofs: AtomicBool,
    /// Files made by `makefile` that are still open, and whether `close` waits for them.
    files: AtomicUsize,
    closing: AtomicBool,
    /// Of the connection, as a number.
    family: i32,
    /// A child made by `fork` has another.
    process: u32,
    outcome: PyOnceLock<Py<PyAny>>,
    /// What `outcome` is made of once the session is closed.
    last_outcome: Mutex<Option<starttls::Outcome>>,
    /// Why `try_handshake` failed.
    failure: Mutex<Option<starttls::Error>>,
}

impl Session {
    pub(crate) fn new(io: Io, sock: Option<Py<PyAny>>, timeout: Option<Duration>, ragged_eofs: bool) -> Self {
        io.core.set_timeout(timeout);
        let family = io.family();
        Self {
            io: Mutex::new(Some(Arc::new(io))),
            sock: Mutex::new(sock),
            timeout: Mutex::new(timeout),
            ahead: Mutex::default(),
            owed: AtomicUsize::new(0),
            turn: Turn::default(),
            ragged_eofs: AtomicBool::new(ragged_eofs),
            files: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            family,
            process: process::id(),
            outcome: PyOnceLock::new(),
            last_outcome: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    fn io(&self, py: Python<'_>) -> PyResult<Arc<Io>> {
        lock(&self.io).clone().ok_or_else(|| closed(py))
    }

    /// The core's outcome, also of a session that is closed.
    pub(crate) fn with_outcome<T>(
        &self,
        py: Python<'_>,
        tell: impl FnOnce(&starttls::Outcome) -> T,
    ) -> PyResult<T> {
        let last = lock(&self.last_outcome).clone();
        match last {
            Some(outcome) => Ok(tell(&outcome)),
            None => Ok(tell(self.io(py)?.core.outcome())),
        }
    }

    fn waits(&self) -> bool {
        *lock(&self.timeout) != Some(Duration::ZERO)
    }

    /// Reads into memory of Python's.
    fn read(&self, py: Python<'_>, buffer: &mut [u8]) -> PyResult<usize> {
        let ahead = self.take_ahead(buffer);
        if ahead > 0 || buffer.is_empty() {
            return Ok(ahead);
        }
        let io = self.io(py)?;
        match wait(py, || io.core.read(buffer))? {
            Ok(n) => Ok(n),
            Err(e) if e.unclean_end() && self.ragged_eofs.load(Ordering::Relaxed) => Ok(0),
            Err(e) => Err(self.failed(py, &io, &e, "Read")),
        }
    }

    fn take_ahead(&self, buffer: &mut [u8]) -> usize {
        let mut ahead = lock(&self.ahead);
        let n = ahead.len().min(buffer.len());
        if n > 0 {
            for (to, from) in buffer.iter_mut().zip(ahead.drain(..n)) {
                *to = from;
            }
        }
        n
    }

    /// The exception for a read or write; on a session that never waits, what `ssl` raises there.
    fn failed(&self, py: Python<'_>, io: &Io, e: &starttls::Error, want: &str) -> PyErr {
        if e.word() != Word::Timeout || self.waits() {
            return exception(py, e);
        }
        if !io.core.outcome().encrypted() {
            return PyBlockingIOError::new_err((EAGAIN, "Resource temporarily unavailable"));
        }
        let make = || -> PyResult<PyErr> {
            let ssl = py.import("ssl")?;
            let number = ssl.getattr(format!("SSL_ERROR_WANT_{}", want.to_uppercase()).as_str())?;
            let why = format!("The operation did not complete ({})", want.to_lowercase());
            let class = ssl.getattr(format!("SSLWant{want}Error").as_str())?;
            Ok(PyErr::from_value(class.call1((number, why))?))
        };
        make().unwrap_or_else(|e| e)
    }

    /// Does this without the GIL as the only writer.
    fn write<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Io) -> starttls::Result<T> + Send,
    ) -> PyResult<T> {
        let io = self.io(py)?;
        let done = wait(py, || {
            let _turn = self.turn.take(self.waits())?;
            work(&io)
        })?;
        done.map_err(|e| self.failed(py, &io, &e, "Write"))
    }

    /// Waits until the kernel has what an earlier `send` gave to OpenSSL; how much that was.
    fn settle(&self, io: &Io) -> starttls::Result<usize> {
        if self.owed.load(Ordering::SeqCst) > 0 {
            io.core.flush()?;
        }
        Ok(self.owed.swap(0, Ordering::SeqCst))
    }

    /// Does this with a socket of Python's for the connection: the caller's own or a passing one.
    fn with_socket<'py>(
        &self,
        py: Python<'py>,
        work: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let io = self.io(py)?;
        if let Some(sock) = self.callers_socket(py) {
            return work(&sock);
        }
        let passing = io.plain_socket(py)?;
        let result = work(&passing);
        passing.call_method0("close")?;
        result
    }

    fn callers_socket<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.sock).as_ref().map(|sock| sock.bind(py).clone())
    }

    /// From here on the session is closed.
    fn take(&self) -> Option<Arc<Io>> {
        let io = lock(&self.io).take()?;
        *lock(&self.last_outcome) = Some(io.core.outcome().clone());
        Some(io)
    }

    /// The end of a session whose work was not done: the peer must not take for whole what it has got,
    /// and nobody may go on in clear on a socket that is the caller's.
    fn break_off(&self) {
        let io = self.take();
        if let Some(io) = io.filter(|_| process::id() == self.process) {
            // A connection that is gone already cannot be shut down. This wakes a thread that waits.
            let _ = io.shut_down(Shutdown::Both);
        }
    }

    fn close_now(&self, py: Python<'_>) -> PyResult<()> {
        let Some(io) = self.take() else {
            return Ok(());
        };
        // A peer that is gone cannot be told; a socket's close does not raise for that.
        let _ = wait(py, || io.core.close())?;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
