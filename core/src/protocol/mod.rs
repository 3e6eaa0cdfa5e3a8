//! The table of all protocols. C, Python, the command, the documentation, the tests and the
//! fuzzers iterate it: a new protocol is one file and its row.

mod ftp;
mod http;
mod imap;
mod irc;
mod ldap;
mod mysql;
mod nntp;
mod pop3;
mod postgres;
mod sieve;
mod smtp;
mod telnet;
mod xmpp;

use crate::command::Server;
use crate::dialog::{Ask, Dialog};
use crate::error::{Error, Result};
use crate::wire::http::Http;
use crate::wire::Framing;

/// A protocol that upgrades in-band, and the port with TLS from the first byte beside it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Protocol {
    /// The word, such as `smtp`.
    pub name: &'static str,
    /// The port where it begins in clear.
    pub port: u16,
    /// Word and port of the same protocol with TLS from the first byte (RFC 8314).
    pub implicit: Option<(&'static str, u16)>,
    /// Its ALPN identifier (RFC 7301), where IANA lists one.
    pub alpn: Option<&'static str>,
    /// Where the upgrade is specified.
    pub spec: &'static str,
    /// What comes first on the new session.
    pub afterwards: &'static str,
    /// How often the client speaks and waits for the answer before the handshake, at a level that
    /// requires TLS: the fewest that the protocol permits. A test counts them.
    pub round_trips: u32,
    pub(crate) client: fn(&Ask<'_>) -> Result<Box<dyn Dialog>>,
    pub(crate) server: Server,
    /// An answer to what was asked in clear that comes inside TLS and is read away.
    pub(crate) answer_inside: Option<Framing>,
}

impl Service {
    /// The service's name in SRV records (RFC 6186, 6120, 5804, 8314, XEP-0368; else IANA's).
    pub(crate) fn srv_name(self) -> &'static str {
        match self.word() {
            "xmpp" => "xmpp-client",
            "xmpps" => "xmpps-client",
            "postgres" => "postgresql",
            word => word,
        }
    }
}

impl Protocol {
    /// Whether a server can say no to the upgrade command, with [`Session::refuse`](crate::Session::refuse).
    pub fn can_refuse(&self) -> bool {
        self.server.refuses
    }
}

/// Every protocol.
pub static PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "smtp",
        port: 25,
        implicit: Some(("smtps", 465)),
        alpn: None,
        spec: "RFC 3207",
        afterwards: "the client says EHLO again",
        round_trips: 2,
        client: smtp::smtp,
        server: smtp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "submission",
        port: 587,
        implicit: Some(("submissions", 465)),
        alpn: None,
        spec: "RFC 6409, RFC 3207",
        afterwards: "the client says EHLO again",
        round_trips: 2,
        client: smtp::smtp,
        server: smtp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "lmtp",
        port: 24,
        implicit: None,
        alpn: None,
        spec: "RFC 2033, RFC 3207",
        afterwards: "the client says LHLO again",
        round_trips: 2,
        client: smtp::lmtp,
        server: smtp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "imap",
        port: 143,
        implicit: Some(("imaps", 993)),
        alpn: Some("imap"),
        spec: "RFC 2595, RFC 9051",
        afterwards: "the client asks for the capabilities again",
        round_trips: 1,
        client: imap::imap,
        server: imap::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "pop3",
        port: 110,
        implicit: Some(("pop3s", 995)),
        alpn: Some("pop3"),
        spec: "RFC 2595",
        afterwards: "the client asks for the capabilities again",
        round_trips: 1,
        client: pop3::pop3,
        server: pop3::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "sieve",
        port: 4190,
        implicit: None,
        alpn: Some("managesieve"),
        spec: "RFC 5804",
        afterwards: "the server sends its capabilities again",
        round_trips: 1,
        client: sieve::sieve,
        server: sieve::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "nntp",
        port: 119,
        implicit: Some(("nntps", 563)),
        alpn: Some("nntp"),
        spec: "RFC 4642",
        afterwards: "the client asks for the capabilities again",
        round_trips: 1,
        client: nntp::nntp,
        server: nntp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "xmpp",
        port: 5222,
        implicit: Some(("xmpps", 5223)),
        alpn: Some("xmpp-client"),
        spec: "RFC 6120, RFC 7590, XEP-0368",
        afterwards: "the client opens a new stream, and the server answers with its own",
        round_trips: 2,
        client: xmpp::client_to_server,
        server: xmpp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "xmpp-server",
        port: 5269,
        implicit: Some(("xmpps-server", 5270)),
        alpn: Some("xmpp-server"),
        spec: "RFC 6120, RFC 7590, XEP-0368",
        afterwards: "the client opens a new stream, and the server answers with its own",
        round_trips: 2,
        client: xmpp::server_to_server,
        server: xmpp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "irc",
        port: 6667,
        implicit: Some(("ircs", 6697)),
        alpn: Some("irc"),
        spec: "IRCv3 tls, RFC 7194",
        afterwards: "the client registers: CAP, NICK, USER",
        round_trips: 1,
        client: irc::irc,
        server: irc::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "ftp",
        port: 21,
        implicit: Some(("ftps", 990)),
        alpn: Some("ftp"),
        spec: "RFC 4217",
        afterwards: "the client logs in; PBSZ 0 and PROT P encrypt the data connections",
        round_trips: 1,
        client: ftp::ftp,
        server: ftp::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "http",
        port: 80,
        implicit: Some(("https", 443)),
        alpn: Some("http/1.1"),
        spec: "RFC 2817",
        afterwards: "the server answers the request that asked for TLS; a client has had that answer",
        round_trips: 1,
        client: http::http,
        server: http::SERVER,
        answer_inside: Some(Framing::Http(Http::Inside)),
    },
    Protocol {
        name: "ldap",
        port: 389,
        implicit: Some(("ldaps", 636)),
        alpn: None,
        spec: "RFC 4511, RFC 4513",
        afterwards: "the client goes on, and reads again what the server had told of itself",
        round_trips: 1,
        client: ldap::ldap,
        server: ldap::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "postgres",
        port: 5432,
        implicit: None,
        alpn: Some("postgresql"),
        spec: "PostgreSQL, Frontend/Backend Protocol",
        afterwards: "the client sends its startup message",
        round_trips: 1,
        client: postgres::postgres,
        server: postgres::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "mysql",
        port: 3306,
        implicit: None,
        alpn: None,
        spec: "MySQL, Client/Server Protocol",
        afterwards: "the client sends its handshake response with sequence id 2 and the capabilities of \
                     the SSLRequest, 0x0008aa05",
        round_trips: 0,
        client: mysql::mysql,
        server: mysql::SERVER,
        answer_inside: None,
    },
    Protocol {
        name: "telnet",
        port: 23,
        implicit: Some(("telnets", 992)),
        alpn: None,
        spec: "draft-altman-telnet-starttls-02",
        afterwards: "both negotiate all options again",
        round_trips: 2,
        client: telnet::telnet,
        server: telnet::SERVER,
        answer_inside: None,
    },
];

/// What a protocol word means.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Begins in clear and upgrades.
    InBand(&'static Protocol),
    /// TLS from the first byte.
    Implicit(&'static Protocol),
}

impl Service {
    /// The row of the table.
    pub fn protocol(self) -> &'static Protocol {
        match self {
            Service::InBand(row) | Service::Implicit(row) => row,
        }
    }

    /// The word it was found by.
    pub fn word(self) -> &'static str {
        match self {
            Service::InBand(row) => row.name,
            Service::Implicit(row) => row.implicit.map_or(row.name, |(word, _)| word),
        }
    }

    /// The port that stands for 0.
    pub fn default_port(self) -> u16 {
        match self {
            Service::InBand(row) => row.port,
            Service::Implicit(row) => row.implicit.map_or(row.port, |(_, port)| port),
        }
    }
}

/// What a protocol word means. The port never decides it.
///
/// # Errors
/// `invalid` if no protocol is called so.
pub fn find(word: &str) -> Result<Service> {
    words().find(|s| s.word() == word).ok_or_else(|| {
        let known: Vec<&str> = words().map(Service::word).collect();
        Error::invalid(format!(
            "no protocol is called \"{}\"; it is one of: {}",
            crate::text::printable(word.as_bytes()),
            known.join(" ")
        ))
    })
}

/// Every protocol word, those with TLS from the first byte after those that upgrade.
pub fn words() -> impl Iterator<Item = Service> {
    let in_band = PROTOCOLS.iter().map(Service::InBand);
    let implicit = PROTOCOLS
        .iter()
        .filter(|row| row.implicit.is_some())
        .map(Service::Implicit);
    in_band.chain(implicit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_found() {
        let mut seen = std::collections::HashSet::new();
        for service in words() {
            assert!(seen.insert(service.word()), "{} twice", service.word());
            assert_eq!(find(service.word()).unwrap().word(), service.word());
        }
        assert!(find("SMTP").is_err());
        assert!(find("").is_err());
    }
}
