//! The functions that make a session: `connect`, `upgrade`, `accept`, and `adopt` for `Context`,
//! which owns its socket.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use starttls::Stage;

use crate::buffer::readable;
use crate::error::{exception, invalid, wait};
use crate::io::Io;
use crate::policy::{core_of, observed, seconds_of};
use crate::session::Session;

/// Resolves the host, dials it and makes the connection what the policy demands.
///
/// port 0 is the protocol's own. policy: a ``Policy`` or a level word. timeout: seconds for
/// resolving, dialling, dialog and handshake together, instead of the policy's; reading and writing
/// afterwards wait for ever unless ``settimeout`` is called; None: the policy's. The look-up of a name counts, but
/// cannot be cut short; who needs a bound gives an address.
///
/// Returns a ``Session`` that owns its connection. Raises ``starttls.Error``. The GIL is released
/// while it waits; Ctrl-C ends the wait.
#[pyfunction]
#[pyo3(signature = (protocol, host, port=0, *, policy=None, timeout=None, _see=None),
       text_signature = "(protocol, host, port=0, *, policy='strict', timeout=None, _see=None)")]
pub(crate) fn connect(
    py: Python<'_>,
    protocol: &str,
    host: &str,
    port: u16,
    policy: Option<&Bound<'_, PyAny>>,
    timeout: Option<f64>,
    _see: Option<Py<PyAny>>,
) -> PyResult<Session> {
    let mut policy = resolve_policy(py, policy, timeout)?;
    if let Some(see) = _see {
        policy = observed(&policy, see);
    }
    let made = wait(py, || starttls::Session::connect(protocol, host, port, &policy))?;
    let core = made.map_err(|e| exception(py, &e))?;
    Ok(Session::new(Io::owned(core), None, None, false))
}

/// Makes a connection that you have already opened what the policy demands.
///
/// sock: a connected stream socket, blocking or not. The session keeps a reference to it and never
/// closes it; after a failure from the go-ahead on it is shut down, so that nobody goes on in clear
/// on it. host: the name to check. stage: ``greeting`` (nothing read yet), ``ready`` (you have
/// talked and now want the upgrade), ``go-ahead`` (you have received the go-ahead: handshake only).
/// pending: bytes you have read beyond what ``stage`` says; it cannot see what is left in a buffer
/// of yours, such as a file made by ``sock.makefile()``: for smtplib, imaplib and poplib use
/// ``starttls.stdlib``.
///
/// The deadline is the policy's ``timeout``; the session begins with the socket's own time-out.
/// Raises ``starttls.Error``. The GIL is released while it waits; Ctrl-C ends the wait.
#[pyfunction]
#[pyo3(signature = (protocol, sock, host, stage=None, pending=None, policy=None),
       text_signature = "(protocol, sock, host, stage='greeting', pending=b'', policy='strict')")]
pub(crate) fn upgrade(
    py: Python<'_>,
    protocol: &str,
    sock: &Bound<'_, PyAny>,
    host: &str,
    stage: Option<&str>,
    pending: Option<&Bound<'_, PyAny>>,
    policy: Option<&Bound<'_, PyAny>>,
) -> PyResult<Session> {
    let policy = resolve_policy(py, policy, None)?;
    let stage = Stage::from_word(stage.unwrap_or("greeting")).map_err(|e| exception(py, &e))?;
    let pending = bytes_of(pending)?;
    borrow(sock, |fd| {
        starttls::Session::upgrade(protocol, fd, host, stage, &pending, &policy)
    })
}

/// The server's side: answers the client's upgrade command with the go-ahead, and does the handshake
/// with the policy's ``server_cert``.
///
/// sock: as for ``upgrade``: the session keeps a reference and never closes it. command: all that you
/// have read since the client's upgrade command began, the command included; if it is empty or not
/// whole it is read. What stands or comes behind the command in clear is never obeyed: it is
/// ``injected``, nothing is answered, and the connection is shut down (CVE-2011-0411). Where TLS comes
/// from the first byte those bytes are the ClientHello.
///
/// Raises ``malformed`` where the client says something else than the upgrade command, to which you may
/// still answer; ``untrusted``, ``expired`` and the like for a client's certificate; ``invalid`` for a
/// level that is none of ``encrypt``, ``verify``, ``fingerprint``. The deadline is the policy's
/// ``timeout``; the session begins with the socket's own time-out. The GIL is released while it waits;
/// Ctrl-C ends the wait.
#[pyfunction]
#[pyo3(signature = (protocol, sock, *, command=None, policy),
       text_signature = "(protocol, sock, *, command=b'', policy)")]
pub(crate) fn accept(
    protocol: &str,
    sock: &Bound<'_, PyAny>,
    command: Option<&Bound<'_, PyAny>>,
    policy: &Bound<'_, PyAny>,
) -> PyResult<Session> {
    let policy = core_of(policy)?;
    let command = bytes_of(command)?;
    borrow(sock, |fd| {
        starttls::Session::accept(protocol, fd, &command, &policy)
    })
}

/// Sends the protocol's own refusal to the client's upgrade command (454, NO, -ERR …) and leaves the
/// connection to you, in clear.
///
/// command: as for ``accept``. policy: only its time-out counts. Raises ``unsupported`` for protocols
/// without a refusal, and as ``accept``.
#[pyfunction]
#[pyo3(signature = (protocol, sock, *, command=None, policy=None),
       text_signature = "(protocol, sock, *, command=b'', policy='strict')")]
pub(crate) fn refuse(
    py: Python<'_>,
    protocol: &str,
    sock: &Bound<'_, PyAny>,
    command: Option<&Bound<'_, PyAny>>,
    policy: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let policy = resolve_policy(py, policy, None)?;
    let command = bytes_of(command)?;
    refuse_tls(sock)?;
    let fd = duplicate(sock)?;
    wait(py, || starttls::Session::refuse(protocol, fd, &command, &policy))?.map_err(|e| exception(py, &e))
}

/// A session on a socket that stays its caller's.
pub(crate) fn borrow(
    sock: &Bound<'_, PyAny>,
    make: impl FnOnce(BorrowedFd<'static>) -> starttls::Result<starttls::Session<'static>> + Send,
) -> PyResult<Session> {
    let py = sock.py();
    refuse_tls(sock)?;
    let timeout = timeout_of(sock)?;
    let fd = duplicate(sock)?;
    let io = wait(py, || Io::borrowing(fd, make))?.map_err(|e| exception(py, &e))?;
    Ok(Session::new(io, Some(sock.clone().unbind()), timeout, false))
}

/// A descriptor of our own for the same connection: if the caller closes its socket under us, the
/// number must not come to mean another connection.
fn duplicate(sock: &Bound<'_, PyAny>) -> PyResult<OwnedFd> {
    let fd = sock.call_method0("fileno")?.extract()?;
    Io::duplicate(fd).map_err(|e| invalid(sock.py(), &format!("the socket cannot be used: {e}")))
}

/// A session that owns its socket's descriptor from here on, also if it fails; the socket is detached.
pub(crate) fn own(
    sock: &Bound<'_, PyAny>,
    ragged_eofs: bool,
    make: impl FnOnce(OwnedFd) -> starttls::Result<starttls::Session<'static>> + Send,
) -> PyResult<Session> {
    let py = sock.py();
    refuse_tls(sock)?;
    let timeout = timeout_of(sock)?;
    let fd: i32 = sock.call_method0("detach")?.extract()?;
    if fd < 0 {
        return Err(invalid(py, "the socket is closed"));
    }
    // SAFETY: detach gave the descriptor up; from here on nobody else closes it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let core = wait(py, || make(fd))?.map_err(|e| exception(py, &e))?;
    Ok(Session::new(Io::owned(core), None, timeout, ragged_eofs))
}

pub(crate) fn bytes_of(argument: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<u8>> {
    match argument {
        Some(bytes) => readable(bytes, |bytes| Ok(bytes.to_vec())),
        None => Ok(Vec::new()),
    }
}

/// Detaches a socket, owns its descriptor from then on, and makes of it a session; on failure it is
/// closed, as ``ssl`` does.
///
/// The caller has had the go-ahead of a protocol that it does not name: only the handshake is done.
/// ragged_eofs: an end without close_notify reads as an end, as ``ssl`` has it. timeout: seconds for
/// the handshake.
#[pyfunction]
#[pyo3(signature = (sock, host, policy, *, timeout=None, ragged_eofs=false))]
pub(crate) fn adopt(
    py: Python<'_>,
    sock: &Bound<'_, PyAny>,
    host: &str,
    policy: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    ragged_eofs: bool,
) -> PyResult<Session> {
    let policy = resolve_policy(py, Some(policy), timeout)?;
    own(sock, ragged_eofs, |fd| {
        starttls::Session::handshake(fd, host, &policy)
    })
}

/// The core's policy for the arguments `policy=` and `timeout=`.
pub(crate) fn resolve_policy(
    py: Python<'_>,
    policy: Option<&Bound<'_, PyAny>>,
    timeout: Option<f64>,
) -> PyResult<starttls::Policy> {
    let policy = match policy {
        Some(policy) => core_of(policy)?,
        None => core_of(PyString::intern(py, "strict").as_any())?,
    };
    let Some(seconds) = timeout else {
        return Ok(policy);
    };
    seconds_of(seconds)
        .and_then(|time| policy.derive().timeout(time))
        .map_err(|e| exception(py, &e))
}

/// Another TLS layer's socket would be spoken to beneath its TLS.
fn refuse_tls(sock: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sock.py();
    if !sock.hasattr("fileno")? {
        return Err(PyTypeError::new_err("sock: a socket is wanted"));
    }
    if sock.is_instance_of::<Session>() || sock.is_instance(&py.import("ssl")?.getattr("SSLSocket")?)? {
        return Err(invalid(py, "the socket already speaks TLS"));
    }
    Ok(())
}

fn timeout_of(sock: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    let seconds: Option<f64> = sock.call_method0("gettimeout")?.extract()?;
    Ok(seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()))
}
