//! A connection that was negotiated: [`Session::connect`] and [`Session::upgrade`] make it,
//! `read`, `write` and `close` use it. The only file that owns a connection.
//!
//! One thread may read while another writes: the lock is held for `SSL_read` and `SSL_write`, never
//! while waiting.

mod domain;
mod event_loop;
mod io;

pub use event_loop::Ready;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::attempt::{millis, Attempt};
use crate::channel::Channel;
use crate::connection::Connection;
use crate::dial::{dial, resolve};
use crate::dialog::Stage;
use crate::engine::Want;
use crate::error::{Error, Result, Word};
use crate::establish::{establish, look, stay_plain};
use crate::handshake::Handshake;
use crate::negotiation::Negotiation;
use crate::outcome::{Outcome, Role};
use crate::policy::Policy;
use crate::protocol::{find, Service};
use crate::sys::{ask, check_socket, process, shut_down};
use crate::tls::binding::channel_binding;
use crate::tls::Resumable;
use crate::transport::Transport;

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
    outcome: Box<Outcome>,
    /// Set when the handshake of a negotiated session is through.
    judged: OnceCell<Box<Outcome>>,
    heard: Vec<u8>,
    policy: Policy,
    /// Made by `protect_data`.
    for_data: bool,
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
        let port = if port == 0 { service.default_port() } else { port };
        let mut attempt = Attempt::client(Some(service), host, Some(port), policy)?;
        attempt.outcome.peer.port = Some(port);
        let attempt = attempt.settled()?;
        let deadline = attempt.deadline;
        let settled = attempt.policy.clone();
        let must_not_strip = attempt.must_not_strip().is_some();
        let error = match Self::dial(attempt, port) {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        match Attempt::in_clear_after(&error, service, host, &settled, deadline) {
            Some(again) if !must_not_strip => Self::dial(again, port),
            _ => Err(error),
        }
    }

    fn dial(mut attempt: Attempt, port: u16) -> Result<Self> {
        let start = Instant::now();
        attempt.outcome.peer.port = Some(port);
        let rules = &attempt.policy.rules;
        let dialled = match &attempt.host {
            Some(host) => attempt.addresses().and_then(|known| resolve(host, &known, port)),
            None => Err(Error::invalid("there is no host to dial")),
        };
        let dialled = dialled.and_then(|addresses| {
            // A signal during the look-up interrupted nothing of ours.
            if let Some(hook) = rules.interrupt_hook {
                ask(hook).map_err(|e| Error::io("look up the host", &e))?;
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
                Self::make_client(attempt, fd.into(), Stage::Greeting, &[])
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
        let service = find(protocol)?;
        Self::begin(Some(service), connection.into(), host, stage, pending, policy)
    }

    /// The TLS handshake alone, for a caller that has received the go-ahead of a protocol that it
    /// does not name. The outcome's protocol is `None`.
    ///
    /// # Errors
    /// As [`upgrade`](Session::upgrade).
    pub fn handshake(connection: impl Into<Connection<'fd>>, host: &str, policy: &Policy) -> Result<Self> {
        Self::begin(None, connection.into(), host, Stage::GoAhead, &[], policy)
    }

    /// The server's side: answers the client's upgrade command with the go-ahead and does the
    /// handshake, with the policy's server certificate.
    ///
    /// `command` is all that the caller has read since the client's upgrade command began, the
    /// command included; if it is empty or not whole the library reads on, and what it has read is lost to a
    /// caller who wants to answer something else than the upgrade. In telnet the caller has said DO
    /// START_TLS, and the command is the client's WILL.
    ///
    /// What a client, or somebody between, has sent behind the command is never obeyed: it is `injected`,
    /// nothing is answered, and the connection is shut down (CVE-2011-0411). Where TLS begins without a go-ahead
    /// (protocols with TLS from the first byte; MySQL, behind its SSLRequest) those bytes are the ClientHello.
    ///
    /// # Errors
    /// `malformed` where the client says something else than the upgrade command, to which the caller may still
    /// answer; `untrusted`, `expired`, `fingerprint-mismatch` for a client certificate that the policy does not
    /// accept; `invalid` for a level that is none of a server's; and as [`upgrade`](Session::upgrade).
    pub fn accept(
        protocol: &str,
        connection: impl Into<Connection<'fd>>,
        command: &[u8],
        policy: &Policy,
    ) -> Result<Self> {
        let connection = usable(connection.into())?;
        Self::make(Negotiation::accept(protocol, policy)?, connection, command)
    }

    /// Sends the protocol's own refusal to the client's upgrade command instead (454, NO, -ERR, 580 …)
    /// and leaves the connection to the caller, in clear. `command` is as for [`accept`](Session::accept); of
    /// the policy only the time-out counts.
    ///
    /// # Errors
    /// `unsupported` for protocols without a refusal (HTTP, MySQL), and as `accept`.
    pub fn refuse(
        protocol: &str,
        connection: impl Into<Connection<'fd>>,
        command: &[u8],
        policy: &Policy,
    ) -> Result<()> {
        let connection = usable(connection.into())?;
        let negotiation = Negotiation::refusal(protocol, policy)?;
        establish(negotiation, connection.as_fd(), command).map(drop)
    }

    /// A session of a negotiation that wants the handshake or goes on in clear, for event loops: go on
    /// with [`try_handshake`](Session::try_handshake).
    ///
    /// # Errors
    /// `invalid` if the negotiation is not over, or for a descriptor that is no stream socket; `injected`
    /// where the server has said more than its refusal, before it was asked anything else.
    pub fn negotiated(mut negotiation: Negotiation, connection: impl Into<Connection<'fd>>) -> Result<Self> {
        let connection = usable(connection.into())?;
        let fd = connection.as_fd().as_raw_fd();
        let mut transport = Transport::new(fd);
        transport.never_wait_first();
        if matches!(negotiation.want(), Want::Plain(_)) && negotiation.attempt.outcome.role == Role::Client {
            // The handshake looks for itself.
            look(&mut transport, &mut negotiation).map_err(|e| {
                if e.word() == Word::Injected {
                    shut_down(fd);
                }
                negotiation.fail(e)
            })?;
        }
        let want = negotiation.want();
        let mut attempt = negotiation.into_attempt();
        attempt.note_peer(connection.as_fd());
        match want {
            Want::Plain(because) => {
                let (channel, attempt) = stay_plain(attempt, transport, because);
                Ok(Self::over(connection, channel, attempt))
            }
            Want::Handshake => {
                let mut handshake = Handshake::begin(attempt, transport)?;
                let attempt = &mut handshake.attempt;
                let outcome = attempt.outcome.clone();
                let heard = std::mem::take(&mut attempt.heard);
                let policy = attempt.policy.clone();
                let channel = Channel::Handshake(Box::new(handshake));
                Ok(Self::new(connection, channel, outcome, heard, policy))
            }
            Want::Write | Want::Read => Err(Error::invalid(
                "the negotiation is not over: it still wants to write or to read",
            )),
        }
    }

    /// Protects a second connection to the same peer by the same policy: FTP's for data (RFC 4217
    /// §9), once the server has said that it will accept it (`PROT P`, then the answer to PASV or EPSV).
    /// It resumes this session's TLS session, which many servers demand. If they do not resume, all
    /// checks are run again and, where the level asks for nobody in particular, the peer must have the key of
    /// the control connection (`fingerprint-mismatch`). End it with [`close`](Session::close), which here
    /// waits for the peer's end, 5 s at most, so that the peer has all data and knows them to be whole.
    ///
    /// # Errors
    /// `invalid` on a session in clear or a server's; and as [`handshake`](Session::handshake).
    pub fn protect_data<'other>(&self, connection: impl Into<Connection<'other>>) -> Result<Session<'other>> {
        let connection = usable(connection.into())?;
        let resumable = match &*self.usable()? {
            Channel::Tls(stream) if self.outcome().role == Role::Client => Resumable::of(stream.ssl()),
            _ => None,
        };
        let outcome = self.outcome();
        let (Some(resumable), Some(host)) = (resumable, &outcome.peer.name) else {
            return Err(Error::invalid(
                "only a client's session over TLS can protect a connection beside it",
            ));
        };
        let service = outcome.protocol.map(find).transpose()?;
        let mut attempt = Attempt::client(service, host, outcome.peer.port, &self.policy)?;
        attempt.beside = Some(resumable);
        let stage = match service {
            Some(Service::Implicit(_)) => Stage::Greeting,
            _ => Stage::GoAhead,
        };
        let mut session = Session::make_client(attempt, connection, stage, &[])?;
        session.for_data = true;
        Ok(session)
    }

    fn begin(
        service: Option<Service>,
        connection: Connection<'fd>,
        host: &str,
        stage: Stage,
        pending: &[u8],
        policy: &Policy,
    ) -> Result<Self> {
        let connection = usable(connection)?;
        let peer = crate::sys::peer_of(connection.as_fd().as_raw_fd());
        let mut attempt = Attempt::client(service, host, peer.map(|peer| peer.port()), policy)?;
        attempt.note_peer(connection.as_fd());
        Self::make_client(attempt.settled()?, connection, stage, pending)
    }

    fn make_client(
        attempt: Attempt,
        connection: Connection<'fd>,
        stage: Stage,
        pending: &[u8],
    ) -> Result<Self> {
        let local = socket2::SockRef::from(&connection).local_addr().ok();
        let local = local.and_then(|a| a.as_socket()).map(|a| a.ip());
        Self::make(Negotiation::client(attempt, stage, local)?, connection, pending)
    }

    fn make(negotiation: Negotiation, connection: Connection<'fd>, pending: &[u8]) -> Result<Self> {
        let (channel, attempt) = establish(negotiation, connection.as_fd(), pending)?;
        Ok(Self::over(connection, channel, attempt))
    }

    fn over(connection: Connection<'fd>, channel: Channel, attempt: Attempt) -> Self {
        Self::new(
            connection,
            channel,
            attempt.outcome,
            attempt.heard,
            attempt.policy,
        )
    }

    fn new(
        connection: Connection<'fd>,
        channel: Channel,
        outcome: Outcome,
        heard: Vec<u8>,
        policy: Policy,
    ) -> Self {
        Self {
            connection,
            channel: Mutex::new(channel),
            closed: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            time_limit: Mutex::new(None),
            process: process(),
            outcome: Box::new(outcome),
            judged: OnceCell::new(),
            heard,
            policy,
            for_data: false,
        }
    }

    /// What did happen. Before the handshake of a [negotiated](Session::negotiated) session is through
    /// it tells of the dialog alone.
    pub fn outcome(&self) -> &Outcome {
        self.judged.get().unwrap_or(&self.outcome)
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
            Channel::Plain(..) | Channel::Handshake(_) => None,
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
            Channel::Plain(..) | Channel::Handshake(_) => None,
        }
    }
}

fn usable(connection: Connection<'_>) -> Result<Connection<'_>> {
    check_socket(connection.as_fd().as_raw_fd())
        .map_err(|e| Error::invalid(format!("the descriptor cannot be used: {e}")))?;
    Ok(connection)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.end_handshake();
        let channel = self.channel.get_mut();
        channel.unwrap_or_else(PoisonError::into_inner).abandon();
    }
}

impl AsFd for Session<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
