//! A connection that was negotiated: [`Session::connect`] and [`Session::upgrade`] make it,
//! `read`, `write` and `close` use it. The only file that owns a connection.
//!
//! One thread may read while another writes: the lock is held for `SSL_read` and `SSL_write`, never
//! while waiting.

mod io;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::dial::{dial, resolve};
use crate::dialog::Stage;
use crate::error::{Error, Result};
use crate::establish::{millis, Attempt};
use crate::outcome::{Because, Effective, Outcome};
use crate::policy::Policy;
use crate::protocol::{find, Service};
use crate::sys::{check_socket, process, Deadline};
use crate::tls::binding::channel_binding;

/// A descriptor that a session owns, or that stays its caller's.
#[derive(Debug)]
pub enum Connection<'fd> {
    /// Closed when the session is dropped.
    Owned(OwnedFd),
    /// Never closed by the session.
    Borrowed(BorrowedFd<'fd>),
}

impl AsFd for Connection<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Connection::Owned(fd) => fd.as_fd(),
            Connection::Borrowed(fd) => fd.as_fd(),
        }
    }
}

impl<'fd> From<BorrowedFd<'fd>> for Connection<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Connection::Borrowed(fd)
    }
}

impl<'fd, T: AsFd> From<&'fd T> for Connection<'fd> {
    fn from(stream: &'fd T) -> Self {
        Connection::Borrowed(stream.as_fd())
    }
}

impl From<OwnedFd> for Connection<'_> {
    fn from(fd: OwnedFd) -> Self {
        Connection::Owned(fd)
    }
}

impl From<std::net::TcpStream> for Connection<'_> {
    fn from(stream: std::net::TcpStream) -> Self {
        Connection::Owned(stream.into())
    }
}

/// A negotiated connection, over TLS or, where the policy allows it, in clear:
/// [`outcome`](Session::outcome) says which and why.
///
/// Belongs to the process that made it: after `fork` the child may only drop it, and that sends
/// nothing. Dropping without [`close`](Session::close) sends no close_notify.
pub struct Session<'fd> {
    connection: Connection<'fd>,
    channel: Mutex<Channel>,
    closed: AtomicBool,
    /// Threads that are reading or writing.
    busy: AtomicUsize,
    time_limit: Mutex<Option<Duration>>,
    process: u32,
    outcome: Outcome,
    heard: Vec<u8>,
    policy: Policy,
}

impl Session<'static> {
    /// Resolves the host, dials it and does what [`upgrade`](Session::upgrade) does at stage
    /// `greeting`. Port 0 is the protocol's own.
    ///
    /// Under an effective `may`, where the handshake fails it dials once more and goes on in clear,
    /// with that as the reason and the first attempt in [`Outcome::attempts`].
    ///
    /// # Errors
    /// As `upgrade`; and `lookup-failed`, `io`, `timeout` where no connection comes about.
    pub fn connect(protocol: &str, host: &str, port: u16, policy: &Policy) -> Result<Self> {
        let service = find(protocol)?;
        let deadline = Deadline::after(Some(policy.rules.timeout));
        let port = if port == 0 { service.default_port() } else { port };
        let mut attempt = Attempt::begin(Some(service), host, policy, deadline)?;
        let error = match Self::dial(&mut attempt, port) {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        // "None" and "may" are the levels that yield plain; a fault on our side, such as a client
        // certificate the server rejects or a version we insist on, is not mended by going clear.
        let may_redial = attempt.handshake_failed
            && attempt.outcome.effective == Effective::May
            && matches!(service, Service::InBand(_))
            && policy.rules.client_cert.is_none()
            && policy.rules.min_tls.is_none();
        if !may_redial {
            return Err(error);
        }
        let first = attempt.outcome;
        let mut again = Attempt::begin(Some(service), host, policy, deadline)?;
        again.stay_plain = true;
        again.outcome.offered = first.offered;
        let failed = format!("dialled again in clear: {}", error.message());
        again.outcome.notes.push(failed);
        again.outcome.attempts.push(first);
        Self::dial(&mut again, port)
    }

    fn dial(attempt: &mut Attempt<'_>, port: u16) -> Result<Self> {
        let start = Instant::now();
        attempt.outcome.peer.port = Some(port);
        let rules = &attempt.policy.rules;
        let dialled = resolve(&attempt.host, rules.address, port).and_then(|addresses| {
            // A signal during the look-up interrupted nothing of ours.
            if let Some(hook) = rules.interrupt_hook {
                hook().map_err(|e| Error::io("look up the host", &e))?;
            }
            dial(
                &addresses,
                rules.source_address,
                attempt.deadline,
                rules.interrupt_hook,
            )
        });
        attempt.outcome.milliseconds.connect = Some(millis(start.elapsed()));
        match dialled {
            Ok((fd, address)) => {
                attempt.outcome.peer.address = Some(address.ip().to_canonical());
                Self::make(attempt, fd.into(), Stage::Greeting, &[])
            }
            Err(e) => Err(attempt.fail(e)),
        }
    }
}

impl<'fd> Session<'fd> {
    /// Upgrades a connection that the caller has made.
    ///
    /// `pending` is what the caller has read beyond what `stage` says. A borrowed descriptor is
    /// never closed and its flags are not changed; after a failure from the go-ahead on it is shut
    /// down (`shutdown(2)`), so that nobody goes on in clear on it.
    ///
    /// # Errors
    /// Each [`Word`](crate::Word) says what happened; the error carries the outcome so far.
    pub fn upgrade(
        protocol: &str,
        connection: impl Into<Connection<'fd>>,
        host: &str,
        stage: Stage,
        pending: &[u8],
        policy: &Policy,
    ) -> Result<Self> {
        Self::begin(
            Some(find(protocol)?),
            connection.into(),
            host,
            stage,
            pending,
            policy,
        )
    }

    /// The TLS handshake alone, for a caller that has received the go-ahead of a protocol that it
    /// does not name. The outcome's protocol is `None`.
    ///
    /// # Errors
    /// As [`upgrade`](Session::upgrade).
    pub fn handshake(connection: impl Into<Connection<'fd>>, host: &str, policy: &Policy) -> Result<Self> {
        Self::begin(None, connection.into(), host, Stage::GoAhead, &[], policy)
    }

    fn begin(
        service: Option<Service>,
        connection: Connection<'fd>,
        host: &str,
        stage: Stage,
        pending: &[u8],
        policy: &Policy,
    ) -> Result<Self> {
        let deadline = Deadline::after(Some(policy.rules.timeout));
        check_socket(connection.as_fd().as_raw_fd())
            .map_err(|e| Error::invalid(format!("the descriptor cannot be used: {e}")))?;
        let mut attempt = Attempt::begin(service, host, policy, deadline)?;
        Self::make(&mut attempt, connection, stage, pending)
    }

    fn make(
        attempt: &mut Attempt<'_>,
        connection: Connection<'fd>,
        stage: Stage,
        pending: &[u8],
    ) -> Result<Self> {
        match attempt.run(connection.as_fd(), stage, pending) {
            Ok(channel) => {
                if attempt.stay_plain {
                    attempt.outcome.because = Some(Because::HandshakeFailed);
                }
                Ok(Self {
                    connection,
                    channel: Mutex::new(channel),
                    closed: AtomicBool::new(false),
                    busy: AtomicUsize::new(0),
                    time_limit: Mutex::new(None),
                    process: process(),
                    outcome: attempt.take_outcome(),
                    heard: std::mem::take(&mut attempt.heard),
                    policy: attempt.policy.clone(),
                })
            }
            Err(e) => Err(attempt.fail(e)),
        }
    }

    /// What did happen.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// All that the peer said in clear before the session, raw. Nothing of it is to be acted on
    /// once the session runs over TLS.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// The longest a read or write may wait without a byte moving; `None` (the default) for ever.
    pub fn set_timeout(&self, time: Option<Duration>) {
        *lock(&self.time_limit) = time;
    }

    /// Bytes that a read gives without waiting for the peer.
    pub fn pending(&self) -> usize {
        lock(&self.channel).pending()
    }

    /// Keying material that both ends of the TLS session share (RFC 5705), for `tls-exporter`
    /// (RFC 9266), or the certificate's hash for `tls-server-end-point` (RFC 5929).
    ///
    /// # Errors
    /// `invalid` on a plain session or for another type.
    pub fn channel_binding(&self, kind: &str) -> Result<Vec<u8>> {
        let channel = self.usable()?;
        let Channel::Tls(stream) = &*channel else {
            return Err(Error::invalid("a session in clear has no channel binding"));
        };
        channel_binding(stream.ssl(), kind)
    }

    /// The peer's certificate (DER); `None` on a plain session.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        match &*lock(&self.channel) {
            Channel::Tls(stream) => stream.ssl().peer_certificate()?.to_der().ok(),
            Channel::Plain(..) => None,
        }
    }

    /// OpenSSL's name of the cipher, the TLS version that defines it, and its secret bits; `None`
    /// on a plain session.
    pub fn cipher(&self) -> Option<(&'static str, &'static str, i32)> {
        match &*lock(&self.channel) {
            Channel::Tls(stream) => stream
                .ssl()
                .current_cipher()
                .map(|c| (c.name(), c.version(), c.bits().secret)),
            Channel::Plain(..) => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let channel = self.channel.get_mut();
        channel.unwrap_or_else(PoisonError::into_inner).abandon();
    }
}

impl AsFd for Session<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
