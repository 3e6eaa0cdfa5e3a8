//! The TXT record at `_smtp._tls.DOMAIN` by which a domain asks for reports (RFC 8460 §3).
//!
//! ```text
//! v=TLSRPTv1; rua=mailto:tls@example.com,https://reports.example.com/tls; later=extension
//! ```
//!
//! Read to the letter of the ABNF: unknown fields are passed over, a syntax error spoils the record. There is
//! no size limit behind a URI, as DMARC has it: an exclamation mark must be encoded.

use std::fmt;

use iri_string::percent_encode::decode::decode_whatwg_bytes;
use iri_string::types::UriStr;

use crate::error::{Error, Result, Word};
use crate::name::ServerName;
use crate::text::printable;

const VERSION: &[u8] = b"v=TLSRPTv1";
/// More than 30 URIs of honest length.
const MAX_RECORD: usize = 8192;
/// A report is sent to the first of these that takes it (§3); nobody needs more.
const MAX_URIS: usize = 16;

/// Where a domain wants its reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rua {
    /// A mail address.
    Mailto(String),
    /// A URI to POST to.
    Https(String),
}

impl fmt::Display for Rua {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailto(address) => write!(f, "mailto:{address}"),
            Self::Https(uri) => f.write_str(uri),
        }
    }
}

/// A TLSRPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where reports go, in the domain's order; never empty.
    pub rua: Vec<Rua>,
    /// The record as it was found.
    pub text: String,
}

impl Record {
    /// Looks for the record among all TXT records at the name, the strings of each joined. `None` if the
    /// domain has none; also if it has several, among which nobody can choose.
    ///
    /// # Errors
    /// `malformed` if there is one that is no valid record; the message says why.
    pub fn find<T: AsRef<[u8]>>(records: &[T]) -> Result<Option<Self>> {
        let mut ours = records.iter().map(AsRef::as_ref).filter(|r| is_version_1(r));
        match (ours.next(), ours.next()) {
            (Some(record), None) => Self::parse(record).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads one record.
    ///
    /// # Errors
    /// `malformed`; the message says why.
    pub fn parse(record: &[u8]) -> Result<Self> {
        if record.len() > MAX_RECORD {
            return Err(wrong(format_args!("it has {} bytes", record.len())));
        }
        if !is_version_1(record) {
            return Err(wrong("it does not begin with \"v=TLSRPTv1;\""));
        }
        let text = std::str::from_utf8(record)
            .ok()
            .filter(|t| t.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')))
            .ok_or_else(|| wrong("it has bytes that are not printable ASCII"))?;
        let mut fields: Vec<&str> = text.split(';').map(trim).collect();
        if fields.last() == Some(&"") {
            fields.pop();
        }
        let mut rua = Vec::new();
        for field in fields.into_iter().skip(1) {
            match field.strip_prefix("rua=") {
                Some(uris) => {
                    for uri in uris.split(',').map(trim) {
                        rua.extend(destination(uri)?);
                    }
                }
                None => extension(field)?,
            }
        }
        rua.truncate(MAX_URIS);
        if rua.is_empty() {
            return Err(wrong("it has no \"rua=\" with a mailto or https URI"));
        }
        Ok(Self {
            rua,
            text: text.to_owned(),
        })
    }
}

fn wrong(why: impl fmt::Display) -> Error {
    Error::new(Word::Malformed, format!("the TLSRPT record is not valid: {why}"))
}

/// WSP of the ABNF.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// §3: records that do not begin with "v=TLSRPTv1;" are discarded; the ABNF has *WSP before the semicolon.
fn is_version_1(record: &[u8]) -> bool {
    let rest = record.strip_prefix(VERSION).unwrap_or_default();
    rest.iter().find(|b| !matches!(b, b' ' | b'\t')) == Some(&b';')
}

/// tlsrpt-extension: valid, and passed over.
fn extension(field: &str) -> Result<()> {
    let shown = printable(field.as_bytes());
    let Some((name, value)) = field.split_once('=') else {
        return Err(wrong(format_args!("\"{shown}\" is no name=value")));
    };
    let good_name = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !good_name {
        return Err(wrong(format_args!("the name of \"{shown}\" is none")));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
        return Err(wrong(format_args!("the value of \"{shown}\" is none")));
    }
    Ok(())
}

/// A URI (RFC 3986); `None` for schemes that later versions may know.
fn destination(text: &str) -> Result<Option<Rua>> {
    let bad = |why: &str| {
        let shown = printable(text.as_bytes());
        wrong(format_args!("\"{shown}\" {why}"))
    };
    if text.contains('!') {
        return Err(bad(
            "has an exclamation mark, which must be encoded: TLSRPT has no size limits",
        ));
    }
    let uri = UriStr::new(text).map_err(|_| bad("is no URI"))?;
    match uri.scheme_str().to_ascii_lowercase().as_str() {
        "mailto" => {
            let decoded = decode_whatwg_bytes(uri.path_str().as_bytes());
            let address = decoded.into_string().map_err(|_| bad("is no mail address"))?;
            if !is_address(&address) {
                return Err(bad("is no mail address"));
            }
            Ok(Some(Rua::Mailto(address)))
        }
        "https" => {
            let authority = uri.authority_components().ok_or_else(|| bad("has no host"))?;
            if authority.userinfo().is_some() {
                return Err(bad("has a user name"));
            }
            ServerName::parse(authority.host()).map_err(|_| bad("has no valid host"))?;
            // RFC 3986 §3.2.3: a colon with nothing behind it is the default port.
            let port = authority.port().filter(|p| !p.is_empty());
            if port.is_some_and(|p| !matches!(p.parse::<u16>(), Ok(1..))) {
                return Err(bad("has no valid port"));
            }
            Ok(Some(Rua::Https(text.to_owned())))
        }
        _ => Ok(None),
    }
}

/// A dot-atom or something close to it, and a domain: what goes into an envelope and a header as it is.
pub(super) fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let clean = |c: char| !c.is_whitespace() && !"\"(),:;<>@[\\]".contains(c);
    (1..=64).contains(&local.len())
        && local.chars().all(clean)
        // Nothing that controls, hides or misleads.
        && printable(local.as_bytes()) == local
        && domain.chars().all(clean)
        && matches!(ServerName::parse(domain), Ok(ServerName::Dns(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// The cases of a directory: the name of the file, its TXT records and the lines with this key.
    fn cases(directory: &str, key: &str) -> Vec<(String, Vec<Vec<u8>>, Vec<String>)> {
        let directory = Path::new("../tests/tlsrpt").join(directory);
        let mut cases = Vec::new();
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(text.starts_with("# "), "{name} begins with its reason");
            let (mut records, mut values) = (Vec::new(), Vec::new());
            for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
                let (word, rest) = line.split_once(' ').unwrap();
                match word {
                    "TXT" => records.push(unescape(rest)),
                    _ if word == key => values.push(rest.to_owned()),
                    _ => panic!("{name}: {line}"),
                }
            }
            cases.push((name, records, values));
        }
        cases
    }

    /// `\xNN` as that byte.
    fn unescape(text: &str) -> Vec<u8> {
        let mut parts = text.split("\\x");
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (hex, rest) = part.split_at(2);
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            bytes.extend(rest.as_bytes());
        }
        bytes
    }

    #[test]
    fn good_records_are_read_and_others_passed_over() {
        let cases = cases("good", "RUA");
        assert!(cases.len() >= 10);
        for (name, records, expected) in cases {
            let found = Record::find(&records).unwrap_or_else(|e| panic!("{name}: {e}"));
            let rua: Vec<String> = found.iter().flat_map(|r| &r.rua).map(Rua::to_string).collect();
            assert_eq!(rua, expected, "{name}");
            if let Some(found) = found {
                assert!(records.contains(&found.text.into_bytes()), "{name}");
            }
        }
    }

    #[test]
    fn bad_records_are_told_why() {
        let cases = cases("bad", "WHY");
        assert!(cases.len() >= 10);
        for (name, records, why) in cases {
            let e = Record::find(&records)
                .map(|r| panic!("{name}: {r:?}"))
                .unwrap_err();
            assert_eq!(e.word(), Word::Malformed, "{name}");
            assert!(e.message().contains(&why[0]), "{name}: {e}");
        }
    }

    #[test]
    fn a_record_is_bounded() {
        let long = format!("v=TLSRPTv1; rua=mailto:a@b.test; x={}", "y".repeat(MAX_RECORD));
        assert!(Record::find(&[long]).is_err());
        let many = format!("v=TLSRPTv1; rua={}", vec!["mailto:a@b.test"; 100].join(","));
        assert_eq!(Record::find(&[many]).unwrap().unwrap().rua.len(), MAX_URIS);
    }
}
