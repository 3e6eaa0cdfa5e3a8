//! The record at `_mta-sts.DOMAIN`, which says that there is a policy and changes whenever the policy does
//! (RFC 8461 §3.1). It is a hint: nothing proves it, and nothing is believed because of it.
//!
//! ```text
//! _mta-sts.example.com.  IN TXT "v=STSv1; id=20160831085700Z;"
//! ```

use crate::text::printable;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Another id, another policy.
    pub(crate) id: String,
}

/// Reads the TXT records of the name, the strings of each joined.
///
/// None is no policy. The error is why there is one that cannot be used; to a sender that is the same, but
/// somebody should know.
pub(crate) fn parse(records: &[Vec<u8>]) -> Result<Option<Record>, String> {
    // "Records that do not begin with v=STSv1; are discarded"; the grammar lets spaces stand before the ";".
    let mut fields = records.iter().filter_map(|record| {
        let rest = record.strip_prefix(b"v=STSv1")?;
        trim_start(rest).strip_prefix(b";")
    });
    match (fields.next(), fields.count()) {
        (None, _) => Ok(None),
        (Some(fields), 0) => read(fields).map(Some),
        (Some(_), more) => Err(format!(
            "{} records begin with \"v=STSv1;\", where there must be one",
            more.saturating_add(1)
        )),
    }
}

/// What follows the first delimiter.
fn read(fields: &[u8]) -> Result<Record, String> {
    let mut id = None;
    let mut left = Some(fields);
    while let Some(rest) = left {
        let mut parts = rest.splitn(2, |b| *b == b';');
        let field = trim_start(parts.next().unwrap_or_default());
        left = parts.next();
        if field.is_empty() && left.is_none() {
            // The delimiter that may end the record.
            break;
        }
        // Spaces belong to a delimiter: without one behind them they are a fault.
        let field = if left.is_some() { trim_end(field) } else { field };
        let wrong = |what: &str| Err(format!("\"{}\" {what}", printable(field)));
        let mut halves = field.splitn(2, |b| *b == b'=');
        let (name, Some(value)) = (halves.next().unwrap_or_default(), halves.next()) else {
            return wrong("is no field name=value");
        };
        if !is_name(name) {
            return wrong("has no name that a field may have");
        }
        // All but the first of a field that is there twice are ignored (§3.2).
        if name == b"id" && id.is_none() {
            if !(1..=32).contains(&value.len()) || !value.iter().all(u8::is_ascii_alphanumeric) {
                return wrong("is no id of 1 to 32 letters and digits");
            }
            id = Some(value.iter().map(|b| char::from(*b)).collect());
        } else if value.is_empty() || !value.iter().all(|b| matches!(b, b'!'..=b'~') && *b != b'=') {
            return wrong("has no value that a field may have");
        }
    }
    match id {
        Some(id) => Ok(Record { id }),
        None => Err("the record has no id".to_owned()),
    }
}

/// The name of an extension, here and in the policy.
pub(super) fn is_name(name: &[u8]) -> bool {
    name.len() <= 32
        && name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
}

fn is_space(b: &u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().take_while(|b| is_space(b)).count();
    bytes.get(n..).unwrap_or_default()
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().rev().take_while(|b| is_space(b)).count();
    bytes.get(..bytes.len().saturating_sub(n)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{cases, Case};

    /// Each line is one TXT record.
    fn read_case(case: &Case) -> Result<Option<Record>, String> {
        let text = case.input.strip_suffix(b"\n").unwrap_or(&case.input);
        let records: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        parse(&records)
    }

    #[test]
    fn good_records() {
        for case in cases("mta_sts/good", "record", 15) {
            let found = read_case(&case).unwrap_or_else(|e| panic!("{}: {e}", case.file.display()));
            let found = found.map_or("none".to_owned(), |r| format!("id {}", r.id));
            assert_eq!(found, case.expected, "{}", case.file.display());
        }
        assert_eq!(parse(&[]), Ok(None));
    }

    #[test]
    fn bad_records() {
        for case in cases("mta_sts/bad", "record", 15) {
            let error = read_case(&case).expect_err(&case.file.display().to_string());
            assert!(error.contains(&case.expected), "{}: {error}", case.file.display());
        }
    }
}
