//! TLSRPT records and event lines changed at random. The seed is fixed, so a failure comes again.

use conformance::random::Random;
use conformance::tlsrpt::{event, record};

const ROUNDS: usize = 20_000;

const TOKENS: &[&[u8]] = &[
    b";",
    b",",
    b"=",
    b" ",
    b"\t",
    b"\n",
    b"%",
    b"%0d%0a",
    b"%40",
    b"%ff",
    b"@",
    b"!",
    b"\xff",
    b"\0",
    b":",
    b"//",
    b"[::1]",
    b"rua=",
    b"mailto:",
    b"https://",
    b"v=TLSRPTv1",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"1e999",
    b"tlsa",
    b"a.test",
];

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let to = at + random.below((bytes.len() - at).min(16) + 1);
        let put: Vec<u8> = match random.below(4) {
            0 => Vec::new(),
            1 => vec![random.number().to_le_bytes()[0]],
            _ => random.pick(TOKENS).to_vec(),
        };
        let end = if random.below(2) == 0 { at } else { to };
        bytes.splice(at..end, put);
    }
}

#[test]
fn records_changed_at_random() {
    let mut seeds = Vec::new();
    for directory in ["good", "bad"] {
        let directory = format!("{}/tlsrpt/{directory}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let records = text.lines().filter_map(|l| l.strip_prefix("TXT "));
            seeds.push(records.collect::<Vec<_>>().join("\n").into_bytes());
        }
    }
    assert!(seeds.len() > 30);
    let mut random = Random(8460);
    for _ in 0..ROUNDS {
        let mut bytes = random.pick(&seeds).clone();
        change(&mut random, &mut bytes);
        record(&bytes);
    }
}

#[test]
fn event_lines_changed_at_random() {
    let seed = concat!(
        r#"{"domain":"a.test","record":"v=TLSRPTv1; rua=mailto:tls@a.test","policies":[{"policy":{"#,
        r#""policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"a.test","mx-host":["*.a.test"]},"#,
        r#""failures":[{"result-type":"certificate-expired","sending-mta-ip":"192.0.2.1","#,
        r#""receiving-mx-hostname":"mx.a.test","failure-reason-code":"why"}]}]}"#
    );
    event(seed.as_bytes());
    let mut random = Random(8460);
    for _ in 0..ROUNDS {
        let mut bytes = seed.as_bytes().to_vec();
        change(&mut random, &mut bytes);
        event(&bytes);
    }
}
