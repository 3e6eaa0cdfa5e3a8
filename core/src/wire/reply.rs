//! Replies with three-digit codes (RFC 5321 §4.2).

use super::line::trim_end;
use crate::refusal::Refusal;

/// A reply: its code and the text of each line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) code: u16,
    pub(crate) lines: Vec<&'a [u8]>,
}

impl<'a> Reply<'a> {
    /// Reads a whole reply; every line must carry the same code.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Refusal> {
        let mut code = None;
        let mut lines = Vec::new();
        for line in message.split_inclusive(|b| *b == b'\n') {
            let line = trim_end(line);
            let (this, rest) = match split(line) {
                Some((this @ 200.., rest)) if matches!(rest, [] | [b' ' | b'-', ..]) => (this, rest),
                _ => return Err(Refusal::malformed("a reply without a reply code", line)),
            };
            if *code.get_or_insert(this) != this {
                return Err(Refusal::malformed("a reply with more than one code", line));
            }
            lines.push(rest.get(1..).unwrap_or_default());
        }
        match code {
            Some(code) => Ok(Self { code, lines }),
            None => Err(Refusal::malformed("an empty reply", message)),
        }
    }

    /// Whether the same may work later: 4yz (RFC 5321 §4.2.1).
    pub(crate) fn temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }
}

/// The code that a message begins with: what an answer of NNTP's says (RFC 3977 §3.2), and one of
/// FTP's, in whose middle there may be anything (RFC 959 §4.2).
pub(crate) fn code(message: &[u8]) -> Result<u16, Refusal> {
    let line = message.split(|b| *b == b'\n').next().unwrap_or_default();
    match split(trim_end(line)) {
        Some((code, [] | [b' ' | b'-', ..])) => Ok(code),
        _ => Err(Refusal::malformed("a reply without a reply code", line)),
    }
}

/// Whether this line ends the reply of FTP's that the buffer begins with: the same code and a space.
pub(super) fn ends(reply: &[u8], line: &[u8]) -> bool {
    match line.split_at_checked(3) {
        Some((code, [] | [b' ', ..])) => reply.starts_with(code),
        _ => false,
    }
}

/// A line's code, from 100 to 599, and what follows it.
fn split(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] = digits else {
        return None;
    };
    let digits = std::str::from_utf8(digits).ok()?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let reply = Reply::read(b"250-mail\r\n250 STARTTLS\r\n").unwrap();
        assert_eq!(reply.code, 250);
        assert_eq!(reply.lines, [&b"mail"[..], b"STARTTLS"]);
        assert_eq!(Reply::read(b"220\r\n").unwrap().code, 220);
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b"",
            b"22\r\n",
            b"2200\r\n",
            b"220x\r\n",
            b"120 wait\r\n",
            b"999 x\r\n",
            b"250-a\r\n220 b\r\n",
            b"250-a\r\n\r\n",
        ] {
            assert!(Reply::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn codes() {
        assert_eq!(code(b"120 wait\r\n"), Ok(120));
        assert_eq!(code(b"220-a\r\nanything\r\n220 b\r\n"), Ok(220));
        assert_eq!(code(b"382\r\n"), Ok(382));
        for bad in [
            &b"020 x\r\n"[..],
            b"600 x\r\n",
            b"22\r\n",
            b"220x\r\n",
            b"",
            b"-ERR\r\n",
        ] {
            assert!(code(bad).is_err(), "{bad:?}");
        }
    }
}
