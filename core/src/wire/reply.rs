//! Replies with three-digit codes (RFC 5321 §4.2).

use super::line::trim_end;
use crate::dialog::Refusal;

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
            let (digits, rest) = line.split_at_checked(3).unwrap_or((line, &[]));
            let this = match digits {
                [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                    [a, b, c].into_iter().fold(0u16, |n, d| {
                        n.saturating_mul(10)
                            .saturating_add(u16::from(d.saturating_sub(b'0')))
                    })
                }
                _ => return Err(Refusal::malformed("a reply without a reply code", line)),
            };
            if !matches!(rest.first(), None | Some(b' ' | b'-')) {
                return Err(Refusal::malformed("a reply without a reply code", line));
            }
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
}
