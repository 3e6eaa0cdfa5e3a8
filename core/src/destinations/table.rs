//! The table of lines: `DESTINATION LEVEL [ATTRIBUTE=VALUE …]`.
//!
//! A destination is a mail domain (`example.org`) or a host that the caller names; `.example.org` is all below
//! it, at any depth, and not itself; `[mail.example.org]` and `[mail.example.org]:587` are hosts that the caller
//! names and no mail domains; `*` is all the rest. Words are divided by spaces and tabs, a word that begins with
//! `#` begins a comment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::level::{Level, MinTls};
use crate::name::ServerName;
use crate::policy::readable;
use crate::text::printable;

/// How many faults are told at once.
const MAX_FAULTS: usize = 10;
const MAX_LINE: usize = 8 * 1024;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) level: Level,
    /// Names that a certificate may have instead of the host's; empty: the host's.
    pub(crate) names: Vec<ServerName>,
    /// For level `fingerprint`.
    pub(crate) fingerprints: Vec<[u8; 32]>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) min_tls: Option<MinTls>,
    /// Where it stands, for messages.
    pub(crate) line: usize,
}

/// All rows, by their destination.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<String, Entry>);

impl Table {
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut rows: HashMap<String, Entry> = HashMap::new();
        let mut faults = Vec::new();
        for (line, number) in bytes.split(|b| *b == b'\n').zip(1usize..) {
            let row = match read(line, number, directory) {
                Ok(None) => continue,
                Ok(Some((key, entry))) => match rows.get(&key) {
                    None => {
                        rows.insert(key, entry);
                        continue;
                    }
                    Some(first) => Err(format!(
                        "\"{key}\" is already in line {}: write one row for it",
                        first.line
                    )),
                },
                Err(why) => Err::<(), _>(why),
            };
            if let Err(why) = row {
                if faults.len() == MAX_FAULTS {
                    faults.push("and more".to_owned());
                    break;
                }
                faults.push(format!("{}:{number}: {why}", path.display()));
            }
        }
        if faults.is_empty() {
            Ok(Self(rows))
        } else {
            Err(Error::invalid(format!("destinations {}", faults.join("; "))))
        }
    }

    /// The nearest row for a mail domain, or for a host and port that the caller names.
    pub(super) fn find(&self, name: &ServerName, port: Option<u16>) -> Option<&Entry> {
        let exact = port.and_then(|port| {
            let at_port = self.0.get(&format!("[{name}]:{port}"));
            at_port.or_else(|| self.0.get(&format!("[{name}]")))
        });
        // A mail domain that is an address is written in brackets, too.
        let literal = || match name {
            ServerName::Ip(ip) => self.0.get(&format!("[{ip}]")),
            ServerName::Dns(_) => None,
        };
        exact
            .or_else(literal)
            .or_else(|| self.by_domain(name))
            .or_else(|| self.0.get("*"))
    }

    fn by_domain(&self, name: &ServerName) -> Option<&Entry> {
        let ServerName::Dns(name) = name else {
            return None;
        };
        if let Some(entry) = self.0.get(name) {
            return Some(entry);
        }
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(entry) = self.0.get(&format!(".{parent}")) {
                return Some(entry);
            }
            rest = parent;
        }
        None
    }
}

/// Reads a line; `None` if nothing is in it.
fn read(
    line: &[u8],
    number: usize,
    directory: &Path,
) -> std::result::Result<Option<(String, Entry)>, String> {
    if line.len() > MAX_LINE {
        return Err("the line is over 8 KiB: repeat no attribute so often".to_owned());
    }
    let line = std::str::from_utf8(line)
        .map_err(|_| format!("\"{}\" is not UTF-8: save the file as UTF-8", printable(line)))?;
    let mut words = line
        .split_ascii_whitespace()
        .take_while(|word| !word.starts_with('#'));
    let Some(destination) = words.next() else {
        return Ok(None);
    };
    let destination = key(destination)?;
    let Some(level) = words.next() else {
        return Err(format!("\"{destination}\" has no level: write one behind it"));
    };
    let mut entry = Entry {
        level: Level::from_word(level).map_err(|e| e.message().to_owned())?,
        names: Vec::new(),
        fingerprints: Vec::new(),
        ca_file: None,
        min_tls: None,
        line: number,
    };
    for word in words {
        let Some((attribute, value)) = word.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            return Err(format!(
                "\"{}\" is no attribute=value",
                printable(word.as_bytes())
            ));
        };
        let once = |is_new: bool| match is_new {
            true => Ok(()),
            false => Err(format!("{attribute} is there twice: write it once")),
        };
        let told = |e: Error| e.message().to_owned();
        match attribute {
            "name" => entry.names.push(ServerName::parse(value).map_err(told)?),
            "sha256" => entry.fingerprints.push(fingerprint(value).map_err(told)?),
            "ca" => {
                once(entry.ca_file.is_none())?;
                let shown = printable(value.as_bytes());
                if shown != value {
                    return Err(format!(
                        "ca=\"{shown}\" is no path that can be shown: rename the file"
                    ));
                }
                let file = readable(&directory.join(value), "CA file").map_err(told)?;
                entry.ca_file = Some(file);
            }
            "min-tls" => {
                once(entry.min_tls.is_none())?;
                entry.min_tls = Some(MinTls::from_word(value).map_err(told)?);
            }
            _ => {
                return Err(format!(
                    "no attribute is called \"{}\"; it is one of: name sha256 ca min-tls",
                    printable(attribute.as_bytes())
                ))
            }
        }
    }
    entry.consistent()?;
    Ok(Some((destination, entry)))
}

impl Entry {
    /// What a level would ignore is a misunderstanding, and better told than found out later.
    fn consistent(&self) -> std::result::Result<(), String> {
        let level = self.level.as_str();
        let checks_no_name = matches!(
            self.level,
            Level::None | Level::May | Level::Encrypt | Level::Fingerprint
        );
        match self.level {
            Level::Fingerprint if self.fingerprints.is_empty() => {
                Err("level \"fingerprint\" needs sha256=HEX of the certificate or its public key".to_owned())
            }
            Level::None if self.min_tls.is_some() => {
                Err("level \"none\" has no TLS for min-tls: leave it out".to_owned())
            }
            other if other != Level::Fingerprint && !self.fingerprints.is_empty() => Err(format!(
                "level \"{level}\" ignores sha256: use level \"fingerprint\""
            )),
            _ if checks_no_name && !self.names.is_empty() => Err(format!(
                "level \"{level}\" requires no name: leave name out or use level \"verify\""
            )),
            _ if checks_no_name && self.ca_file.is_some() => Err(format!(
                "level \"{level}\" requires no CA: leave ca out or use level \"verify\""
            )),
            _ => Ok(()),
        }
    }
}

/// 64 hex digits, colons allowed: as everywhere in this library.
fn fingerprint(value: &str) -> Result<[u8; 32]> {
    let policy = crate::policy::Policy::new(Level::Fingerprint).fingerprint(value)?;
    let pin = policy.rules.fingerprints.first().copied();
    pin.ok_or_else(|| Error::invalid("there is no fingerprint"))
}

/// A destination as it is looked up: names in lower-case A-labels.
fn key(written: &str) -> std::result::Result<String, String> {
    let shown = printable(written.as_bytes());
    let name = |text: &str| match ServerName::parse(text).map_err(|e| e.message().to_owned())? {
        ServerName::Dns(name) => Ok(name),
        ServerName::Ip(ip) => Err(format!("\"{shown}\": write an address as [{ip}]")),
    };
    if written == "*" {
        return Ok(written.to_owned());
    }
    if let Some(parent) = written.strip_prefix('.') {
        return Ok(format!(".{}", name(parent)?));
    }
    if !written.starts_with('[') {
        return match written.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.contains(':') => {
                Err(format!(
                    "\"{shown}\": write a host with its port as [{}]:{}",
                    printable(host.as_bytes()),
                    port
                ))
            }
            _ => name(written),
        };
    }
    let Some((host, port)) = written.rsplit_once(']') else {
        return Err(format!("\"{shown}\" has no closing bracket"));
    };
    let inside = host.strip_prefix('[').unwrap_or(host);
    let host = match inside.strip_prefix("IPv6:") {
        Some(_) => ServerName::parse(&format!("{host}]")),
        None => ServerName::parse(inside),
    };
    let host = host.map_err(|e| e.message().to_owned())?;
    match port {
        "" => Ok(format!("[{host}]")),
        _ => {
            let number = port
                .strip_prefix(':')
                .filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
            match number.and_then(|p| p.parse::<u16>().ok()) {
                Some(number) if number > 0 => Ok(format!("[{host}]:{number}")),
                _ => Err(format!("\"{shown}\": the port is a number from 1 to 65535")),
            }
        }
    }
}
