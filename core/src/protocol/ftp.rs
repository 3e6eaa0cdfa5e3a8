//! FTP: the client asks for TLS at once, and what the server knows shows in its answer: FEAT would
//! cost a round trip and prove nothing. The offer is not asked for.
//!
//! ```text
//! S: 220-Welcome to
//! S: an FTP server.
//! S: 220 It is ready.
//! C: AUTH TLS
//! S: 234 AUTH TLS successful
//! ```
//!
//! RFC 4217 §4, RFC 2228 §3 (AUTH and its answers), RFC 959 §4.2, §5.4 (replies; 120 means wait,
//! 421 is a good-bye). A 334 asks for data that TLS does not have.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::words;
use crate::wire::reply::code;
use crate::wire::Framing;

pub(super) fn ftp(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Ftp {
        stage: ask.stage,
        asked: false,
    }))
}

struct Ftp {
    stage: Stage,
    asked: bool,
}

impl Ftp {
    fn auth_tls(&mut self) -> Step {
        self.asked = true;
        Step::line("AUTH TLS")
    }
}

impl Dialog for Ftp {
    fn framing(&self) -> Framing {
        Framing::FtpReply
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.auth_tls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let code = code(message)?;
        let temporary = (400..500).contains(&code);
        match (self.asked, code) {
            (false, 120) => Ok(Step::Listen),
            (false, 220) => Ok(self.auth_tls()),
            (false, 400..) => Err(Refusal::unwelcome(message, temporary)),
            (true, 421) => Err(Refusal::bye(message)),
            (true, 234) => Ok(Step::go()),
            (true, 400..) => Err(Refusal::no(findings.offered, message, temporary)),
            _ => Err(Refusal::malformed("a reply that does not fit", message)),
        }
    }

    fn is_goodbye(&self, message: &[u8]) -> bool {
        code(message) == Ok(421)
    }

    fn awaits(&self) -> &'static str {
        if self.asked {
            "the answer to AUTH TLS"
        } else {
            "the greeting"
        }
    }
}

pub(super) const SERVER: Server = Server::line("the AUTH TLS command", answer);

/// `TLS-C` is what the drafts before RFC 4217 called `TLS`. Their `SSL` and `TLS-P` mean that the
/// data connections are encrypted, too, which nobody here could promise.
fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let words: Vec<Vec<u8>> = words(command).map(<[u8]>::to_ascii_uppercase).collect();
    match words.as_slice() {
        [auth, how] if auth == b"AUTH" && (how == b"TLS" || how == b"TLS-C") => Ok(Answer::lines(
            "234 AUTH TLS successful",
            "431 TLS is not available",
        )),
        _ => Err(Refusal::malformed("what is not AUTH TLS", command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auth_tls_is_upgraded() {
        let yes = Answer::lines("234 AUTH TLS successful", "431 TLS is not available");
        for command in ["AUTH TLS\r\n", "auth tls\r\n", "Auth TLS-C\n"] {
            assert_eq!(answer(command.as_bytes()).as_ref(), Ok(&yes), "{command}");
        }
        for no in [
            "AUTH\r\n",
            "AUTH SSL\r\n",
            "AUTH TLS-P\r\n",
            "AUTH GSSAPI\r\n",
            "AUTH TLS now\r\n",
            "AUTHTLS\r\n",
            "USER me\r\n",
            "\r\n",
        ] {
            assert!(answer(no.as_bytes()).is_err(), "{no}");
        }
    }
}
