//! Plays `tests/dns/{good,bad}`: what each text or message means, with the reason in the file. In `bad/` is what a
//! broken or hostile sender makes; it must mean what the file says as well, and nothing worse.

use std::path::PathBuf;

use super::message::{self, Question, Reply};
use super::resolver::Resolver;
use super::{rdata, resolv_conf};
use crate::Word;

/// Every file of the kind, good and bad.
fn files(extension: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for directory in ["good", "bad"] {
        let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/dns")).join(directory);
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == extension) {
                let text = std::fs::read(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 10, "where are they?");
    files
}

/// The rest of the comment that begins so.
fn said<'t>(text: &'t str, what: &str) -> &'t str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("# {what}: ")));
    line.unwrap_or_else(|| panic!("no \"# {what}: \" in {text}"))
}

#[test]
fn resolv_confs() {
    for (path, text) in files("conf") {
        let stub = resolv_conf::parse(&text);
        let servers: Vec<String> = stub.servers.iter().map(ToString::to_string).collect();
        let mut is = format!(
            "{}, {}, {} s, {} attempts",
            servers.join(" "),
            if stub.trusted { "trusted" } else { "untrusted" },
            stub.timeout.as_secs(),
            stub.attempts
        );
        is.push_str(if stub.rotate { ", rotate" } else { "" });
        is.push_str(if stub.only_tcp { ", TCP only" } else { "" });
        assert_eq!(
            is,
            said(&String::from_utf8_lossy(&text), "is"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn messages() {
    for (path, text) in files("hex") {
        let text = String::from_utf8(text).unwrap();
        let kind = said(&text, "question").split(' ').next().unwrap();
        let kind = if kind == "MX" {
            rdata::MX
        } else {
            panic!("{kind}?")
        };
        let name = said(&text, "question").split(' ').nth(1).unwrap();
        let question = Question::new(name, kind).unwrap();
        let is = describe(message::read(&octets(&text), 0x1234, &question));
        let should = said(&text, "is");
        // What the library says of broken bytes is its own affair.
        let same = is == should || (should.starts_with("failed: ") && is.starts_with(should));
        assert!(same, "{}: is {is}, should be {should}", path.display());
    }
}

fn octets(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect()
}

fn describe(reply: Option<Reply>) -> String {
    match reply {
        None => "ignored".to_owned(),
        Some(Reply::Truncated) => "truncated".to_owned(),
        Some(Reply::Failed(e)) => format!("failed{}: {}", if e.bogus { ", bogus" } else { "" }, e.why),
        Some(Reply::Found(found)) => {
            let mut is = format!(
                "found {}, at {}, {} s",
                found.rdata.len(),
                found.name,
                found.ttl.as_secs()
            );
            for (so, what) in [
                (found.authentic, ", authentic"),
                (found.no_such_name, ", no such name"),
                (found.goes_on, ", goes on"),
            ] {
                is.push_str(if so { what } else { "" });
            }
            is
        }
    }
}

#[test]
fn specs() {
    let good = include_str!("../../../tests/dns/good/specs.txt");
    for line in good.lines().filter(|line| !line.starts_with('#')) {
        let [spec, is, _why] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let resolver = Resolver::parse(spec).unwrap_or_else(|e| panic!("{spec}: {e}"));
        assert_eq!(resolver.description(), is, "{spec}");
    }
    let bad = include_str!("../../../tests/dns/bad/specs.txt");
    for line in bad.lines().filter(|line| !line.starts_with('#')) {
        let [spec, message, _why] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let e = Resolver::parse(spec).expect_err(spec);
        assert_eq!(e.word(), Word::Invalid, "{spec}");
        assert!(e.message().contains(message), "{spec}: {e}");
    }
}

#[test]
#[cfg(not(feature = "unbound"))]
fn a_build_without_unbound_says_so() {
    for spec in ["unbound", "unbound:/some/file", "unbound:/some/file@127.0.0.1:53"] {
        let e = Resolver::parse(spec).unwrap_err();
        assert_eq!(e.word(), Word::Unsupported, "{spec}");
        assert!(e.message().contains("feature"), "{e}");
    }
}
