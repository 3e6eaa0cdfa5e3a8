//! The README's tables say what the code says.

use starttls::protocol::PROTOCOLS;
use starttls::{Level, Word};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

fn readme() -> String {
    std::fs::read_to_string(FILE).unwrap()
}

/// The table of protocols as it must stand there.
fn protocols() -> String {
    let mut table = String::from(
        "| protocol | specified in | ports | client | server | round trips | comes first afterwards |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in PROTOCOLS {
        let implicit = match row.implicit {
            Some((word, port)) => format!("; `{word}` {port}"),
            None => String::new(),
        };
        let server = if row.can_refuse() {
            "yes"
        } else {
            "yes, but no refusal"
        };
        table += &format!(
            "| `{}` | {} | {}{implicit} | yes | {server} | {} | {} |\n",
            row.name, row.spec, row.port, row.round_trips, row.afterwards
        );
    }
    table
}

/// `STARTTLS_BLESS=1` writes the table anew.
#[test]
fn the_table_of_protocols_is_made_of_the_code() {
    let readme = readme();
    let (before, rest) = readme.split_once("## Protocols\n\n").unwrap();
    let (old, after) = rest.split_once("\n\n").unwrap();
    let table = protocols();
    if std::env::var_os("STARTTLS_BLESS").is_some() {
        let text = format!("{before}## Protocols\n\n{table}\n{after}");
        // In one go: other tests read it meanwhile.
        let new = format!("{FILE}.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, FILE).unwrap();
    } else {
        assert_eq!(format!("{old}\n"), table, "run `make header`");
    }
}

#[test]
fn every_level_has_its_row() {
    for level in Level::ALL {
        assert!(readme().contains(&format!("| `{}`", level.as_str())));
    }
}

#[test]
fn the_words_of_errors_are_words() {
    let readme = readme();
    let list = readme
        .split("`not-offered ")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap();
    let listed = format!("not-offered {list}");
    for word in listed.split(|c: char| c.is_whitespace() || c == '`' || c == '·') {
        let known = Word::ALL.iter().any(|w| w.as_str() == word);
        assert!(word.is_empty() || known, "{word:?} is no word");
    }
}
