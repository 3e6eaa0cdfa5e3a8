use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::cases::{cases, Case};
use crate::error::Word;

/// When the lists of the good cases hold.
fn then() -> SystemTime {
    humantime::parse_rfc3339("2026-01-10T00:00:00Z").unwrap()
}

fn load(case: &Case) -> Result<Destinations> {
    Destinations::parse(&case.input, &case.file)
}

/// `example.org` is a mail domain, `[host]:port` a host that the caller names.
fn asked(query: &str) -> Destination<'_> {
    match query.strip_prefix('[').and_then(|q| q.rsplit_once("]:")) {
        Some((host, port)) => Destination::Host(host, port.parse().unwrap()),
        None => Destination::Domain(query),
    }
}

/// As the cases write it: `level/line/attributes`, or `mode/hosts` of a list; `-` for nothing.
fn written(row: Option<Row<'_>>) -> String {
    match row {
        None => "-".to_owned(),
        Some(Row::Listed(policy)) => {
            let hosts: Vec<String> = policy.mx.iter().map(ToString::to_string).collect();
            format!("{:?}/{}", policy.mode, hosts.join(",")).to_lowercase()
        }
        Some(Row::Table(entry)) => {
            let mut text = format!("{}/{}", entry.level.as_str(), entry.line);
            for name in &entry.names {
                text.push_str(&format!("/name={name}"));
            }
            for pin in &entry.fingerprints {
                text.push_str(&format!("/sha256={}", crate::text::hex(&pin[..2])));
            }
            if let Some(file) = &entry.ca_file {
                text.push_str(&format!("/ca={}", file.file_name().unwrap().to_str().unwrap()));
            }
            if let Some(version) = entry.min_tls {
                text.push_str(&format!("/{version:?}"));
            }
            text
        }
    }
}

fn good(ending: &str, at_least: usize) {
    for case in cases("destinations/good", ending, at_least) {
        let loaded = load(&case).unwrap_or_else(|e| panic!("{}: {e}", case.file.display()));
        for lookup in case.expected.split(' ') {
            let (query, expected) = lookup.split_once('>').unwrap();
            let found = written(loaded.find(asked(query), then()));
            assert_eq!(found, expected, "{}: {query}", case.file.display());
        }
    }
}

fn bad(ending: &str, at_least: usize) {
    for case in cases("destinations/bad", ending, at_least) {
        let error = load(&case).expect_err(&case.file.display().to_string());
        let file = case.file.display().to_string();
        assert_eq!(error.word(), Word::Invalid);
        // The message with `FILE` for the file's name.
        let message = error.message().replace(&file, "FILE");
        assert!(message.contains(&case.expected), "{file}: {message}");
    }
}

#[test]
fn good_tables() {
    good("table", 20);
}

#[test]
fn bad_tables() {
    bad("table", 30);
}

#[test]
fn good_lists() {
    good("json", 5);
}

#[test]
fn bad_lists() {
    bad("json", 15);
}

#[test]
fn an_expired_list_is_not_used_and_that_is_said() {
    let all = cases("destinations/good", "json", 1);
    let case = all.iter().find(|c| c.file.ends_with("realistic.json")).unwrap();
    let list = load(case).unwrap();
    let query = Destination::Domain("example.org");
    assert!(list.find(query, then()).is_some());
    assert_eq!(list.expired(then()), None);
    let late = then() + Duration::from_secs(365 * 86_400);
    assert!(list.find(query, late).is_none());
    let note = list.expired(late).unwrap();
    assert!(note.contains("expired on 2026-01-15T07:34:36Z"), "{note}");
}

#[test]
fn only_so_many_faults_are_told() {
    let path = PathBuf::from("t");
    let few = Destinations::parse("x maybe\n".repeat(10).as_bytes(), &path).unwrap_err();
    assert!(
        few.message().contains("t:10: ") && !few.message().contains("and more"),
        "{few}"
    );
    let many = Destinations::parse("x maybe\n".repeat(11).as_bytes(), &path).unwrap_err();
    assert!(
        !many.message().contains("t:11: ") && many.message().ends_with("; and more"),
        "{many}"
    );
    let long = format!("x verify {}", "name=a.test ".repeat(1000));
    let long = Destinations::parse(long.as_bytes(), &path).unwrap_err();
    assert!(long.message().contains("t:1: the line is over 8 KiB"), "{long}");
}

#[test]
fn files() {
    let path = std::env::temp_dir().join(format!("starttls-destinations-{}", std::process::id()));
    let missing = Destinations::load(&path).unwrap_err();
    assert!(missing.message().contains("cannot be read"), "{missing}");
    let directory = Destinations::load(&std::env::temp_dir()).unwrap_err();
    assert!(directory.message().contains("cannot be read"), "{directory}");
    std::fs::write(&path, "# nothing\nexample.org verify\n").unwrap();
    let loaded = Destinations::load(&path);
    let large = std::fs::File::create(&path).unwrap();
    large.set_len(MAX_SIZE + 1).unwrap();
    let too_large = Destinations::load(&path);
    std::fs::remove_file(&path).unwrap();
    let found = loaded.unwrap();
    let row = found.find(Destination::Domain("Example.ORG."), then());
    assert_eq!(written(row), "verify/2");
    assert!(too_large.unwrap_err().message().contains("over 16 MiB"));
}
