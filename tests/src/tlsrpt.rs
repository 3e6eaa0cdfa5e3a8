//! What must hold of TLSRPT records and event lines, whatever is in them: for the fuzzer and for
//! `tests/tlsrpt.rs`.

use std::time::UNIX_EPOCH;

use starttls::tlsrpt::{Event, Period, Record, Reports, Rua};

/// The TXT records at a name, one a line.
///
/// # Panics
/// If what must hold does not.
pub fn record(input: &[u8]) {
    let records: Vec<&[u8]> = input.split(|b| *b == b'\n').collect();
    match Record::find(&records) {
        Ok(Some(record)) => {
            assert!((1..=16).contains(&record.rua.len()));
            for rua in &record.rua {
                let text = rua.to_string();
                assert!(
                    !text.contains(|c: char| c.is_control() || c.is_whitespace()),
                    "{text:?}"
                );
                match rua {
                    Rua::Mailto(address) => assert!(address.contains('@'), "{address:?}"),
                    Rua::Https(uri) => assert!(uri.is_ascii() && uri.len() > "https://".len(), "{uri:?}"),
                    _ => panic!("a kind that was not asked for: {rua:?}"),
                }
            }
            assert_eq!(Record::parse(record.text.as_bytes()).unwrap(), record);
        }
        Ok(None) => {}
        Err(e) => assert!(!e.message().contains(char::is_control), "{e:?}"),
    }
}

/// A line that a process hands to the one that folds.
///
/// # Panics
/// If what must hold does not.
pub fn event(input: &[u8]) {
    let Some(event) = std::str::from_utf8(input)
        .ok()
        .and_then(|line| Event::from_json(line).ok())
    else {
        return;
    };
    assert_eq!(Event::from_json(&event.to_json()).unwrap(), event);
    let day = Period::day(UNIX_EPOCH).unwrap();
    let mut reports = Reports::new("X", "a@b.test", day).unwrap();
    reports.add(&event);
    reports.add(&event);
    for report in reports.iter() {
        assert!(!report.file_name().contains(['/', '\0', '\n']));
        assert!(report
            .headers()
            .iter()
            .all(|(_, value)| !value.contains(char::is_control)));
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert!(!json["policies"].as_array().unwrap().is_empty());
    }
}
