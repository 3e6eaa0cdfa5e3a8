//! HTTP: the client asks for TLS with a request that asks for nothing else; a 101 is the go-ahead, and
//! the answer to the request itself comes inside TLS, where it is read away. The offer is not asked for.
//!
//! ```text
//! C: OPTIONS * HTTP/1.1
//! C: Host: localhost
//! C: Upgrade: TLS/1.0
//! C: Connection: Upgrade
//! C:
//! S: HTTP/1.1 101 Switching Protocols
//! S: Upgrade: TLS/1.2, HTTP/1.1
//! S: Connection: Upgrade
//! S:
//! (TLS)
//! S: HTTP/1.1 200 OK
//! S: Content-Length: 0
//! S:
//! ```
//!
//! RFC 2817 §3 (the client asks), §4 (the server does: 426), RFC 9110 §7.8 (Upgrade), §15.2 (1xx). A
//! response that lists TLS in its Upgrade advertises it. Where only the end of the connection ends a
//! response in clear, its body is left to the caller, and of the connection there is no more to have.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Step};
use crate::refusal::Refusal;
use crate::wire::http::{Body, Head, Http};
use crate::wire::line::trim_end;
use crate::wire::{Framing, Uncut};

pub(super) fn http(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Client {
        host: if ask.host.contains(':') {
            format!("[{}]", ask.host)
        } else {
            ask.host.to_owned()
        },
        until_close: false,
    }))
}

struct Client {
    host: String,
    /// All that comes from now on is the body of a response.
    until_close: bool,
}

impl Dialog for Client {
    fn framing(&self) -> Framing {
        Framing::Http(Http::Response)
    }

    fn lock_step(&self) -> bool {
        !self.until_close
    }

    fn open(&mut self) -> Step {
        Step::line(&format!(
            "OPTIONS * HTTP/1.1\r\nHost: {}\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
            self.host
        ))
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        let malformed = |Uncut(_, what): Uncut| Refusal::malformed(what, message);
        let head = Head::response(message).map_err(malformed)?;
        match head.status {
            101 if head.minor == 1 && head.offers_tls() => return Ok(Step::go()),
            101 => {
                return Err(Refusal::malformed(
                    "a 101 that switches to something else",
                    message,
                ))
            }
            100..=199 => return Ok(Step::Listen),
            _ => {}
        }
        self.until_close = head.body().map_err(malformed)? == Body::UntilClose;
        if self.until_close || head.closes() {
            findings
                .notes
                .push("the server closes the connection after its answer".to_owned());
        }
        findings.offered = Some(head.offers_tls());
        let status_line = message.split(|b| *b == b'\n').next().unwrap_or_default();
        Err(Refusal::no(findings.offered, status_line, head.status == 503))
    }

    fn awaits(&self) -> &'static str {
        "the answer to Upgrade"
    }
}

pub(super) const SERVER: Server = Server {
    framing: Framing::Http(Http::Request),
    awaits: "the request for TLS",
    hello_follows: false,
    refuses: false,
    answer,
};

/// Any request may ask for TLS (RFC 2817 §3.1), but not one with a body: that would follow in clear.
fn answer(request: &[u8]) -> Result<Answer, Refusal> {
    if trim_end(request).is_empty() {
        // RFC 9112 §2.2: what some clients send before it.
        return Ok(Answer::Listen);
    }
    let malformed = |Uncut(_, what): Uncut| Refusal::malformed(what, request);
    let head = Head::request(request).map_err(malformed)?;
    let asks = head.minor == 1 && head.offers_tls() && head.lists("Connection", "upgrade");
    match head.body().map_err(malformed)? {
        _ if !asks => Err(Refusal::malformed("what is no request for TLS", request)),
        Body::None | Body::Sized(0) => Ok(Answer::Upgrade {
            go_ahead: b"HTTP/1.1 101 Switching Protocols\r\n\
                Upgrade: TLS/1.0, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"
                .to_vec(),
            refusal: Vec::new(),
        }),
        _ => Err(Refusal::malformed("a request for TLS with a body", request)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialog::Stage;

    #[test]
    fn that_a_response_ends_the_connection_is_noted() {
        let ask = Ask {
            host: "::1",
            me: "localhost",
            stage: Stage::Greeting,
            insist: false,
        };
        for (head, notes, in_turn) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", 0, true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close",
                1,
                true,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0", 1, true),
            ("HTTP/1.1 200 OK\r\nServer: x", 1, false),
        ] {
            let mut dialog = http(&ask).unwrap();
            let Step::Say(request) = dialog.open() else {
                panic!("nothing is said");
            };
            assert!(String::from_utf8_lossy(&request).contains("\r\nHost: [::1]\r\n"));
            let mut findings = Findings::default();
            let message = format!("{head}\r\n\r\n");
            dialog.hear(message.as_bytes(), &mut findings).unwrap_err();
            assert_eq!(findings.notes.len(), notes, "{head}");
            assert_eq!(dialog.lock_step(), in_turn, "{head}");
        }
    }

    fn asked(lines: &str) -> Result<Answer, Refusal> {
        answer(format!("{lines}\r\n\r\n").as_bytes())
    }

    #[test]
    fn a_request_for_tls_is_upgraded() {
        let Ok(Answer::Upgrade { go_ahead, refusal }) =
            asked("OPTIONS * HTTP/1.1\r\nHost: a\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade")
        else {
            panic!("no upgrade");
        };
        assert!(go_ahead.starts_with(b"HTTP/1.1 101 ") && go_ahead.ends_with(b"Upgrade\r\n\r\n"));
        assert_eq!(refusal, b"");
        for good in [
            "GET /x HTTP/1.1\r\nupgrade: h2c, tls/1.2\r\nConnection: close, upgrade",
            "POST / HTTP/1.1\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\nContent-Length: 0",
        ] {
            assert!(asked(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn other_requests_are_not() {
        for bad in [
            "GET / HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1\r\nUpgrade: TLS/1.0",
            "GET / HTTP/1.1\r\nConnection: Upgrade",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade",
            "GET / HTTP/1.1\r\nUpgrade: TLSX/1.0\r\nConnection: Upgrade",
            "GET / HTTP/1.0\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade",
            "POST / HTTP/1.1\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\nContent-Length: 1",
            "POST / HTTP/1.1\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\nContent-Length: x",
            "STARTTLS",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
        assert_eq!(answer(b"\r\n"), Ok(Answer::Listen));
    }
}
