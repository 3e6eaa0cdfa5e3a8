//! NNTP: a code begins every answer. Where the level requires TLS the capabilities are not asked for.
//!
//! ```text
//! S: 201 NNTP service ready, posting prohibited
//! C: STARTTLS
//! S: 382 Continue with TLS negotiation
//! ```
//!
//! RFC 4642 (STARTTLS), RFC 8143 (TLS with NNTP), RFC 3977 §3.2 (codes), §5.2 (CAPABILITIES). 400 is
//! a good-bye whenever it comes.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::reply::code;
use crate::wire::Framing;

pub(super) fn nntp(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Nntp {
        stage: ask.stage,
        insist: ask.insist,
        state: State::Greeting,
    }))
}

struct Nntp {
    stage: Stage,
    insist: bool,
    state: State,
}

enum State {
    Greeting,
    Capabilities,
    StartTls,
}

impl Nntp {
    fn starttls(&mut self) -> Step {
        self.state = State::StartTls;
        Step::line("STARTTLS")
    }

    fn capabilities(&mut self, listing: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        if findings.listing(listing, "STARTTLS")? {
            Ok(self.starttls())
        } else {
            Err(Refusal::not_offered("the server does not advertise STARTTLS"))
        }
    }
}

impl Dialog for Nntp {
    fn framing(&self) -> Framing {
        match self.state {
            State::Capabilities => Framing::Listing("101"),
            _ => Framing::Line,
        }
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.starttls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        match (&self.state, code(message)?) {
            (State::Greeting, 200 | 201) if self.insist => Ok(self.starttls()),
            (State::Greeting, 200 | 201) => {
                self.state = State::Capabilities;
                Ok(Step::line("CAPABILITIES"))
            }
            // The other 4xx of NNTP are nothing that waiting mends.
            (State::Greeting, code @ 400..) => Err(Refusal::unwelcome(message, code == 400)),
            (_, 400) => Err(Refusal::bye(message)),
            (State::Capabilities, 101) => self.capabilities(message, findings),
            // CAPABILITIES (RFC 3977) is younger than many a server.
            (State::Capabilities, 401..) => Ok(self.starttls()),
            (State::StartTls, 382) => Ok(Step::go()),
            (State::StartTls, 401..) => Err(Refusal::no(findings.offered, message, false)),
            _ => Err(Refusal::malformed("an answer that does not fit", message)),
        }
    }

    fn is_goodbye(&self, message: &[u8]) -> bool {
        code(message) == Ok(400)
    }

    fn awaits(&self) -> &'static str {
        match self.state {
            State::Greeting => "the greeting",
            State::Capabilities => "the answer to CAPABILITIES",
            State::StartTls => "the answer to STARTTLS",
        }
    }
}

pub(super) const SERVER: Server = Server::line("the STARTTLS command", answer);

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    Answer::to(
        "STARTTLS",
        command,
        "382 Continue with TLS negotiation",
        "580 Can not initiate TLS negotiation",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_starttls_is_upgraded() {
        let yes = Answer::lines(
            "382 Continue with TLS negotiation",
            "580 Can not initiate TLS negotiation",
        );
        assert_eq!(answer(b"STARTTLS\r\n"), Ok(yes));
        assert!(answer(b" starttls \n").is_ok());
        for no in [
            &b"CAPABILITIES\r\n"[..],
            b"STARTTLS now\r\n",
            b"STARTTLSX\r\n",
            b"\r\n",
        ] {
            assert!(answer(no).is_err());
        }
    }
}
