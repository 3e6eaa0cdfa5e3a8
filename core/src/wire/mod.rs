//! Where a message ends, and how it is read. Framings are shared by the protocols that share them.

pub(crate) mod ber;
pub(crate) mod binary;
pub(crate) mod extended;
pub(crate) mod http;
pub(crate) mod line;
pub(crate) mod reply;
pub(crate) mod stanza;

use crate::error::Word;
use binary::Binary;

/// How long one line may be.
const MAX_LINE: usize = 64 * 1024;

/// How the next message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A reply of one or more lines, `250-…` and last `250 …` (RFC 5321 §4.2).
    Reply,
    /// One line.
    Line,
    /// One line; if it begins with this word, all lines up to a lone dot (RFC 1939 §3, RFC 3977 §3.1.1).
    Listing(&'static str),
    /// One line that may contain literals, `{n}` at its end and then n bytes (RFC 3501 §4.3).
    Literals,
    /// A reply of one line, or of all lines from `220-…` to `220 …`, with anything in between (RFC 959 §4.2).
    FtpReply,
    /// The header of an XML stream (RFC 6120 §4.2).
    StreamHeader,
    /// A first-level element of an XML stream, or its end.
    Stanza,
    /// An HTTP/1.1 message (RFC 9112).
    Http(http::Http),
    /// Not lines at all.
    Binary(Binary),
}

/// Remembers where `cut` stopped, so that a message arriving byte by byte costs linear time.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Bytes already searched for a line end.
    searched: usize,
    /// Where the line being read begins.
    line: usize,
    stanza: stanza::Scan,
    http: http::Scan,
}

/// A message that cannot be cut off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Uncut(pub(crate) Word, pub(crate) &'static str);

impl Framing {
    /// Whether messages are bytes rather than text: the transcript shows them in hex.
    pub(crate) fn is_binary(self) -> bool {
        match self {
            Framing::Reply | Framing::Line | Framing::Listing(_) | Framing::Literals => false,
            Framing::FtpReply | Framing::StreamHeader | Framing::Stanza | Framing::Http(_) => false,
            Framing::Binary(_) => true,
        }
    }

    /// Whether nothing more belongs to the answer that ends with this message.
    pub(crate) fn is_final(self, message: &[u8]) -> bool {
        match self {
            // RFC 9110 §15.2: there may be any number of informational responses before it.
            Framing::Http(_) => http::Head::response(message).map_or(true, |head| {
                head.status == 101 || !(100..200).contains(&head.status)
            }),
            _ => true,
        }
    }

    /// The length of the first message in `buffer`, once it is whole.
    pub(crate) fn cut(self, buffer: &[u8], cursor: &mut Cursor) -> Result<Option<usize>, Uncut> {
        match self {
            Framing::StreamHeader => stanza::cut(true, buffer, &mut cursor.stanza),
            Framing::Stanza => stanza::cut(false, buffer, &mut cursor.stanza),
            Framing::Binary(binary) => binary.cut(buffer, cursor),
            Framing::Http(kind) => http::cut(kind, buffer, &mut cursor.http),
            _ => self.cut_lines(buffer, cursor),
        }
    }

    /// Of messages that are lines.
    fn cut_lines(self, buffer: &[u8], cursor: &mut Cursor) -> Result<Option<usize>, Uncut> {
        loop {
            let unsearched = buffer.get(cursor.searched..).unwrap_or_default();
            let Some(newline) = unsearched.iter().position(|b| *b == b'\n') else {
                cursor.searched = cursor.searched.max(buffer.len());
                let unfinished = buffer.len().saturating_sub(cursor.line);
                return if unfinished > MAX_LINE {
                    Err(Uncut(Word::TooLong, "a line over 64 KiB"))
                } else {
                    Ok(None)
                };
            };
            let end = cursor.searched.saturating_add(newline).saturating_add(1);
            let line = buffer.get(cursor.line..end).unwrap_or_default();
            if line.len() > MAX_LINE {
                return Err(Uncut(Word::TooLong, "a line over 64 KiB"));
            }
            if line.contains(&0) {
                return Err(Uncut(Word::Malformed, "a NUL byte in a line"));
            }
            let first = cursor.line == 0;
            cursor.searched = end;
            cursor.line = end;
            let text = line::trim_end(line);
            let whole = match self {
                Framing::Line
                | Framing::StreamHeader
                | Framing::Stanza
                | Framing::Http(_)
                | Framing::Binary(_) => true,
                Framing::FtpReply if !first => reply::ends(buffer, text),
                // Only a code makes a continuation: after "SSH-2.0…" nothing would ever come.
                Framing::Reply | Framing::FtpReply => {
                    !matches!(text, [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'-', ..])
                }
                Framing::Listing(yes) if first => !line::begins_with_word(text, yes),
                Framing::Listing(_) => text == b".",
                Framing::Literals => match line::literal_length(text) {
                    None => true,
                    Some(n) if n > MAX_LINE => return Err(Uncut(Word::TooLong, "a literal over 64 KiB")),
                    Some(n) => {
                        // The literal's bytes are data: no line end is looked for in them. The
                        // rest of the line follows.
                        cursor.line = end.saturating_add(n);
                        cursor.searched = cursor.line;
                        false
                    }
                },
            };
            if whole {
                *cursor = Cursor::default();
                return Ok(Some(end));
            }
        }
    }
}

/// Whether a peer that should talk in clear talks TLS: an alert or a handshake record.
pub(crate) fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn cuts(framing: Framing, bytes: &[u8]) -> Result<Option<usize>, Uncut> {
        let whole = framing.cut(bytes, &mut Cursor::default());
        // The same, byte by byte.
        let mut cursor = Cursor::default();
        let mut stepwise = Ok(None);
        for n in 1..=bytes.len() {
            stepwise = framing.cut(&bytes[..n], &mut cursor);
            if stepwise != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, stepwise, "{:?}", String::from_utf8_lossy(bytes));
        whole
    }

    #[test]
    fn messages_end_where_their_protocol_says() {
        assert_eq!(cuts(Framing::Line, b"+OK\r\nrest"), Ok(Some(5)));
        assert_eq!(cuts(Framing::Line, b"+OK"), Ok(None));
        assert_eq!(cuts(Framing::Reply, b"250-a\r\n250 b\r\nx"), Ok(Some(14)));
        assert_eq!(cuts(Framing::Reply, b"250-a\r\n250-b\r\n"), Ok(None));
        assert_eq!(cuts(Framing::Reply, b"220\n"), Ok(Some(4)));
        assert_eq!(
            cuts(Framing::Listing("+OK"), b"+OK\r\nSTLS\r\n.\r\nx"),
            Ok(Some(14))
        );
        assert_eq!(
            cuts(Framing::Listing("+OK"), b"+ok\r\nSTLS\r\n.\r\nx"),
            Ok(Some(14))
        );
        assert_eq!(cuts(Framing::Listing("+OK"), b"-ERR\r\nx"), Ok(Some(6)));
        assert_eq!(cuts(Framing::Listing("+OK"), b"+OKAY\r\nx"), Ok(Some(7)));
        assert_eq!(cuts(Framing::Reply, b"SSH-2.0-x\r\n"), Ok(Some(11)));
        assert_eq!(cuts(Framing::Literals, b"* X {4}\r\na1 O y\r\nz"), Ok(Some(17)));
        assert_eq!(cuts(Framing::Literals, b"* X {4}\r\n\n\n\n"), Ok(None));
        assert_eq!(
            cuts(Framing::Literals, b"* X {999999}\r\n").unwrap_err().0,
            Word::TooLong
        );
        assert_eq!(cuts(Framing::Line, b"a\0b\r\n").unwrap_err().0, Word::Malformed);
        assert_eq!(
            cuts(Framing::Line, &[b'a'; MAX_LINE + 1]).unwrap_err().0,
            Word::TooLong
        );
    }

    #[test]
    fn between_the_first_and_the_last_line_of_an_ftp_reply_may_be_anything() {
        for whole in [
            "220 a\r\n",
            "220\r\n",
            "220-a\r\nb\r\n 220 c\r\n230 d\r\n220-e\r\n2200\r\n\r\n220 f\r\n",
            "220-a\n220\n",
            "SSH-2.0-x\r\n",
        ] {
            let followed = format!("{whole}220 x\r\n");
            assert_eq!(
                cuts(Framing::FtpReply, followed.as_bytes()),
                Ok(Some(whole.len()))
            );
        }
        assert_eq!(cuts(Framing::FtpReply, b"220-a\r\n230 b\r\n"), Ok(None));
    }
}
