//! SMTP and LMTP: the client says EHLO (LHLO), the server lists its extensions, the client asks
//! for STARTTLS, and after a 220 both begin the handshake.
//!
//! ```text
//! S: 220 mail.example.test ESMTP
//! C: EHLO client.example.test
//! S: 250-mail.example.test
//! S: 250-STARTTLS
//! S: 250 8BITMIME
//! C: STARTTLS
//! S: 220 2.0.0 Ready to start TLS
//! ```
//!
//! RFC 3207 (STARTTLS), RFC 5321 §3.2, §4.2 (EHLO, replies), RFC 2033 (LMTP).

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::words;
use crate::wire::reply::Reply;
use crate::wire::Framing;

pub(super) fn smtp(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Smtp::new("EHLO", ask)))
}

pub(super) fn lmtp(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Smtp::new("LHLO", ask)))
}

struct Smtp {
    hello: &'static str,
    me: String,
    stage: Stage,
    insist: bool,
    state: State,
}

enum State {
    Greeting,
    Hello,
    PlainHelo,
    StartTls,
}

impl Smtp {
    fn new(hello: &'static str, ask: &Ask<'_>) -> Self {
        Self {
            hello,
            me: ask.me.to_owned(),
            stage: ask.stage,
            insist: ask.insist,
            state: State::Greeting,
        }
    }

    fn starttls(&mut self) -> Step {
        self.state = State::StartTls;
        Step::line("STARTTLS")
    }

    fn extensions(&mut self, reply: &Reply<'_>, findings: &mut Findings) -> Result<Step, Refusal> {
        let mut offered = false;
        // The first line is the server's name.
        for extension in reply.lines.iter().skip(1) {
            let keyword = words(extension).next().unwrap_or_default();
            offered |= findings.capability(keyword, "STARTTLS");
        }
        findings.offered = Some(offered);
        self.ask_or_stop(offered)
    }

    fn ask_or_stop(&mut self, offered: bool) -> Result<Step, Refusal> {
        if offered || self.insist {
            Ok(self.starttls())
        } else {
            Err(Refusal::not_offered("the server does not advertise STARTTLS"))
        }
    }
}

impl Dialog for Smtp {
    fn framing(&self) -> Framing {
        Framing::Reply
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Listen,
            Stage::Ready | Stage::GoAhead => self.starttls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let reply = Reply::read(message)?;
        match (&self.state, reply.code) {
            (State::Greeting, 220) => {
                self.state = State::Hello;
                Ok(Step::line(&format!("{} {}", self.hello, self.me)))
            }
            (State::Greeting, 221 | 354 | 400..) => Err(Refusal::unwelcome(message, reply.temporary())),
            (_, 421) => Err(Refusal::bye(message)),
            (State::Hello, 250) => self.extensions(&reply, findings),
            (State::Hello, 400..) if self.hello == "EHLO" => {
                // RFC 5321 §3.2. A box that wants no extensions refuses EHLO, too.
                findings.suspect("EHLO refused");
                self.state = State::PlainHelo;
                Ok(Step::line(&format!("HELO {}", self.me)))
            }
            (State::PlainHelo, 250) => {
                findings.offered = Some(false);
                self.ask_or_stop(false)
            }
            (State::Hello | State::PlainHelo, 400..) => Err(Refusal::unwelcome(message, reply.temporary())),
            (State::StartTls, 220) => Ok(Step::go()),
            (State::StartTls, 400..) => Err(Refusal::no(findings.offered, message, reply.temporary())),
            _ => Err(Refusal::malformed("a reply that does not fit", message)),
        }
    }

    /// RFC 5321 §3.8.
    fn is_goodbye(&self, message: &[u8]) -> bool {
        Reply::read(message).is_ok_and(|reply| reply.code == 421)
    }

    fn awaits(&self) -> &'static str {
        match (&self.state, self.hello) {
            (State::Greeting, _) => "the greeting",
            (State::Hello, "LHLO") => "the answer to LHLO",
            (State::Hello, _) => "the answer to EHLO",
            (State::PlainHelo, _) => "the answer to HELO",
            (State::StartTls, _) => "the answer to STARTTLS",
        }
    }
}

pub(super) const SERVER: Server = Server::line("the STARTTLS command", answer);

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    Answer::to(
        "STARTTLS",
        command,
        "220 2.0.0 Ready to start TLS",
        "454 4.7.0 TLS not available due to temporary reason",
    )
}
