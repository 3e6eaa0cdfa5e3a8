//! Dialogs changed at random, without I/O: whatever a server sends, what must hold holds
//! (`drive.rs`). The seed is fixed, so a failure comes again.

use conformance::drive::{negotiate, End};
use conformance::random::Random;
use conformance::script;
use starttls::{Level, Stage, Word};

const LEVELS: [Level; 3] = [Level::May, Level::Encrypt, Level::Strict];
const ROUNDS: usize = 6000;

const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"220 go\r\n",
    b"250 ok\r\n",
    b"250-STARTTLS\r\n",
    b"250 STARTTLS\r\n",
    b"421 bye\r\n",
    b"454 no\r\n",
    b"a0 OK\r\n",
    b"a1 OK\r\n",
    b"a1 NO\r\n",
    b"* BYE\r\n",
    b"* CAPABILITY STARTTLS\r\n",
    b"{3}\r\nabc",
    b"{3+}\r\n",
    b"{99999999999999999999}\r\n",
    b"+OK\r\n",
    b"-ERR\r\n",
    b"STLS\r\n.\r\n",
    b".\r\n",
    b"OK\r\n",
    b"NO (TRYLATER)\r\n",
    b"\"STARTTLS\"\r\nOK\r\n",
    b"XXXXXXXA",
    b"S",
    b"N",
    b"\x30\x80",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x0a\x01\x00",
    b"\x0a\x01\x34",
    b"\xff\xfd\x2e",
    b"\xff\xfe\x2e",
    b"\xff\xfb\x01",
    b"\xff\xfa\x2e\x01\xff\xf0",
    b"\xff\xff\xff\x00",
    b"382 go\r\n",
    b"234 go\r\n",
    b"670 * :go\r\n",
    b"ERROR :x\r\n",
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    b"<a b='",
    b"</a>",
    b"<!--",
    b"HTTP/1.1 101 x\r\nUpgrade: TLS/1.0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"\x15\x03\x01",
    b"\x16\x03",
    b"\xff\xfe",
    "\u{202e}".as_bytes(),
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(7) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 => {
            let end = (at + random.below(40)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        5 => {
            let end = (at + random.below(20)).min(bytes.len());
            bytes.drain(at..end);
        }
        _ => {
            let token = *random.pick(TOKENS);
            bytes.splice(at..at, token.iter().copied());
        }
    }
}

#[test]
fn whatever_a_server_sends() {
    let mut random = Random(0x5747_4152_5454_4c53);
    let mut seeds = Vec::new();
    for play in script::all() {
        let bytes = play.server_bytes();
        if bytes.len() < 4000
            && starttls::protocol::PROTOCOLS
                .iter()
                .any(|p| p.name == play.protocol)
        {
            seeds.push((play, bytes));
        }
    }
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..ROUNDS {
        let (play, bytes) = random.pick(&seeds);
        let (_, other) = random.pick(&seeds);
        let mut bytes = bytes.clone();
        for _ in 0..random.below(5) {
            mutate(&mut bytes, other, &mut random);
        }
        let stage = if random.below(4) == 0 {
            Stage::Ready
        } else {
            Stage::Greeting
        };
        let level = *random.pick(&LEVELS);
        // By lines as often as not: a lock-step dialog gets no further when all comes at once.
        let sizes: Vec<usize> = match random.below(4) {
            0 => vec![1],
            1 => vec![bytes.len()],
            2 => (0..bytes.len()).map(|_| 1 + random.below(30)).collect(),
            _ => bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::len).collect(),
        };
        let end = negotiate(&play.protocol, level, stage, &bytes, &sizes);
        *ends.entry(format!("{end:?}")).or_default() += 1;
    }
    // It gets everywhere, or it shows nothing.
    for end in [
        End::Handshake,
        End::Plain,
        End::Failed(Word::Malformed),
        End::Failed(Word::Injected),
        End::Failed(Word::TooLong),
        End::Failed(Word::Closed),
        End::Failed(Word::Refused),
        End::Failed(Word::NotOffered),
    ] {
        let n = ends.get(&format!("{end:?}")).copied().unwrap_or(0);
        assert!(n >= 10, "{end:?} only {n} times: {ends:?}");
    }
}

#[test]
fn noise() {
    let mut random = Random(1);
    for protocol in starttls::protocol::PROTOCOLS {
        for _ in 0..200 {
            let n = random.below(400);
            let bytes: Vec<u8> = (0..n).map(|_| random.number() as u8).collect();
            let end = negotiate(protocol.name, Level::May, Stage::Greeting, &bytes, &[7]);
            assert!(matches!(end, End::Failed(_)), "{end:?}");
        }
    }
}
