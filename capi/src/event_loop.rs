//! The step machine: negotiations and sessions that never wait.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use starttls::{Error, Negotiation, Ready, Result, Session, Stage, Want, Word};

use crate::error::starttls_error;
use crate::handle::{bytes, free, get, give, invalid, room, text, Opaque};
use crate::policy::{starttls_policy, used};
use crate::session::{descriptor, new, of, starttls_session};

/// What was asked for is done.
pub const STARTTLS_DONE: c_int = 0;
/// Call again when the descriptor is readable; or, of a negotiation: read, and hand over what came.
pub const STARTTLS_WANT_READ: c_int = 1;
/// Call again when the descriptor is writable; or, of a negotiation: send its output.
pub const STARTTLS_WANT_WRITE: c_int = 2;
/// The peer has closed properly.
pub const STARTTLS_CLOSED: c_int = 3;
/// The negotiation is over, and the TLS handshake comes next.
pub const STARTTLS_WANT_HANDSHAKE: c_int = 4;
/// The negotiation is over, and the connection stays in clear.
pub const STARTTLS_PLAIN: c_int = 5;
/// It failed; the error says why.
pub const STARTTLS_FAILED: c_int = -1;

/// A dialog in clear, without any input or output of its own: for event loops.
///
///     starttls_negotiation *n = starttls_negotiation_new("smtp", host, "greeting", policy, &error);
///     for (;;) {
///         ... hand all that has come to _receive(), whatever it wants; then
///         switch (starttls_negotiation_want(n)) {
///         case STARTTLS_WANT_WRITE: ... send starttls_negotiation_output(), then _sent(); break;
///         case STARTTLS_WANT_READ: ... wait, or call _closed() or _timed_out(); break;
///         default: session = starttls_negotiation_session(n, fd, &error);
///         }
///     }
///
/// Then `starttls_try_handshake` until it is done, `starttls_try_read` and `starttls_try_write`. Not for
/// several threads at once.
pub struct starttls_negotiation {
    _opaque: [u8; 0],
}

impl Opaque for starttls_negotiation {
    /// `None`: it was made a session.
    type Inner = Mutex<Option<Negotiation>>;
    const NAME: &'static str = "starttls_negotiation";
    const MARK: u64 = 0x7374_746c_736e_6567;
}

unsafe fn with<T>(
    negotiation: *const starttls_negotiation,
    what: impl FnOnce(&mut Negotiation) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's.
    let mut negotiation = locked(unsafe { get(negotiation) }?)?;
    what(negotiation.as_mut().ok_or_else(used_up)?)
}

fn locked(negotiation: &Mutex<Option<Negotiation>>) -> Result<MutexGuard<'_, Option<Negotiation>>> {
    negotiation
        .lock()
        .map_err(|_| Error::at_border(Word::Bug, "a fault in libstarttls has spoiled this negotiation"))
}

fn used_up() -> Error {
    invalid("this negotiation was made a session and can only be freed")
}

/// Begins the client's side of a dialog, for `host`, at a stage as for `starttls_upgrade`. Nothing is
/// said where TLS comes at once (`smtps`, stage `go-ahead`) or never (level `none`): it then wants the
/// handshake, or stays in clear, from the beginning. The policy's time-out counts from now.
///
/// Set the policy's client name: which address the client has is not known here, and it calls itself
/// `localhost`. Free it with `starttls_negotiation_free`.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_new(
    protocol: *const c_char,
    host: *const c_char,
    stage: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_negotiation {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        let host = text(host, "host")?;
        let stage = Stage::from_word(text(stage, "stage")?)?;
        Negotiation::new(protocol, host, stage, &policy).map(|n| give(Mutex::new(Some(n))))
    })
}

/// Begins the server's side, as `starttls_accept` has it: hand all that was read since the client's
/// upgrade command began to `starttls_negotiation_receive`.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_accept(
    protocol: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_negotiation {
    guard!(error, {
        let policy = used(policy)?;
        Negotiation::accept(text(protocol, "protocol")?, &policy).map(|n| give(Mutex::new(Some(n))))
    })
}

/// What is to be done next: `STARTTLS_WANT_WRITE`, `STARTTLS_WANT_READ`, `STARTTLS_WANT_HANDSHAKE` or
/// `STARTTLS_PLAIN`; `STARTTLS_FAILED` after an error, for NULL and for one that was made a session.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_want(negotiation: *const starttls_negotiation) -> c_int {
    guard!(with(negotiation, |n| Ok((!n.has_failed()).then(|| n.want())))
        .ok()
        .flatten()
        .map_or(STARTTLS_FAILED, |want| match want {
            Want::Write => STARTTLS_WANT_WRITE,
            Want::Read => STARTTLS_WANT_READ,
            Want::Handshake => STARTTLS_WANT_HANDSHAKE,
            Want::Plain(_) => STARTTLS_PLAIN,
        }))
}

/// The `*n` bytes to send; NULL if there are none. They belong to the negotiation and are good until
/// its next call.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_output(
    negotiation: *const starttls_negotiation,
    n: *mut usize,
) -> *const c_void {
    guard!({
        let output = with(negotiation, |n| Ok((n.output().as_ptr(), n.output().len())));
        match (output, n.as_mut()) {
            (Ok((bytes, length)), Some(n)) if length > 0 => {
                *n = length;
                bytes.cast()
            }
            (_, Some(n)) => {
                *n = 0;
                std::ptr::null()
            }
            (_, None) => std::ptr::null(),
        }
    })
}

/// So many bytes of the output were sent.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_sent(
    negotiation: *mut starttls_negotiation,
    n: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        with(negotiation, |negotiation| {
            if n > negotiation.output().len() {
                return Err(invalid("more bytes were sent than there were to send"));
            }
            negotiation.sent(n);
            Ok(true)
        })
    )
}

/// These `len` bytes came. Read before each write, too, as `starttls_upgrade` does: what the peer has
/// said before it was asked is then found out. Errors: those of the dialog, as for `starttls_upgrade`, and `timeout`;
/// the negotiation is then over, and so is the connection but for a good-bye in clear, which is not to be said after
/// `injected`. 0 bytes are `invalid`: for the end there is `starttls_negotiation_closed`.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_receive(
    negotiation: *mut starttls_negotiation,
    buf: *const c_void,
    len: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        with(negotiation, |negotiation| {
            if len == 0 {
                return Err(invalid(
                    "0 bytes: call starttls_negotiation_closed if the peer has closed",
                ));
            }
            negotiation.receive(bytes(buf, len, "buf")?).map(|()| true)
        })
    )
}

/// The peer has closed the connection, or broken it off: always false, with the error `closed` and what had happened.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_closed(
    negotiation: *mut starttls_negotiation,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, with(negotiation, |n| Err(n.closed())))
}

/// The policy's time-out has passed: always false, with the error `timeout` and what had happened.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_timed_out(
    negotiation: *mut starttls_negotiation,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, with(negotiation, |n| Err(n.too_late())))
}

/// How many milliseconds are left of the policy's time-out, 0 when it has passed: then call
/// `starttls_negotiation_timed_out`. -1 for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_wait_ms(negotiation: *const starttls_negotiation) -> c_int {
    guard!(with(negotiation, |n| Ok(n.time_left())).map_or(-1, milliseconds))
}

/// Rounded up, so that nobody waits 0 ms again and again.
pub(crate) fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
}

/// Makes a session of a negotiation that wants the handshake or stays in clear. Go on with
/// `starttls_try_handshake`. The session takes over what was said and the time that is left; the
/// negotiation is used up, also if this fails, and must still be freed. The descriptor stays the
/// caller's, as for `starttls_upgrade`. `injected` where a server has said more than its refusal.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_session(
    negotiation: *mut starttls_negotiation,
    fd: c_int,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let fd = descriptor(fd)?;
        let mut negotiation = locked(get(negotiation)?)?;
        match negotiation.as_ref().map(Negotiation::want) {
            Some(Want::Write | Want::Read) => Err(invalid(
                "the negotiation is not over: it still wants to write or to read",
            )),
            _ => Session::negotiated(negotiation.take().ok_or_else(used_up)?, fd).map(new),
        }
    })
}

/// Frees a negotiation. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_negotiation_free(negotiation: *mut starttls_negotiation) {
    guard!(free(negotiation))
}

/// Goes on with the handshake of `starttls_negotiation_session`, without waiting: `STARTTLS_DONE`,
/// `STARTTLS_WANT_READ`, `STARTTLS_WANT_WRITE` or `STARTTLS_FAILED`. When it is done the policy is met; before that,
/// reading and writing are `invalid`. Errors: as for `starttls_upgrade`; `timeout` when the policy's
/// time-out has passed, for which see `starttls_session_wait_ms`.
#[no_mangle]
pub unsafe extern "C" fn starttls_try_handshake(
    session: *mut starttls_session,
    error: *mut *mut starttls_error,
) -> c_int {
    guard!(
        error,
        Ok(ready(of(session)?.try_handshake()?, |()| STARTTLS_DONE))
    )
}

/// Reads into `buf` what is there, without waiting: `STARTTLS_DONE` and `*n` bytes, `STARTTLS_CLOSED`,
/// `STARTTLS_WANT_READ` or `STARTTLS_FAILED`. An edge-triggered loop goes on until `STARTTLS_WANT_READ`.
/// Errors: as for `starttls_read`.
#[no_mangle]
pub unsafe extern "C" fn starttls_try_read(
    session: *mut starttls_session,
    buf: *mut c_void,
    len: usize,
    n: *mut usize,
    error: *mut *mut starttls_error,
) -> c_int {
    guard!(error, {
        let n = n.as_mut().ok_or_else(|| invalid("n is NULL"))?;
        *n = 0;
        let session = of(session)?;
        if len == 0 {
            return Err(invalid("a read of 0 bytes could not tell the peer's end"));
        }
        let done = session.try_read(room(buf, len, "buf")?)?;
        Ok(ready(done, |came| {
            *n = came;
            if came == 0 {
                STARTTLS_CLOSED
            } else {
                STARTTLS_DONE
            }
        }))
    })
}

/// Takes the beginning of these `len` bytes, without waiting: `STARTTLS_DONE` and how many in `*n` (16 KiB
/// at most), `STARTTLS_WANT_WRITE` or `STARTTLS_WANT_READ` if none can be taken now, or `STARTTLS_FAILED`.
/// What was taken is not always sent yet: while `starttls_session_wants_write` says so, call
/// `starttls_try_flush` when the descriptor is writable. Errors: as for `starttls_write`.
#[no_mangle]
pub unsafe extern "C" fn starttls_try_write(
    session: *mut starttls_session,
    buf: *const c_void,
    len: usize,
    n: *mut usize,
    error: *mut *mut starttls_error,
) -> c_int {
    guard!(error, {
        let n = n.as_mut().ok_or_else(|| invalid("n is NULL"))?;
        *n = 0;
        let done = of(session)?.try_write(bytes(buf, len, "buf")?)?;
        Ok(ready(done, |taken| {
            *n = taken;
            STARTTLS_DONE
        }))
    })
}

/// Sends what was taken and not sent, without waiting: `STARTTLS_DONE`, `STARTTLS_WANT_WRITE` or
/// `STARTTLS_FAILED`.
#[no_mangle]
pub unsafe extern "C" fn starttls_try_flush(
    session: *mut starttls_session,
    error: *mut *mut starttls_error,
) -> c_int {
    guard!(error, Ok(ready(of(session)?.try_flush()?, |()| STARTTLS_DONE)))
}

/// Ends the session as `starttls_close` does, without waiting: `STARTTLS_DONE`, `STARTTLS_WANT_WRITE` or
/// `STARTTLS_FAILED`. Nothing else can be done with the session any more, but to free it.
#[no_mangle]
pub unsafe extern "C" fn starttls_try_close(
    session: *mut starttls_session,
    error: *mut *mut starttls_error,
) -> c_int {
    guard!(error, Ok(ready(of(session)?.try_close()?, |()| STARTTLS_DONE)))
}

/// Whether bytes are waiting to be sent: then poll for writing as well.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_wants_write(session: *const starttls_session) -> bool {
    guard!(of(session).is_ok_and(Session::wants_write))
}

/// How many milliseconds are left for the handshake, 0 when the time has passed; -1 when it is done.
#[no_mangle]
pub unsafe extern "C" fn starttls_session_wait_ms(session: *const starttls_session) -> c_int {
    guard!(of(session)
        .ok()
        .and_then(Session::time_left)
        .map_or(-1, milliseconds))
}

fn ready<T>(ready: Ready<T>, done: impl FnOnce(T) -> c_int) -> c_int {
    match ready {
        Ready::Done(value) => done(value),
        Ready::WantRead => STARTTLS_WANT_READ,
        Ready::WantWrite => STARTTLS_WANT_WRITE,
    }
}
