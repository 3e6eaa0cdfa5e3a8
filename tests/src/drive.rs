//! Plays a server's bytes into a negotiation, without any I/O, and checks what must always hold.
//! Shared by the random tests and the fuzzer.

use starttls::{Level, Negotiation, Policy, Stage, Want, Word};

/// What is listened to of one dialog, at most.
const MAX_DIALOG: usize = 256 * 1024;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Handshake,
    Plain,
    Failed(Word),
}

/// Hands the bytes over in pieces of these sizes, the last of which is used again and again; then
/// the server closes.
///
/// # Panics
/// If something does not hold that must.
pub fn negotiate(protocol: &str, level: Level, stage: Stage, mut bytes: &[u8], sizes: &[usize]) -> End {
    let policy = Policy::new(level).client_name("me.example.test").unwrap();
    let mut negotiation = match Negotiation::new(protocol, "mail.example.test", stage, &policy) {
        // Its only place for the command is behind the greeting.
        Err(e) if protocol == "mysql" && stage == Stage::Ready => return End::Failed(e.word()),
        begun => begun.unwrap(),
    };
    let mut sizes = sizes.iter().copied();
    let mut size = 1;
    let mut said = Vec::new();
    loop {
        match negotiation.want() {
            Want::Write => {
                let output = negotiation.output().to_vec();
                let whole = output.ends_with(command_end(protocol));
                assert!(whole, "a command is whole: {}", output.escape_ascii());
                assert!(output.len() < 300, "and a short one");
                // Sent in two parts, as a full socket may have it.
                said.extend_from_slice(&output);
                negotiation.sent(1);
                assert_eq!(negotiation.want(), Want::Write);
                negotiation.sent(output.len() - 1);
            }
            Want::Read => {
                size = sizes.next().unwrap_or(size).clamp(1, bytes.len().max(1));
                let (piece, rest) = bytes.split_at(size.min(bytes.len()));
                bytes = rest;
                let result = if piece.is_empty() {
                    Err(negotiation.closed())
                } else {
                    negotiation.receive(piece)
                };
                assert!(negotiation.heard().len() <= MAX_DIALOG);
                if let Err(e) = result {
                    return End::Failed(failed(&mut negotiation, &e, level));
                }
            }
            Want::Handshake => {
                go_ahead_was_given(protocol, negotiation.heard(), &said);
                // The residue rule: not one byte more.
                let e = negotiation.receive(b"\x16").unwrap_err();
                assert_eq!(e.word(), Word::Injected);
                return End::Handshake;
            }
            Want::Plain(_) => {
                assert_eq!(level, Level::May, "only `may` goes on in clear");
                return End::Plain;
            }
        }
    }
}

fn failed(negotiation: &mut Negotiation, e: &starttls::Error, level: Level) -> Word {
    let word = e.word();
    let known = match word {
        Word::Malformed | Word::Injected | Word::TooLong | Word::Closed | Word::Refused => true,
        Word::NotOffered => level != Level::May,
        _ => false,
    };
    assert!(known, "{e}");
    assert!(e.message().len() < 4096, "a message is for people");
    assert!(
        e.message().chars().all(|c| !c.is_control()),
        "the peer's bytes are escaped: {e}"
    );
    // After an error nothing brings it back.
    assert!(negotiation.receive(b"220 go\r\n").is_err());
    assert!(matches!(negotiation.want(), Want::Read));
    word
}

fn is_text(protocol: &str) -> bool {
    !["ldap", "postgres", "mysql", "telnet"].contains(&protocol)
}

/// The same where messages are not lines.
fn binary_go_ahead_was_given(protocol: &str, heard: &[u8], said: &[u8]) {
    const FOLLOWS: &[u8] = b"\xff\xfa\x2e\x01\xff\xf0";
    let has = |part: &[u8]| heard.windows(part.len()).any(|w| w == part);
    let (command, yes): (&[u8], bool) = match protocol {
        "ldap" => (
            b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
            // A zero and then the matchedDN.
            has(b"\x00\x04"),
        ),
        "postgres" => (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", heard == b"S"),
        // The greeting, and nothing behind it.
        "mysql" => (&[0; 23], {
            let length = usize::from(heard[0]) | usize::from(heard[1]) << 8;
            heard.len() == length + 4 && heard[2..5] == [0, 0, 10]
        }),
        _ => (FOLLOWS, has(b"\xff\xfd\x2e") && heard.ends_with(FOLLOWS)),
    };
    assert!(said.ends_with(command), "{}", said.escape_ascii());
    assert!(yes, "{}", heard.escape_ascii());
}

/// What a command ends with.
fn command_end(protocol: &str) -> &'static [u8] {
    match protocol {
        "xmpp" | "xmpp-server" => b">",
        "ldap" | "postgres" | "mysql" | "telnet" => b"",
        _ => b"\r\n",
    }
}

/// Looked at without the code that is tested: we have asked, and a line says yes at the very end.
fn go_ahead_was_given(protocol: &str, heard: &[u8], said: &[u8]) {
    if !is_text(protocol) {
        return binary_go_ahead_was_given(protocol, heard, said);
    }
    let (command, yes): (&[u8], &str) = match protocol {
        "imap" => (b"a1 STARTTLS\r\n", "a1"),
        "pop3" => (b"STLS\r\n", "+ok"),
        "sieve" => (b"STARTTLS\r\n", "ok"),
        "nntp" => (b"STARTTLS\r\n", "382"),
        "irc" => (b"STARTTLS\r\n", "670"),
        "ftp" => (b"AUTH TLS\r\n", "234"),
        "http" => (b"\r\nConnection: Upgrade\r\n\r\n", "http/1.1 101"),
        "xmpp" | "xmpp-server" => (b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "proceed"),
        _ => (b"STARTTLS\r\n", "220"),
    };
    assert!(said.ends_with(command), "{}", said.escape_ascii());
    let end = match protocol {
        "xmpp" | "xmpp-server" => b'>',
        _ => b'\n',
    };
    assert_eq!(heard.last(), Some(&end), "no byte behind the go-ahead");
    let says_yes = |line: &[u8]| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        // What may stand before it: the name of the server, a prefix of XML's.
        match protocol {
            "irc" => line.split_whitespace().take(3).any(|word| word == yes),
            "xmpp" | "xmpp-server" => line.contains(yes),
            _ => line.trim_start().starts_with(yes),
        }
    };
    assert!(
        heard.split(|b| *b == b'\n').any(says_yes),
        "{}",
        heard.escape_ascii()
    );
}

const LEVELS: [Level; 3] = [Level::May, Level::Encrypt, Level::Verify];
const STAGES: [Stage; 2] = [Stage::Greeting, Stage::Ready];
const SIZES: [usize; 4] = [1, 3, 64, usize::MAX];

/// What a fuzzer's input means: protocol, level and stage, and the size of the pieces in two bytes,
/// then the server's bytes.
pub fn unpack(input: &[u8]) -> Option<(&'static str, Level, Stage, usize, &[u8])> {
    let (&[which, how], bytes) = input.split_first_chunk()?;
    let of = |n: u8, len: usize| usize::from(n) % len;
    let protocols = starttls::protocol::PROTOCOLS;
    Some((
        protocols[of(which, protocols.len())].name,
        LEVELS[of(how, LEVELS.len())],
        STAGES[of(how >> 4, STAGES.len())],
        SIZES[of(how >> 6, SIZES.len())],
        bytes,
    ))
}

/// The inputs that [`unpack`] reads as this, one for each size of the pieces.
pub fn pack(protocol: &str, level: Level, stage: Stage, bytes: &[u8]) -> Vec<Vec<u8>> {
    let which = starttls::protocol::PROTOCOLS
        .iter()
        .position(|p| p.name == protocol);
    let heads = (0..=u8::MAX).filter_map(|how| Some([u8::try_from(which?).ok()?, how]));
    let mut sizes = Vec::new();
    let mut inputs = Vec::new();
    for head in heads {
        match unpack(&head) {
            Some((_, l, s, size, _)) if l == level && s == stage && !sizes.contains(&size) => {
                sizes.push(size);
                inputs.push([&head, bytes].concat());
            }
            _ => {}
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let inputs = pack("imap", Level::Verify, Stage::Ready, b"* OK\r\n");
        assert_eq!(inputs.len(), SIZES.len());
        for input in inputs {
            let (protocol, level, stage, _, bytes) = unpack(&input).unwrap();
            assert_eq!((protocol, level, stage), ("imap", Level::Verify, Stage::Ready));
            assert_eq!(bytes, b"* OK\r\n");
        }
        assert!(pack("imaps", Level::May, Stage::Ready, b"").is_empty());
        assert!(unpack(b"x").is_none());
    }
}
