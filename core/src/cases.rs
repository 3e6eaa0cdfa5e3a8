//! Test cases that are files: `tests/<subject>/{good,bad}/*`, each with its reason.
//!
//! A case begins with lines `# key: value`: `why` says why it is good or bad, `gives` what reading it must
//! give, `error` what the message must say. All that follows is the input, byte for byte.

use std::path::{Path, PathBuf};

pub(crate) struct Case {
    pub(crate) file: PathBuf,
    /// `gives` of a good case, `error` of a bad one.
    pub(crate) expected: String,
    pub(crate) input: Vec<u8>,
}

/// The cases of a folder whose names end so, at least this many.
pub(crate) fn cases(folder: &str, ending: &str, at_least: usize) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|e| e == ending) {
            found.push(read(file));
        }
    }
    assert!(found.len() >= at_least, "{}: {}", folder.display(), found.len());
    found
}

fn read(file: PathBuf) -> Case {
    let bytes = std::fs::read(&file).unwrap();
    let (mut why, mut expected, mut rest) = (None, None, &bytes[..]);
    while let Some(after) = rest.strip_prefix(b"# ") {
        let line = after.split_inclusive(|b| *b == b'\n').next().unwrap();
        let text = std::str::from_utf8(line).unwrap().trim_end();
        match text.split_once(": ") {
            Some(("why", value)) if why.is_none() => why = Some(value),
            Some(("gives" | "error", value)) if expected.is_none() => expected = Some(value.to_owned()),
            _ => break,
        }
        rest = &after[line.len()..];
    }
    assert!(
        why.is_some_and(|w| w.len() > 8),
        "{}: says no why",
        file.display()
    );
    Case {
        expected: expected.unwrap_or_else(|| panic!("{}: expects nothing", file.display())),
        input: rest.to_vec(),
        file,
    }
}
