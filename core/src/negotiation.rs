//! The engine that plays a protocol's dialog in clear, once for all protocols, without any I/O.
//!
//! The engine owns the buffering, the caps (64 KiB a line, 256 KiB a dialog), end of file, the
//! transcript and the **residue rule**: bytes that arrive in clear after the go-ahead are an attack
//! (CVE-2011-0411 and the findings of 2021). They are the error `injected`: never dropped
//! silently, never acted on. The same holds for bytes behind a refusal in a protocol that speaks in
//! turn (CVE-2021-22947), and a reply that comes before its command is `malformed`.

use crate::dialog::{Ask, Dialog, Findings, Refusal, Stage, Step};
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::outcome::{Because, Effective, Line, Speaker};
use crate::policy::Policy;
use crate::protocol::{find, Service};
use crate::rules::Observer;
use crate::text::printable;
use crate::wire::line::trim_end;
use crate::wire::{looks_like_tls, Cursor, Uncut};

/// How much of a dialog is listened to.
const MAX_DIALOG: usize = 256 * 1024;

/// What the negotiation wants of whoever does its I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Send [`output`](Negotiation::output) and report it with [`sent`](Negotiation::sent).
    Write,
    /// Read, and hand over what came with [`receive`](Negotiation::receive).
    Read,
    /// The go-ahead was given: do the TLS handshake.
    Handshake,
    /// It goes on in clear, for this reason.
    Plain(Because),
}

/// What there is to tell of a dialog.
pub(crate) struct Account {
    pub(crate) findings: Findings,
    pub(crate) transcript: Vec<Line>,
    pub(crate) round_trips: u32,
    /// Why it goes on in clear, as a sentence.
    pub(crate) why_plain: Option<String>,
    /// All that the peer said, raw.
    pub(crate) heard: Vec<u8>,
    /// Bytes heard that no message of the dialog took: they are the caller's.
    pub(crate) unread: Vec<u8>,
}

/// What the engine does after the pending output has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing,
    Reading,
    Handshake,
    Plain(Because),
    Failed,
}

/// Lines of a dialog that are recorded: more than any honest server sends.
const MAX_TRANSCRIPT: usize = 500;

/// One dialog in progress. It does no I/O: whoever drives it asks what it [wants](Self::want).
pub struct Negotiation {
    dialog: Box<dyn Dialog>,
    insist: bool,
    greeting_only: bool,
    observer: Option<Observer>,
    state: State,
    output: Vec<u8>,
    sent: usize,
    inbox: Vec<u8>,
    cursor: Cursor,
    heard: Vec<u8>,
    findings: Findings,
    transcript: Vec<Line>,
    round_trips: u32,
    no_upgrade: Option<String>,
}

impl Negotiation {
    /// Begins the dialog of a protocol with an in-band upgrade.
    ///
    /// `me` is how the client calls itself; the policy's `client_name` goes before it.
    ///
    /// # Errors
    /// `invalid` for an unknown protocol word, one with TLS from the first byte, or stage
    /// `go-ahead`, at which there is nothing to negotiate.
    pub fn new(protocol: &str, stage: Stage, me: &str, policy: &Policy) -> Result<Self> {
        let Service::InBand(row) = find(protocol)? else {
            return Err(Error::invalid(format!(
                "\"{protocol}\" is TLS from the first byte: there is nothing to negotiate"
            )));
        };
        if stage == Stage::GoAhead {
            return Err(Error::invalid("at stage go-ahead there is nothing to negotiate"));
        }
        let insist = policy.rules.level.effective() != Effective::May;
        let me = match &policy.rules.client_name {
            Some(name) => name.clone(),
            None => crate::name::client_name(me)?,
        };
        // Under "none" nothing is said, so nothing may be recorded as said either.
        let ask = Ask {
            me: &me,
            stage: if policy.rules.level == Level::None {
                Stage::Greeting
            } else {
                stage
            },
            insist,
        };
        let dialog = (row.client)(&ask);
        let mut negotiation = Self::play(dialog, insist, policy.rules.observer.clone());
        if policy.rules.level == Level::None {
            negotiation.state = State::Plain(Because::NotAsked);
        }
        Ok(negotiation)
    }

    fn play(mut dialog: Box<dyn Dialog>, insist: bool, observer: Option<Observer>) -> Self {
        let opening = dialog.open();
        let mut this = Self {
            dialog,
            insist,
            greeting_only: false,
            observer,
            state: State::Reading,
            output: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            cursor: Cursor::default(),
            heard: Vec::new(),
            findings: Findings::default(),
            transcript: Vec::new(),
            round_trips: 0,
            no_upgrade: None,
        };
        if let Step::Say(message) = opening {
            this.say(message);
        }
        this
    }

    /// For a connection that is to stay in clear: hear the greeting and stop there.
    pub(crate) fn greeting_only(mut self) -> Self {
        self.greeting_only = true;
        self
    }

    /// What is wanted next.
    pub fn want(&self) -> Want {
        match self.state {
            State::Writing => Want::Write,
            State::Reading | State::Failed => Want::Read,
            State::Handshake => Want::Handshake,
            State::Plain(because) => Want::Plain(because),
        }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.output.len());
        if self.state == State::Writing && self.sent == self.output.len() {
            self.state = State::Reading;
            self.output.clear();
            self.sent = 0;
        }
    }

    /// These bytes came.
    ///
    /// # Errors
    /// What the peer did wrong, or that it does not offer what the level requires. After an error
    /// the negotiation is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        let result = self.take(bytes);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// The peer closed the connection.
    pub fn closed(&mut self) -> Error {
        self.state = State::Failed;
        let when = if self.inbox.is_empty() {
            "before"
        } else {
            "in the middle of"
        };
        Error::new(
            Word::Closed,
            format!("the peer closed the connection {when} {}", self.dialog.awaits()),
        )
    }

    /// What is being waited for, for a message such as "no answer to STARTTLS within 30 s".
    pub fn awaits(&self) -> &'static str {
        self.dialog.awaits()
    }

    /// All that the peer said in clear, raw.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// What there is to tell, when it is over.
    pub(crate) fn account(self) -> Account {
        Account {
            findings: self.findings,
            transcript: self.transcript,
            round_trips: self.round_trips,
            why_plain: self.no_upgrade,
            heard: self.heard,
            unread: self.inbox,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.heard.len().saturating_add(bytes.len()) > MAX_DIALOG {
            return Err(self.too_long("a dialog over 256 KiB"));
        }
        self.heard.extend_from_slice(bytes);
        match self.state {
            State::Failed => return Err(Error::invalid("this negotiation has already failed")),
            State::Handshake => return Err(self.injected(bytes)),
            State::Plain(_) if self.dialog.lock_step() => return Err(self.injected(bytes)),
            State::Plain(_) => {
                self.inbox.extend_from_slice(bytes);
                return Ok(());
            }
            State::Writing if self.dialog.lock_step() => return self.too_early(bytes),
            State::Writing | State::Reading => self.inbox.extend_from_slice(bytes),
        }
        if looks_like_tls(&self.inbox) {
            return Err(Error::new(
                Word::Malformed,
                "the peer speaks TLS from the first byte here; this port needs the protocol's \
                 own word for that, such as smtps or imaps",
            ));
        }
        while matches!(self.state, State::Reading | State::Writing) {
            let Some(message) = self.next_message()? else {
                break;
            };
            self.record(Speaker::S, &message);
            self.hear(&message)?;
        }
        Ok(())
    }

    fn next_message(&mut self) -> Result<Option<Vec<u8>>> {
        match self.dialog.framing().cut(&self.inbox, &mut self.cursor) {
            Ok(Some(end)) => {
                let rest = self.inbox.split_off(end.min(self.inbox.len()));
                Ok(Some(std::mem::replace(&mut self.inbox, rest)))
            }
            Ok(None) => Ok(None),
            Err(Uncut(Word::TooLong, what)) => Err(self.too_long(what)),
            Err(Uncut(word, what)) => Err(Error::new(
                word,
                format!("the peer sent {what} instead of {}", self.dialog.awaits()),
            )),
        }
    }

    fn hear(&mut self, message: &[u8]) -> Result<()> {
        if self.state == State::Writing {
            // Our command is not sent yet, so this cannot be its answer.
            return self.dialog.unasked(message).or_else(|r| self.refuse(r));
        }
        match self.dialog.hear(message, &mut self.findings) {
            Ok(Step::Listen) => Ok(()),
            Ok(Step::Say(_)) if self.greeting_only => {
                self.state = State::Plain(Because::HandshakeFailed);
                self.nothing_left()
            }
            Ok(Step::Say(answer)) => {
                if self.dialog.lock_step() && !self.inbox.is_empty() {
                    let early = std::mem::take(&mut self.inbox);
                    return self.too_early(&early);
                }
                self.say(answer);
                Ok(())
            }
            Ok(Step::StartTls) => {
                self.state = State::Handshake;
                if self.inbox.is_empty() {
                    Ok(())
                } else {
                    Err(self.injected(&self.inbox))
                }
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<()> {
        match refusal {
            Refusal::NoUpgrade {
                because,
                why,
                temporary,
            } => {
                // Replies that were sent ahead of their commands would be taken for the answers
                // to what the caller says next, in clear (CVE-2021-22947).
                self.nothing_left()?;
                if self.insist {
                    let word = match because {
                        Because::Refused => Word::Refused,
                        _ => Word::NotOffered,
                    };
                    return Err(Error::new(word, why).temporary_if(temporary));
                }
                self.state = State::Plain(because);
                self.no_upgrade = Some(why);
                Ok(())
            }
            Refusal::Failed { word, why, temporary } => Err(Error::new(word, why).temporary_if(temporary)),
        }
    }

    fn nothing_left(&self) -> Result<()> {
        if self.dialog.lock_step() && !self.inbox.is_empty() {
            return Err(self.injected(&self.inbox));
        }
        Ok(())
    }

    fn say(&mut self, message: Vec<u8>) {
        self.record(Speaker::C, &message);
        self.output = message;
        self.sent = 0;
        self.state = State::Writing;
        self.round_trips = self.round_trips.saturating_add(1);
    }

    fn record(&mut self, from: Speaker, message: &[u8]) {
        for text in message.split_inclusive(|b| *b == b'\n') {
            let room = MAX_TRANSCRIPT.saturating_sub(self.transcript.len());
            let text = match room {
                0 => return,
                1 => "… and more".to_owned(),
                _ => printable(trim_end(text)),
            };
            let line = Line { from, text };
            if let Some(see) = &self.observer {
                see(&line);
            }
            self.transcript.push(line);
        }
    }

    fn injected(&self, bytes: &[u8]) -> Error {
        let after = if self.state == State::Handshake {
            "the go-ahead"
        } else {
            "its answer"
        };
        Error::new(
            Word::Injected,
            format!(
                "plaintext behind {after}, as an attacker on the path would inject: \"{}\"",
                printable(bytes)
            ),
        )
    }

    /// A reply before its command; but a server may say good-bye whenever it likes.
    fn too_early(&mut self, bytes: &[u8]) -> Result<()> {
        if self.dialog.is_goodbye(bytes) {
            self.record(Speaker::S, bytes);
            return self.refuse(Refusal::bye(bytes));
        }
        Err(Error::new(
            Word::Malformed,
            format!("the peer answers before it was asked: \"{}\"", printable(bytes)),
        ))
    }

    fn too_long(&self, what: &str) -> Error {
        Error::new(
            Word::TooLong,
            format!("the peer sent {what} instead of {}", self.dialog.awaits()),
        )
    }
}
