//! Telnet: the client volunteers the option START_TLS (46), and when both have agreed on it each says
//! FOLLOWS. Nothing else is agreed on in clear.
//!
//! ```text
//! C> \xff\xfb\x2e
//! S> \xff\xfd\x2e
//! C> \xff\xfa\x2e\x01\xff\xf0
//! S> \xff\xfa\x2e\x01\xff\xf0
//! ```
//!
//! draft-altman-telnet-starttls-02; RFC 854, RFC 855 (commands, sub-negotiations), RFC 1143 (options
//! that do not loop). After its FOLLOWS a side says nothing more in clear.

use std::collections::BTreeSet;

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Step};
use crate::refusal::Refusal;
use crate::wire::binary::{Binary, DO, DONT, IAC, SB, SE, WILL, WONT};
use crate::wire::Framing;

const START_TLS: u8 = 46;
const FOLLOWS: [u8; 6] = [IAC, SB, START_TLS, 1, IAC, SE];

pub(super) fn telnet(_: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Telnet {
        agreed: false,
        answered: BTreeSet::new(),
    }))
}

struct Telnet {
    /// The server has said DO START_TLS.
    agreed: bool,
    /// What the server has asked for and was refused, once each.
    answered: BTreeSet<[u8; 2]>,
}

impl Dialog for Telnet {
    fn framing(&self) -> Framing {
        Framing::Binary(Binary::Telnet)
    }

    fn lock_step(&self) -> bool {
        false
    }

    fn open(&mut self) -> Step {
        Step::Say(vec![IAC, WILL, START_TLS])
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        match *message {
            [IAC, DO, START_TLS] if !self.agreed => {
                self.agreed = true;
                findings.offered = Some(true);
                Ok(Step::Say(FOLLOWS.to_vec()))
            }
            // Its DO had crossed our WILL, and this is another answer.
            [IAC, DO, START_TLS] => Ok(Step::Listen),
            [IAC, DONT, START_TLS] => Err(Refusal::no(findings.offered, b"DONT START_TLS", false)),
            [IAC, SB, START_TLS, ..] if message == FOLLOWS && self.agreed => Ok(Step::go()),
            [IAC, SB, START_TLS, ..] => Err(Refusal::malformed("what does not follow DO START_TLS", message)),
            [IAC, asks @ (DO | WILL), option] if !self.agreed && self.answered.insert([asks, option]) => {
                let no = if asks == DO { WONT } else { DONT };
                Ok(Step::Say(vec![IAC, no, option]))
            }
            // Text, and commands that want no answer.
            _ => Ok(Step::Listen),
        }
    }

    /// Where the server has spoken first, what it wants counts, too.
    fn meanwhile(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        self.hear(message, findings)
    }

    fn awaits(&self) -> &'static str {
        if self.agreed {
            "START_TLS FOLLOWS"
        } else {
            "the answer to WILL START_TLS"
        }
    }
}

pub(super) const SERVER: Server = Server {
    framing: Framing::Binary(Binary::Telnet),
    awaits: "START_TLS FOLLOWS",
    hello_follows: false,
    refuses: true,
    answer,
};

/// The server has said DO START_TLS. Other options that come in between are for the new session.
fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let refusal = vec![IAC, DONT, START_TLS];
    match *command {
        [IAC, WILL, START_TLS] => Ok(Answer::Announced {
            refusal,
            rest: &FOLLOWS,
        }),
        _ if command == FOLLOWS => Ok(Answer::Upgrade {
            go_ahead: FOLLOWS.to_vec(),
            refusal,
        }),
        [IAC, WONT, START_TLS] | [IAC, SB, START_TLS, ..] => {
            Err(Refusal::malformed("what is not START_TLS FOLLOWS", command))
        }
        [IAC, other, ..] if other != IAC => Ok(Answer::Listen),
        _ => Err(Refusal::malformed("text instead of START_TLS FOLLOWS", command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONT_START_TLS: &[u8] = b"\xff\xfe\x2e";

    #[test]
    fn follows_is_answered_with_follows() {
        assert_eq!(
            answer(b"\xff\xfa\x2e\x01\xff\xf0"),
            Ok(Answer::Upgrade {
                go_ahead: b"\xff\xfa\x2e\x01\xff\xf0".to_vec(),
                refusal: DONT_START_TLS.to_vec()
            })
        );
        let refused = Answer::Announced {
            refusal: DONT_START_TLS.to_vec(),
            rest: b"\xff\xfa\x2e\x01\xff\xf0",
        };
        assert_eq!(answer(b"\xff\xfb\x2e"), Ok(refused));
        for other in [&b"\xff\xfb\x1f"[..], b"\xff\xfa\x1f\x00\x50\xff\xf0", b"\xff\xf1"] {
            assert_eq!(answer(other), Ok(Answer::Listen));
        }
        for bad in [
            &b"\xff\xfc\x2e"[..],
            b"\xff\xfa\x2e\x02\xff\xf0",
            b"ls\r\n",
            b"\xff\xff",
        ] {
            assert!(answer(bad).is_err(), "{bad:x?}");
        }
    }
}
