//! XMPP: the client opens a stream, the server answers with its own and the list of its features, and
//! STARTTLS is one of them. White space may stand between them, but nowhere behind `<starttls/>`.
//!
//! ```text
//! C> <?xml version='1.0'?><stream:stream to='localhost' version='1.0' xml:lang='en'
//! C>  xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
//! S> <stream:stream from='localhost' id='1' version='1.0'
//! S>  xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
//! S> <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>
//! S> </stream:features>
//! C> <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
//! S> <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
//! ```
//!
//! RFC 6120 §4 (streams), §5 (STARTTLS), RFC 7590. A `<failure/>` ends the stream and the connection
//! (§5.4.2.2): `refused` under every level, as there is nothing left to go on with in clear.

use crate::command::{Answer, Server};
use crate::dialog::{Ask, Dialog, Findings, Stage, Step};
use crate::error::Word;
use crate::refusal::Refusal;
use crate::text::printable;
use crate::wire::stanza::{read_header, read_stanza, Element};
use crate::wire::Framing;

const STREAMS: &str = "http://etherx.jabber.org/streams";
const ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// Conditions of stream errors that pass (RFC 6120 §4.9.3).
const TEMPORARY: [&str; 6] = [
    "system-shutdown",
    "resource-constraint",
    "internal-server-error",
    "reset",
    "connection-timeout",
    "remote-connection-failed",
];

pub(super) fn client_to_server(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    Ok(Box::new(Xmpp::new(ask, "jabber:client", "")))
}

pub(super) fn server_to_server(ask: &Ask<'_>) -> crate::Result<Box<dyn Dialog>> {
    // Only a domain is of use here, and only the caller knows it (RFC 6120 §4.7.1).
    let is_address = ask.me.contains(['[', ':']) || ask.me.parse::<std::net::IpAddr>().is_ok();
    let named = ask.me != "localhost" && !is_address;
    let from = if named {
        format!(" from='{}'", ask.me)
    } else {
        String::new()
    };
    Ok(Box::new(Xmpp::new(ask, "jabber:server", &from)))
}

struct Xmpp {
    stage: Stage,
    insist: bool,
    state: State,
    /// The header of the stream that is listened to; until it came, our own.
    header: Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum State {
    Header,
    Features,
    StartTls,
}

impl Xmpp {
    fn new(ask: &Ask<'_>, content: &str, from: &str) -> Self {
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}'{from} version='1.0' xml:lang='en' \
             xmlns='{content}' xmlns:stream='{STREAMS}'>",
            ask.host
        );
        Self {
            stage: ask.stage,
            insist: ask.insist,
            state: State::Header,
            header: header.into_bytes(),
        }
    }

    fn starttls(&mut self) -> Step {
        self.state = State::StartTls;
        Step::Say(format!("<starttls xmlns='{TLS}'/>").into_bytes())
    }

    fn features(&mut self, features: &Element, findings: &mut Findings) -> Result<Step, Refusal> {
        let mut offered = false;
        for feature in &features.children {
            let named = findings.capability(feature.name.as_bytes(), "starttls");
            if named && feature.is(TLS, "starttls") {
                offered = true;
                if feature.has(TLS, "required") {
                    findings.notes.push("the server requires TLS".to_owned());
                }
            }
        }
        findings.offered = Some(offered);
        if offered || self.insist {
            Ok(self.starttls())
        } else {
            Err(Refusal::not_offered("the server does not advertise starttls"))
        }
    }

    /// A stream error ends the connection.
    fn error(&self, error: &Element, message: &[u8], findings: &Findings) -> Refusal {
        let temporary = TEMPORARY.iter().any(|condition| error.has(ERRORS, condition));
        match self.state {
            State::Header | State::Features => Refusal::unwelcome(message, temporary),
            State::StartTls if temporary => Refusal::bye(message),
            // What a server says that does not know the stanza: only who insists asks it that.
            State::StartTls if findings.offered == Some(false) => Refusal::no(Some(false), message, false),
            State::StartTls => Refusal::bye(message),
        }
    }
}

impl Dialog for Xmpp {
    fn framing(&self) -> Framing {
        match self.state {
            State::Header => Framing::StreamHeader,
            State::Features | State::StartTls => Framing::Stanza,
        }
    }

    fn lock_step(&self) -> bool {
        false
    }

    fn open(&mut self) -> Step {
        match self.stage {
            Stage::Greeting => Step::Say(self.header.clone()),
            Stage::Ready | Stage::GoAhead => self.starttls(),
        }
    }

    fn hear(&mut self, message: &[u8], findings: &mut Findings) -> Result<Step, Refusal> {
        if self.state == State::Header {
            let stream = read_header(message)?;
            if !stream.is(STREAMS, "stream") {
                return Err(Refusal::malformed("what is no XMPP stream", message));
            }
            let version = stream.version.as_deref().unwrap_or_default();
            if !matches!(version.split('.').next().map(str::parse), Some(Ok(1u32..))) {
                // RFC 6120 §4.7.5: no features are to come.
                findings.offered = Some(false);
                return Err(Refusal::not_offered("the server's stream is older than XMPP 1.0"));
            }
            self.header = message.to_vec();
            self.state = State::Features;
            return Ok(Step::Listen);
        }
        let Some(element) = read_stanza(&self.header, message)? else {
            return Err(Refusal::bye(message));
        };
        match (&self.state, element.space.as_str(), element.name.as_str()) {
            (_, STREAMS, "error") => Err(self.error(&element, message, findings)),
            (State::Features, STREAMS, "features") => self.features(&element, findings),
            (State::StartTls, TLS, "proceed") => Ok(Step::go()),
            (State::StartTls, TLS, "failure") if findings.offered == Some(false) => {
                Err(Refusal::no(findings.offered, message, false))
            }
            (State::StartTls, TLS, "failure") => Err(Refusal::Failed {
                word: Word::Refused,
                why: format!(
                    "the server refuses the upgrade and ends the stream: {}",
                    printable(message)
                ),
                temporary: false,
            }),
            _ => Err(Refusal::malformed("a stanza that does not fit", message)),
        }
    }

    fn unasked(&mut self, message: &[u8]) -> Result<(), Refusal> {
        if self.state == State::StartTls {
            match read_stanza(&self.header, message)? {
                None => return Err(Refusal::bye(message)),
                Some(element) if element.is(STREAMS, "error") => return Err(Refusal::bye(message)),
                Some(_) => {}
            }
        }
        Err(Refusal::malformed("an answer to what was never asked", message))
    }

    fn awaits(&self) -> &'static str {
        match self.state {
            State::Header => "the stream header",
            State::Features => "the stream features",
            State::StartTls => "the answer to starttls",
        }
    }
}

pub(super) const SERVER: Server = Server {
    framing: Framing::Stanza,
    awaits: "the starttls command",
    hello_follows: false,
    refuses: true,
    answer,
};

/// The stream's own header is not known here: a prefix must be declared on the command itself.
fn answer(command: &[u8]) -> Result<Answer, Refusal> {
    let header = format!("<stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}'>");
    match read_stanza(header.as_bytes(), command)? {
        Some(element) if element.is(TLS, "starttls") && element.children.is_empty() => Ok(Answer::Upgrade {
            go_ahead: format!("<proceed xmlns='{TLS}'/>").into_bytes(),
            refusal: format!("<failure xmlns='{TLS}'/></stream:stream>").into_bytes(),
        }),
        _ => Err(Refusal::malformed("what is not starttls", command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_starttls_is_upgraded() {
        let yes = Answer::Upgrade {
            go_ahead: b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_vec(),
            refusal: b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>".to_vec(),
        };
        for good in [
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            "\n<starttls xmlns=\"urn:ietf:params:xml:ns:xmpp-tls\"></starttls>",
            "<t:starttls xmlns:t='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ] {
            assert_eq!(answer(good.as_bytes()).as_ref(), Ok(&yes), "{good}");
        }
        for bad in [
            "<starttls/>",
            "<t:starttls/>",
            "<STARTTLS xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><x/></starttls>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            "</stream:stream>",
            "STARTTLS\r\n",
        ] {
            assert!(answer(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn that_the_server_requires_tls_is_noted() {
        let ask = Ask {
            host: "example.test",
            me: "localhost",
            stage: Stage::Greeting,
            insist: false,
        };
        for (inside, notes) in [
            ("<required/>", 1),
            ("<required xmlns='urn:example'/>", 0),
            ("", 0),
        ] {
            let mut dialog = client_to_server(&ask).unwrap();
            dialog.open();
            let mut findings = Findings::default();
            let header = format!("<s:stream version='1.0' xmlns:s='{STREAMS}'>");
            let features = format!("<s:features><starttls xmlns='{TLS}'>{inside}</starttls></s:features>");
            dialog.hear(header.as_bytes(), &mut findings).unwrap();
            dialog.hear(features.as_bytes(), &mut findings).unwrap();
            assert_eq!(findings.offered, Some(true));
            assert_eq!(findings.notes.len(), notes, "{inside}");
        }
    }

    #[test]
    fn only_a_server_with_a_name_says_who_it_is() {
        let said = |open: fn(&Ask<'_>) -> crate::Result<Box<dyn Dialog>>, me: &str| {
            let ask = Ask {
                host: "example.test",
                me,
                stage: Stage::Greeting,
                insist: true,
            };
            match open(&ask).unwrap().open() {
                Step::Say(header) => String::from_utf8(header).unwrap(),
                step => panic!("{step:?}"),
            }
        };
        assert!(said(server_to_server, "me.test").contains("to='example.test' from='me.test' "));
        for me in ["localhost", "127.0.0.1", "[127.0.0.1]", "[IPv6:::1]"] {
            assert!(!said(server_to_server, me).contains("from="), "{me}");
        }
        assert!(!said(client_to_server, "me.test").contains("from="));
    }
}
