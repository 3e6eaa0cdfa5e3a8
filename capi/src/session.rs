//! A connection that was negotiated.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use starttls::{borrow_fd, Error, Result, Session, Stage, Word};

use crate::error::starttls_error;
use crate::handle::{bytes, free, get, give, invalid, room, text, Handle, Opaque};
use crate::outcome::{starttls_outcome, Teller, Told};
use crate::policy::{starttls_policy, used};

/// A connection that was negotiated, over TLS or, where the policy allows it, in clear.
pub struct starttls_session {
    _opaque: [u8; 0],
}

impl Opaque for starttls_session {
    /// The outcome's handle, which the session lends out, is all there is.
    type Inner = Handle<starttls_outcome>;
    const NAME: &'static str = "starttls_session";
    const MARK: u64 = 0x7374_746c_7373_6573;
}

/// A descriptor of the caller's, who keeps it open as long as the session is in use.
pub(crate) unsafe fn descriptor(fd: c_int) -> Result<BorrowedFd<'static>> {
    // SAFETY: the caller's.
    unsafe { borrow_fd(fd) }.map_err(|e| invalid(format!("descriptor {fd} cannot be used: {e}")))
}

pub(crate) fn new(session: Session<'static>) -> *mut starttls_session {
    give(Handle::new(Told::new(Teller::Session(Box::new(session)))))
}

pub(crate) unsafe fn of<'a>(session: *const starttls_session) -> Result<&'a Session<'static>> {
    // SAFETY: the caller's.
    match &unsafe { get(session) }?.value().by {
        Teller::Session(session) => Ok(session),
        _ => Err(Error::at_border(Word::Bug, "a session without a session")),
    }
}

/// Resolves the host, dials it, asks for TLS as the protocol has it, does the handshake, and judges
/// what it found by the policy. Port 0 is the protocol's own. A session is given only if the policy
/// holds: free it with `starttls_session_free`.
///
/// Under `may` and `opportunistic`, where the handshake fails, it dials once more and goes on in
/// clear; the outcome says so. Nothing else is ever tried again.
///
/// Errors: every word. `lookup-failed`, `io` and `timeout` are the network's, `not-offered` and
/// `refused` the server's answer, `handshake`, `untrusted`, `expired` and `name-mismatch` what TLS
/// showed; `malformed` and `injected` should reach a person. The error has the outcome so far.
#[no_mangle]
pub unsafe extern "C" fn starttls_connect(
    protocol: *const c_char,
    host: *const c_char,
    port: u16,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        Session::connect(protocol, text(host, "host")?, port, &policy).map(new)
    })
}

/// Does on the caller's connected stream socket what `starttls_connect` does on its own. `host` is the
/// name that is checked.
///
/// `stage` says where the caller stands: `greeting` (nothing was read yet), `ready` (the caller has
/// talked and now wants the upgrade) or `go-ahead` (the caller has itself received the go-ahead: the
/// handshake only). `pending` holds `n` bytes that the caller has read beyond that, and may be NULL if
/// `n` is 0; at `go-ahead` there must be none.
///
/// The descriptor stays the caller's, blocking or not, with the flags it has: close it after
/// `starttls_session_free`, not before. After a failure from the go-ahead on it is shut down
/// (shutdown(2)), so that nobody goes on in clear on it; after one before that, such as
/// `not-offered`, it can still take a good-bye. Errors: as for `starttls_connect`, without
/// `lookup-failed`.
#[no_mangle]
pub unsafe extern "C" fn starttls_upgrade(
    protocol: *const c_char,
    fd: c_int,
    host: *const c_char,
    stage: *const c_char,
    pending: *const c_void,
    n: usize,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        let host = text(host, "host")?;
        let stage = Stage::from_word(text(stage, "stage")?)?;
        let pending = bytes(pending, n, "pending")?;
        Session::upgrade(protocol, descriptor(fd)?, host, stage, pending, &policy).map(new)
    })
}

/// The server's side of `starttls_upgrade`: answers the client's upgrade command with the protocol's
/// go-ahead and does the handshake with the policy's server certificate. The policy's level is
/// `encrypt`, or `verify` or `fingerprint`, which demand a certificate of the client.
///
/// `command` holds all `n` bytes that the caller has read since the client's upgrade command began,
/// the command included; with 0, or part of it, the library reads on, and what it has read is lost to a
/// caller who wants to answer something else. In telnet the caller has said DO START_TLS, and the command
/// is the client's WILL. What came behind the command is never obeyed:
/// it is `injected`, nothing is answered, and the descriptor is shut down (CVE-2011-0411). Where TLS
/// begins without a go-ahead (`smtps` and the like, and `mysql` behind its SSLRequest) those bytes are
/// the ClientHello.
///
/// The outcome tells the name that the client asked for (SNI) and its certificate. Errors: `malformed`
/// where the client says something else, to which the caller may still answer; `untrusted`, `expired`
/// or `fingerprint-mismatch` for the client's certificate; else as for `starttls_upgrade`.
#[no_mangle]
pub unsafe extern "C" fn starttls_accept(
    protocol: *const c_char,
    fd: c_int,
    command: *const c_void,
    n: usize,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        let command = bytes(command, n, "command")?;
        Session::accept(protocol, descriptor(fd)?, command, &policy).map(new)
    })
}

/// Answers the client's upgrade command with the protocol's refusal (454, NO, -ERR, 580 and so on)
/// instead. The connection stays the caller's, in clear. `command` and `n` are as for
/// `starttls_accept`; of the policy only the time-out counts. `unsupported` for protocols without a
/// refusal (`http`, `mysql`).
#[no_mangle]
pub unsafe extern "C" fn starttls_refuse(
    protocol: *const c_char,
    fd: c_int,
    command: *const c_void,
    n: usize,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        let command = bytes(command, n, "command")?;
        Session::refuse(protocol, descriptor(fd)?, command, &policy).map(|()| true)
    })
}

/// Protects a second connection to the same server by the same policy: FTP's for data, once `PROT P`
/// was accepted. It resumes the TLS session of `session`, which many servers demand. `fd` stays the
/// caller's; the new session is freed by its own, and ended with `starttls_close`, which here waits up to
/// 5 s for the server's end, so that the server has all data and knows them to be whole. A server that does
/// not resume is checked anew and, where the level asks for nobody in particular, must at least have the
/// key of the control connection (`fingerprint-mismatch`). `invalid` on a session in clear. Errors: as for `starttls_upgrade`.
#[no_mangle]
pub unsafe extern "C" fn starttls_protect_data(
    session: *const starttls_session,
    fd: c_int,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, of(session)?.protect_data(descriptor(fd)?).map(new))
}

/// Reads into `buf` what has come, `len` bytes at most, waiting for the first. `*n` is how many there
/// are; 0 means that the peer has closed properly. `len` must not be 0.
///
/// Errors: `closed` where the peer's end comes without the close_notify of TLS (what was read may be
/// cut short), `io`, and `timeout` if `starttls_session_set_timeout` was called. After `timeout` the
/// call can be repeated.
#[no_mangle]
pub unsafe extern "C" fn starttls_read(
    session: *mut starttls_session,
    buf: *mut c_void,
    len: usize,
    n: *mut usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let n = n.as_mut().ok_or_else(|| invalid("n is NULL"))?;
        *n = 0;
        let session = of(session)?;
        if len == 0 {
            return Err(invalid("a read of 0 bytes could not tell the peer's end"));
        }
        *n = session.read(room(buf, len, "buf")?)?;
        Ok(true)
    })
}

/// Writes all `len` bytes, or fails: then it is not known how many have reached the peer, and the
/// session is of no more use. Errors: `closed`, `io`, and `timeout` as for `starttls_read`.
#[no_mangle]
pub unsafe extern "C" fn starttls_write(
    session: *mut starttls_session,
    buf: *const c_void,
    len: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        of(session)?.write_all(bytes(buf, len, "buf")?)?;
        Ok(true)
    })
}

/// Ends the session: sends the close_notify of TLS, and does not wait for the peer's; a peer that takes
/// nothing is given 5 s. Read the answer to the last command first: what the peer sends to a closed socket
/// may make its system drop what it has not read yet. A thread that waits in `starttls_read` or
/// `starttls_write` is woken. The handle must still be freed. Closing twice is no error.
/// Errors: `closed`, `io` or `timeout` where the peer cannot be told; the session has ended all the
/// same.
#[no_mangle]
pub unsafe extern "C" fn starttls_close(
    session: *mut starttls_session,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, of(session)?.close().map(|()| true))
}

/// What binds a login to this TLS session: `tls-exporter` (RFC 9266, 32 bytes) or
/// `tls-server-end-point` (RFC 5929, at most 64). `*len` is the room in `buf` and becomes the length;
/// if the room is too small the call is `invalid` and `*len` the room that is needed. `invalid` on a
/// session in clear.
#[no_mangle]
pub unsafe extern "C" fn starttls_channel_binding(
    session: *const starttls_session,
    r#type: *const c_char,
    buf: *mut c_void,
    len: *mut usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let session = of(session)?;
        let len = len.as_mut().ok_or_else(|| invalid("len is NULL"))?;
        let binding = session.channel_binding(text(r#type, "type")?)?;
        let room = room(buf, *len, "buf")?;
        *len = binding.len();
        room.get_mut(..binding.len())
            .ok_or_else(|| {
                invalid(format!(
                    "the channel binding needs room for {} bytes",
                    binding.len()
                ))
            })?
            .copy_from_slice(&binding);
        Ok(true)
    })
}

/// What did happen. It belongs to the session. NULL for NULL, and before the handshake of
/// `starttls_negotiation_session` is done.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_outcome(
    session: *const starttls_session,
) -> *const starttls_outcome {
    guard!({
        let established = of(session).is_ok_and(Session::is_established);
        match get(session) {
            Ok(handle) if established => handle.lend(),
            _ => std::ptr::null(),
        }
    })
}

/// All that the peer said in clear before the session, raw, `*n` bytes; for those who need it, such
/// as the time stamp of APOP. Over TLS nothing of it is to be believed. It belongs to the session.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_heard(
    session: *const starttls_session,
    n: *mut usize,
) -> *const c_void {
    guard!({
        let heard = of(session).map_or(&[][..], Session::heard);
        match n.as_mut() {
            Some(n) => {
                *n = heard.len();
                if heard.is_empty() {
                    std::ptr::null()
                } else {
                    heard.as_ptr().cast()
                }
            }
            None => std::ptr::null(),
        }
    })
}

/// The descriptor, to poll: the caller's own, or the one that the session dialled and will close. Ask
/// `starttls_session_pending` before waiting on it. -1 for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_fd(session: *const starttls_session) -> c_int {
    guard!(of(session).map_or(-1, |s| s.as_fd().as_raw_fd()))
}

/// How many bytes `starttls_read` gives without waiting for the peer.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_pending(session: *const starttls_session) -> usize {
    guard!(of(session).map_or(0, Session::pending))
}

/// How long a read or a write may wait without a byte moving, in milliseconds; 0, the default, is for
/// ever. It holds from the next call on.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_set_timeout(
    session: *mut starttls_session,
    milliseconds: u32,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let time = Duration::from_millis(milliseconds.into());
        of(session)?.set_timeout(Some(time).filter(|t| !t.is_zero()));
        Ok(true)
    })
}

/// Frees a session and sends nothing: `starttls_close` before it says good-bye. What `starttls_connect`
/// dialled is closed, the descriptor of `starttls_upgrade` is not. No other thread may be using the
/// session. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_free(session: *mut starttls_session) {
    guard!(free(session))
}
