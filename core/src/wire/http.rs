//! HTTP/1.1 messages (RFC 9112): a head of lines, and the body that the head announces.

use super::line::trim_end;
use super::{Uncut, MAX_LINE};
use crate::error::Word;

/// How long a head and its body may be.
const MAX_WHOLE: usize = 256 * 1024;

/// Lines of a head, but for the first.
const MAX_HEADERS: usize = 100;

/// Whose message it is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// The head of a request: what follows it is not asked about.
    Request,
    /// A response in clear; where only the end of the connection ends its body, its head.
    Response,
    /// A response inside TLS, which must say where it ends.
    Inside,
}

/// Where the search for the end stopped.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes already searched for a line end.
    searched: usize,
    /// Where the line being read begins.
    line: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Head,
    /// A body, or the last of it, that ends here.
    Until(usize),
    ChunkSize,
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
}

/// How a head says where its body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Sized(usize),
    Chunked,
    UntilClose,
}

const MALFORMED: Uncut = Uncut(Word::Malformed, "what is no HTTP");

/// The length of the first message, once it is whole.
pub(super) fn cut(kind: Http, buffer: &[u8], scan: &mut Scan) -> Result<Option<usize>, Uncut> {
    let end = loop {
        if let Part::Until(end) = scan.part {
            if buffer.len() < end {
                return Ok(None);
            }
            break end;
        }
        let Some((line, end)) = next_line(buffer, scan)? else {
            return Ok(None);
        };
        let blank = trim_end(line).is_empty();
        match scan.part {
            Part::Head if line.len() == end && kind != Http::Request && !line.starts_with(b"HTTP/1.") => {
                return Err(MALFORMED);
            }
            Part::Head if line.contains(&0) => return Err(Uncut(Word::Malformed, "a NUL byte in a line")),
            Part::Head if blank && kind == Http::Request => break end,
            Part::Head if blank => {
                let head = Head::response(buffer.get(..end).unwrap_or_default())?;
                match head.body()? {
                    Body::None => break end,
                    Body::Sized(n) => scan.part = Part::Until(whole(end, n)?),
                    Body::Chunked => scan.part = Part::ChunkSize,
                    Body::UntilClose if kind == Http::Response => break end,
                    Body::UntilClose => {
                        return Err(Uncut(
                            Word::Malformed,
                            "a response without a length, which ends the connection",
                        ))
                    }
                }
            }
            Part::Trailer if blank => break end,
            Part::Head | Part::Trailer => {}
            Part::ChunkEnd if blank => scan.part = Part::ChunkSize,
            Part::ChunkEnd => return Err(MALFORMED),
            // httparse takes no digits for a 0.
            Part::ChunkSize if !line.first().is_some_and(u8::is_ascii_hexdigit) => return Err(MALFORMED),
            Part::ChunkSize | Part::Until(_) => match httparse::parse_chunk_size(line) {
                Ok(httparse::Status::Complete((n, 0))) if n == line.len() => scan.part = Part::Trailer,
                Ok(httparse::Status::Complete((n, size))) if n == line.len() => {
                    // No line end is looked for in the chunk.
                    scan.line = whole(end, usize::try_from(size).unwrap_or(usize::MAX))?;
                    scan.searched = scan.line;
                    scan.part = Part::ChunkEnd;
                }
                _ => return Err(MALFORMED),
            },
        }
    };
    *scan = Scan::default();
    Ok(Some(end))
}

/// The next line, and where it ends.
fn next_line<'a>(buffer: &'a [u8], scan: &mut Scan) -> Result<Option<(&'a [u8], usize)>, Uncut> {
    let unsearched = buffer.get(scan.searched..).unwrap_or_default();
    let newline = unsearched.iter().position(|b| *b == b'\n');
    let end = match newline {
        Some(n) => scan.searched.saturating_add(n).saturating_add(1),
        None => scan.searched.max(buffer.len()),
    };
    match scan.part {
        Part::Head if end > MAX_LINE => return Err(Uncut(Word::TooLong, "a head over 64 KiB")),
        Part::Head => {}
        _ => drop(whole(end, 0)?),
    }
    scan.searched = end;
    if newline.is_none() {
        return Ok(None);
    }
    let line = buffer.get(scan.line..end).unwrap_or_default();
    scan.line = end;
    Ok(Some((line, end)))
}

/// Where a part of this size ends.
fn whole(begin: usize, size: usize) -> Result<usize, Uncut> {
    match begin.checked_add(size) {
        Some(end) if end <= MAX_WHOLE => Ok(end),
        _ => Err(Uncut(Word::TooLong, "a response over 256 KiB")),
    }
}

/// The head of a message.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// 0 in a request.
    pub(crate) status: u16,
    /// Of HTTP/1.
    pub(crate) minor: u8,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Head<'a> {
    /// Reads the head that this begins with.
    pub(crate) fn response(message: &'a [u8]) -> Result<Self, Uncut> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let read = response.parse(message);
        Self::check(
            read,
            response.code.unwrap_or_default(),
            response.version,
            response.headers,
        )
    }

    /// The same of a request.
    pub(crate) fn request(message: &'a [u8]) -> Result<Self, Uncut> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let read = request.parse(message);
        Self::check(read, 0, request.version, request.headers)
    }

    fn check(
        read: httparse::Result<usize>,
        status: u16,
        version: Option<u8>,
        headers: &[httparse::Header<'a>],
    ) -> Result<Self, Uncut> {
        match (read, version) {
            (Ok(httparse::Status::Complete(_)), Some(minor)) => Ok(Self {
                status,
                minor,
                headers: headers.iter().map(|h| (h.name, h.value)).collect(),
            }),
            (Err(httparse::Error::TooManyHeaders), _) => {
                Err(Uncut(Word::TooLong, "a head of over 100 lines"))
            }
            _ => Err(MALFORMED),
        }
    }

    /// The value of the one line with this name; `None` if there is none, or more than one.
    pub(crate) fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value.trim_ascii()),
            _ => None,
        }
    }

    /// The elements of all lines with this name (RFC 9110 §5.6.1).
    fn elements<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
    }

    pub(crate) fn lists(&self, name: &str, element: &str) -> bool {
        self.elements(name)
            .any(|e| e.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// Whether it names TLS, in whatever version, as a protocol to upgrade to (RFC 2817 §3).
    pub(crate) fn offers_tls(&self) -> bool {
        self.elements("Upgrade").any(|e| {
            let name = e.split(|b| *b == b'/').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"TLS")
        })
    }

    /// Whether the connection ends with this message (RFC 9112 §9.3, §9.6).
    pub(crate) fn closes(&self) -> bool {
        self.lists("Connection", "close") || (self.minor == 0 && !self.lists("Connection", "keep-alive"))
    }

    /// Where the body ends. What two readers could read in two ways is no HTTP.
    pub(crate) fn body(&self) -> Result<Body, Uncut> {
        if matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Body::None);
        }
        let mut length = None;
        for element in self.elements("Content-Length") {
            let digits = !element.is_empty() && element.iter().all(u8::is_ascii_digit);
            let text = std::str::from_utf8(element).ok().filter(|_| digits);
            // More digits than fit are a length that no cap allows.
            let n = text.ok_or(MALFORMED)?.parse().unwrap_or(usize::MAX);
            if *length.get_or_insert(n) != n {
                return Err(Uncut(Word::Malformed, "two lengths for one body"));
            }
        }
        let mut codings = self.elements("Transfer-Encoding");
        match (codings.next(), codings.next(), length) {
            (None, _, Some(n)) => Ok(Body::Sized(n)),
            (None, _, None) if self.status == 0 => Ok(Body::None),
            (None, _, None) => Ok(Body::UntilClose),
            (Some(one), None, None) if self.minor == 1 && one.eq_ignore_ascii_case(b"chunked") => {
                Ok(Body::Chunked)
            }
            _ => Err(Uncut(Word::Malformed, "a transfer coding that does not fit")),
        }
    }
}

/// What the chunks of a body hold, which [`cut`] has found whole (RFC 9112 §7.1.3).
pub(crate) fn unchunk(mut body: &[u8]) -> Result<Vec<u8>, Uncut> {
    let mut whole = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(body) else {
            return Err(MALFORMED);
        };
        if size == 0 {
            return Ok(whole);
        }
        let rest = body.get(line..).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (chunk, rest) = rest.split_at_checked(size).ok_or(MALFORMED)?;
        whole.extend_from_slice(chunk);
        let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        body = rest.strip_prefix(b"\n").ok_or(MALFORMED)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cuts;
    use super::super::Framing;
    use super::*;

    const CLEAR: Framing = Framing::Http(Http::Response);

    #[test]
    fn messages_end_where_their_head_says() {
        for whole in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nab\n\ne",
            "HTTP/1.1 200\r\nContent-Length: 3, 3\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n6;x=y\r\na\r\n\r\nb\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n",
        ] {
            for framing in [CLEAR, Framing::Http(Http::Inside)] {
                let followed = format!("{whole}\r\nHTTP/1.1 200");
                assert_eq!(
                    cuts(framing, followed.as_bytes()),
                    Ok(Some(whole.len())),
                    "{whole}"
                );
                for n in 0..whole.len() {
                    assert_eq!(cuts(framing, &whole.as_bytes()[..n]), Ok(None), "{whole} {n}");
                }
            }
        }
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(
            cuts(CLEAR, format!("{head}body").as_bytes()),
            Ok(Some(head.len()))
        );
        let inside = cuts(Framing::Http(Http::Inside), head.as_bytes());
        assert_eq!(inside.unwrap_err().0, Word::Malformed);
        let request = "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
        let framing = Framing::Http(Http::Request);
        assert_eq!(
            cuts(framing, format!("{request}body").as_bytes()),
            Ok(Some(request.len()))
        );
    }

    #[test]
    fn chunks_are_put_together() {
        let good: &[u8] = b"6;x=y\r\na\r\n\r\nb\r\n1\r\nc\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(unchunk(good).unwrap(), b"a\r\n\r\nbc");
        assert_eq!(unchunk(b"0\r\n\r\n").unwrap(), b"");
        for n in 0..23 {
            assert!(unchunk(&good[..n]).is_err(), "cut at {n}");
        }
        for bad in [
            "x\r\n",
            "4\r\nab\r\n0\r\n",
            "1\r\nab\r\n0\r\n",
            "ffffffffffffffff\r\na",
        ] {
            assert!(unchunk(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_an_informational_response_is_not_final() {
        for (status, last) in [(100, false), (103, false), (101, true), (200, true), (404, true)] {
            let message = format!("HTTP/1.1 {status} x\r\n\r\n");
            let framing = Framing::Http(Http::Inside);
            assert_eq!(framing.is_final(message.as_bytes()), last, "{status}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_http() {
        for lines in [
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1, 2",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length:",
            "Content-Length: 1,",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Upgrade: TLS/1.0,\r\n HTTP/1.1",
            "Content-Length : 1",
            ": x",
            "x: \0",
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
            "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            "Transfer-Encoding: chunked\r\n\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
        ] {
            let message = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
            assert_eq!(
                cuts(CLEAR, message.as_bytes()).unwrap_err().0,
                Word::Malformed,
                "{lines}"
            );
        }
        for first in ["220 mail.example.test", "HTTP/2 200", "", "HTTP/1.1 20"] {
            let message = format!("{first}\r\n\r\n");
            assert_eq!(cuts(CLEAR, message.as_bytes()), Err(MALFORMED), "{first}");
        }
        let old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(cuts(CLEAR, old).unwrap_err().0, Word::Malformed);
    }

    #[test]
    fn nothing_is_read_without_end() {
        let sized = |n: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for long in [
            format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(MAX_LINE / 6)),
            format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_LINE)),
            format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1)),
            sized("262144"),
            sized("99999999999999999999999"),
            format!("{chunked}40000\r\n"),
            format!("{chunked}ffffffffffffffff\r\n"),
            format!("{chunked}{}", "1\r\n.\r\n".repeat(MAX_WHOLE / 6)),
            format!("{chunked}0\r\n{}", "a: b\r\n".repeat(MAX_WHOLE / 6)),
        ] {
            assert_eq!(cuts(CLEAR, long.as_bytes()).unwrap_err().0, Word::TooLong);
        }
    }
}
