//! IRC: the client speaks first and asks for TLS before it registers; what it does not wait for may
//! come at any time. The capabilities are not asked for.
//!
//! ```text
//! C: STARTTLS
//! S: :irc.example.test NOTICE * :*** Looking up your hostname...
//! S: :irc.example.test 670 * :STARTTLS successful, proceed with TLS handshake
//! ```
//!
//! IRCv3 `tls` (deprecated, and all that there is in-band; 670, 691), RFC 2812 §2.3 (messages),
//! RFC 7194 (port 6697). A PING is not answered: servers send theirs after NICK, and hold STARTTLS
//! up for none. An ERROR closes the connection. At the greeting it is the server's no, `refused`,
//! whether it comes before or after our command; on a connection in use it is `closed`.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::refusal::Refusal;
use crate::wire::line::{trim_end, words};
use crate::wire::Framing;

pub(super) fn irc(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Irc { stage: ask.stage }))
}

struct Irc {
    stage: Stage,
}

/// What a message means for us.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Error,
    Other,
}

impl Said {
    fn read(message: &[u8]) -> Result<Self, Refusal> {
        let mut words = words(trim_end(message)).peekable();
        words.next_if(|w| w.starts_with(b"@"));
        let prefix = words.next_if(|w| w.starts_with(b":")).is_some();
        let Some(command) = words.next() else {
            // RFC 2812 §2.3.1: empty messages are ignored.
            return if prefix || !trim_end(message).is_empty() {
                Err(Refusal::malformed("what is no IRC message", message))
            } else {
                Ok(Said::Other)
            };
        };
        let params: Vec<&[u8]> = words.take_while(|w| !w.starts_with(b":")).collect();
        let command = command.to_ascii_uppercase();
        // Nobody but the server itself says something without a prefix, and to a client without
        // a name: an SMTP server's 220 is no message of IRC's.
        let known = match command.as_slice() {
            [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9'] => prefix || params.first() == Some(&&b"*"[..]),
            b"NOTICE" | b"PING" | b"ERROR" | b"CAP" | b"AUTHENTICATE" => true,
            word => prefix && word.iter().all(u8::is_ascii_alphabetic),
        };
        match command.as_slice() {
            _ if !known => Err(Refusal::malformed("what is no IRC message", message)),
            b"ERROR" => Ok(Said::Error),
            b"670" => Ok(Said::Yes),
            b"691" => Ok(Said::No),
            // Unknown command, not registered, too few parameters, already registered: ours,
            // unless it names another command.
            b"421" | b"451" | b"461" | b"462" => match params.get(1) {
                Some(named) if !named.eq_ignore_ascii_case(b"STARTTLS") => Ok(Said::Other),
                _ => Ok(Said::No),
            },
            _ => Ok(Said::Other),
        }
    }
}

impl Irc {
    fn error(&self, message: &[u8]) -> Refusal {
        match self.stage {
            Stage::Greeting => Refusal::unwelcome(message, true),
            Stage::Ready | Stage::GoAhead => Refusal::bye(message),
        }
    }
}

impl Dialog for Irc {
    fn framing(&self) -> Framing {
        Framing::Line
    }

    fn lock_step(&self) -> bool {
        false
    }

    fn open(&mut self) -> Step {
        Step::line("STARTTLS")
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        match Said::read(message)? {
            Said::Yes => Ok(Step::go()),
            Said::No => Err(Refusal::no(findings.offered, message, false)),
            Said::Error => Err(self.error(message)),
            Said::Other => Ok(Step::Listen),
        }
    }

    fn unasked(&mut self, message: &[u8]) -> Result<(), Refusal> {
        match Said::read(message)? {
            Said::Yes => Err(Refusal::malformed("an answer to what was never asked", message)),
            Said::Error => Err(self.error(message)),
            // A 451 is for what the caller has said before.
            Said::No | Said::Other => Ok(()),
        }
    }

    fn awaits(&self) -> &'static str {
        "the answer to STARTTLS"
    }
}

pub(super) const SERVER: Server = Server::line("the STARTTLS command", answer);

/// RFC 2812 §2.3 lets a server leave its name out, but OpenSSL's client takes the second word for the number
/// whatever the first is. What this server is called is not known here.
fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    Answer::to(
        "STARTTLS",
        command,
        ":localhost 670 * :STARTTLS successful, proceed with TLS handshake",
        ":localhost 691 * :STARTTLS failed (TLS is not available)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_starttls_is_upgraded_and_our_own_answers_are_understood() {
        for no in ["NICK me\r\n", "STARTTLS x\r\n", "CAP LS\r\n", "\r\n"] {
            assert!(answer(no.as_bytes()).is_err(), "{no}");
        }
        assert!(answer(b"starttls\n").is_ok());
        let Ok(Answer::Upgrade { go_ahead, refusal }) = answer(b"STARTTLS\r\n") else {
            panic!("no answer");
        };
        assert_eq!(Said::read(&go_ahead), Ok(Said::Yes));
        assert_eq!(Said::read(&refusal), Ok(Said::No));
    }

    #[test]
    fn messages() {
        for (said, message) in [
            (Said::Yes, "@time=x :irc.test 670 me :go"),
            (Said::No, ":irc.test 421 * STARTTLS :Unknown command"),
            (Said::No, ":irc.test 451 * :You have not registered"),
            (Said::Other, ":irc.test 421 * CAP :Unknown command"),
            (Said::Other, ":irc.test 020 * :Please wait"),
            (Said::Other, "PING :670 * :go"),
            (Said::Other, ":a!b@c PRIVMSG me :670"),
            (Said::Other, ""),
            (Said::Error, "error :Closing Link"),
        ] {
            assert_eq!(
                Said::read(format!("{message}\r\n").as_bytes()),
                Ok(said),
                "{message}"
            );
        }
        for bad in [
            "220 mail.example.test ESMTP",
            "421 too busy",
            "HTTP/1.1 400 x",
            "SSH-2.0-x",
            "+OK",
            "* OK",
            ":",
            "67 * :x",
        ] {
            assert!(Said::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
