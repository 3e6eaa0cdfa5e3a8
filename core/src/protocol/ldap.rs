//! LDAP: the client speaks first and asks with the extended operation StartTLS. What the server
//! offers is not asked for.
//!
//! ```text
//! C> \x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037
//! S> \x30\x24\x02\x01\x01\x78\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037
//! ```
//!
//! RFC 4511 §4.14 (StartTLS), §4.12 (extended operations), §4.4 (unsolicited notifications), RFC
//! 4513 §3. Referrals are never followed.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Step};
use crate::outcome::Because;
use crate::refusal::Refusal;
use crate::text::printable;
use crate::wire::binary::Binary;
use crate::wire::extended::{Request, Response};
use crate::wire::Framing;

const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const NOTICE_OF_DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";
const MESSAGE_ID: i32 = 1;

const SUCCESS: i32 = 0;
const BUSY: i32 = 51;
const UNAVAILABLE: i32 = 52;

pub(super) fn ldap(_: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Ldap))
}

struct Ldap;

fn is_notice(response: &Response<'_>) -> bool {
    response.id == 0 && response.name == Some(NOTICE_OF_DISCONNECTION)
}

impl Dialog for Ldap {
    fn framing(&self) -> Framing {
        Framing::Binary(Binary::Element)
    }

    fn open(&mut self) -> Step {
        let request = Request {
            id: MESSAGE_ID,
            name: START_TLS,
        };
        Step::Say(request.write())
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let Some(response) = Response::read(message) else {
            return Err(Refusal::malformed("what is no ExtendedResponse", message));
        };
        let said = [
            format!("resultCode {} ", response.code).as_bytes(),
            response.diagnostic,
        ]
        .concat();
        match (response.id, response.code) {
            (0, _) if is_notice(&response) => Err(Refusal::bye(&said)),
            (0, _) => Ok(Step::Listen),
            (MESSAGE_ID, _) if response.name.is_some_and(|name| name != START_TLS) => Err(
                Refusal::malformed("the answer to another extended operation", message),
            ),
            (MESSAGE_ID, SUCCESS) => Ok(Step::go()),
            (MESSAGE_ID, BUSY | UNAVAILABLE) => Err(Refusal::NoUpgrade {
                because: Because::Refused,
                why: format!("the server refuses the upgrade for now: {}", printable(&said)),
                temporary: true,
            }),
            // In most cases 2, protocolError: that of a server which does not know it.
            (MESSAGE_ID, _) => Err(Refusal::no(findings.offered, &said, false)),
            _ => Err(Refusal::malformed("a message id that was never sent", message)),
        }
    }

    fn is_goodbye(&self, message: &[u8]) -> bool {
        Response::read(message).is_some_and(|response| is_notice(&response))
    }

    fn awaits(&self) -> &'static str {
        "the answer to StartTLS"
    }
}

pub(super) const SERVER: Server = Server {
    framing: Framing::Binary(Binary::Element),
    awaits: "the StartTLS request",
    hello_follows: false,
    refuses: true,
    answer,
};

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let id = match Request::read(command) {
        Some(request) if request.name == START_TLS => request.id,
        _ => return Err(Refusal::malformed("what is not StartTLS", command)),
    };
    let response = |code: i32, diagnostic: &[u8]| {
        let name = Some(START_TLS);
        Response {
            id,
            code,
            diagnostic,
            name,
        }
        .write()
    };
    Ok(Answer::Upgrade {
        go_ahead: response(SUCCESS, b""),
        refusal: response(UNAVAILABLE, b"TLS is not available"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_clients_message_id() {
        let request = Request {
            id: 300,
            name: START_TLS,
        };
        let Ok(Answer::Upgrade { go_ahead, refusal }) = answer(&request.write()) else {
            panic!()
        };
        let success =
            b"\x30\x25\x02\x02\x01\x2c\x78\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037";
        assert_eq!(go_ahead, success);
        let no = Response::read(&refusal).unwrap();
        assert_eq!(
            (no.id, no.code, no.diagnostic),
            (300, 52, &b"TLS is not available"[..])
        );
    }

    #[test]
    fn what_is_not_start_tls() {
        let who_am_i = Request {
            id: 1,
            name: b"1.3.6.1.4.1.4203.1.11.3",
        };
        assert!(answer(&who_am_i.write()).is_err());
        // A bind.
        assert!(answer(b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00").is_err());
    }
}
