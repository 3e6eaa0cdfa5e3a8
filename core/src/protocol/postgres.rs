//! PostgreSQL: the client speaks first with an SSLRequest, and the server answers with one byte.
//! What the server offers is not asked for.
//!
//! ```text
//! C> \x00\x00\x00\x08\x04\xd2\x16\x2f
//! S> S
//! ```
//!
//! PostgreSQL's documentation, "Frontend/Backend Protocol", SSL Session Encryption. Only `S` and `N`
//! are answers: an error in clear comes from who knows whom (CVE-2021-23222).

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Step};
use crate::refusal::Refusal;
use crate::wire::binary::Binary;
use crate::wire::Framing;

/// Its length, and 1234 and 5679 in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub(super) fn postgres(_: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Postgres))
}

struct Postgres;

impl Dialog for Postgres {
    fn framing(&self) -> Framing {
        Framing::Binary(Binary::Octets(1))
    }

    fn open(&mut self) -> Step {
        Step::Say(SSL_REQUEST.to_vec())
    }

    fn hear(&mut self, message: &[u8], _: &mut Findings) -> Result<Step, Refusal> {
        match message {
            b"S" => Ok(Step::go()),
            b"N" => Err(Refusal::not_offered(
                "the server answers SSLRequest with N: it does not offer the upgrade",
            )),
            _ => Err(Refusal::malformed("what is neither S nor N", message)),
        }
    }

    fn awaits(&self) -> &'static str {
        "the answer to SSLRequest"
    }
}

pub(super) const SERVER: Server = Server {
    // Whatever the client wants, it says so in the first eight octets.
    framing: Framing::Binary(Binary::Octets(SSL_REQUEST.len())),
    awaits: "the SSLRequest",
    hello_follows: false,
    refuses: true,
    answer,
};

fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    if command != SSL_REQUEST {
        return Err(Refusal::malformed("what is not SSLRequest", command));
    }
    Ok(Answer::Upgrade {
        go_ahead: b"S".to_vec(),
        refusal: b"N".to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_answers_the_request() {
        let answered = answer(b"\x00\x00\x00\x08\x04\xd2\x16\x2f");
        assert_eq!(
            answered,
            Ok(Answer::Upgrade {
                go_ahead: b"S".to_vec(),
                refusal: b"N".to_vec()
            })
        );
    }

    #[test]
    fn what_is_not_an_ssl_request() {
        for other in [
            // A GSSENCRequest, a CancelRequest, and StartupMessages of protocols 3.0 and 2.0.
            b"\x00\x00\x00\x08\x04\xd2\x16\x30",
            b"\x00\x00\x00\x10\x04\xd2\x16\x2e",
            b"\x00\x00\x00\x29\x00\x03\x00\x00",
            b"\x00\x00\x01\x28\x00\x02\x00\x00",
            b"\x00\x00\x00\x09\x04\xd2\x16\x2f",
            b"GET / HT",
        ] {
            assert!(answer(other).is_err(), "{other:x?}");
        }
    }
}
