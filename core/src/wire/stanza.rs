//! XML streams (RFC 6120 §4): first the stream header, then one first-level element after the other.
//! Cutting them apart is a small scanner of our own, as no XML reader stops where the stanza ends;
//! what is cut off is then read by a real one, behind the header in which prefixes are declared.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use quick_xml::XmlVersion;

use super::{Uncut, MAX_LINE};
use crate::error::Word;
use crate::refusal::Refusal;

/// Elements inside elements, in what comes before TLS: honest servers need five.
const MAX_DEPTH: usize = 100;

/// Attributes of one element.
const MAX_ATTRIBUTES: usize = 100;

/// Where the scanner stopped.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    at: usize,
    depth: usize,
    declared: bool,
    inside: Inside,
}

#[derive(Clone, Copy, Debug, Default)]
enum Inside {
    /// What stands between tags.
    #[default]
    Text,
    /// Behind `<`.
    Opening,
    /// A start tag, and its last byte.
    Start(u8),
    /// An attribute's value, and the quote that ends it.
    Quoted(u8),
    /// An end tag.
    End,
    /// `<?xml … ?>`, and its last byte.
    Declaration(u8),
}

/// The length of the stream header (with the XML declaration) or of the next first-level element,
/// with what white space stands before it. The end tag of the stream is a message, too.
pub(super) fn cut(header: bool, buffer: &[u8], scan: &mut Scan) -> Result<Option<usize>, Uncut> {
    for byte in buffer.get(scan.at..).unwrap_or_default() {
        scan.at = scan.at.saturating_add(1);
        if scan.at > MAX_LINE {
            return Err(Uncut(Word::TooLong, "an XML element over 64 KiB"));
        }
        if scan
            .take(header, *byte)
            .map_err(|what| Uncut(Word::Malformed, what))?
        {
            let end = scan.at;
            *scan = Scan::default();
            return Ok(Some(end));
        }
    }
    Ok(None)
}

impl Scan {
    /// Whether the message ends with this byte. XMPP's XML is restricted (RFC 6120 §11.1).
    fn take(&mut self, header: bool, byte: u8) -> Result<bool, &'static str> {
        self.inside = match (self.inside, byte) {
            (_, 0) => return Err("a NUL byte in XML"),
            (Inside::Text, b'<') => Inside::Opening,
            (Inside::Text, _) if self.depth == 0 && !byte.is_ascii_whitespace() => {
                return Err("what is no XML stream");
            }
            (Inside::Text, _) => Inside::Text,
            (Inside::Opening, b'?') if header && !self.declared => {
                self.declared = true;
                Inside::Declaration(0)
            }
            (Inside::Opening, b'?') => return Err("a processing instruction"),
            (Inside::Opening, b'!') => return Err("a comment, a DTD or CDATA"),
            (Inside::Opening, b'/') if !header => Inside::End,
            (Inside::Opening, b'A'..=b'Z' | b'a'..=b'z' | b'_' | b':' | 0x80..) => Inside::Start(byte),
            (Inside::Opening, _) => return Err("what is no XML"),
            (Inside::Start(_), b'"' | b'\'') => Inside::Quoted(byte),
            (Inside::Start(b'/'), b'>') if header => return Err("a stream that ends at once"),
            (Inside::Start(b'/'), b'>') if self.depth == 0 => return Ok(true),
            (Inside::Start(b'/'), b'>') => Inside::Text,
            (Inside::Start(_), b'>') if header => return Ok(true),
            (Inside::Start(_), b'>') => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > MAX_DEPTH {
                    return Err("XML elements nested over 100 deep");
                }
                Inside::Text
            }
            (Inside::Quoted(quote), _) if byte == quote => Inside::Start(byte),
            (Inside::Start(_) | Inside::Quoted(_) | Inside::End, b'<') => return Err("what is no XML"),
            (Inside::Start(_), _) => Inside::Start(byte),
            (Inside::Quoted(quote), _) => Inside::Quoted(quote),
            (Inside::End, b'>') if self.depth <= 1 => return Ok(true),
            (Inside::End, b'>') => {
                self.depth = self.depth.saturating_sub(1);
                Inside::Text
            }
            (Inside::End, _) => Inside::End,
            (Inside::Declaration(b'?'), b'>') => Inside::Text,
            (Inside::Declaration(_), _) => Inside::Declaration(byte),
        };
        Ok(false)
    }
}

/// An element; its text is nothing that a dialog needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its namespace; empty for none.
    pub(crate) space: String,
    /// Its name without a prefix.
    pub(crate) name: String,
    /// Its attribute `version`.
    pub(crate) version: Option<String>,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn is(&self, space: &str, name: &str) -> bool {
        self.space == space && self.name == name
    }

    pub(crate) fn has(&self, space: &str, name: &str) -> bool {
        self.children.iter().any(|child| child.is(space, name))
    }

    fn read(space: &ResolveResult<'_>, tag: &BytesStart<'_>) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let mut version = None;
        for (n, attribute) in tag.attributes().enumerate() {
            let attribute = attribute.ok().filter(|_| n < MAX_ATTRIBUTES)?;
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).ok()?;
            if attribute.key.as_ref() == b"version" {
                version = Some(value.into_owned());
            }
        }
        Some(Self {
            space: match space {
                ResolveResult::Bound(space) => text(space.as_ref())?,
                ResolveResult::Unbound => String::new(),
                ResolveResult::Unknown(_) => return None,
            },
            name: text(tag.local_name().as_ref())?,
            version,
            children: Vec::new(),
        })
    }
}

/// The element that a stream header opens.
pub(crate) fn read_header(header: &[u8]) -> Result<Element, Refusal> {
    match read(header) {
        Some((stream, true)) => Ok(stream),
        _ => Err(Refusal::malformed("what is no XML stream", header)),
    }
}

/// A first-level element of the stream with this header; none where the stream ends.
pub(crate) fn read_stanza(header: &[u8], stanza: &[u8]) -> Result<Option<Element>, Refusal> {
    match read(&[header, stanza].concat()) {
        Some((mut stream, true)) if stream.children.len() == 1 => Ok(stream.children.pop()),
        Some((_, false)) => Ok(None),
        _ => Err(Refusal::malformed("what is no well-formed stanza", stanza)),
    }
}

/// The stream, and whether it is still open. No entity is ever expanded but XML's own five.
fn read(stream: &[u8]) -> Option<(Element, bool)> {
    let mut reader = NsReader::from_str(std::str::from_utf8(stream).ok()?);
    let mut open: Vec<Element> = Vec::new();
    loop {
        let (space, event) = reader.read_resolved_event().ok()?;
        match event {
            Event::Start(tag) => open.push(Element::read(&space, &tag)?),
            Event::Empty(tag) => open.last_mut()?.children.push(Element::read(&space, &tag)?),
            Event::End(_) => {
                let closed = open.pop()?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(closed),
                    None => return Some((closed, false)),
                }
            }
            Event::Text(_) => {}
            Event::GeneralRef(name) => {
                let own = [&b"amp"[..], b"lt", b"gt", b"quot", b"apos"];
                if !own.contains(&name.as_ref()) && !matches!(name.resolve_char_ref(), Ok(Some(_))) {
                    return None;
                }
            }
            Event::Decl(_) if open.is_empty() => {}
            Event::Eof if open.len() == 1 => return Some((open.pop()?, true)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cuts;
    use super::super::Framing::{Stanza, StreamHeader};
    use super::*;

    const HEADER: &[u8] = b"<?xml version='1.0'?> <s:stream xmlns='a' version=\"1.0\" xmlns:s='b'>";

    fn stanza(text: &str) -> Option<Element> {
        read_stanza(HEADER, text.as_bytes()).unwrap()
    }

    #[test]
    fn headers_and_stanzas_end_where_their_tags_do() {
        for (framing, whole) in [
            (StreamHeader, "<s:stream a='>' b=\"/>\">"),
            (StreamHeader, " \n<?xml version='1.0'?>\n<stream>"),
            (Stanza, "<a/>"),
            (Stanza, "\r\n <a b='/>'/>"),
            (Stanza, "<a></a>"),
            (Stanza, "<a>x<b/>y<c>&lt;</c > </a\n>"),
            (Stanza, "<\u{e9}/>"),
            (Stanza, "</s:stream>"),
        ] {
            let followed = format!("{whole} <x");
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

    #[test]
    fn what_xmpp_forbids_is_not_cut_off() {
        for (framing, bad) in [
            (StreamHeader, "220 mail\r\n".to_owned()),
            (StreamHeader, "</stream>".to_owned()),
            (StreamHeader, "<stream/>".to_owned()),
            (StreamHeader, "<?xml?><?xml?>".to_owned()),
            (StreamHeader, "<!DOCTYPE x [<!ENTITY a 'b'>]>".to_owned()),
            (Stanza, "<?xml version='1.0'?>".to_owned()),
            (Stanza, "<a><!-- x --></a>".to_owned()),
            (Stanza, "<a><![CDATA[x]]></a>".to_owned()),
            (Stanza, "<a b='<'/>".to_owned()),
            (Stanza, "<a<b/>".to_owned()),
            (Stanza, "< a/>".to_owned()),
            (Stanza, "text".to_owned()),
            (Stanza, "<a\0/>".to_owned()),
            (Stanza, "<a>".repeat(MAX_DEPTH + 1)),
        ] {
            assert_eq!(
                cuts(framing, bad.as_bytes()).unwrap_err().0,
                Word::Malformed,
                "{bad}"
            );
        }
        assert_eq!(cuts(Stanza, "<a>".repeat(MAX_DEPTH).as_bytes()), Ok(None));
        for long in [vec![b' '; MAX_LINE + 1], [b"<a>", &[b'x'; MAX_LINE][..]].concat()] {
            assert_eq!(cuts(Stanza, &long).unwrap_err().0, Word::TooLong);
        }
    }

    #[test]
    fn names_are_read_with_their_namespaces() {
        let stream = read_header(HEADER).unwrap();
        assert!(stream.is("b", "stream"));
        assert_eq!(stream.version.as_deref(), Some("1.0"));
        let features = stanza("<s:x><starttls xmlns='tls'><required/></starttls><starttls/></s:x>").unwrap();
        assert!(features.is("b", "x") && features.has("tls", "starttls") && features.has("a", "starttls"));
        assert!(features.children[0].has("tls", "required"));
        assert!(stanza("<t:proceed xmlns:t='tls'/>").unwrap().is("tls", "proceed"));
        assert!(stanza("<proceed xmlns=''/>").unwrap().is("", "proceed"));
        assert!(stanza("<x>&amp;&#65;</x>").is_some());
        assert_eq!(stanza("</s:stream>"), None);
    }

    #[test]
    fn what_is_not_well_formed_is_not_read() {
        for bad in [
            "<t:proceed/>",
            "<a></b>",
            "<a b='1' b='2'/>",
            "<a b=c/>",
            "<a>&lol;</a>",
            "<a b='&lol;'/>",
            "<a>&</a>",
            "</stream>",
            "<a/><b/>",
        ] {
            assert!(read_stanza(HEADER, bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read_stanza(HEADER, b"<a>\xff</a>").is_err());
        let many: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
        assert!(read_stanza(HEADER, format!("<a{many}/>").as_bytes()).is_err());
        for bad in [&b"<?xml-stylesheet x?><stream>"[..], b"<t:stream>", b"<stream/>"] {
            assert!(read_header(bad).is_err());
        }
    }
}
