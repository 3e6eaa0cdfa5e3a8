//! Bytes of a peer's as text for messages, JSON and terminals.

/// The peer's bytes made safe for messages, JSON and terminals: control, invisible,
/// reordering and non-UTF-8 bytes as `\xNN`, at most 512 bytes of them.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const MAX: usize = 512;
    let (head, cut) = match bytes.get(..MAX) {
        Some(head) if bytes.len() > MAX => (head, true),
        _ => (bytes, false),
    };
    let mut text = String::with_capacity(head.len());
    if head.iter().all(|b| matches!(b, b' '..=b'~')) {
        // What almost every line is.
        text.extend(head.iter().map(|b| char::from(*b)));
        if cut {
            text.push('…');
        }
        return text;
    }
    for chunk in head.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || misleads(c) {
                let mut utf8 = [0; 4];
                push_hex(&mut text, c.encode_utf8(&mut utf8).as_bytes());
            } else {
                text.push(c);
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    if cut {
        text.push('…');
    }
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for b in bytes {
        text.push_str(&format!("\\x{b:02x}"));
    }
}

/// Characters that reorder what a terminal shows ("Trojan source"), that nobody sees, or that some
/// take for a line end.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // Twice for each connection, on its way to being fast: no formatting.
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_hides_nothing_and_passes_nothing_dangerous() {
        assert_eq!(printable(b"250 OK"), "250 OK");
        assert_eq!(printable("Grüße".as_bytes()), "Grüße");
        assert_eq!(printable(b"a\x1b[31mb\0\xff"), "a\\x1b[31mb\\x00\\xff");
        assert_eq!(printable("\u{202e}x".as_bytes()), "\\xe2\\x80\\xaex");
        assert_eq!(
            printable("a\u{2028}b\u{200b}".as_bytes()),
            "a\\xe2\\x80\\xa8b\\xe2\\x80\\x8b"
        );
        assert_eq!(printable(&[b'a'; 600]).chars().count(), 513);
    }
}
