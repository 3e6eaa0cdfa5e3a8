//! DNS messages and configurations changed at random: whatever a server or a file says, what must hold holds
//! (`core/src/dns/fuzzed.rs`). The seed is fixed, so a failure comes again.

use std::path::Path;

use conformance::random::Random;

const ROUNDS: usize = 400;

/// The data of `tests/dns`: messages as octets, texts as they are.
fn seeds(extension: &str) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for directory in ["good", "bad"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("dns").join(directory);
        for entry in std::fs::read_dir(directory).expect("tests/dns") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == extension) {
                seeds.push(std::fs::read(path).expect("a file"));
            }
        }
    }
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

fn octets(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text)
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|octet| u8::from_str_radix(octet, 16).expect("hex"))
        .collect()
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(6) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 => {
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // A pointer of compression to anywhere.
        4 => drop(bytes.splice(at..at, [0xc0, random.number() as u8])),
        _ => bytes.insert(at, random.number() as u8),
    }
}

fn play(seeds: &[Vec<u8>], check: fn(&[u8])) {
    let mut random = Random(0x646e_735f_6d75_7461);
    for seed in seeds {
        check(seed);
        for _ in 0..ROUNDS {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut bytes, random.pick(seeds).clone().as_slice(), &mut random);
            }
            check(&bytes);
        }
    }
}

#[test]
fn messages() {
    let seeds: Vec<Vec<u8>> = seeds("hex").iter().map(|text| octets(text)).collect();
    play(&seeds, starttls::fuzz::dns_message);
}

#[test]
fn resolv_confs() {
    play(&seeds("conf"), starttls::fuzz::resolv_conf);
}

#[test]
fn resolvers() {
    let lines: Vec<Vec<u8>> = seeds("txt")
        .iter()
        .flat_map(|text| {
            String::from_utf8_lossy(text)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|line| line.split(" | ").next().unwrap_or_default().as_bytes().to_vec())
        .collect();
    play(&lines, |bytes| {
        starttls::fuzz::resolver(&String::from_utf8_lossy(bytes))
    });
}
