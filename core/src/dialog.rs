//! What a protocol must say about itself to be upgraded: [`Dialog`], which hears whole messages and
//! answers with [`Step`]s or a [`Refusal`]. The engine that plays it is in `negotiation.rs`.

use crate::error::{Error, Result};
use crate::refusal::Refusal;
use crate::text::printable;
use crate::wire::line::{overwritten, trim_end, words};
use crate::wire::Framing;

/// Where the caller stands when it hands the connection over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was read yet.
    Greeting,
    /// The caller has talked and now wants the upgrade.
    Ready,
    /// The caller has itself received the go-ahead: handshake only.
    GoAhead,
}

impl Stage {
    /// Reads `greeting`, `ready` or `go-ahead`.
    ///
    /// # Errors
    /// `invalid` for anything else.
    pub fn from_word(word: &str) -> Result<Self> {
        match word {
            "greeting" => Ok(Self::Greeting),
            "ready" => Ok(Self::Ready),
            "go-ahead" => Ok(Self::GoAhead),
            _ => Err(Error::invalid(format!(
                "no stage is called \"{}\"; it is one of: greeting ready go-ahead",
                printable(word.as_bytes())
            ))),
        }
    }
}

/// What a dialog needs to know before it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Who is asked for: a name in A-labels, or an IP address.
    pub(crate) host: &'a str,
    /// How we call ourselves.
    pub(crate) me: &'a str,
    /// Where the dialog begins.
    pub(crate) stage: Stage,
    /// The level needs TLS: ask for the upgrade even if it is not advertised. A box that strips
    /// only the advertisement is beaten so.
    pub(crate) insist: bool,
}

/// One protocol's way to TLS. It hears whole messages, never bytes.
pub(crate) trait Dialog: Send {
    /// How the next message is delimited.
    fn framing(&self) -> Framing;
    /// Whether every message of the server's answers one of ours (after the greeting).
    fn lock_step(&self) -> bool {
        true
    }
    /// How it begins.
    fn open(&mut self) -> Step;
    /// What follows from a message.
    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> std::result::Result<Step, Refusal>;
    /// A message that came before the command that is about to be sent; only where not lock-step.
    fn unasked(&mut self, _message: &[u8]) -> std::result::Result<(), Refusal> {
        Ok(())
    }
    /// What follows from such a message, where there can be something to say to it at once (telnet);
    /// it goes with what is not sent yet.
    fn meanwhile(&mut self, message: &[u8], _findings: &mut Findings) -> std::result::Result<Step, Refusal> {
        self.unasked(message).map(|()| Step::Listen)
    }
    /// Whether these bytes behind a command that is refused still belong to it (telnet).
    fn passes_over(&self, _bytes: &[u8]) -> bool {
        false
    }
    /// Whether a message that was not asked for is the server's good-bye, which may come at any time.
    fn is_goodbye(&self, _message: &[u8]) -> bool {
        false
    }
    /// Whether the ClientHello may come right behind the last message; only where the server's
    /// protocol has no go-ahead (MySQL).
    fn hello_follows(&self) -> bool {
        false
    }
    /// What is being waited for: "the greeting", "the answer to STARTTLS".
    fn awaits(&self) -> &'static str;
}

/// What a dialog wants done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send these bytes and listen.
    Say(Vec<u8>),
    /// Listen on.
    Listen,
    /// The go-ahead was given, or is given by these bytes; then the handshake begins.
    StartTls(Vec<u8>),
    /// The server's no: send these bytes and go on in clear.
    Refuse(Vec<u8>),
}

impl Step {
    /// Say a line.
    pub(crate) fn line(text: &str) -> Self {
        Step::Say(format!("{text}\r\n").into_bytes())
    }

    /// The go-ahead was heard.
    pub(crate) fn go() -> Self {
        Step::StartTls(Vec::new())
    }
}

/// What a dialog notices on its way.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Whether the upgrade was advertised, once that is known.
    pub(crate) offered: Option<bool>,
    /// Signs of an interception.
    pub(crate) suspicions: Vec<String>,
    /// What else a reader of the outcome should know.
    pub(crate) notes: Vec<String>,
}

impl Findings {
    pub(crate) fn suspect(&mut self, sign: impl Into<String>) {
        // A hostile peer must not fill a log.
        if self.suspicions.len() < 16 {
            self.suspicions.push(sign.into());
        }
    }

    /// Looks through a listing of capabilities, a line each between the first line and a lone dot: whether
    /// the upgrade's is among them.
    pub(crate) fn listing(&mut self, listing: &[u8], upgrade: &str) -> std::result::Result<bool, Refusal> {
        let mut offered = false;
        for line in listing.split_inclusive(|b| *b == b'\n').skip(1) {
            let line = trim_end(line);
            if line == b"." {
                break;
            }
            let Some(word) = words(line).next() else {
                return Err(Refusal::malformed("an empty line among its capabilities", line));
            };
            offered |= self.capability(word, upgrade);
        }
        self.offered = Some(offered);
        Ok(offered)
    }

    /// Looks at one capability: whether it is the upgrade's. What is left of one that a box has
    /// overwritten is a sign.
    pub(crate) fn capability(&mut self, word: &[u8], upgrade: &str) -> bool {
        if overwritten(word) {
            self.suspect(format!("capability overwritten: {}", printable(word)));
        }
        word.eq_ignore_ascii_case(upgrade.as_bytes())
    }
}
