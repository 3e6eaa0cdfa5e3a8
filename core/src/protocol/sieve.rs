//! ManageSieve: the server speaks first and lists its capabilities, one a line, up to an OK.
//!
//! ```text
//! S: "IMPLEMENTATION" "Example1 ManageSieved v001"
//! S: "SIEVE" "fileinto vacation"
//! S: "STARTTLS"
//! S: OK
//! C: STARTTLS
//! S: OK
//! ```
//!
//! RFC 5804 §1.7 (capabilities), §2.2 (STARTTLS). After the handshake the server sends its
//! capabilities again.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::{begins_with_word, trim_end, words};
use crate::wire::Framing;

pub(super) fn sieve(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Sieve {
        stage: ask.stage,
        insist: ask.insist,
        asked: false,
        offered: false,
    }))
}

struct Sieve {
    stage: Stage,
    insist: bool,
    asked: bool,
    offered: bool,
}

impl Sieve {
    fn starttls(&mut self) -> Step {
        self.asked = true;
        Step::line("STARTTLS")
    }

    fn capability(&mut self, line: &[u8], findings: &mut Findings) {
        let quoted = words(line).next().unwrap_or_default();
        let name: Vec<u8> = quoted.iter().copied().filter(|b| *b != b'"').collect();
        self.offered |= findings.capability(&name, "STARTTLS");
    }
}

impl Dialog for Sieve {
    fn framing(&self) -> Framing {
        Framing::Literals
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.starttls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let line = trim_end(message);
        let word = words(line).next().unwrap_or_default().to_ascii_uppercase();
        // "NO (TRYLATER) …": the code may be glued to the word.
        let word = word.split(|b| *b == b'(').next().unwrap_or_default();
        match (self.asked, word) {
            (false, b"OK") => {
                findings.offered = Some(self.offered);
                if self.offered || self.insist {
                    Ok(self.starttls())
                } else {
                    Err(Refusal::not_offered("the server does not advertise STARTTLS"))
                }
            }
            (false, b"NO" | b"BYE") => Err(Refusal::unwelcome(message, word == b"BYE" || try_later(line))),
            (false, [b'"', ..] | [b'{', ..]) => {
                self.capability(line, findings);
                Ok(Step::Listen)
            }
            (true, b"OK") => Ok(Step::go()),
            (true, b"NO") => Err(Refusal::no(findings.offered, message, try_later(line))),
            (true, b"BYE") => Err(Refusal::bye(message)),
            _ => Err(Refusal::malformed("what is no ManageSieve response", message)),
        }
    }

    fn is_goodbye(&self, message: &[u8]) -> bool {
        begins_with_word(message, "BYE")
    }

    fn awaits(&self) -> &'static str {
        if self.asked {
            "the answer to STARTTLS"
        } else {
            "the greeting"
        }
    }
}

/// RFC 5804 §1.3: response code TRYLATER.
fn try_later(line: &[u8]) -> bool {
    line.to_ascii_uppercase()
        .windows(b"(TRYLATER".len())
        .any(|w| w == b"(TRYLATER")
}

pub(super) const SERVER: Server = Server::line("the STARTTLS command", answer);

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    Answer::to(
        "STARTTLS",
        command,
        "OK \"Begin TLS negotiation now.\"",
        "NO (TRYLATER) \"TLS is not available.\"",
    )
}
