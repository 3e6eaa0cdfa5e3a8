//! IMAP: commands carry a tag, and the answer with the same tag ends them; lines that begin with
//! `*` may come at any time. Where the level requires TLS the capabilities are not asked for.
//!
//! ```text
//! S: * OK IMAP4rev1 ready
//! C: a1 STARTTLS
//! S: a1 OK Begin TLS negotiation now
//! ```
//!
//! RFC 9051 and RFC 3501 §6.2.1 (STARTTLS), RFC 2595 §3. An untagged OK is no answer, and a tagged
//! NO or BAD is never OK. PREAUTH rules STARTTLS out, so whoever forges it strips TLS.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::{trim_end, words};
use crate::wire::Framing;

pub(super) fn imap(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Imap {
        stage: ask.stage,
        insist: ask.insist,
        state: State::Greeting,
    }))
}

struct Imap {
    stage: Stage,
    insist: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Capability,
    StartTls,
}

/// What the first two words of a line say.
enum Said {
    Untagged(Vec<u8>),
    Tagged(Vec<u8>, Vec<u8>),
}

impl Said {
    fn read(message: &[u8]) -> Result<Self, Refusal> {
        let line = trim_end(message);
        let mut words = words(line);
        match (words.next(), words.next()) {
            (Some(b"*"), Some(word)) => Ok(Said::Untagged(word.to_ascii_uppercase())),
            (Some(tag), Some(word)) if tag != b"+" => {
                Ok(Said::Tagged(tag.to_vec(), word.to_ascii_uppercase()))
            }
            _ => Err(Refusal::malformed("what is no IMAP response", message)),
        }
    }
}

impl Imap {
    fn tag(&self) -> &'static str {
        match self.state {
            State::Greeting => "",
            State::Capability => "a0",
            State::StartTls => "a1",
        }
    }

    fn say(&mut self, state: State) -> Step {
        self.state = state;
        Step::line(match state {
            State::StartTls => "a1 STARTTLS",
            State::Greeting | State::Capability => "a0 CAPABILITY",
        })
    }

    /// After the greeting or the answer to CAPABILITY.
    fn ask_or_stop(&mut self, findings: &Findings) -> Result<Step, Refusal> {
        match findings.offered {
            Some(true) => Ok(self.say(State::StartTls)),
            _ if self.insist => Ok(self.say(State::StartTls)),
            None if self.state == State::Greeting => Ok(self.say(State::Capability)),
            _ => Err(Refusal::not_offered("the server does not advertise STARTTLS")),
        }
    }

    fn greeting(&mut self, word: &[u8], message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        match word {
            b"OK" => self.ask_or_stop(findings),
            b"PREAUTH" => {
                findings.suspect("PREAUTH");
                Err(Refusal::not_offered(
                    "the server says that we are already logged in (PREAUTH), which rules STARTTLS out",
                ))
            }
            b"BYE" => Err(Refusal::unwelcome(message, true)),
            _ => Err(Refusal::malformed("what is no IMAP greeting", message)),
        }
    }
}

/// Capabilities stand in `* CAPABILITY …` or in a response code `* OK [CAPABILITY …] text`.
fn note_capabilities(message: &[u8], findings: &mut Findings) {
    let line = message.split(|b| *b == b']').next().unwrap_or_default();
    let mut words = line
        .split(|b| b.is_ascii_whitespace() || *b == b'[')
        .filter(|w| !w.is_empty());
    let is_list = |w: &[u8]| w.eq_ignore_ascii_case(b"CAPABILITY");
    if words.by_ref().take(3).any(is_list) {
        let mut offered = false;
        for word in words {
            offered |= findings.capability(word, "STARTTLS");
        }
        findings.offered = Some(offered);
    }
}

/// RFC 5530 §3: the server itself says that trying later may help.
fn unavailable(message: &[u8]) -> bool {
    words(message)
        .nth(2)
        .is_some_and(|code| code.eq_ignore_ascii_case(b"[UNAVAILABLE]"))
}

impl Dialog for Imap {
    fn framing(&self) -> Framing {
        Framing::Literals
    }

    fn lock_step(&self) -> bool {
        false
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.say(State::StartTls),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        match (self.state, Said::read(message)?) {
            (State::Greeting, Said::Untagged(word)) => {
                note_capabilities(message, findings);
                self.greeting(&word, message, findings)
            }
            (_, Said::Untagged(word)) if word == b"BYE" => Err(Refusal::bye(message)),
            (_, Said::Untagged(_)) => {
                note_capabilities(message, findings);
                Ok(Step::Listen)
            }
            (_, Said::Tagged(tag, _)) if tag != self.tag().as_bytes() => {
                Err(Refusal::malformed("a tag that was never sent", message))
            }
            (State::StartTls, Said::Tagged(_, word)) => match &word[..] {
                b"OK" => Ok(Step::go()),
                b"NO" | b"BAD" => Err(Refusal::no(findings.offered, message, unavailable(message))),
                _ => Err(Refusal::malformed("what is no answer to STARTTLS", message)),
            },
            (_, Said::Tagged(_, word)) => match &word[..] {
                b"OK" => {
                    findings.offered = Some(findings.offered == Some(true));
                    self.ask_or_stop(findings)
                }
                b"NO" | b"BAD" => Err(Refusal::no(findings.offered, message, false)),
                _ => Err(Refusal::malformed("what is no answer to CAPABILITY", message)),
            },
        }
    }

    fn unasked(&mut self, message: &[u8]) -> Result<(), Refusal> {
        match Said::read(message)? {
            Said::Untagged(word) if word == b"BYE" => Err(Refusal::bye(message)),
            Said::Untagged(_) => Ok(()),
            Said::Tagged(..) => Err(Refusal::malformed("a tag that was never sent", message)),
        }
    }

    fn awaits(&self) -> &'static str {
        match self.state {
            State::Greeting => "the greeting",
            State::Capability => "the answer to CAPABILITY",
            State::StartTls => "the answer to STARTTLS",
        }
    }
}

pub(super) const SERVER: Server = Server::line("the STARTTLS command", answer);

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let words: Vec<&[u8]> = words(command).collect();
    match words.as_slice() {
        [tag, word] if word.eq_ignore_ascii_case(b"STARTTLS") && is_tag(tag) => {
            let tag = String::from_utf8_lossy(tag);
            Ok(Answer::lines(
                &format!("{tag} OK Begin TLS negotiation now"),
                &format!("{tag} NO [UNAVAILABLE] TLS is not available"),
            ))
        }
        _ => Err(Refusal::malformed("what is not STARTTLS", command)),
    }
}

/// RFC 9051 §9: what goes back to the client is what it may have sent.
fn is_tag(tag: &[u8]) -> bool {
    let fits = |b: &u8| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(b);
    tag.len() <= 64 && tag.iter().all(fits)
}
