//! POP3: every answer begins with `+OK` or `-ERR`. Where the level requires TLS the capabilities
//! are not asked for.
//!
//! ```text
//! S: +OK POP3 ready <1896.697170952@mail.example.test>
//! C: STLS
//! S: +OK Begin TLS negotiation
//! ```
//!
//! RFC 2595 §4 (STLS), RFC 1939 (POP3), RFC 2449 (CAPA).

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::{begins_with_word, words};
use crate::wire::Framing;

pub(super) fn pop3(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Pop3 {
        stage: ask.stage,
        insist: ask.insist,
        state: State::Greeting,
    }))
}

struct Pop3 {
    stage: Stage,
    insist: bool,
    state: State,
}

enum State {
    Greeting,
    Capa,
    Stls,
}

impl Pop3 {
    fn stls(&mut self) -> Step {
        self.state = State::Stls;
        Step::line("STLS")
    }

    fn capabilities(&mut self, listing: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        if findings.listing(listing, "STLS")? {
            Ok(self.stls())
        } else {
            Err(Refusal::not_offered("the server does not advertise STLS"))
        }
    }
}

impl Dialog for Pop3 {
    fn framing(&self) -> Framing {
        match self.state {
            State::Capa => Framing::Listing("+OK"),
            _ => Framing::Line,
        }
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.stls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let ok = begins_with_word(message, "+OK");
        if !ok && !begins_with_word(message, "-ERR") {
            return Err(Refusal::malformed("what is neither +OK nor -ERR", message));
        }
        match (&self.state, ok) {
            (State::Greeting, true) if self.insist => Ok(self.stls()),
            (State::Greeting, true) => {
                self.state = State::Capa;
                Ok(Step::line("CAPA"))
            }
            (State::Greeting, false) => Err(Refusal::unwelcome(message, temporary(message))),
            (State::Capa, true) => self.capabilities(message, findings),
            // CAPA is younger than STLS: a server without it may still know STLS.
            (State::Capa, false) => Ok(self.stls()),
            (State::Stls, true) => Ok(Step::go()),
            (State::Stls, false) => Err(Refusal::no(findings.offered, message, temporary(message))),
        }
    }

    fn awaits(&self) -> &'static str {
        match self.state {
            State::Greeting => "the greeting",
            State::Capa => "the answer to CAPA",
            State::Stls => "the answer to STLS",
        }
    }
}

/// RFC 3206 §4: the server itself says that trying later may help.
fn temporary(message: &[u8]) -> bool {
    words(message)
        .nth(1)
        .is_some_and(|code| code.eq_ignore_ascii_case(b"[SYS/TEMP]"))
}

pub(super) const SERVER: Server = Server::line("the STLS command", answer);

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    Answer::to(
        "STLS",
        command,
        "+OK Begin TLS negotiation",
        "-ERR [SYS/TEMP] TLS is not available",
    )
}
