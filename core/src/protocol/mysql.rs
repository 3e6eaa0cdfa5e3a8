//! MySQL and MariaDB: the server greets, the client answers with an SSLRequest, and its ClientHello
//! follows at once. There is no go-ahead.
//!
//! ```text
//! S> \x26\x00\x00\x00\x0a8.4.0\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf
//! S> \x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
//! C> \x20\x00\x00\x01\x05\xaa\x08\x00\x00\x00\x00\x01\x2d
//! C> \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
//! ```
//!
//! MySQL's documentation, "Client/Server Protocol", Protocol::HandshakeV10 and SSLRequest; MariaDB's,
//! "Connection". A caller that has talked is past the only place for an SSLRequest.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::error::{Error, Word};
use crate::refusal::Refusal;
use crate::wire::binary::Binary;
use crate::wire::Framing;

const CLIENT_PROTOCOL_41: u32 = 0x0200;
const CLIENT_SSL: u32 = 0x0800;
/// And LONG_PASSWORD, LONG_FLAG, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH: what every server since
/// 5.5 knows and every client can do. The client's handshake response must repeat them.
const CAPABILITIES: u32 = CLIENT_PROTOCOL_41 | CLIENT_SSL | 0x1 | 0x4 | 0x2000 | 0x8000 | 0x0008_0000;
const MAX_PACKET: u32 = 0x0100_0000;
/// utf8mb4_general_ci.
const CHARACTER_SET: u8 = 45;
/// Too many connections.
const ER_CON_COUNT_ERROR: u16 = 1040;

pub(super) fn mysql(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    if ask.stage == Stage::Ready {
        return Err(Error::new(
            Word::Unsupported,
            "mysql has no stage \"ready\": its upgrade is part of its greeting",
        ));
    }
    Ok(Box::new(Mysql { insist: ask.insist }))
}

struct Mysql {
    insist: bool,
}

fn ssl_request() -> Vec<u8> {
    let mut packet = vec![32, 0, 0, 1];
    packet.extend(CAPABILITIES.to_le_bytes());
    packet.extend(MAX_PACKET.to_le_bytes());
    packet.push(CHARACTER_SET);
    packet.extend([0; 23]);
    packet
}

/// The lower capability flags of a HandshakeV10, which lie behind the server's version (up to a NUL),
/// the connection's id, eight bytes of scramble and a zero.
fn capabilities(greeting: &[u8]) -> Option<u32> {
    let mut parts = greeting.splitn(2, |b| *b == 0);
    let behind_version = parts.nth(1)?;
    match behind_version.get(13..15)? {
        [low, high] => Some(u32::from(u16::from_le_bytes([*low, *high]))),
        _ => None,
    }
}

/// An ERR packet: a code, in most cases `#` and an SQL state of five letters, and a text.
fn unwelcome(error: &[u8], packet: &[u8]) -> Refusal {
    let Some(([low, high], text)) = error.split_first_chunk() else {
        return Refusal::malformed("an error without a code", packet);
    };
    let code = u16::from_le_bytes([*low, *high]);
    let text = match text {
        [b'#', _, _, _, _, _, text @ ..] => text,
        text => text,
    };
    let said = [format!("{code} ").as_bytes(), text].concat();
    Refusal::unwelcome(&said, code == ER_CON_COUNT_ERROR)
}

impl Dialog for Mysql {
    fn framing(&self) -> Framing {
        Framing::Binary(Binary::Packet)
    }

    fn open(&mut self) -> Step {
        Step::Listen
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let capabilities = match message {
            [_, _, _, id, ..] if *id != 0 => {
                return Err(Refusal::malformed(
                    "a greeting whose sequence id is not 0",
                    message,
                ));
            }
            [_, _, _, _, 0xff, error @ ..] => return Err(unwelcome(error, message)),
            [_, _, _, _, 10, greeting @ ..] => capabilities(greeting),
            _ => None,
        };
        let Some(capabilities) = capabilities else {
            return Err(Refusal::malformed("what is no greeting of protocol 10", message));
        };
        let offered = capabilities & CLIENT_SSL != 0;
        findings.offered = Some(offered);
        if offered || self.insist {
            Ok(Step::StartTls(ssl_request()))
        } else {
            Err(Refusal::not_offered("the server does not advertise CLIENT_SSL"))
        }
    }

    fn awaits(&self) -> &'static str {
        "the greeting"
    }
}

pub(super) const SERVER: Server = Server {
    framing: Framing::Binary(Binary::Packet),
    awaits: "the SSLRequest",
    hello_follows: true,
    refuses: false,
    answer,
};

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let wanted = CLIENT_PROTOCOL_41 | CLIENT_SSL;
    match command {
        [32, 0, 0, 1, a, b, c, d, ..] if u32::from_le_bytes([*a, *b, *c, *d]) & wanted == wanted => {
            Ok(Answer::Upgrade {
                go_ahead: Vec::new(),
                refusal: Vec::new(),
            })
        }
        _ => Err(Refusal::malformed("what is not SSLRequest", command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_that_is_ours() {
        let ours = ssl_request();
        assert_eq!(ours.len(), 36);
        assert!(ours.starts_with(b"\x20\x00\x00\x01\x05\xaa\x08\x00\x00\x00\x00\x01\x2d\x00"));
        let nothing = Answer::Upgrade {
            go_ahead: Vec::new(),
            refusal: Vec::new(),
        };
        assert_eq!(answer(&ours), Ok(nothing));
    }

    #[test]
    fn what_is_not_an_ssl_request() {
        let without = |flag: u32| {
            let mut packet = ssl_request();
            packet.splice(4..8, (CAPABILITIES & !flag).to_le_bytes());
            packet
        };
        assert!(answer(&without(CLIENT_SSL)).is_err());
        assert!(answer(&without(CLIENT_PROTOCOL_41)).is_err());
        let mut second = ssl_request();
        second[3] = 2;
        assert!(answer(&second).is_err());
        // A handshake response without TLS goes on with the user's name.
        let mut response = ssl_request();
        response[0] = 38;
        response.extend(b"root\0\0");
        assert!(answer(&response).is_err());
        assert!(answer(b"\x05\x00\x00\x01\x05\xaa\x00\x00\x01").is_err());
    }

    #[test]
    fn it_has_no_stage_ready() {
        let policy = crate::Policy::new(crate::Level::Encrypt);
        let e = crate::Negotiation::new("mysql", "db.example.test", Stage::Ready, &policy);
        assert_eq!(e.err().map(|e| e.word()), Some(Word::Unsupported));
        assert!(crate::Negotiation::new("mysql", "db.example.test", Stage::GoAhead, &policy).is_ok());
    }
}
