//! From a connected socket to a channel: the dialog, the look for injected plaintext, the
//! handshake, the verdict. What went on is recorded in the outcome whatever the result.

mod handshake;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::dialog::Stage;
use crate::error::{Error, Result, Word};
use crate::name::{address_literal, ServerName};
use crate::negotiation::{Negotiation, Want};
use crate::outcome::{self, Because, Effective, Outcome, Peer};
use crate::policy::Policy;
use crate::protocol::Service;
use crate::sys::{shut_down, wait_any, Deadline};
use crate::text::printable;
use crate::transport::Transport;

/// One attempt on one connection.
pub(crate) struct Attempt<'a> {
    pub(crate) service: Option<Service>,
    pub(crate) host: ServerName,
    pub(crate) policy: &'a Policy,
    pub(crate) deadline: Deadline,
    pub(crate) outcome: Outcome,
    pub(crate) heard: Vec<u8>,
    /// Whether the failure was one of the handshake, for the redial rule.
    pub(crate) handshake_failed: bool,
    /// For the second connection after a failed handshake: hear the greeting and stay in clear.
    pub(crate) stay_plain: bool,
}

impl<'a> Attempt<'a> {
    /// Checks all that can be checked without a connection.
    pub(crate) fn begin(
        service: Option<Service>,
        host: &str,
        policy: &'a Policy,
        deadline: Deadline,
    ) -> Result<Self> {
        policy.rules.consistent()?;
        let level = policy.rules.level;
        let host = ServerName::parse(host)?;
        if matches!(service, Some(Service::Implicit(_))) && level.effective() == Effective::None {
            return Err(Error::invalid(
                "level \"none\" on a protocol that is TLS from the first byte",
            ));
        }
        if level.effective() != Effective::None {
            // A CA file or key that cannot be used is told before anyone is spoken to.
            policy.shared.context(&policy.rules)?;
        }
        let peer = Peer {
            name: host.to_string(),
            name_from: policy.rules.name_from,
            address: None,
            port: None,
        };
        Ok(Self {
            service,
            host,
            policy,
            deadline,
            outcome: Outcome::begin(service.map(Service::word), level, peer),
            heard: Vec::new(),
            handshake_failed: false,
            stay_plain: false,
        })
    }

    /// The outcome, when the attempt has succeeded and needs it no more.
    pub(crate) fn take_outcome(&mut self) -> Outcome {
        let level = self.policy.rules.level;
        let peer = Peer {
            name: String::new(),
            name_from: self.policy.rules.name_from,
            address: None,
            port: None,
        };
        std::mem::replace(&mut self.outcome, Outcome::begin(None, level, peer))
    }

    /// Attaches the outcome so far.
    pub(crate) fn fail(&mut self, e: Error) -> Error {
        e.with_outcome(self.outcome.clone())
    }

    /// Plays the dialog from this stage and, unless it stays in clear, does the handshake.
    pub(crate) fn run(&mut self, fd: BorrowedFd<'_>, stage: Stage, pending: &[u8]) -> Result<Channel> {
        if self.outcome.peer.address.is_none() {
            self.note_peer(fd);
        }
        let mut transport = Transport::new(fd.as_raw_fd());
        if self.outcome.effective == Effective::None {
            return Ok(self.plain(transport, Because::NotAsked, pending.to_vec()));
        }
        let start = Instant::now();
        let in_clear = matches!(self.service, Some(Service::InBand(_))) && stage != Stage::GoAhead;
        let result = if in_clear {
            self.negotiate(fd, &mut transport, stage, pending)
        } else {
            self.handshake_only(&transport, stage, pending)
        };
        self.outcome.milliseconds.negotiate = Some(millis(start.elapsed()));
        match result {
            Ok(None) => {}
            Ok(Some((because, unread))) => return Ok(self.plain(transport, because, unread)),
            Err(e) => {
                // Before the go-ahead the connection is still fit for a good-bye.
                let fit = in_clear && e.word() != Word::Injected;
                if !fit && e.word() != Word::Invalid {
                    shut_down(fd.as_raw_fd());
                }
                return Err(e);
            }
        }
        let start = Instant::now();
        let result = self.handshake(fd, transport);
        self.outcome.milliseconds.handshake = Some(millis(start.elapsed()));
        // From the go-ahead on nobody may go on in clear on this connection.
        result.inspect_err(|_| shut_down(fd.as_raw_fd()))
    }

    fn plain(&mut self, transport: Transport, because: Because, unread: Vec<u8>) -> Channel {
        self.outcome.channel = Some(outcome::Channel::Plain);
        self.outcome.because = Some(because);
        Channel::Plain(transport, unread)
    }

    fn note_peer(&mut self, fd: BorrowedFd<'_>) {
        let peer = socket2::SockRef::from(&fd).peer_addr().ok();
        if let Some(address) = peer.and_then(|a| a.as_socket()) {
            self.outcome.peer.address = Some(address.ip().to_canonical());
            self.outcome.peer.port = Some(address.port());
        }
    }

    /// How the client calls itself unless the policy says: its own address, never looked up.
    fn me(&self, fd: BorrowedFd<'_>) -> String {
        let local = socket2::SockRef::from(&fd).local_addr().ok();
        match local.and_then(|a| a.as_socket()) {
            Some(address) => address_literal(address.ip()),
            None => "localhost".to_owned(),
        }
    }

    /// Plays the dialog; `None`: the go-ahead was given.
    fn negotiate(
        &mut self,
        fd: BorrowedFd<'_>,
        transport: &mut Transport,
        stage: Stage,
        pending: &[u8],
    ) -> Result<Option<(Because, Vec<u8>)>> {
        let word = self.service.map_or("", Service::word);
        let mut negotiation = Negotiation::new(word, stage, &self.me(fd), self.policy)?;
        if self.stay_plain {
            negotiation = negotiation.greeting_only();
        }
        let result = self.drive(fd, transport, &mut negotiation, pending);
        let account = negotiation.account();
        // The second connection of the redial rule does not get as far as the offer.
        self.outcome.offered = account.findings.offered.or(self.outcome.offered);
        self.outcome.suspicions = account.findings.suspicions;
        self.outcome.transcript = account.transcript;
        self.outcome.round_trips = account.round_trips;
        self.outcome.notes.extend(account.why_plain);
        self.heard = account.heard;
        Ok(result?.map(|because| (because, account.unread)))
    }

    fn drive(
        &self,
        fd: BorrowedFd<'_>,
        transport: &mut Transport,
        negotiation: &mut Negotiation,
        pending: &[u8],
    ) -> Result<Option<Because>> {
        let mut buffer = [0u8; 2048];
        negotiation.receive(pending)?;
        loop {
            match negotiation.want() {
                Want::Read => match transport.read(&mut buffer) {
                    Ok(0) => return Err(negotiation.closed()),
                    Ok(n) => negotiation.receive(buffer.get(..n).unwrap_or_default())?,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        // What the kernel has not taken yet goes out first.
                        let awaits = negotiation.awaits();
                        transport.push().map_err(|e| lost(awaits, &e))?;
                        self.wait(fd, transport, awaits)?;
                    }
                    Err(e) => return Err(lost(negotiation.awaits(), &e)),
                },
                Want::Write => {
                    self.look(transport, negotiation)?;
                    let output = negotiation.output().to_vec();
                    let n = transport
                        .write(&output)
                        .map_err(|e| lost(negotiation.awaits(), &e))?;
                    negotiation.sent(n);
                }
                Want::Handshake => {
                    self.look(transport, negotiation)?;
                    return Ok(None);
                }
                Want::Plain(because) => {
                    self.look(transport, negotiation)?;
                    return Ok(Some(because));
                }
            }
        }
    }

    /// Before we say anything: has the peer already said what it should not have yet? Whether it
    /// came in the same segment as the last message must make no difference.
    fn look(&self, transport: &mut Transport, negotiation: &mut Negotiation) -> Result<()> {
        match transport.peek() {
            Ok(Some(bytes)) if !bytes.is_empty() => {
                let mut taken = vec![0u8; bytes.len()];
                transport.read_at_once();
                let n = transport
                    .read(&mut taken)
                    .map_err(|e| lost(negotiation.awaits(), &e))?;
                negotiation.receive(taken.get(..n).unwrap_or_default())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(lost(negotiation.awaits(), &e)),
        }
    }

    /// TLS from the first byte, or the caller has received the go-ahead itself.
    fn handshake_only(
        &self,
        transport: &Transport,
        stage: Stage,
        pending: &[u8],
    ) -> Result<Option<(Because, Vec<u8>)>> {
        if matches!(self.service, Some(Service::Implicit(_))) && stage != Stage::Greeting {
            return Err(Error::invalid(
                "a protocol that is TLS from the first byte has only the stage \"greeting\"",
            ));
        }
        if !pending.is_empty() {
            return Err(self.clear_text(pending));
        }
        match transport.peek() {
            Ok(Some(bytes)) if !bytes.is_empty() => Err(self.clear_text(&bytes)),
            Ok(_) => Ok(None),
            Err(e) => Err(lost("the handshake", &e)),
        }
    }

    /// Plaintext where TLS must begin.
    fn clear_text(&self, bytes: &[u8]) -> Error {
        let said = printable(bytes);
        if matches!(self.service, Some(Service::Implicit(_))) {
            return Error::new(
                Word::Malformed,
                format!("the peer speaks plaintext here, not TLS from the first byte: \"{said}\""),
            );
        }
        Error::new(
            Word::Injected,
            format!("plaintext behind the go-ahead, as an attacker on the path would inject: \"{said}\""),
        )
    }

    /// Waits until the peer says something or, if bytes are kept, takes something.
    fn wait(&self, fd: BorrowedFd<'_>, transport: &Transport, awaits: &str) -> Result<()> {
        let mut events = libc::POLLIN;
        if transport.keeps() {
            events |= libc::POLLOUT;
        }
        let hook = self.policy.rules.interrupt_hook;
        if self.deadline.is_past() {
            // poll would not say so of a peer that always has something to say.
            return Err(self.too_late(awaits));
        }
        // A signal that came while an observer ran interrupts no wait of ours any more.
        let before = match (&self.policy.rules.observer, hook) {
            (Some(_), Some(hook)) => hook(),
            _ => Ok(()),
        };
        match before.and_then(|()| wait_any(&[(fd, events)], self.deadline, hook)) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(self.too_late(awaits)),
            Err(e) => Err(Error::io(&format!("wait for {awaits}"), &e)),
        }
    }

    fn too_late(&self, awaits: &str) -> Error {
        let within = self.policy.rules.timeout.as_secs_f32();
        let hint = self.hint(awaits);
        Error::new(
            Word::Timeout,
            format!("{awaits} did not come within {within} s{hint}"),
        )
    }

    /// A server with TLS from the first byte waits for us as we wait for it.
    fn hint(&self, awaits: &str) -> String {
        let implicit = self.service.and_then(|s| s.protocol().implicit);
        match implicit {
            Some((word, _)) if awaits == "the greeting" => {
                format!("; if this port is TLS from the first byte, its protocol is \"{word}\"")
            }
            _ => String::new(),
        }
    }
}

/// A connection that breaks: a peer's reset is its way of closing.
fn lost(awaits: &str, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::new(
            Word::Closed,
            format!("the peer broke the connection off before {awaits}: {e}"),
        ),
        _ => Error::io(&format!("wait for {awaits}"), e),
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
