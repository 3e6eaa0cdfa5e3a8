//! A dialog in clear for whoever does the I/O himself: an event loop, or `establish.rs`.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::attempt::{lost, millis, Attempt};
use crate::dialog::{Ask, Stage};
use crate::engine::{Engine, Want};
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::name::address_literal;
use crate::outcome::{Because, Effective, Outcome, Role};
use crate::policy::Policy;
use crate::protocol::{find, Service};

/// One dialog in progress. It does no I/O: whoever drives it asks what it [wants](Self::want), and
/// makes a session of it with [`Session::negotiated`](crate::Session::negotiated).
///
/// Where the protocol has TLS from the first byte, or the caller has the go-ahead itself, it wants
/// the handshake at once.
pub struct Negotiation {
    pub(crate) attempt: Attempt,
    engine: Engine,
    stage: Stage,
    began: Instant,
    settled: bool,
}

impl Negotiation {
    /// Begins the client's side. The policy's time-out counts from now.
    ///
    /// Unless the policy has a `client_name` the client calls itself `localhost`: which address it
    /// has is not known here, but see [`on`](Self::on).
    ///
    /// # Errors
    /// `invalid` for an unknown protocol word or host, for a stage that the protocol does not have,
    /// and for what is wrong with the policy, such as a level `dane` without
    /// [`tlsa_proof`](Policy::tlsa_proof): nothing is looked up here, as nothing here may wait.
    pub fn new(protocol: &str, host: &str, stage: Stage, policy: &Policy) -> Result<Self> {
        // What is remembered of a host is remembered of a port.
        let port = policy.rules.port;
        let mut attempt = Attempt::client(Some(find(protocol)?), host, port, policy)?;
        attempt.outcome.peer.port = port;
        Self::client(attempt.settled_without_asking()?, stage, None)
    }

    /// Begins the server's side: hand over what the client has said since its upgrade command
    /// began. The policy's time-out counts from now.
    ///
    /// # Errors
    /// `invalid` for an unknown protocol word, a level other than `encrypt`, `verify` and
    /// `fingerprint`, and for what is wrong with the policy, such as having no server certificate.
    pub fn accept(protocol: &str, policy: &Policy) -> Result<Self> {
        let service = find(protocol)?;
        let attempt = Attempt::server(service, policy)?;
        let engine = match service {
            Service::InBand(row) => {
                let dialog = crate::command::server(&row.server, false);
                Engine::server(dialog, policy.rules.observer.clone())
            }
            Service::Implicit(_) => Engine::silent(Want::Handshake),
        };
        Ok(Self::begin(attempt, Stage::Greeting, engine))
    }

    /// The server's no, to be sent instead of the go-ahead.
    pub(crate) fn refusal(protocol: &str, policy: &Policy) -> Result<Self> {
        let Service::InBand(row) = find(protocol)? else {
            return Err(Error::invalid(format!(
                "\"{protocol}\" is TLS from the first byte: there is nothing to refuse"
            )));
        };
        if !row.server.refuses {
            return Err(Error::new(
                Word::Unsupported,
                format!("{protocol} has no refusal: answer as if TLS had not been asked for"),
            ));
        }
        let attempt = Attempt::refusing(Service::InBand(row), policy);
        let engine = Engine::server(
            crate::command::server(&row.server, true),
            policy.rules.observer.clone(),
        );
        Ok(Self::begin(attempt, Stage::Greeting, engine))
    }

    /// The client's side of an attempt; `local` is the address that it has.
    pub(crate) fn client(attempt: Attempt, stage: Stage, local: Option<IpAddr>) -> Result<Self> {
        let rules = &attempt.policy.rules;
        if stage != Stage::Greeting && matches!(attempt.service, Some(Service::Implicit(_))) {
            return Err(Error::invalid(
                "a protocol that is TLS from the first byte has only the stage \"greeting\"",
            ));
        }
        let engine = match attempt.service {
            _ if rules.level == Level::None => Engine::silent(Want::Plain(Because::NotAsked)),
            Some(Service::InBand(row)) if stage != Stage::GoAhead => {
                let me = match (&rules.client_name, local) {
                    (Some(name), _) => name.clone(),
                    (None, Some(ip)) => address_literal(ip),
                    (None, None) => "localhost".to_owned(),
                };
                // Who did TLS before is asked for it, though a box has taken the offer away.
                let stripped = attempt.must_not_strip();
                let insist = rules.effective() != Effective::May || stripped.is_some();
                let dialog = (row.client)(&Ask {
                    host: attempt.outcome.peer.name.as_deref().unwrap_or_default(),
                    me: &me,
                    stage,
                    insist,
                })?;
                let engine = Engine::client(dialog, insist, rules.observer.clone()).or_stripped(stripped);
                if attempt.stay_plain {
                    engine.greeting_only()
                } else {
                    engine
                }
            }
            _ => Engine::silent(Want::Handshake),
        };
        Ok(Self::begin(attempt, stage, engine))
    }

    fn begin(attempt: Attempt, stage: Stage, engine: Engine) -> Self {
        Self {
            attempt,
            engine,
            stage,
            began: Instant::now(),
            settled: false,
        }
    }

    /// Before anything is said: this is the connection. A client then names itself by its address, and
    /// errors, too, tell the peer's.
    ///
    /// # Errors
    /// None that [`new`](Self::new) has not had.
    pub fn on(mut self, connection: impl AsFd) -> Result<Self> {
        self.attempt.note_peer(connection.as_fd());
        if self.attempt.outcome.role == Role::Server {
            return Ok(self);
        }
        let local = socket2::SockRef::from(&connection).local_addr().ok();
        let local = local.and_then(|a| a.as_socket()).map(|a| a.ip());
        Self::client(self.attempt, self.stage, local)
    }

    /// The same for a client that began before it dialled, so that one time-out covers both: the outcome
    /// tells how long dialling took.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub fn dialled(mut self, connection: impl AsFd) -> Result<Self> {
        self.attempt.outcome.milliseconds.connect = Some(millis(self.began.elapsed()));
        self.on(connection)
    }

    /// What is wanted next.
    pub fn want(&self) -> Want {
        self.engine.want()
    }

    /// Whether it has ended in an error.
    pub fn has_failed(&self) -> bool {
        self.engine.has_failed()
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        self.engine.output()
    }

    /// So many bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, n: usize) {
        self.engine.sent(n);
    }

    /// These bytes came.
    ///
    /// # Errors
    /// What the peer did wrong, or that it does not offer what the level requires; `timeout` when the
    /// policy's time-out has passed. After an error the negotiation is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        // Whoever drives it may not look at the time while there is always something to hear.
        if self.attempt.deadline.is_past() {
            return Err(self.too_late());
        }
        self.hear(bytes).map_err(|e| self.fail(e))
    }

    /// The peer closed the connection.
    pub fn closed(&mut self) -> Error {
        let e = self.end();
        self.fail(e)
    }

    /// The connection broke: this is what the system said.
    pub fn lost(&mut self, e: &io::Error) -> Error {
        let e = lost(self.awaits(), e);
        self.fail(e)
    }

    /// The policy's time-out has passed.
    pub fn too_late(&mut self) -> Error {
        let e = self.attempt.too_late(self.awaits());
        self.engine.give_up();
        self.fail(e)
    }

    /// What has happened so far. The dialog is told of by the session's outcome, or an error's.
    pub fn outcome(&self) -> &Outcome {
        &self.attempt.outcome
    }

    /// How much of the policy's time-out is left; zero when it has passed: then it is
    /// [`too_late`](Self::too_late).
    pub fn time_left(&self) -> Duration {
        self.attempt.deadline.left().unwrap_or(Duration::MAX)
    }

    /// All that the peer said in clear, raw.
    pub fn heard(&self) -> &[u8] {
        self.engine.heard()
    }

    /// As [`receive`](Self::receive), without the outcome in the error.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match (self.want(), self.attempt.outcome.role) {
            // The ClientHello.
            (Want::Handshake, Role::Server) => self.attempt.hand_to_tls(bytes),
            (Want::Handshake, Role::Client) if self.engine.is_silent() => Err(self.attempt.clear_text(bytes)),
            _ => self.engine.receive(bytes),
        }
    }

    /// As [`closed`](Self::closed), without the outcome in the error.
    pub(crate) fn end(&mut self) -> Error {
        self.engine.closed()
    }

    /// Whether what is to be sent is best sent with the ClientHello.
    pub(crate) fn goes_with_hello(&self) -> bool {
        self.engine.goes_with_hello()
    }

    /// What is being waited for, for a message such as "no answer to STARTTLS within 30 s".
    pub(crate) fn awaits(&self) -> &'static str {
        self.engine.awaits()
    }

    /// Whether there is a dialog in clear.
    pub(crate) fn is_in_clear(&self) -> bool {
        !self.engine.is_silent()
    }

    /// Attaches what has happened so far to an error of the caller's own, such as a host that is not
    /// found. The negotiation is over.
    pub fn fail(&mut self, e: Error) -> Error {
        self.settle();
        e.with_outcome(self.attempt.outcome.clone())
    }

    /// Writes what there is to tell of the dialog into the attempt.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let account = self.engine.account();
        let outcome = &mut self.attempt.outcome;
        // The second connection of the redial rule does not get as far as the offer.
        outcome.offered = account.findings.offered.or(outcome.offered);
        outcome.suspicions = account.findings.suspicions;
        outcome.transcript = account.transcript;
        outcome.round_trips = account.round_trips;
        outcome.notes.extend(account.findings.notes);
        outcome.notes.extend(account.why_plain);
        outcome.milliseconds.negotiate = Some(millis(self.began.elapsed()));
        // What the dialog left over came before what was handed to TLS afterwards.
        let later = std::mem::replace(&mut self.attempt.unread, account.unread);
        self.attempt.unread.extend(later);
    }

    /// The attempt, with what there is to tell of the dialog.
    pub(crate) fn into_attempt(mut self) -> Attempt {
        self.settle();
        self.attempt.heard = self.engine.into_heard();
        self.attempt
    }
}
