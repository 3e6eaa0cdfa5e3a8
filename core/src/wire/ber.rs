//! Elements in BER, as far as LDAP uses it (RFC 4511 §5.1): tags of one octet and definite lengths,
//! which need not be in their shortest form.

use super::{Uncut, MAX_LINE};
use crate::error::Word;

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const ENUMERATED: u8 = 0x0a;

/// The tag of the first element in `buffer`, where its contents begin and where they end, once its
/// length is known; the end may lie behind the buffer's.
fn measure(buffer: &[u8]) -> Result<Option<(u8, usize, usize)>, Uncut> {
    let [tag, first, rest @ ..] = buffer else {
        return Ok(None);
    };
    let octets = usize::from(first & 0x7f);
    let (begin, length) = match first {
        0..=0x7f => (2, octets),
        0x80 => return Err(Uncut(Word::Malformed, "an element of indefinite length")),
        0x81..=0x84 => {
            let Some(octets) = rest.get(..octets) else {
                return Ok(None);
            };
            let length = octets.iter().fold(0u32, |n, o| n << 8 | u32::from(*o));
            // Four octets fit into 32 bits; what fits into nothing smaller is too long anyway.
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            (octets.len().saturating_add(2), length)
        }
        0x85..=0xff => return Err(Uncut(Word::Malformed, "a length of more than four octets")),
    };
    if length > MAX_LINE {
        return Err(Uncut(Word::TooLong, "an element over 64 KiB"));
    }
    Ok(Some((*tag, begin, begin.saturating_add(length))))
}

/// The length of the first element in `buffer`, a SEQUENCE, once it is whole.
pub(super) fn cut(buffer: &[u8]) -> Result<Option<usize>, Uncut> {
    if buffer.first().is_some_and(|tag| *tag != SEQUENCE) {
        return Err(Uncut(Word::Malformed, "what is no BER SEQUENCE"));
    }
    let end = measure(buffer)?.map(|(_, _, end)| end);
    Ok(end.filter(|end| *end <= buffer.len()))
}

/// Reads the elements of a whole message, one after the other. `None`: not BER.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whatever comes next: its tag and its contents.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, begin, end) = measure(self.0).ok()??;
        let contents = self.0.get(begin..end)?;
        self.0 = self.0.get(end..)?;
        Some((tag, contents))
    }

    /// The contents of what comes next, which must have this tag.
    pub(crate) fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, c)| c)
    }

    /// The number that comes next, an INTEGER or ENUMERATED within 32 bits.
    pub(crate) fn number(&mut self, tag: u8) -> Option<i32> {
        let octets = self.next(tag)?;
        let (first, rest) = octets.split_first().filter(|(_, rest)| rest.len() < 4)?;
        let sign = i32::from(i8::from_be_bytes([*first]));
        Some(rest.iter().fold(sign, |n, o| n << 8 | i32::from(*o)))
    }

    /// The first of the elements that are left which has this tag; others are passed over (RFC 4511
    /// §4: trailing components that are not known).
    pub(crate) fn find(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        while !self.is_empty() {
            let (found, contents) = self.any()?;
            if found == tag {
                return Some(Some(contents));
            }
        }
        Some(None)
    }
}

/// An element of ours; its contents are short.
pub(crate) fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = u16::try_from(contents.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        0..=0x7f => &[tag, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, &contents].concat()
}

#[cfg(test)]
mod tests {
    use super::super::binary::Binary;
    use super::super::tests::cuts;
    use super::super::Framing;
    use super::*;

    fn word(bytes: &[u8]) -> Word {
        cuts(Framing::Binary(Binary::Element), bytes).unwrap_err().0
    }

    #[test]
    fn elements_end_where_their_length_says() {
        let whole = |bytes| cuts(Framing::Binary(Binary::Element), bytes);
        assert_eq!(whole(b"\x30\x00"), Ok(Some(2)));
        assert_eq!(whole(b"\x30\x02abc"), Ok(Some(4)));
        assert_eq!(whole(b"\x30\x03ab"), Ok(None));
        assert_eq!(whole(b"\x30\x81\x02abc"), Ok(Some(5)));
        assert_eq!(whole(b"\x30\x84\x00\x00\x00\x02abc"), Ok(Some(8)));
        assert_eq!(whole(b"\x30\x84\x00\x00"), Ok(None));
        assert_eq!(whole(b"\x30\x83\x01\x00\x00"), Ok(None));
    }

    #[test]
    fn lengths_that_lie() {
        assert_eq!(word(b"\x30\x80\x00\x00"), Word::Malformed);
        assert_eq!(word(b"\x30\x85\x00\x00\x00\x00\x02ab"), Word::Malformed);
        assert_eq!(word(b"\x30\xff"), Word::Malformed);
        assert_eq!(word(b"\x31\x00"), Word::Malformed);
        assert_eq!(word(b"2"), Word::Malformed);
        assert_eq!(word(b"\x30\x84\xff\xff\xff\xff"), Word::TooLong);
        assert_eq!(word(b"\x30\x84\x80\x00\x00\x00"), Word::TooLong);
        assert_eq!(word(b"\x30\x83\x01\x00\x01"), Word::TooLong);
    }

    #[test]
    fn what_is_inside() {
        let mut reader = Reader::new(b"\x02\x01\x05\x0a\x02\x01\x00\x02\x01\xff\x04\x81\x02hi\x02\x09");
        assert_eq!(reader.number(INTEGER), Some(5));
        assert_eq!(reader.number(ENUMERATED), Some(256));
        assert_eq!(reader.number(INTEGER), Some(-1));
        assert_eq!(reader.next(OCTET_STRING), Some(&b"hi"[..]));
        // Longer than what is there.
        assert!(!reader.is_empty());
        assert_eq!(reader.any(), None);
        for no_number in [
            &b"\x02\x00"[..],
            b"\x02\x05\x00\x00\x00\x00\x01",
            b"\x04\x01\x01",
            b"",
        ] {
            assert_eq!(Reader::new(no_number).number(INTEGER), None);
        }
        assert_eq!(
            Reader::new(b"\x02\x04\x7f\xff\xff\xff").number(INTEGER),
            Some(i32::MAX)
        );
        assert_eq!(
            Reader::new(b"\x04\x00\x8a\x01x").find(0x8a),
            Some(Some(&b"x"[..]))
        );
        assert_eq!(Reader::new(b"\x04\x00").find(0x8a), Some(None));
        assert_eq!(Reader::new(b"\x04\x01").find(0x8a), None);
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 300] {
            let contents = vec![7; length];
            let written = element(OCTET_STRING, &[&contents]);
            assert_eq!(Reader::new(&written).any(), Some((OCTET_STRING, &contents[..])));
        }
    }
}
