//! Dialogs as data. A file below `tests/dialogs/PROTOCOL/` reads like the example of an RFC:
//!
//! ```text
//! # What it shows, and its source.
//! host: mail.example.test
//!
//! may -> plain not-offered
//! encrypt verify -> error not-offered permanent
//! offered: no
//! S: 220 mail.example.test ESMTP
//! C: EHLO [127.0.0.1]
//! ```
//!
//! The first line says what it shows. `LEVELS -> VERDICT` lines open a play; the verdict is `tls`,
//! `plain BECAUSE` or `error WORD temporary|permanent`. A file may hold several plays with an empty
//! line between them, as the levels do not all say the same. Settings before the first play hold for all:
//!
//! | setting | meaning | if absent |
//! |---|---|---|
//! | `host` | whom the client asks for | `localhost` |
//! | `stage` | `greeting`, `ready` or `go-ahead`; the last two only by `upgrade` | `greeting` |
//! | `by` | `connect` or `upgrade`, where it is for one of them alone | both |
//! | `pending` | bytes that the caller has already read | none |
//! | `chunks` | how many bytes the server sends at a time, of `1 3 all` | all three |
//! | `certificate` | the server's, a name of [`certs`](crate::certs) | `good` |
//! | `timeout` | the client's, in seconds | 10 |
//! | `offered` | `yes`, `no` or `unknown` | required, but for `none` |
//! | `suspicions` | what the outcome must list, `;` between them | none |
//!
//! The dialog itself:
//!
//! | line | meaning |
//! |---|---|
//! | `S: text` | the server says a line; CRLF is added |
//! | `S> bytes` | the server sends exactly this |
//! | `S* 1000 bytes` | … so many times |
//! | `C: text` | the client must say exactly this line |
//! | `C> bytes` | the client must send exactly this |
//! | `(next segment)` | what follows is sent by a call of its own, a little later |
//! | `(ClientHello)` | wait until the client has begun the handshake |
//! | `(TLS)` | the server does its side of the handshake; what follows is said over TLS |
//! | `(nothing)` | the client must send nothing more at all, not even a ClientHello |
//! | `(silence)` | the server waits for the client to give up |
//! | `(close)` `(reset)` | the server closes its side, or breaks the connection off |
//! | `(again)` | the client must dial a second time; the dialog goes on there |
//!
//! In texts and bytes `\r \n \t \0 \\ \xNN` stand for bytes. When a dialog that ends well is over,
//! the server sends back whatever it is sent; when it ends in an error, clear text is a fault.

use std::path::{Path, PathBuf};

/// One line of a dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Say(Vec<u8>),
    Hear(Vec<u8>),
    NextSegment,
    ClientHello,
    Tls,
    Nothing,
    Silence,
    Close,
    Reset,
    Again,
}

/// One level's way through a file.
#[derive(Clone, Debug)]
pub struct Play {
    /// The file, below `tests/dialogs/`.
    pub file: String,
    pub protocol: String,
    pub level: String,
    /// `tls`, `plain BECAUSE` or `error WORD temporary|permanent`.
    pub verdict: String,
    pub steps: Vec<Step>,
    pub host: String,
    pub stage: String,
    /// `connect` or `upgrade`; empty for both.
    pub by: String,
    pub pending: Vec<u8>,
    /// 0 stands for all at once.
    pub chunks: Vec<usize>,
    pub certificate: String,
    pub timeout: f64,
    pub offered: Option<bool>,
    pub suspicions: Vec<String>,
}

impl Play {
    /// Whether `connect` can play it, which begins at the greeting.
    pub fn by_connect(&self) -> bool {
        self.by != "upgrade" && self.stage == "greeting" && self.pending.is_empty()
    }

    /// Whether `upgrade` can play it, which never dials.
    pub fn by_upgrade(&self) -> bool {
        self.by != "connect" && !self.steps.contains(&Step::Again)
    }

    /// Whether the go-ahead was given, after which a failure must leave no usable connection.
    pub fn reaches_handshake(&self) -> bool {
        self.stage == "go-ahead"
            || self
                .steps
                .iter()
                .any(|s| matches!(s, Step::Tls | Step::ClientHello))
    }

    /// What the server says in clear, without what the client must say in between.
    pub fn server_bytes(&self) -> Vec<u8> {
        let in_clear = self.steps.iter().take_while(|s| **s != Step::Tls);
        let said = in_clear.filter_map(|s| match s {
            Step::Say(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        said.collect::<Vec<_>>().concat()
    }
}

/// Where the dialogs are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogs")
}

/// All plays of all files, in a stable order.
///
/// # Panics
/// If a file cannot be read, with its name and line.
pub fn all() -> Vec<Play> {
    let mut files = Vec::new();
    for protocol in std::fs::read_dir(directory()).unwrap() {
        for file in std::fs::read_dir(protocol.unwrap().path()).unwrap() {
            files.push(file.unwrap().path());
        }
    }
    files.sort();
    files
        .iter()
        .flat_map(|file| read(file).unwrap_or_else(|e| panic!("{e}")))
        .collect()
}

/// The plays of a file. Its directory is the protocol.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(file: &Path) -> Result<Vec<Play>, String> {
    let name = |p: Option<&Path>| {
        p.and_then(Path::file_name)
            .and_then(|n| n.to_str())
            .map(str::to_owned)
    };
    let (Some(base), Some(protocol)) = (name(Some(file)), name(file.parent())) else {
        return Err(format!("{}: not a dialog's path", file.display()));
    };
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    parse(&format!("{protocol}/{base}"), &protocol, &text)
}

/// The plays of a text.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(file: &str, protocol: &str, text: &str) -> Result<Vec<Play>, String> {
    if !text.starts_with("# ") {
        return Err(format!("{file}: the first line must say what it shows: # …"));
    }
    let mut common = Play {
        file: file.to_owned(),
        protocol: protocol.to_owned(),
        level: String::new(),
        verdict: String::new(),
        steps: Vec::new(),
        host: "localhost".to_owned(),
        stage: "greeting".to_owned(),
        by: String::new(),
        pending: Vec::new(),
        chunks: vec![1, 3, 0],
        certificate: "good".to_owned(),
        timeout: 10.0,
        offered: None,
        suspicions: Vec::new(),
    };
    let mut stated = false;
    // Plays that share the dialog being read begin at this index.
    let mut plays: Vec<(Play, bool)> = Vec::new();
    let mut open = 0;
    let mut begins = true;
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("{file}:{}: {what}: {line}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            begins |= line.trim().is_empty();
            continue;
        }
        if let Some(step) = step(line).map_err(|e| wrong(&e))? {
            if open == plays.len() {
                return Err(wrong("a line of a dialog before its LEVELS -> VERDICT"));
            }
            for (play, _) in &mut plays[open..] {
                play.steps.push(step.clone());
            }
        } else if let Some((levels, verdict)) = line.split_once(" -> ") {
            if std::mem::take(&mut begins) {
                open = plays.len();
            }
            if !is_verdict(verdict) {
                return Err(wrong("not a verdict"));
            }
            for level in levels.split_whitespace() {
                let mut play = Play {
                    level: level.to_owned(),
                    verdict: verdict.to_owned(),
                    ..common.clone()
                };
                if level == "none" {
                    // Who does not look cannot see it.
                    play.offered = None;
                    play.suspicions.clear();
                }
                plays.push((play, stated || level == "none"));
            }
        } else if let Some((key, value)) = line.split_once(':') {
            let places: Vec<&mut Play> = if plays.is_empty() {
                stated |= key == "offered";
                vec![&mut common]
            } else {
                let places = plays[open..].iter_mut();
                places
                    .map(|(play, stated)| {
                        *stated |= key == "offered";
                        play
                    })
                    .collect()
            };
            for place in places {
                if !place.steps.is_empty() {
                    return Err(wrong("a setting inside a dialog"));
                }
                set(place, key, value.trim()).map_err(|e| wrong(&e))?;
            }
        } else {
            return Err(wrong("not understood"));
        }
    }
    if plays.is_empty() {
        return Err(format!("{file}: no play"));
    }
    if let Some((play, _)) = plays.iter().find(|(_, stated)| !stated) {
        return Err(format!(
            "{file}: {} does not say whether it is offered",
            play.level
        ));
    }
    Ok(plays.into_iter().map(|(play, _)| play).collect())
}

fn is_verdict(verdict: &str) -> bool {
    let words: Vec<&str> = verdict.split(' ').collect();
    match words.as_slice() {
        ["tls"] => true,
        ["plain", because] => ["not-asked", "not-offered", "refused", "handshake-failed"].contains(because),
        ["error", word, "temporary" | "permanent"] => {
            starttls::Word::ALL.iter().any(|known| known.as_str() == *word)
        }
        _ => false,
    }
}

fn set(play: &mut Play, key: &str, value: &str) -> Result<(), String> {
    match key {
        "host" => play.host = value.to_owned(),
        "stage" => play.stage = value.to_owned(),
        "by" => play.by = value.to_owned(),
        "pending" => play.pending = unescape(value)?,
        "certificate" => play.certificate = value.to_owned(),
        "timeout" => play.timeout = value.parse().map_err(|_| "not a number".to_owned())?,
        "suspicions" => play.suspicions = value.split(';').map(|s| s.trim().to_owned()).collect(),
        "offered" => {
            play.offered = match value {
                "yes" => Some(true),
                "no" => Some(false),
                "unknown" => None,
                _ => return Err("neither yes, no nor unknown".to_owned()),
            }
        }
        "chunks" => {
            let sizes = value.split(' ').map(|size| match size {
                "all" => Ok(0),
                n => n.parse().map_err(|_| "not a chunk size".to_owned()),
            });
            play.chunks = sizes.collect::<Result<_, _>>()?;
        }
        _ => return Err("an unknown setting".to_owned()),
    }
    Ok(())
}

/// `None`: not a line of a dialog.
fn step(line: &str) -> Result<Option<Step>, String> {
    let direction = match line {
        "(next segment)" => Some(Step::NextSegment),
        "(ClientHello)" => Some(Step::ClientHello),
        "(TLS)" => Some(Step::Tls),
        "(nothing)" => Some(Step::Nothing),
        "(silence)" => Some(Step::Silence),
        "(close)" => Some(Step::Close),
        "(reset)" => Some(Step::Reset),
        "(again)" => Some(Step::Again),
        _ if line.starts_with('(') => return Err("an unknown direction".to_owned()),
        _ => None,
    };
    if direction.is_some() {
        return Ok(direction);
    }
    let Some((who, text)) = line.split_at_checked(2) else {
        return Ok(None);
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    Ok(Some(match who {
        "S:" => Step::Say([unescape(text)?, b"\r\n".to_vec()].concat()),
        "C:" => Step::Hear([unescape(text)?, b"\r\n".to_vec()].concat()),
        "C>" => Step::Hear(unescape(text)?),
        "S>" => Step::Say(unescape(text)?),
        "S*" => {
            let (n, bytes) = text.split_once(' ').ok_or("no number")?;
            let n: usize = n.parse().map_err(|_| "not a number")?;
            Step::Say(unescape(bytes)?.repeat(n))
        }
        _ => return Ok(None),
    }))
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b != b'\\' {
            bytes.push(b);
            continue;
        }
        let (&kind, tail) = rest.split_first().ok_or("a lone backslash")?;
        rest = tail;
        bytes.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = rest.get(..2).ok_or("\\x wants two digits")?;
                rest = &rest[2..];
                let digits = std::str::from_utf8(digits).map_err(|e| e.to_string())?;
                u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?
            }
            _ => return Err("an unknown escape".to_owned()),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_look() {
        let text =
            "# It shows.\noffered: yes\n\nmay -> tls\nverify -> error expired permanent\nhost: a.test\n\
                    S: a\\x00\nC: b\n\nencrypt -> tls\nS> c\n(TLS)\n";
        let plays = parse("smtp/x.txt", "smtp", text).unwrap();
        assert_eq!(plays.len(), 3);
        assert_eq!(plays[1].level, "verify");
        assert_eq!(plays[1].host, "a.test");
        assert_eq!(
            plays[1].steps,
            [Step::Say(b"a\0\r\n".to_vec()), Step::Hear(b"b\r\n".to_vec())]
        );
        assert_eq!(plays[2].steps, [Step::Say(b"c".to_vec()), Step::Tls]);
        assert_eq!(plays[2].host, "localhost");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "may -> tls\n",
            "# x\nS: a\n",
            "# x\noffered: yes\nmay -> perhaps\n",
            "# x\noffered: yes\nmay -> error nonsense permanent\n",
            "# x\nmay -> tls\nS: a\n",
            "# x\noffered: yes\nmay -> tls\nS: \\q\n",
            "# x\noffered: yes\nmay -> tls\n(dance)\n",
            "# x\noffered: yes\ncolour: red\n",
        ] {
            assert!(parse("smtp/x.txt", "smtp", bad).is_err(), "{bad}");
        }
    }
}
