//! The server of the dialogs, for tests in any language.
//!
//! ```text
//! scripted --list [FILE...]
//! ```
//! prints what there is to play, one line a play with these fields between tabs; without FILE, all
//! of `tests/dialogs/`:
//!
//! ```text
//! FILE PROTOCOL LEVEL CHUNKS MODES HOST STAGE PENDING TIMEOUT VERDICT OFFERED SUSPICIONS
//! ```
//!
//! FILE is absolute. CHUNKS are those worth playing, such as `1,3,0` (0: all at once). MODES are
//! `connect`, `upgrade` or `connect,upgrade`. PENDING is hex, empty for none. TIMEOUT is the one for
//! the client's policy, in seconds. VERDICT is what must come out: `tls`, `plain BECAUSE` or `error
//! WORD temporary|permanent`. OFFERED is `yes`, `no` or `unknown`; SUSPICIONS is a JSON list.
//!
//! ```text
//! scripted FILE LEVEL CHUNK
//! ```
//! prints `PORT CA_FILE` and plays that file as it is written for LEVEL on 127.0.0.1, sending CHUNK
//! bytes at a time, for one connection (two where the dialog says that the client dials again). The
//! client trusts CA_FILE, which is there until the server ends. It ends when the client closes: 0
//! if the client kept to the script, else 1 with what differed on stderr; 2 for wrong arguments. It
//! never runs for longer than 30 s.
//!
//! A test in another language therefore does, for each line of the list: start `scripted FILE LEVEL
//! CHUNK`, read the line, `connect` or `upgrade` to the port with `ca_file` and TIMEOUT (for
//! `connect`, HOST goes with the policy's address 127.0.0.1), compare with VERDICT, close, and wait
//! for exit code 0. After `tls` and `plain` what is written comes back, but for `plain not-asked`,
//! where the server's greeting comes first. How the files look is told in `tests/src/script.rs`.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use conformance::{certs, script, scripted};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--list", files @ ..] => list(files),
        [file, level, chunk] => {
            let Ok(chunk) = chunk.parse() else {
                usage("CHUNK is a number of bytes, 0 for all at once")
            };
            serve(Path::new(file), level, chunk)
        }
        _ => usage("usage: scripted --list [FILE...] | scripted FILE LEVEL CHUNK"),
    }
}

fn usage(why: &str) -> ! {
    eprintln!("scripted: {why}");
    exit(2)
}

fn list(files: &[&str]) {
    let plays = if files.is_empty() {
        script::all()
    } else {
        let read = |file: &&str| script::read(Path::new(file)).unwrap_or_else(|e| usage(&e));
        files.iter().flat_map(read).collect()
    };
    let mut out = std::io::stdout().lock();
    for play in plays {
        let chunks: Vec<String> = play.chunks.iter().map(ToString::to_string).collect();
        let modes = match (play.by_connect(), play.by_upgrade()) {
            (true, true) => "connect,upgrade",
            (true, false) => "connect",
            _ => "upgrade",
        };
        let pending: String = play.pending.iter().map(|b| format!("{b:02x}")).collect();
        let offered = match play.offered {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let path: PathBuf = script::directory().join(&play.file);
        let fields = [
            path.to_str().unwrap_or_default(),
            &play.protocol,
            &play.level,
            &chunks.join(","),
            modes,
            &play.host,
            &play.stage,
            &pending,
            &play.timeout.to_string(),
            &play.verdict,
            offered,
            &serde_json::to_string(&play.suspicions).unwrap_or_default(),
        ];
        if writeln!(out, "{}", fields.join("\t")).is_err() {
            return;
        }
    }
}

fn serve(file: &Path, level: &str, chunk: usize) -> ! {
    let plays = script::read(file).unwrap_or_else(|e| usage(&e));
    let Some(play) = plays.into_iter().find(|play| play.level == level) else {
        usage(&format!("{} says nothing of level {level}", file.display()))
    };
    let listener = match TcpListener::bind("127.0.0.1:0") {
        Ok(listener) => listener,
        Err(e) => usage(&e.to_string()),
    };
    let port = listener.local_addr().map_or(0, |address| address.port());
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(30));
        eprintln!("scripted: the client took too long");
        exit(1)
    });
    println!("{port} {}", certs::ca_file().display());
    match scripted::serve(&listener, &play, chunk) {
        Ok(()) => exit(0),
        Err(e) => {
            eprintln!("scripted: {}: {e}", play.file);
            exit(1)
        }
    }
}
