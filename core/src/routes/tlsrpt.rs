//! Whether a domain wants to hear how TLS with its hosts went (RFC 8460 §3).

use std::time::{Duration, SystemTime};

use crate::dns::Asking;
use crate::error::Result;
use crate::rules::Rules;
use crate::tlsrpt::Record;

/// A record may say how long it is good for; nobody is asked more often than this, nor less.
const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(5);
/// Who is kept waiting by a broken DNS need not wait at each delivery.
const AFTER_FAILURE: Duration = Duration::from_secs(5 * 60);

/// The record of a domain, kept or asked for; `None` where it has none, or none that can be read.
///
/// # Errors
/// Only what ends the whole call. Reports are worth no mail.
pub(super) fn record(
    domain: &str,
    rules: &Rules,
    asking: &Asking<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<String>> {
    let key = format!("tlsrpt/{domain}");
    if let Some(store) = &rules.cache {
        if let Some(kept) = store.get::<Option<String>>(&key, notes) {
            // What is no record is none, whoever has put it there.
            return Ok(kept
                .and_then(|kept| Record::parse(kept.as_bytes()).ok())
                .map(|r| r.text));
        }
    }
    let answer = asking.within(PATIENCE, |asking| asking.txt(&format!("_smtp._tls.{domain}")));
    let (record, ttl) = match answer {
        Ok(answer) => {
            let record = Record::find(&answer.records).unwrap_or_else(|e| {
                notes.push(format!("TLSRPT record of {domain}: {}", e.message()));
                None
            });
            (record.map(|r| r.text), answer.ttl.clamp(SHORTEST, LONGEST))
        }
        Err(e) if e.stopped() => return Err(e),
        Err(e) => {
            notes.push(format!("TLSRPT record of {domain}: {}", e.message()));
            (None, AFTER_FAILURE)
        }
    };
    if let (Some(store), Some(until)) = (&rules.cache, SystemTime::now().checked_add(ttl)) {
        store.put(&key, &record, until, notes);
    }
    Ok(record)
}
