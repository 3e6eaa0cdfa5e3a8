//! Single lines: their ends, their words, their literals.

/// The line without its CRLF; a bare LF is taken for one, as servers exist that send it.
pub(crate) fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The length of the literal that follows a line ending in `{n}` or `{n+}`.
pub(crate) fn literal_length(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|b| *b == b'{')?;
    let digits = inside.get(open.saturating_add(1)..)?;
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More digits than fit are a length that no cap allows.
    Some(
        std::str::from_utf8(digits)
            .ok()
            .and_then(|d| d.parse().ok())
            .unwrap_or(usize::MAX),
    )
}

/// The words of a line, without regard to how they are spaced.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty())
}

/// Whether the line's first word is this one, whatever its case.
pub(crate) fn begins_with_word(line: &[u8], word: &str) -> bool {
    words(line)
        .next()
        .is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

/// A capability overwritten with X's, all but perhaps its last letter: what middle-boxes leave of
/// `STARTTLS` when they strip it.
pub(crate) fn overwritten(capability: &[u8]) -> bool {
    let is_x = |b: &u8| b.eq_ignore_ascii_case(&b'X');
    match capability.split_last() {
        Some((last, body)) => {
            (3..=11).contains(&body.len()) && body.iter().all(is_x) && last.is_ascii_alphanumeric()
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal_length(b"* LIST {12}"), Some(12));
        assert_eq!(literal_length(b"* LIST {12+}"), Some(12));
        assert_eq!(literal_length(b"{99999999999999999999999}"), Some(usize::MAX));
        for none in [&b"* OK"[..], b"{}", b"{-1}", b"{a}", b"12}", b"}"] {
            assert_eq!(literal_length(none), None);
        }
    }

    #[test]
    fn what_strippers_leave() {
        for x in ["XXXXXXXA", "XXXXXXXX", "xxxxxxxx", "XXXA", "XXXX"] {
            assert!(overwritten(x.as_bytes()), "{x}");
        }
        for no in [
            "XCLIENT", "XFORWARD", "XOORG", "STARTTLS", "8BITMIME", "X", "XXX", "X-XX",
        ] {
            assert!(!overwritten(no.as_bytes()), "{no}");
        }
    }
}
