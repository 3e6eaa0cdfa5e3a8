//! Writes what the servers of `tests/dialogs/` say as seeds for the fuzzer: `seeds DIRECTORY`.

use std::path::PathBuf;
use std::process::exit;

use conformance::{drive, script};
use starttls::{Level, Stage};

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: seeds DIRECTORY");
        exit(2)
    };
    std::fs::create_dir_all(&directory)?;
    for play in script::all() {
        let (Ok(level), Ok(stage)) = (Level::from_word(&play.level), Stage::from_word(&play.stage)) else {
            continue;
        };
        let inputs = drive::pack(&play.protocol, level, stage, &play.server_bytes());
        for (n, input) in inputs.iter().enumerate() {
            let name = play.file.replace('/', "-").replace(".txt", "");
            std::fs::write(directory.join(format!("{name}-{}-{n}", play.level)), input)?;
        }
    }
    Ok(())
}
