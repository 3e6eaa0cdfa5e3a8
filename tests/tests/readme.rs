//! The README's tables say what the code says.

use starttls::protocol::PROTOCOLS;
use starttls::{Level, Word};

fn readme() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn every_protocol_has_its_row() {
    let readme = readme();
    for row in PROTOCOLS {
        let implicit = match row.implicit {
            Some((word, port)) => format!("`{word}` {port}"),
            None => "–".to_owned(),
        };
        let line = format!(
            "| `{}` | {} | {implicit} | {} | {} |",
            row.name, row.port, row.spec, row.afterwards
        );
        assert!(readme.contains(&line), "README.md lacks the row\n{line}");
    }
    let section = readme.split("## Protocols").nth(1).unwrap();
    let rows = section.lines().take_while(|l| !l.starts_with("## "));
    let rows = rows.filter(|l| l.starts_with("| `"));
    assert_eq!(rows.count(), PROTOCOLS.len());
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
