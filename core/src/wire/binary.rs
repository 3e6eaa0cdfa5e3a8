//! Where a message ends in protocols that are not made of lines.

use super::{ber, Cursor, Uncut, MAX_LINE};
use crate::error::Word;

/// How the next message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    /// So many octets, whatever they are.
    Octets(usize),
    /// One element in BER, a SEQUENCE (X.690 §8.1).
    Element,
    /// A MySQL packet: three octets of length, least significant first, a sequence id, the payload.
    Packet,
    /// A telnet command with its option or sub-negotiation, or text up to one, at most a line (RFC
    /// 854, RFC 855).
    Telnet,
}

/// "Interpret as command".
pub(crate) const IAC: u8 = 255;
pub(crate) const DONT: u8 = 254;
pub(crate) const DO: u8 = 253;
pub(crate) const WONT: u8 = 252;
pub(crate) const WILL: u8 = 251;
/// Begin and end of a sub-negotiation.
pub(crate) const SB: u8 = 250;
pub(crate) const SE: u8 = 240;

impl Binary {
    /// The length of the first message in `buffer`, once it is whole.
    pub(super) fn cut(self, buffer: &[u8], cursor: &mut Cursor) -> Result<Option<usize>, Uncut> {
        let whole = |end: usize| Some(end).filter(|end| *end <= buffer.len());
        match self {
            Binary::Octets(n) => Ok(whole(n)),
            Binary::Element => ber::cut(buffer),
            Binary::Packet => match buffer {
                [a, b, c, ..] => {
                    let [a, b, c] = [*a, *b, *c].map(usize::from);
                    let length = c << 16 | b << 8 | a;
                    if length > MAX_LINE {
                        return Err(Uncut(Word::TooLong, "a packet over 64 KiB"));
                    }
                    Ok(whole(length.saturating_add(4)))
                }
                _ => Ok(None),
            },
            Binary::Telnet => {
                let end = telnet(buffer, cursor)?;
                if end.unwrap_or(buffer.len()) > MAX_LINE {
                    return Err(Uncut(Word::TooLong, "a line or sub-negotiation over 64 KiB"));
                }
                if end.is_some() {
                    *cursor = Cursor::default();
                }
                Ok(end)
            }
        }
    }
}

fn telnet(buffer: &[u8], cursor: &mut Cursor) -> Result<Option<usize>, Uncut> {
    match buffer {
        [IAC, SB, ..] => sub_negotiation(buffer, cursor),
        [IAC, WILL..=DONT, ..] => Ok(Some(3).filter(|end| *end <= buffer.len())),
        [IAC, _, ..] => Ok(Some(2)),
        [IAC] => Ok(None),
        _ => {
            let unsearched = buffer.get(cursor.searched..).unwrap_or_default();
            let end = unsearched.iter().position(|b| *b == b'\n' || *b == IAC);
            let end = end.map(|at| cursor.searched.saturating_add(at));
            cursor.searched = buffer.len();
            // The end of a line belongs to it, a command does not.
            Ok(end.map(|at| at.saturating_add(usize::from(buffer.get(at) == Some(&b'\n')))))
        }
    }
}

/// It ends with IAC SE; IAC IAC stands for an octet 255.
fn sub_negotiation(buffer: &[u8], cursor: &mut Cursor) -> Result<Option<usize>, Uncut> {
    cursor.searched = cursor.searched.max(2);
    loop {
        let unsearched = buffer.get(cursor.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|b| *b == IAC) else {
            cursor.searched = cursor.searched.max(buffer.len());
            return Ok(None);
        };
        let at = cursor.searched.saturating_add(at);
        let behind = at.saturating_add(2);
        match buffer.get(at.saturating_add(1)) {
            Some(&SE) => return Ok(Some(behind)),
            Some(&IAC) => cursor.searched = behind,
            Some(_) => return Err(Uncut(Word::Malformed, "a command inside a sub-negotiation")),
            None => {
                cursor.searched = at;
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cuts;
    use super::super::Framing;
    use super::*;

    #[test]
    fn octets_are_counted() {
        let framing = Framing::Binary(Binary::Octets(3));
        assert_eq!(cuts(framing, b"ab"), Ok(None));
        assert_eq!(cuts(framing, b"abcd"), Ok(Some(3)));
    }

    #[test]
    fn packets_end_where_their_header_says() {
        let framing = Framing::Binary(Binary::Packet);
        assert_eq!(cuts(framing, b"\x02\x00\x00\x00abc"), Ok(Some(6)));
        assert_eq!(cuts(framing, b"\x00\x00\x00\x00"), Ok(Some(4)));
        assert_eq!(cuts(framing, b"\x03\x00\x00\x00ab"), Ok(None));
        assert_eq!(cuts(framing, b"\x00\x00\x01\x00"), Ok(None));
        assert_eq!(cuts(framing, b"\x01\x00\x01").unwrap_err().0, Word::TooLong);
        assert_eq!(cuts(framing, b"\xff\xff\xff\x00").unwrap_err().0, Word::TooLong);
    }

    #[test]
    fn telnet_is_commands_and_text() {
        let framing = Framing::Binary(Binary::Telnet);
        for (bytes, end) in [
            (&b"login: \xff\xfd\x2e"[..], Some(7)),
            (b"welcome\r\nlogin: ", Some(9)),
            (b"login: ", None),
            (b"\xff", None),
            (b"\xff\xf1x", Some(2)),
            (b"\xff\xffx", Some(2)),
            (b"\xff\xfd", None),
            (b"\xff\xfd\xffx", Some(3)),
            (b"\xff\xfa\x2e\x01\xff\xf0x", Some(6)),
            (b"\xff\xfa\x2e\x01\xff", None),
            // An escaped 255, behind which a 240 is data.
            (b"\xff\xfa\x2e\xff\xff\xf0\xff\xf0x", Some(8)),
            (b"\xff\xfa\xff\xf0", Some(4)),
        ] {
            assert_eq!(cuts(framing, bytes), Ok(end), "{bytes:x?}");
        }
        let nested = cuts(framing, b"\xff\xfa\x2e\xff\xfd\x2e");
        assert_eq!(nested.unwrap_err().0, Word::Malformed);
    }

    #[test]
    fn telnet_is_bounded() {
        let framing = Framing::Binary(Binary::Telnet);
        for endless in [&b"text"[..], b"\xff\xfa\x2e", b"\xff\xfa\x2e\xff\xff"] {
            let mut endless = endless.to_vec();
            endless.resize(MAX_LINE, b'x');
            assert_eq!(cuts(framing, &endless), Ok(None));
            endless.push(b'x');
            assert_eq!(cuts(framing, &endless).unwrap_err().0, Word::TooLong);
        }
    }
}
