//! The name of a server, checked before it goes anywhere: into EHLO, `to=`, `Host:`, SNI or a
//! certificate comparison (RFC 9525).

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Result};

/// A DNS name in lower-case A-labels without a trailing dot, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerName {
    Dns(String),
    Ip(IpAddr),
}

impl ServerName {
    /// Reads a host name (IDN allowed) or an IP literal, bare or in brackets.
    pub(crate) fn parse(host: &str) -> Result<Self> {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .map(|h| h.strip_prefix("IPv6:").unwrap_or(h));
        if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let wrong = |why: &str| {
            Err(Error::invalid(format!(
                "host name \"{}\" {why}",
                crate::text::printable(host.as_bytes())
            )))
        };
        if bare.is_some() {
            return wrong("is in brackets but is no IP address");
        }
        let host_no_dot = host.strip_suffix('.').unwrap_or(host);
        if host_no_dot.is_empty() {
            return wrong("is empty; give the server's name or address");
        }
        // Bounded before the conversion, whose time grows with the input.
        if host.len() > 1024 {
            return wrong("is longer than any DNS name");
        }
        if host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong("contains a space or control character");
        }
        let Ok(ascii) = idna::domain_to_ascii_cow(host_no_dot.as_bytes(), idna::AsciiDenyList::EMPTY) else {
            return wrong("is not a valid internationalised name (UTS 46) or has a label over 63 octets");
        };
        if ascii.len() > 253 {
            return wrong("is longer than 253 octets");
        }
        for label in ascii.split('.') {
            if label.is_empty() {
                return wrong("has an empty label");
            }
            if label.len() > 63 {
                return wrong("has a label over 63 octets");
            }
            // The underscore is no host name's, but names with one are in use.
            if !label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return wrong("contains a character that no host name has");
            }
        }
        // "127.1" and "0x7f.0x1" are addresses to getaddrinfo and names to nobody.
        if ascii.rsplit('.').next().is_some_and(is_number) {
            return wrong("ends in a number but is no IP address");
        }
        Ok(Self::Dns(ascii.into_owned()))
    }

    /// What goes into SNI: never an address (RFC 6066 §3).
    pub(crate) fn sni(&self) -> Option<&str> {
        match self {
            Self::Dns(name) => Some(name),
            Self::Ip(_) => None,
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// As inet_aton(3) reads numbers: decimal, octal or hexadecimal.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// Checks what the caller wants to call itself in EHLO, LHLO: a name or an address literal, which
/// must not be able to break out of its line. Returned as it was given.
pub(crate) fn client_name(name: &str) -> Result<String> {
    let fits = !name.is_empty()
        && name.len() <= 255
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b));
    if fits {
        Ok(name.to_owned())
    } else {
        Err(Error::invalid(format!(
            "client name \"{}\" must be a host name in A-labels or an address literal such as [192.0.2.1]",
            crate::text::printable(name.as_bytes())
        )))
    }
}

/// How a client without a name calls itself (RFC 5321 §4.1.3).
pub(crate) fn address_literal(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(host: &str, as_written: &str) {
        assert_eq!(ServerName::parse(host).unwrap().to_string(), as_written);
    }

    fn bad(host: &str, why: &str) {
        let e = ServerName::parse(host).expect_err(host);
        assert_eq!(e.word(), crate::Word::Invalid);
        assert!(e.message().contains(why), "{host:?}: {e}");
    }

    #[test]
    fn names() {
        good("mail.example.test", "mail.example.test");
        good("Mail.Example.TEST.", "mail.example.test");
        good("bücher.example", "xn--bcher-kva.example");
        good("mail_in.example.test", "mail_in.example.test");
        good("localhost", "localhost");
        good(&"a".repeat(63), &"a".repeat(63));
        good("127.0.0.1", "127.0.0.1");
        good("::1", "::1");
        good("[::1]", "::1");
        good("[IPv6:2001:db8::1]", "2001:db8::1");
        bad("", "empty");
        bad(".", "empty");
        bad("a\0b", "control");
        bad("a\rb", "control");
        bad("a\nb", "control");
        bad("a b", "space");
        bad("a\u{3000}b", "space");
        for c in ["<", ">", "&", "\"", "'", "/", "@", ":", "*", "%"] {
            bad(&format!("a{c}b"), "character");
        }
        bad("a..b", "empty label");
        bad(".a", "empty label");
        bad("a..", "empty label");
        bad(&"a".repeat(64), "63");
        bad(&format!("{}.test", "a.".repeat(130)), "");
        bad("[mail.example.test]", "brackets");
        bad("127.1", "number");
        bad("1.2.3.4.5", "number");
        bad("0x7f000001", "number");
        bad("127.0X1", "number");
        good("a.0xyz", "a.0xyz");
        bad(&"ü".repeat(2000), "longer");
    }

    #[test]
    fn client_names() {
        assert!(client_name("me.example.test").is_ok());
        assert!(client_name("[IPv6:::1]").is_ok());
        for bad in ["", "a b", "a\r\nMAIL", "a\0", "<a>", "ü"] {
            assert!(client_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            address_literal("::ffff:192.0.2.1".parse().unwrap()),
            "[192.0.2.1]"
        );
        assert_eq!(
            address_literal("2001:db8::1".parse().unwrap()),
            "[IPv6:2001:db8::1]"
        );
    }
}
