//! The server's side of a dialog: it hears the client's upgrade command and gives the go-ahead, or
//! the protocol's own refusal.

use crate::dialog::{Dialog, Findings, Step};
use crate::refusal::Refusal;
use crate::wire::line::{begins_with_word, words};
use crate::wire::Framing;

/// How a server upgrades: one row of the protocol table.
#[derive(Debug)]
pub(crate) struct Server {
    /// How the client's command is delimited.
    pub(crate) framing: Framing,
    /// What is waited for: "the STARTTLS command".
    pub(crate) awaits: &'static str,
    /// Whether the ClientHello follows the command without a go-ahead (MySQL).
    pub(crate) hello_follows: bool,
    /// Whether the protocol has a refusal.
    pub(crate) refuses: bool,
    /// What to answer the command with.
    pub(crate) answer: fn(&[u8]) -> Result<Answer, Refusal>,
}

impl Server {
    /// Of a protocol whose upgrade command is a line, and which can say no.
    pub(crate) const fn line(awaits: &'static str, answer: fn(&[u8]) -> Result<Answer, Refusal>) -> Self {
        Self {
            framing: Framing::Line,
            awaits,
            hello_follows: false,
            refuses: true,
            answer,
        }
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command is not complete: nothing yet.
    Listen,
    /// The client announces its command: nothing yet, but a refusal need not wait for it.
    Announced {
        /// Sent at once by a server that refuses.
        refusal: Vec<u8>,
        /// What the client may already have sent behind the announcement, and is passed over then.
        rest: &'static [u8],
    },
    /// The client wants the upgrade.
    Upgrade {
        /// Sent before the handshake.
        go_ahead: Vec<u8>,
        /// Sent instead; empty where the protocol has none.
        refusal: Vec<u8>,
    },
}

impl Answer {
    /// The answers to this word alone; the commands of these protocols have no parameters.
    pub(crate) fn to(
        word: &str,
        command: &[u8],
        go_ahead: &str,
        refusal: &str,
    ) -> std::result::Result<Self, Refusal> {
        if words(command).count() == 1 && begins_with_word(command, word) {
            Ok(Self::lines(go_ahead, refusal))
        } else {
            Err(Refusal::malformed(&format!("what is not {word}"), command))
        }
    }

    /// Answers that are one line each.
    pub(crate) fn lines(go_ahead: &str, refusal: &str) -> Self {
        let line = |text: &str| format!("{text}\r\n").into_bytes();
        Answer::Upgrade {
            go_ahead: line(go_ahead),
            refusal: line(refusal),
        }
    }
}

/// The server's side of a row's dialog; `refuse` sends the refusal.
pub(crate) fn server(row: &'static Server, refuse: bool) -> Box<dyn Dialog> {
    Box::new(Commanded {
        row,
        refuse,
        rest: &[],
    })
}

struct Commanded {
    row: &'static Server,
    refuse: bool,
    /// Of a command that was refused when it was announced.
    rest: &'static [u8],
}

impl Dialog for Commanded {
    fn framing(&self) -> Framing {
        self.row.framing
    }

    fn open(&mut self) -> Step {
        Step::Listen
    }

    fn hear(&mut self, message: &[u8], _: &mut Findings) -> Result<Step, Refusal> {
        Ok(match (self.row.answer)(message)? {
            Answer::Announced { refusal, rest } if self.refuse => {
                self.rest = rest;
                Step::Refuse(refusal)
            }
            Answer::Listen | Answer::Announced { .. } => Step::Listen,
            Answer::Upgrade { go_ahead, .. } if !self.refuse => Step::StartTls(go_ahead),
            Answer::Upgrade { refusal, .. } => Step::Refuse(refusal),
        })
    }

    fn passes_over(&self, bytes: &[u8]) -> bool {
        self.rest.starts_with(bytes)
    }

    fn hello_follows(&self) -> bool {
        self.row.hello_follows
    }

    fn awaits(&self) -> &'static str {
        self.row.awaits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::Want;
    use crate::error::{Result, Word};
    use crate::outcome::Because;
    use crate::protocol::{find, Service};

    /// What becomes of a client's bytes, in pieces of this size: what is answered, what is wanted then.
    fn hears(protocol: &str, refuse: bool, bytes: &[u8], size: usize) -> Result<(Vec<u8>, Want, Engine)> {
        let Service::InBand(row) = find(protocol)? else {
            panic!()
        };
        let mut engine = Engine::server(server(&row.server, refuse), None);
        for piece in bytes.chunks(size) {
            engine.receive(piece)?;
        }
        let said = engine.output().to_vec();
        engine.sent(said.len());
        let want = engine.want();
        Ok((said, want, engine))
    }

    const WILL: &[u8] = b"\xff\xfb\x2e";
    const FOLLOWS: &[u8] = b"\xff\xfa\x2e\x01\xff\xf0";

    #[test]
    fn telnet_waits_for_follows() {
        for size in [1, 3, 100] {
            let (said, want, _) = hears("telnet", false, WILL, size).unwrap();
            assert_eq!((said, want), (Vec::new(), Want::Read));
            // As s_client says it.
            let (said, want, _) = hears("telnet", false, &[WILL, FOLLOWS].concat(), size).unwrap();
            assert_eq!((said.as_slice(), want), (FOLLOWS, Want::Handshake));
            // Another option in between, WILL NAWS.
            let between = [WILL, b"\xff\xfb\x1f", FOLLOWS].concat();
            assert_eq!(hears("telnet", false, &between, size).unwrap().0, FOLLOWS);
            let injected = [WILL, FOLLOWS, b"ls\r\n"].concat();
            let e = hears("telnet", false, &injected, size).err().unwrap();
            assert_eq!(e.word(), Word::Injected);
        }
    }

    #[test]
    fn telnet_refuses_what_is_announced() {
        let refused = Want::Plain(Because::Refused);
        let behind: [&[u8]; 3] = [b"", FOLLOWS, b"\xff\xfa\x2e"];
        for (bytes, size) in behind.iter().flat_map(|b| [(b, 1), (b, 3), (b, 100)]) {
            let command = [WILL, bytes].concat();
            let (said, want, _) = hears("telnet", true, &command, size).unwrap();
            assert_eq!((said.as_slice(), want), (&b"\xff\xfe\x2e"[..], refused));
        }
        for size in [1, 3, 100] {
            for injected in [&b"ls\r\n"[..], b"\xff\xfa\x2e\x01\xff\xf0ls"] {
                let e = hears("telnet", true, &[WILL, injected].concat(), size).err();
                assert_eq!(e.unwrap().word(), Word::Injected);
            }
        }
    }

    #[test]
    fn mysqls_client_hello_stands_behind_its_request() {
        let mut command = vec![32, 0, 0, 1, 0x05, 0xaa, 0x08, 0];
        command.resize(36, 0);
        command.extend(b"\x16\x03\x01");
        for size in [1, 36, 100] {
            let (said, want, mut engine) = hears("mysql", false, &command, size).unwrap();
            assert_eq!((said, want), (Vec::new(), Want::Handshake));
            assert_eq!(engine.account().unread, b"\x16\x03\x01");
        }
    }

    #[test]
    fn bytes_behind_a_request_are_not_obeyed() {
        let postgres = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";
        let ldap = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
        for (protocol, command, go_ahead) in [("postgres", &postgres[..], 1), ("ldap", ldap, 38)] {
            for refuse in [false, true] {
                for size in [1, 100] {
                    let (said, want, _) = hears(protocol, refuse, command, size).unwrap();
                    let upgrades = want == Want::Handshake && said.len() == go_ahead;
                    assert!(upgrades != refuse, "{protocol}: {want:?} {said:x?}");
                    let e = hears(protocol, refuse, &[command, b"\x30"].concat(), size).err();
                    assert_eq!(e.unwrap().word(), Word::Injected);
                }
            }
        }
    }
}
