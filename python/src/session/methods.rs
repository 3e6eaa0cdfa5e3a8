//! What Python sees of a session.

use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use starttls::Word;

use super::{lock, Session};
use crate::error::{exception, invalid, wait};
use crate::{buffer, certificate};

/// `socket.SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`.
const SHUT: [Shutdown; 3] = [Shutdown::Read, Shutdown::Write, Shutdown::Both];

#[pymethods]
impl Session {
    /// Reads up to bufsize bytes, 16 KiB (a TLS record) at most, waiting for the first;
    /// ``b""`` means that the peer closed properly. flags must be 0.
    #[pyo3(signature = (bufsize, flags=0))]
    fn recv<'py>(&self, py: Python<'py>, bufsize: isize, flags: i32) -> PyResult<Bound<'py, PyBytes>> {
        no_flags(flags)?;
        let bufsize = size(bufsize)?;
        let (bytes, memory) = buffer::new_bytes(py, bufsize.min(buffer::RECORD))?;
        match self.read(py, memory)? {
            n if n == memory.len() => Ok(bytes),
            n => Ok(PyBytes::new(py, memory.get(..n).unwrap_or_default())),
        }
    }

    /// Reads into a writable buffer, at most nbytes (0 or None: as many as fit), and says how many came.
    #[pyo3(signature = (buffer, nbytes=Some(0), flags=0), text_signature = "($self, buffer, nbytes=0, flags=0)")]
    fn recv_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        nbytes: Option<isize>,
        flags: i32,
    ) -> PyResult<usize> {
        no_flags(flags)?;
        let nbytes = size(nbytes.unwrap_or(0))?;
        buffer::writable(buffer, nbytes, |memory| self.read(py, memory))
    }

    /// Writes the beginning of data, 16 KiB at most, and says how many bytes.
    ///
    /// Where it raises for want of time (``ssl.SSLWantWriteError`` at time-out 0), call it again
    /// with the same data, as with ``ssl``.
    #[pyo3(signature = (data, flags=0))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, flags: i32) -> PyResult<usize> {
        no_flags(flags)?;
        buffer::readable(data, |bytes| {
            self.write(py, |io| {
                let before = self.settle(io)?;
                if before > 0 {
                    return Ok(before.min(bytes.len()));
                }
                let n = io.core.write_some(bytes)?;
                self.owed.store(n, Ordering::SeqCst);
                self.settle(io)
            })
        })
    }

    /// Writes all of data, or raises; how much has reached the peer is then not known.
    #[pyo3(signature = (data, flags=0))]
    fn sendall(&self, py: Python<'_>, data: &Bound<'_, PyAny>, flags: i32) -> PyResult<()> {
        no_flags(flags)?;
        buffer::readable(data, |bytes| {
            self.write(py, |io| {
                let before = self.settle(io)?;
                io.core.write_all(bytes.get(before..).unwrap_or_default())
            })
        })
    }

    /// A file object over this session, as ``socket.makefile``: closing the session waits for it.
    #[pyo3(signature = (mode="r", buffering=None, *, encoding=None, errors=None, newline=None))]
    fn makefile<'py>(
        this: &Bound<'py, Self>,
        mode: &str,
        buffering: Option<i64>,
        encoding: Option<&str>,
        errors: Option<&str>,
        newline: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let make = this.py().import("starttls._files")?.getattr("makefile")?;
        make.call1((this, mode, buffering, encoding, errors, newline))
    }

    fn _file_opened(&self, py: Python<'_>) -> PyResult<()> {
        self.io(py)?;
        self.files.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn _file_closed(&self, py: Python<'_>) -> PyResult<()> {
        let last = self.files.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.closing.load(Ordering::SeqCst) {
            self.close_now(py)?;
        }
        Ok(())
    }

    /// For the standard library's classes, whose protocols delimit their messages themselves: these
    /// bytes are read first, and an end without close_notify reads as an end.
    fn _as_stream(&self, first: &[u8]) {
        lock(&self.ahead).extend_from_slice(first);
        self.ragged_eofs.store(true, Ordering::Relaxed);
    }

    /// The longest a read or write may wait without a byte moving, in seconds; None: for ever;
    /// 0: never, it then raises ``ssl.SSLWantReadError`` and the like.
    fn settimeout(&self, py: Python<'_>, value: Option<f64>) -> PyResult<()> {
        let time = match value {
            None => None,
            Some(seconds) => Some(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|_| PyValueError::new_err("Timeout value out of range"))?
                    // 0 would mean not to wait at all.
                    .max(Duration::from_nanos(u64::from(seconds > 0.0))),
            ),
        };
        self.io(py)?.core.set_timeout(time);
        *lock(&self.timeout) = time;
        Ok(())
    }

    /// What ``settimeout`` set, in seconds.
    fn gettimeout(&self) -> Option<f64> {
        lock(&self.timeout).map(|t| t.as_secs_f64())
    }

    /// ``setblocking(True)`` is ``settimeout(None)``, ``setblocking(False)`` is ``settimeout(0)``.
    fn setblocking(&self, py: Python<'_>, flag: &Bound<'_, PyAny>) -> PyResult<()> {
        let blocking = flag.is_truthy()?;
        self.settimeout(py, if blocking { None } else { Some(0.0) })
    }

    /// False at time-out 0.
    fn getblocking(&self) -> bool {
        self.waits()
    }

    /// As ``socket.setsockopt``.
    #[pyo3(signature = (*args))]
    fn setsockopt(&self, py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.with_socket(py, |sock| sock.call_method1("setsockopt", args.clone()))
            .map(drop)
    }

    /// As ``socket.getsockopt``.
    #[pyo3(signature = (*args))]
    fn getsockopt<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.with_socket(py, |sock| sock.call_method1("getsockopt", args.clone()))
    }

    /// The descriptor to wait on, -1 once closed. See ``pending`` before waiting for it. The session
    /// owns it; on a session made by ``upgrade`` it is a duplicate of the socket's.
    fn fileno(&self) -> i32 {
        lock(&self.io)
            .as_ref()
            .map_or(-1, |io| io.core.as_fd().as_raw_fd())
    }

    /// Bytes that ``recv`` gives without waiting for the peer.
    fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(lock(&self.ahead).len() + self.io(py)?.core.pending())
    }

    /// Shuts one or both directions down (``socket.SHUT_RD``, ``SHUT_WR``, ``SHUT_RDWR``); where
    /// writing ends, the peer is sent close_notify first.
    fn shutdown(&self, py: Python<'_>, how: usize) -> PyResult<()> {
        let how = *SHUT
            .get(how)
            .ok_or_else(|| PyValueError::new_err("how: socket.SHUT_RD, SHUT_WR or SHUT_RDWR"))?;
        let io = self.io(py)?;
        if how != Shutdown::Read {
            match wait(py, || io.core.finish())? {
                // In a forked child, which must not touch the parent's connection.
                Err(e) if e.word() == Word::Invalid => return Err(exception(py, &e)),
                // What counts is that the direction ends; a peer that is gone cannot be told.
                Ok(()) | Err(_) => {}
            }
        }
        io.shut_down(how)
    }

    /// Ends TLS by close_notify, waits for the peer's, and gives the plain socket back: the one given
    /// to ``upgrade``, else a new one. The session is closed then.
    ///
    /// Raises ``invalid`` on a session in clear or if the peer still sent data, which ``recv`` then
    /// gives, ``closed`` if it does not answer with close_notify.
    fn unwrap<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let io = self.io(py)?;
        if !io.core.outcome().encrypted() {
            return Err(invalid(py, "this session is in clear: there is no TLS to end"));
        }
        let unread = || invalid(py, "the peer sent data that was not read before unwrap");
        if self.pending(py)? > 0 {
            return Err(unread());
        }
        let mut byte = [0; 1];
        let ended = wait(py, || {
            io.core.finish()?;
            io.core.read(&mut byte)
        })?;
        match ended {
            Ok(0) => {}
            Ok(_) => {
                lock(&self.ahead).extend_from_slice(&byte);
                return Err(unread());
            }
            Err(e) => return Err(self.failed(py, &io, &e, "Read")),
        }
        let plain = match self.callers_socket(py) {
            Some(sock) => sock,
            None => {
                let plain = io.plain_socket(py)?;
                plain.call_method1("settimeout", (self.gettimeout(),))?;
                plain
            }
        };
        self.take();
        Ok(plain)
    }

    /// Sends close_notify and closes; a thread waiting in ``recv`` is woken. A socket given to
    /// ``upgrade`` stays open. Does not raise if the peer is gone. With files of ``makefile`` still
    /// open it happens when the last is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closing.store(true, Ordering::SeqCst);
        if self.files.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.close_now(py)
    }

    /// The TLS version, as ``"TLSv1.3"``; None in clear.
    fn version(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let io = self.io(py)?;
        Ok(io.core.outcome().tls.as_ref().map(|tls| tls.version.clone()))
    }

    /// Name, protocol version and secret bits of the cipher; None in clear.
    fn cipher(&self, py: Python<'_>) -> PyResult<Option<(&'static str, &'static str, i32)>> {
        Ok(self.io(py)?.core.cipher())
    }

    /// The application protocol agreed on (RFC 7301), or None.
    fn selected_alpn_protocol(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let io = self.io(py)?;
        Ok(io.core.outcome().tls.as_ref().and_then(|tls| tls.alpn.clone()))
    }

    /// The peer's certificate: DER if binary_form, else a dict as ``ssl`` gives it (without its
    /// OCSP and CRL entries, and of the alternative names without othername and Registered ID),
    /// which is empty where nothing proved who the peer is. None in clear.
    #[pyo3(signature = (binary_form=None), text_signature = "($self, binary_form=False)")]
    fn getpeercert<'py>(
        &self,
        py: Python<'py>,
        binary_form: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let io = self.io(py)?;
        let Some(der) = io.core.peer_certificate() else {
            return Ok(None);
        };
        if binary_form.map_or(Ok(false), |b| b.is_truthy())? {
            return Ok(Some(PyBytes::new(py, &der).into_any()));
        }
        if io.core.outcome().identity.proven_by.is_none() {
            return Ok(Some(PyDict::new(py).into_any()));
        }
        Ok(Some(certificate::as_dict(py, &der)?.into_any()))
    }

    /// Channel binding for SASL: ``tls-exporter`` (RFC 9266) or ``tls-server-end-point`` (RFC 5929).
    /// Raises ``invalid`` in clear or for another type.
    #[pyo3(signature = (cb_type="tls-exporter"))]
    fn get_channel_binding<'py>(&self, py: Python<'py>, cb_type: &str) -> PyResult<Bound<'py, PyBytes>> {
        let io = self.io(py)?;
        let binding = io.core.channel_binding(cb_type).map_err(|e| exception(py, &e))?;
        Ok(PyBytes::new(py, &binding))
    }

    /// All that the peer said in clear before the session, raw. Over TLS nothing of it is to be
    /// acted on.
    fn heard<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.io(py)?.core.heard()))
    }

    /// What did happen: an ``Outcome``. It stays after ``close``.
    #[getter]
    fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(io) = lock(&self.io).clone().filter(|io| !io.core.is_established()) {
            return outcome_of(py, io.core.outcome());
        }
        let make = || self.with_outcome(py, |outcome| outcome_of(py, outcome))?;
        Ok(self.outcome.get_or_try_init(py, make)?.clone_ref(py))
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        if exception.get_item(0).is_ok_and(|kind| !kind.is_none()) {
            self.break_off();
            return Ok(());
        }
        self.close(py)
    }

    // A caller's socket may know its session: the garbage collector must see the circle.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.sock.try_lock() {
            Ok(sock) => visit.call(&*sock),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let sock = lock(&self.sock).take();
        drop(sock);
    }

    fn __repr__(&self) -> String {
        let Some(io) = lock(&self.io).clone() else {
            return "<starttls.Session closed>".to_owned();
        };
        let outcome = io.core.outcome();
        let address = || outcome.peer.address.map(|a| a.to_string());
        let peer = outcome.peer.name.clone().or_else(address).unwrap_or_default();
        match (&outcome.tls, outcome.because) {
            (Some(tls), _) => format!("<starttls.Session {} with {peer}>", tls.version),
            (None, Some(because)) => {
                format!("<starttls.Session in clear ({}) with {peer}>", because.as_str())
            }
            (None, None) => format!("<starttls.Session in its handshake with {peer}>"),
        }
    }
}

/// The core's outcome as Python's.
pub(crate) fn outcome_of(py: Python<'_>, outcome: &starttls::Outcome) -> PyResult<Py<PyAny>> {
    let class = py.import("starttls.outcome")?.getattr("Outcome")?;
    Ok(class.call_method1("from_json", (outcome.to_json(),))?.unbind())
}

fn size(n: isize) -> PyResult<usize> {
    usize::try_from(n).map_err(|_| PyValueError::new_err("a size is not negative"))
}

fn no_flags(flags: i32) -> PyResult<()> {
    if flags == 0 {
        return Ok(());
    }
    Err(PyValueError::new_err("non-zero flags are not allowed over TLS"))
}
