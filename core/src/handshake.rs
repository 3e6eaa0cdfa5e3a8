//! The TLS handshake of an attempt, step by step and without waiting: one handshake, with every
//! check recorded, and the verdict.

use std::os::fd::RawFd;
use std::time::Instant;

use openssl::ssl::{ErrorCode, SslStream};

use crate::attempt::{lost, millis, Attempt};
use crate::error::{Error, Result, Word};
use crate::outcome::{self, Role};
use crate::protocol::Service;
use crate::sys::shut_down;
use crate::tls::{self, check::Examined, Target};
use crate::transport::Transport;
use crate::verdict::judge_outcome;
use crate::wire::{Cursor, Framing};

/// A handshake in progress.
pub(crate) struct Handshake {
    pub(crate) attempt: Attempt,
    stream: SslStream<Transport>,
    /// What was found out when the session that is resumed was made.
    before: Option<Examined>,
    began: Instant,
    flights: u32,
    looked: bool,
    /// The policy is met; what is left is to send the last flight and to hear the last answer.
    met: bool,
    answer: Answer,
    /// The key of the peer beside whose connection this one is made (SHA-256 of its SPKI).
    beside: Option<String>,
    failed: bool,
}

/// The answer that comes inside TLS to what was asked in clear (RFC 2817 §3.3), and is read away.
struct Answer {
    framing: Option<Framing>,
    cursor: Cursor,
    inbox: Vec<u8>,
    /// How much has come of it, and of what comes before it.
    length: usize,
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// These are the events for poll.
    Wait(libc::c_short),
}

impl Handshake {
    /// Makes ready. After a failure from here on the connection is shut down, so that nobody goes on
    /// in clear on it.
    pub(crate) fn begin(mut attempt: Attempt, mut transport: Transport) -> Result<Self> {
        let fd = transport.fd();
        let beside = attempt.beside.as_ref().map(|r| r.spki_sha256().to_owned());
        let prepared = match prepare(&mut attempt) {
            Ok(prepared) => prepared,
            Err(e) => return Err(give_up(&attempt, fd, e)),
        };
        transport.expect_tls(std::mem::take(&mut attempt.unread));
        let flights = transport.flights();
        let (ssl, before) = prepared.into_parts();
        let stream = match SslStream::new(ssl, transport) {
            Ok(stream) => stream,
            Err(e) => {
                let e = Error::new(Word::Bug, format!("OpenSSL: {}", tls::reason(&e)));
                return Err(give_up(&attempt, fd, e));
            }
        };
        let inside = match (attempt.service, attempt.outcome.role) {
            // Where the caller has had the go-ahead itself, so it will have the answer.
            (Some(Service::InBand(row)), Role::Client) if !attempt.heard.is_empty() => row.answer_inside,
            _ => None,
        };
        Ok(Self {
            attempt,
            stream,
            before,
            began: Instant::now(),
            flights,
            looked: false,
            met: false,
            answer: Answer {
                framing: inside,
                cursor: Cursor::default(),
                inbox: Vec::new(),
                length: 0,
            },
            beside,
            failed: false,
        })
    }

    /// Goes on as far as it can without waiting.
    pub(crate) fn step(&mut self) -> Result<Progress> {
        if self.failed {
            return Err(Error::invalid("this handshake has failed"));
        }
        self.try_step().map_err(|e| self.fail(e))
    }

    /// Gives up, with what has happened so far.
    pub(crate) fn fail(&mut self, e: Error) -> Error {
        self.failed = true;
        self.attempt.outcome.milliseconds.handshake = Some(millis(self.began.elapsed()));
        give_up(&self.attempt, self.stream.get_ref().fd(), e)
    }

    pub(crate) fn transport(&self) -> &Transport {
        self.stream.get_ref()
    }

    pub(crate) fn transport_mut(&mut self) -> &mut Transport {
        self.stream.get_mut()
    }

    pub(crate) fn into_parts(self) -> (SslStream<Transport>, Attempt) {
        (self.stream, self.attempt)
    }

    fn is_client(&self) -> bool {
        self.attempt.outcome.role == Role::Client
    }

    fn try_step(&mut self) -> Result<Progress> {
        if self.attempt.deadline.is_past() {
            return Err(self.attempt.too_late("the TLS handshake"));
        }
        if !std::mem::replace(&mut self.looked, true) && self.is_client() {
            self.look()?;
        }
        if !self.met {
            self.stream.get_mut().refill();
            let shaken = if self.is_client() {
                self.stream.connect()
            } else {
                self.stream.accept()
            };
            match shaken {
                Ok(()) => self.conclude()?,
                Err(e) if e.code() == ErrorCode::WANT_READ => {}
                Err(e) => {
                    self.count();
                    return Err(self.why_failed(&e));
                }
            }
        }
        let push = self.stream.get_mut().push();
        push.map_err(|e| lost("the TLS handshake", &e))?;
        let keeps = self.stream.get_ref().keeps();
        let heard = !self.met || self.hear_answer()?;
        if self.met && heard && !keeps {
            self.attempt.outcome.milliseconds.handshake = Some(millis(self.began.elapsed()));
            return Ok(Progress::Done);
        }
        let read = if self.met && heard { 0 } else { libc::POLLIN };
        let write = if keeps { libc::POLLOUT } else { 0 };
        Ok(Progress::Wait(read | write))
    }

    /// Before the ClientHello: has the server said what it should not have?
    fn look(&self) -> Result<()> {
        match self.stream.get_ref().peek() {
            Ok(Some(bytes)) if !bytes.is_empty() => Err(self.attempt.clear_text(&bytes)),
            Ok(_) => Ok(()),
            Err(e) => Err(lost("the handshake", &e)),
        }
    }

    fn count(&mut self) {
        let here = self.stream.get_ref().flights().saturating_sub(self.flights);
        let trips = &mut self.attempt.outcome.round_trips;
        *trips = trips.saturating_add(here);
    }

    /// The handshake is through: record, and judge.
    fn conclude(&mut self) -> Result<()> {
        self.count();
        let ssl = self.stream.ssl();
        let outcome = &mut self.attempt.outcome;
        outcome.channel = Some(outcome::Channel::Tls);
        outcome.tls = Some(tls::describe(ssl));
        if outcome.role == Role::Server {
            outcome.sni = tls::sni_received(ssl);
        }
        let found = tls::examined(ssl, self.before.as_ref());
        if let Some(found) = &found {
            found.clone().record(outcome);
        }
        if let Err(shortfall) = judge_outcome(self.attempt.policy.rules.level, outcome) {
            return Err(Error::new(shortfall.word, shortfall.message));
        }
        if let Some(key) = &self.beside {
            // Where the level asks for nobody in particular, it is at least the same peer.
            let has = outcome.certificate.as_ref().map(|c| &c.spki_sha256);
            let same = has == Some(key) && !key.is_empty();
            if !same && outcome.identity.proven_by.is_none() {
                return Err(Error::new(
                    Word::FingerprintMismatch,
                    "the peer of the data connection has another key than that of the control connection",
                ));
            }
        }
        if let (Some(found), Role::Client) = (&found, outcome.role) {
            tls::keep_session(ssl, found);
            if self.beside.is_none() {
                let proven = found.identity.proven_by;
                self.attempt.remember(proven);
            }
        }
        self.met = true;
        Ok(())
    }

    fn why_failed(&mut self, e: &openssl::ssl::Error) -> Error {
        let ssl = self.stream.ssl();
        if let Some(found) = tls::examined_so_far(ssl) {
            let outcome = &mut self.attempt.outcome;
            found.record(outcome);
            outcome.identity = Default::default();
            // Our own no inside the handshake has its own word.
            outcome.channel = Some(outcome::Channel::Tls);
            let verdict = judge_outcome(self.attempt.policy.rules.level, outcome);
            outcome.channel = None;
            if let Err(shortfall) = verdict {
                // Not the peer's fault, and not for ever.
                let trouble = tls::trust_trouble(ssl);
                return match trouble {
                    Some(e) if shortfall.word == Word::Untrusted => e,
                    _ => Error::new(shortfall.word, shortfall.message),
                };
            }
        }
        if tls::verification_broke(ssl) {
            return Error::new(Word::Bug, "the verification of the certificate broke off");
        }
        if tls::shows_no_certificate(e) {
            // A client that was told to show one: the verdict names the check that is missing.
            let outcome = &mut self.attempt.outcome;
            outcome.channel = Some(outcome::Channel::Tls);
            let verdict = judge_outcome(self.attempt.policy.rules.level, outcome);
            outcome.channel = None;
            if let Err(shortfall) = verdict {
                return Error::new(shortfall.word, "the client shows no certificate");
            }
        }
        self.handshake_error(e)
    }

    fn handshake_error(&self, e: &openssl::ssl::Error) -> Error {
        let transport = self.stream.get_ref();
        if let Some(bytes) = transport.clear_bytes() {
            return self.attempt.clear_text(bytes);
        }
        if transport.eof() {
            return Error::new(
                Word::Closed,
                "the peer closed the connection in the TLS handshake",
            );
        }
        if let Some(e) = transport.failure() {
            return lost("the TLS handshake", &e);
        }
        let why = match e.ssl_error() {
            Some(stack) => tls::reason(stack),
            None => e.to_string(),
        };
        Error::new(Word::Handshake, format!("the TLS handshake failed: {why}"))
    }

    /// Reads the answer away that comes inside TLS; true when there is none to come any more.
    fn hear_answer(&mut self) -> Result<bool> {
        let Some(framing) = self.answer.framing else {
            return Ok(true);
        };
        let awaits = "the answer inside TLS";
        let mut buffer = [0; 2048];
        // Once a step: a peer that never stops must not keep us from deadline and hook.
        self.stream.get_mut().refill();
        loop {
            let n = match self.stream.ssl_read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.code() == ErrorCode::WANT_READ => return Ok(false),
                Err(_) => {
                    return Err(Error::new(
                        Word::Closed,
                        format!("the peer closed the connection before {awaits}"),
                    ))
                }
            };
            self.answer.length = self.answer.length.saturating_add(n);
            let inbox = &mut self.answer.inbox;
            inbox.extend_from_slice(buffer.get(..n).unwrap_or_default());
            if self.answer.length > MAX_ANSWER {
                return Err(Error::new(Word::TooLong, format!("{awaits} is over 256 KiB")));
            }
            while let Some(end) = framing
                .cut(inbox, &mut self.answer.cursor)
                .map_err(|e| Error::new(e.0, format!("the peer sent {} instead of {awaits}", e.1)))?
            {
                let rest = inbox.split_off(end.min(inbox.len()));
                let message = std::mem::replace(inbox, rest);
                if framing.is_final(&message) {
                    self.answer.framing = None;
                    if inbox.is_empty() {
                        return Ok(true);
                    }
                    return Err(Error::new(
                        Word::Malformed,
                        format!("the peer sent more than {awaits}"),
                    ));
                }
            }
        }
    }
}

/// How much of an answer inside TLS is read away.
const MAX_ANSWER: usize = 256 * 1024;

fn prepare(attempt: &mut Attempt) -> Result<tls::Prepared> {
    let Some(host) = &attempt.host else {
        return attempt
            .policy
            .shared
            .prepare_server(&attempt.policy.rules, attempt.service);
    };
    let rules = &attempt.policy.rules;
    let beside = attempt.beside.take();
    let row = attempt.service.map(Service::protocol);
    // A connection beside another has no application protocol of its own.
    let alpn = row.and_then(|row| row.alpn).filter(|_| beside.is_none());
    attempt.outcome.sni = tls::sni(rules, host).map(str::to_owned);
    let target = Target {
        service: attempt.service.map_or("", Service::word),
        alpn,
        host,
        port: attempt.outcome.peer.port.unwrap_or(0),
    };
    attempt.policy.shared.prepare(rules, &target, beside)
}

fn give_up(attempt: &Attempt, fd: RawFd, e: Error) -> Error {
    // From the go-ahead on nobody may go on in clear on this connection.
    shut_down(fd);
    attempt.fail(e)
}
