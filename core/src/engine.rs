//! The engine that plays a protocol's dialog in clear, once for all protocols, without any I/O.
//!
//! The engine owns the buffering, the caps (64 KiB a line, 256 KiB a dialog), end of file, the
//! transcript and the **residue rule**: bytes that arrive in clear after the go-ahead are an attack
//! (CVE-2011-0411 and the findings of 2021). They are the error `injected`: never dropped
//! silently, never acted on. The same holds for bytes behind a refusal in a protocol that speaks in
//! turn (CVE-2021-22947), and a reply that comes before its command is `malformed`.

use crate::dialog::{Dialog, Findings, Step};
use crate::error::{Error, Result, Word};
use crate::outcome::{Because, Line, Speaker};
use crate::refusal::Refusal;
use crate::rules::Observer;
use crate::text::printable;
use crate::transcript::Transcript;
use crate::wire::{looks_like_tls, Cursor, Framing, Uncut};

/// How much is looked at in one go.
const PIECE: usize = 4096;

/// How much of a dialog is listened to.
const MAX_DIALOG: usize = 256 * 1024;

/// What the negotiation wants of whoever does its I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Send [`output`](crate::Negotiation::output) and report it with [`sent`](crate::Negotiation::sent).
    Write,
    /// Read, and hand over what came with [`receive`](crate::Negotiation::receive).
    Read,
    /// The go-ahead was given: make it a [`Session`](crate::Session) and do the TLS handshake.
    Handshake,
    /// It goes on in clear, for this reason: make it a [`Session`](crate::Session).
    Plain(Because),
}

/// What there is to tell of a dialog.
pub(crate) struct Account {
    pub(crate) findings: Findings,
    pub(crate) transcript: Vec<Line>,
    pub(crate) round_trips: u32,
    /// Why it goes on in clear, as a sentence.
    pub(crate) why_plain: Option<String>,
    /// Bytes heard that no message of the dialog took: they are the caller's.
    pub(crate) unread: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is output; then this follows.
    Writing(Next),
    Reading,
    Handshake,
    Plain(Because),
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Reading,
    Handshake,
    Plain(Because),
}

/// For where nothing is said in clear.
struct Silence;

impl Dialog for Silence {
    fn framing(&self) -> Framing {
        Framing::Line
    }

    fn open(&mut self) -> Step {
        Step::Listen
    }

    fn hear(&mut self, _: &[u8], _: &mut Findings) -> std::result::Result<Step, Refusal> {
        Ok(Step::Listen)
    }

    fn lock_step(&self) -> bool {
        false
    }

    fn awaits(&self) -> &'static str {
        "the TLS handshake"
    }
}

/// One dialog in progress.
pub(crate) struct Engine {
    dialog: Box<dyn Dialog>,
    silent: bool,
    insist: bool,
    /// What to say where a host that must not go on in clear does not upgrade.
    stripped: Option<String>,
    greeting_only: bool,
    /// What we are called in the transcript.
    we: Speaker,
    state: State,
    output: Vec<u8>,
    sent: usize,
    inbox: Vec<u8>,
    cursor: Cursor,
    heard: Vec<u8>,
    findings: Findings,
    transcript: Transcript,
    round_trips: u32,
    no_upgrade: Option<String>,
}

impl Engine {
    /// Plays the client's side; `insist`: going on in clear is an error.
    pub(crate) fn client(dialog: Box<dyn Dialog>, insist: bool, observer: Option<Observer>) -> Self {
        Self::play(dialog, insist, observer, Speaker::C)
    }

    /// The host did TLS before: that it does not now is an error of its own, with this to say.
    pub(crate) fn or_stripped(mut self, message: Option<String>) -> Self {
        self.stripped = message;
        self
    }

    /// Plays the server's side.
    pub(crate) fn server(dialog: Box<dyn Dialog>, observer: Option<Observer>) -> Self {
        Self::play(dialog, false, observer, Speaker::S)
    }

    /// Nothing is to be said in clear.
    pub(crate) fn silent(want: Want) -> Self {
        let mut this = Self::play(Box::new(Silence), false, None, Speaker::C);
        this.silent = true;
        this.state = match want {
            Want::Plain(because) => State::Plain(because),
            Want::Write | Want::Read | Want::Handshake => State::Handshake,
        };
        this
    }

    fn play(mut dialog: Box<dyn Dialog>, insist: bool, observer: Option<Observer>, we: Speaker) -> Self {
        let opening = dialog.open();
        let mut this = Self {
            dialog,
            silent: false,
            insist,
            stripped: None,
            greeting_only: false,
            we,
            state: State::Reading,
            output: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            cursor: Cursor::default(),
            heard: Vec::new(),
            findings: Findings::default(),
            transcript: Transcript::new(observer),
            round_trips: 0,
            no_upgrade: None,
        };
        if let Step::Say(message) = opening {
            this.say(message, Next::Reading);
        }
        this
    }

    /// For a connection that is to stay in clear: hear the greeting and stop there.
    pub(crate) fn greeting_only(mut self) -> Self {
        self.greeting_only = true;
        if matches!(self.state, State::Writing(_)) {
            // A protocol in which the client speaks first has no greeting.
            self.output.clear();
            self.transcript.clear();
            self.round_trips = 0;
            self.state = State::Plain(Because::HandshakeFailed);
        }
        self
    }

    /// What is wanted next.
    pub(crate) fn want(&self) -> Want {
        match self.state {
            State::Writing(_) => Want::Write,
            State::Reading | State::Failed => Want::Read,
            State::Handshake => Want::Handshake,
            State::Plain(because) => Want::Plain(because),
        }
    }

    /// What is to be sent.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of [`output`](Self::output) were sent.
    pub(crate) fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.output.len());
        let State::Writing(next) = self.state else {
            return;
        };
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.state = match next {
                Next::Reading => State::Reading,
                Next::Handshake => State::Handshake,
                Next::Plain(because) => State::Plain(because),
            };
        }
    }

    /// These bytes came.
    ///
    /// # Errors
    /// What the peer did wrong, or that it does not offer what the level requires. After an error
    /// the negotiation is over.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        // Each message that is cut off moves what lies behind it: little at a time keeps that linear.
        let result = bytes.chunks(PIECE).try_for_each(|piece| self.take(piece));
        if result.is_err() {
            self.give_up();
        }
        result
    }

    /// The peer closed the connection.
    pub(crate) fn closed(&mut self) -> Error {
        self.give_up();
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

    /// Nothing is heard or said any more.
    pub(crate) fn give_up(&mut self) {
        self.state = State::Failed;
        self.output.clear();
        self.sent = 0;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// What is being waited for, for a message such as "no answer to STARTTLS within 30 s".
    pub(crate) fn awaits(&self) -> &'static str {
        self.dialog.awaits()
    }

    /// All that the peer said in clear, raw.
    pub(crate) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Whether what is to be sent is the last before the client's handshake, to which nothing is
    /// answered.
    pub(crate) fn goes_with_hello(&self) -> bool {
        self.we == Speaker::C && self.state == State::Writing(Next::Handshake)
    }

    /// Whether there is no dialog.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// What there is to tell, when it is over; it is told once.
    pub(crate) fn account(&mut self) -> Account {
        Account {
            findings: std::mem::take(&mut self.findings),
            transcript: self.transcript.take(),
            round_trips: self.round_trips,
            why_plain: self.no_upgrade.take(),
            unread: std::mem::take(&mut self.inbox),
        }
    }

    /// All that the peer said in clear, raw.
    pub(crate) fn into_heard(self) -> Vec<u8> {
        self.heard
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.heard.len().saturating_add(bytes.len()) > MAX_DIALOG {
            return Err(self.too_long("a dialog over 256 KiB"));
        }
        self.heard.extend_from_slice(bytes);
        match self.state {
            State::Failed => return Err(Error::invalid("this negotiation has already failed")),
            State::Handshake if self.dialog.hello_follows() => {
                self.inbox.extend_from_slice(bytes);
                return Ok(());
            }
            State::Handshake | State::Writing(Next::Handshake) => return Err(self.injected(bytes)),
            State::Plain(_) | State::Writing(Next::Plain(_)) => {
                self.inbox.extend_from_slice(bytes);
                return self.nothing_left();
            }
            State::Writing(Next::Reading) if self.dialog.lock_step() => return self.too_early(bytes),
            State::Writing(Next::Reading) | State::Reading => self.inbox.extend_from_slice(bytes),
        }
        if looks_like_tls(&self.inbox) {
            return Err(Error::new(
                Word::Malformed,
                "the peer speaks TLS from the first byte here; this port needs the protocol's \
                 own word for that, such as smtps or imaps",
            ));
        }
        while matches!(self.state, State::Reading | State::Writing(Next::Reading)) {
            let Some(message) = self.next_message()? else {
                break;
            };
            let they = match self.we {
                Speaker::C => Speaker::S,
                Speaker::S => Speaker::C,
            };
            self.record(they, &message);
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
        let unsent = self.state != State::Reading;
        let step = if unsent {
            // Our command is not sent yet, so this cannot be its answer.
            self.dialog.meanwhile(message, &mut self.findings)
        } else {
            self.dialog.hear(message, &mut self.findings)
        };
        match step {
            Ok(Step::Listen) => Ok(()),
            Ok(Step::Say(_) | Step::StartTls(_)) if self.greeting_only => {
                self.state = State::Plain(Because::HandshakeFailed);
                self.nothing_left()
            }
            Ok(Step::Say(answer)) => {
                if self.dialog.lock_step() && !self.inbox.is_empty() {
                    let early = std::mem::take(&mut self.inbox);
                    return self.too_early(&early);
                }
                self.say(answer, Next::Reading);
                Ok(())
            }
            Ok(Step::StartTls(last)) => {
                self.state = if unsent {
                    State::Writing(Next::Handshake)
                } else {
                    State::Handshake
                };
                if !self.inbox.is_empty() && !self.dialog.hello_follows() {
                    return Err(self.injected(&self.inbox));
                }
                if !last.is_empty() {
                    self.say(last, Next::Handshake);
                }
                Ok(())
            }
            Ok(Step::Refuse(answer)) => {
                self.state = State::Plain(Because::Refused);
                self.nothing_left()?;
                self.say(answer, Next::Plain(Because::Refused));
                Ok(())
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
                self.nothing_never_asked_for()?;
                if let Some(stripped) = &self.stripped {
                    return Err(Error::new(Word::Stripped, format!("{why}. {stripped}")));
                }
                if self.insist {
                    let word = match because {
                        Because::Refused => Word::Refused,
                        _ => Word::NotOffered,
                    };
                    return Err(Error::new(word, why).temporary_if(temporary));
                }
                self.state = match self.state {
                    // Half a command is no end.
                    State::Writing(_) => State::Writing(Next::Plain(because)),
                    _ => State::Plain(because),
                };
                self.no_upgrade = Some(why);
                Ok(())
            }
            Refusal::Failed { word, why, temporary } => Err(Error::new(word, why).temporary_if(temporary)),
        }
    }

    /// Outside lock-step what is left is the caller's; but not answers to what nobody has asked.
    fn nothing_never_asked_for(&mut self) -> Result<()> {
        let inbox = self.inbox.clone();
        let mut rest = inbox.as_slice();
        while let Ok(Some(end)) = self.dialog.framing().cut(rest, &mut Cursor::default()) {
            let (message, behind) = rest.split_at(end.min(rest.len()));
            if let Err(
                refusal @ Refusal::Failed {
                    word: Word::Malformed,
                    ..
                },
            ) = self.dialog.unasked(message)
            {
                return self.refuse(refusal);
            }
            rest = behind;
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<()> {
        if self.dialog.lock_step() && !self.inbox.is_empty() && !self.dialog.passes_over(&self.inbox) {
            return Err(self.injected(&self.inbox));
        }
        Ok(())
    }

    fn say(&mut self, message: Vec<u8>, next: Next) {
        self.record(self.we, &message);
        if matches!(self.state, State::Writing(_)) {
            // It goes with what is not sent yet.
            self.output.extend(message);
        } else {
            self.output = message;
            self.sent = 0;
            if next == Next::Reading {
                self.round_trips = self.round_trips.saturating_add(1);
            }
        }
        self.state = State::Writing(next);
    }

    fn record(&mut self, from: Speaker, message: &[u8]) {
        let binary = self.dialog.framing().is_binary();
        self.transcript.record(from, message, binary);
    }

    fn injected(&self, bytes: &[u8]) -> Error {
        let after = match (self.we, self.state) {
            (Speaker::S, _) => self.dialog.awaits(),
            (Speaker::C, State::Handshake | State::Writing(Next::Handshake)) => "the go-ahead",
            (Speaker::C, _) => "its answer",
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
