//! One attempt on one connection: what is wanted, until when, and what has happened so far.

mod remembered;
pub(crate) mod settled;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::destinations::Destination;
use crate::error::{Error, Result, Word};
use crate::memory::Seen;
use crate::name::ServerName;
use crate::outcome::{Effective, Outcome, Peer, Role};
use crate::policy::Policy;
use crate::protocol::Service;
use crate::sys::Deadline;
use crate::text::printable;
use crate::tls::Resumable;

/// What an attempt knows from its beginning to its session.
pub(crate) struct Attempt {
    pub(crate) service: Option<Service>,
    /// Who is asked for; a server does not know its client.
    pub(crate) host: Option<ServerName>,
    pub(crate) policy: Policy,
    pub(crate) deadline: Deadline,
    pub(crate) outcome: Outcome,
    /// All that the peer said in clear.
    pub(crate) heard: Vec<u8>,
    /// Bytes that were read and belong to what follows the dialog: to the caller, or to TLS.
    pub(crate) unread: Vec<u8>,
    /// For the second connection after a failed handshake: hear the greeting and stay in clear.
    pub(crate) stay_plain: bool,
    /// The session of the connection beside which this one is made.
    pub(crate) beside: Option<Resumable>,
    /// Who did TLS before, and may not go on in clear now.
    pub(crate) seen: Option<Seen>,
}

impl Attempt {
    /// As client, of a host at this port, by the caller's table of destinations. Checks all that can be checked
    /// without a connection.
    pub(crate) fn client(
        service: Option<Service>,
        host: &str,
        port: Option<u16>,
        policy: &Policy,
    ) -> Result<Self> {
        let port = port.or(service.map(Service::default_port));
        let (policy, _) = policy.for_destination(Destination::Host(host, port.unwrap_or(0)));
        let policy = &policy;
        policy.rules.consistent()?;
        let level = policy.rules.level;
        let host = ServerName::parse(host)?;
        if let Some(other) = policy
            .rules
            .demand
            .as_ref()
            .map(|demand| &demand.host)
            .filter(|h| **h != host)
        {
            return Err(Error::invalid(format!(
                "this policy is of the route to {other}: what was looked up for it says nothing about {host}"
            )));
        }
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
            name: Some(host.to_string()),
            name_from: Some(policy.rules.name_from),
            address: None,
            port: None,
        };
        Ok(Self::begin(service, Role::Client, Some(host), peer, policy))
    }

    /// The second attempt where `connect` may dial again in clear after this error; `None` where it may
    /// not.
    pub(crate) fn in_clear_after(
        error: &Error,
        service: Service,
        host: &str,
        policy: &Policy,
        deadline: Deadline,
    ) -> Option<Self> {
        let rules = &policy.rules;
        // "None" and "may" are the levels that yield plain; a fault on our side, such as a client
        // certificate the server rejects or a version we insist on, is not mended by going clear.
        let may_redial = error.word() == Word::Handshake
            && rules.effective() == Effective::May
            && matches!(service, Service::InBand(_))
            && rules.client_cert.is_none()
            && rules.min_tls.is_none();
        let first = error.outcome().filter(|_| may_redial)?;
        // It was sound for the first attempt.
        let mut again = Self::client(Some(service), host, first.peer.port, policy).ok()?;
        again.deadline = deadline;
        again.stay_plain = true;
        again.outcome.offered = first.offered;
        let failed = format!("dialled again in clear: {}", error.message());
        again.outcome.notes.push(failed);
        again.outcome.attempts.push(first.clone());
        Some(again)
    }

    /// As server. Checks all that can be checked without a connection.
    pub(crate) fn server(service: Service, policy: &Policy) -> Result<Self> {
        policy.rules.consistent_for_server()?;
        policy.shared.server_context(&policy.rules)?;
        Ok(Self::refusing(service, policy))
    }

    /// As a server that says no, for which any policy will do.
    pub(crate) fn refusing(service: Service, policy: &Policy) -> Self {
        Self::begin(Some(service), Role::Server, None, Peer::default(), policy)
    }

    fn begin(
        service: Option<Service>,
        role: Role,
        host: Option<ServerName>,
        peer: Peer,
        policy: &Policy,
    ) -> Self {
        let mut outcome = Outcome::begin(service.map(Service::word), role, policy.rules.level, peer);
        outcome.effective = policy.rules.effective();
        outcome.notes.clone_from(&policy.rules.notes);
        if let Some(demand) = &policy.rules.demand {
            outcome.domain = Some(demand.domain.clone());
        }
        Self {
            service,
            host,
            policy: policy.clone(),
            deadline: Deadline::after(Some(policy.rules.timeout)),
            outcome,
            heard: Vec::new(),
            unread: Vec::new(),
            stay_plain: false,
            beside: None,
            seen: None,
        }
    }

    /// Attaches the outcome so far.
    pub(crate) fn fail(&self, e: Error) -> Error {
        e.with_outcome(self.outcome.clone())
    }

    /// Both ends of the connection, as far as they are not known.
    pub(crate) fn note_peer(&mut self, fd: BorrowedFd<'_>) {
        let socket = socket2::SockRef::from(&fd);
        if self.outcome.source.is_none() {
            let source = socket.local_addr().ok();
            self.outcome.source = source.and_then(|a| a.as_socket()).map(|a| a.ip().to_canonical());
        }
        if self.outcome.peer.address.is_some() {
            return;
        }
        let peer = socket.peer_addr().ok();
        if let Some(address) = peer.and_then(|a| a.as_socket()) {
            self.outcome.peer.address = Some(address.ip().to_canonical());
            self.outcome.peer.port = Some(address.port());
        }
    }

    /// The client's first bytes of TLS, which were read with its command.
    pub(crate) fn hand_to_tls(&mut self, bytes: &[u8]) -> Result<()> {
        const MAX_HELLO: usize = 64 * 1024;
        if self.unread.len().saturating_add(bytes.len()) > MAX_HELLO {
            return Err(Error::new(Word::TooLong, "more than 64 KiB before the handshake"));
        }
        self.unread.extend_from_slice(bytes);
        Ok(())
    }

    /// Plaintext where TLS must begin.
    pub(crate) fn clear_text(&self, bytes: &[u8]) -> Error {
        let said = printable(bytes);
        let row = self.service.map(Service::protocol);
        match self.service {
            Some(Service::Implicit(_)) => Error::new(
                Word::Malformed,
                format!("the peer speaks plaintext here, not TLS from the first byte: \"{said}\""),
            ),
            // Nobody gave a go-ahead: TLS was begun although it was not offered.
            _ if self.outcome.offered == Some(false) && row.is_some_and(|row| row.server.hello_follows) => {
                Error::new(
                    Word::NotOffered,
                    format!("the server does not offer the upgrade, and answers in clear: \"{said}\""),
                )
            }
            _ => Error::new(
                Word::Injected,
                format!("plaintext behind the go-ahead, as an attacker on the path would inject: \"{said}\""),
            ),
        }
    }

    /// The time-out has passed.
    pub(crate) fn too_late(&self, awaits: &str) -> Error {
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
pub(crate) fn lost(awaits: &str, e: &io::Error) -> Error {
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
