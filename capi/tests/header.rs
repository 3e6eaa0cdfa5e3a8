//! The header, the list of symbols and the source say the same. `make header` (`STARTTLS_BLESS=1`)
//! writes the header anew; the list is kept by hand, for only a person knows since when.

use std::fs;
use std::path::{Path, PathBuf};

/// In the header's order.
const SOURCES: [&str; 13] = [
    "about",
    "policy",
    "policy/domain",
    "policy/lookup",
    "policy/cache",
    "session",
    "routes",
    "event_loop",
    "own_ssl",
    "outcome",
    "error",
    "tlsrpt",
    "survey",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (directories, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(directories.iter().flat_map(|path| sources(path)));
    files
}

/// Name and body of every exported function.
fn exported() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in sources(&here("src")) {
        let text = fs::read_to_string(file).unwrap();
        for part in text.split("#[no_mangle]\n").skip(1) {
            let (_, rest) = part.split_once("extern \"C\" fn ").unwrap();
            let (name, rest) = rest.split_once('(').unwrap();
            let (_, body) = rest.split_once("{\n").unwrap();
            let (body, _) = body.split_once("\n}\n").unwrap();
            found.push((name.to_owned(), body.to_owned()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_header_is_generated_from_the_source() {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(here(&format!("src/{name}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let path = here("../include/starttls.h");
    if std::env::var_os("STARTTLS_BLESS").is_some() {
        fs::write(&path, &header).unwrap();
    }
    assert!(
        fs::read(&path).is_ok_and(|committed| committed == header),
        "include/starttls.h is stale: run `make header`"
    );
    let header = String::from_utf8(header).unwrap();
    assert!(header.is_ascii(), "not every compiler reads UTF-8");
    for (name, _) in exported() {
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is not in the header"
        );
    }
}

#[test]
fn symbols_txt_lists_exactly_the_exported_functions() {
    let listed = fs::read_to_string(here("../include/symbols.txt")).unwrap();
    let listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &listed {
        let fits = line.split_once(' ').is_some_and(|(symbol, since)| {
            symbol.starts_with("starttls_") && since.split('.').all(|n| n.parse::<u32>().is_ok())
        });
        assert!(fits, "\"{line}\" is not \"symbol version\"");
    }
    assert!(listed.is_sorted(), "include/symbols.txt is not sorted");
    let listed: Vec<&str> = listed.iter().filter_map(|line| line.split(' ').next()).collect();
    let exported = exported();
    let exported: Vec<&str> = exported.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        listed, exported,
        "include/symbols.txt (left) and the source (right)"
    );
}

/// A panic that left an exported function would abort the caller's process.
#[test]
fn every_exported_function_is_one_guard() {
    let exported = exported();
    assert!(exported.len() > 30);
    for (name, body) in exported {
        let body = body.trim();
        let mut depth = 0;
        let end = body.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ')' && depth == 0
        });
        assert!(
            body.starts_with("guard!(") && end == Some(body.len() - 1),
            "{name} is not one guard!(…):\n{body}"
        );
    }
}
