//! For the fuzzers, which see no internals: parsers of what strangers write. Whatever they are given, none panics, and
//! what must hold of the result is asserted here. No part of the API.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// A DNS message, as the answer to a question of each type that is asked, and its records.
pub fn dns_message(bytes: &[u8]) {
    crate::dns::fuzz_message(bytes);
}

/// A resolv.conf.
pub fn resolv_conf(bytes: &[u8]) {
    crate::dns::fuzz_resolv_conf(bytes);
}

/// What a caller names as resolver.
pub fn resolver(text: &str) {
    // The outcome is the caller's to read; `unbound` would open files.
    if !text.trim_start().starts_with("unbound") {
        let _described = crate::Resolver::parse(text).map(|resolver| resolver.is_trusted());
    }
}

use crate::destinations::{Destination, Destinations, Row};
use crate::mta_sts::{parse_record, Pattern, StsPolicy};
use crate::outcome::StsMode;

/// The TXT records at `_mta-sts.DOMAIN`, one a line.
pub fn sts_record(input: &[u8]) {
    let records: Vec<Vec<u8>> = input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    match parse_record(&records) {
        Ok(Some(record)) => {
            assert!((1..=32).contains(&record.id.len()));
            assert!(record.id.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        Ok(None) => {}
        Err(why) => is_printable(&why),
    }
}

/// A policy file of MTA-STS.
pub fn sts_policy(input: &[u8]) {
    match StsPolicy::parse(input) {
        Ok(policy) => {
            assert!(policy.max_age <= Duration::from_secs(31_557_600));
            assert!(!policy.mx.is_empty() || policy.mode == StsMode::None);
            policy.lines.iter().for_each(|line| is_printable(line));
            for pattern in &policy.mx {
                names_what_it_says(&policy, pattern);
            }
            assert_eq!(StsPolicy::parse(input).as_ref(), Ok(&policy));
        }
        Err(why) => is_printable(&why),
    }
}

/// A host that fits the pattern is found; one that is no name is not.
fn names_what_it_says(policy: &StsPolicy, pattern: &Pattern) {
    let host = match pattern {
        Pattern::Host(name) => name.clone(),
        Pattern::OneBelow(parent) => format!("a.{parent}"),
        Pattern::AllBelow(parent) => format!("a.b.{parent}"),
    };
    assert!(policy.matching(&host).is_some());
    assert!(policy.matching("").is_none());
    assert!(policy.matching("*").is_none());
    assert_eq!(Pattern::parse(&pattern.to_string()).ok().as_ref(), Some(pattern));
}

/// A file of destinations, of either format.
pub fn destinations(input: &[u8]) {
    let now = SystemTime::UNIX_EPOCH;
    match Destinations::parse(input, Path::new("file")) {
        Ok(read) => {
            for destination in [
                Destination::Domain("example.org"),
                Destination::Domain("a.b.example.org"),
                Destination::Domain("192.0.2.1"),
                Destination::Host("mail.example.org", 25),
                Destination::Host("2001:db8::1", 587),
            ] {
                match read.find(destination, now) {
                    Some(Row::Listed(policy)) => assert!(!policy.mx.is_empty()),
                    Some(Row::Table(entry)) => {
                        let pinned = entry.level == crate::Level::Fingerprint;
                        assert_eq!(pinned, !entry.fingerprints.is_empty());
                    }
                    None => {}
                }
            }
            if let Some(note) = read.expired(now) {
                is_printable(&note);
            }
        }
        Err(e) => is_printable(e.message()),
    }
}

/// What goes into messages and terminals.
fn is_printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::cases;

    /// Each case as it is, cut off anywhere, and with any one byte changed.
    #[test]
    fn cases_that_are_cut_and_changed() {
        let folders = [
            "mta_sts/good",
            "mta_sts/bad",
            "destinations/good",
            "destinations/bad",
        ];
        type Reader = fn(&[u8]);
        let readers: [(&str, Reader); 4] = [
            ("record", sts_record),
            ("policy", sts_policy),
            ("table", destinations),
            ("json", destinations),
        ];
        for folder in folders {
            for (ending, read) in readers {
                for case in cases(folder, ending, 0) {
                    read(&case.input);
                    let mut changed = case.input.clone();
                    for n in 0..case.input.len().min(1000) {
                        read(&case.input[..n]);
                        for byte in [0, b'\n', b';', b'"', 0xff, changed[n] ^ 0x20] {
                            let before = std::mem::replace(&mut changed[n], byte);
                            read(&changed);
                            changed[n] = before;
                        }
                    }
                }
            }
        }
    }
}
