//! What this library itself puts into a cache, and what it believes of what comes back.
//!
//! A cache may be shared by a fleet, lie on a full disk or be a caller's own code. So every entry comes in an
//! envelope of its own: a line that names the format, a line with a checksum (SHA-256) of all that follows, and
//! JSON with the key, the time of its end and the value. What is truncated, damaged, of another key or of another
//! format is ignored, and a note says so. The checksum is no signature: whoever may write to the cache may write
//! what he likes, which is why a cache is a place that only we write to.
//!
//! Nothing here fails: without a cache everything goes on as if it had nothing.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::sha::sha256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Cache, MAX_VALUE};
use crate::text::{hex, printable};

/// The first line of every entry. Another format gets another number.
const FORMAT: &str = "starttls-cache 1";
/// SHA-256 in hex.
const CHECKSUM: usize = 64;
/// Nothing is kept for longer: MTA-STS allows a year (RFC 8461 §3.2), which may be a leap year.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// By how much the clocks of a fleet may differ.
const SKEW: Duration = Duration::from_secs(86_400);
/// How the one note begins that says that the cache is away.
const AWAY: &str = "cache: it cannot be used now, and all goes on without it: ";

/// A cache with types.
#[derive(Clone)]
pub(crate) struct Store(Arc<dyn Cache>);

/// What the JSON of an entry is.
#[derive(Serialize, Deserialize)]
struct Envelope<K, T> {
    key: K,
    /// Seconds since 1970.
    expires: u64,
    value: T,
}

impl Store {
    pub(crate) fn new(cache: Arc<dyn Cache>) -> Self {
        Self(cache)
    }

    /// The value that was put under this key, unless it has expired.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str, notes: &mut Vec<String>) -> Option<T> {
        self.get_at(key, SystemTime::now(), notes)
    }

    /// Keeps it until then, and for a year at most.
    pub(crate) fn put<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        expires: SystemTime,
        notes: &mut Vec<String>,
    ) {
        self.put_at(key, value, expires, SystemTime::now(), notes);
    }

    /// Takes it away.
    pub(crate) fn remove(&self, key: &str, notes: &mut Vec<String>) {
        if let Err(e) = guarded(|| self.0.remove(key)) {
            away(&e, notes);
        }
    }

    /// As [`get`](Self::get), at a time that the caller names.
    pub(crate) fn get_at<T: DeserializeOwned>(
        &self,
        key: &str,
        now: SystemTime,
        notes: &mut Vec<String>,
    ) -> Option<T> {
        let bytes = match guarded(|| self.0.get(key)) {
            Ok(bytes) => bytes?,
            Err(e) => {
                away(&e, notes);
                return None;
            }
        };
        match open(&bytes, key, now) {
            Ok(value) => value,
            Err(why) => {
                let note = format!(
                    "cache: the entry {} {why} and was ignored",
                    printable(key.as_bytes())
                );
                say_once(note, notes);
                None
            }
        }
    }

    /// As [`put`](Self::put), at a time that the caller names.
    pub(crate) fn put_at<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        expires: SystemTime,
        now: SystemTime,
        notes: &mut Vec<String>,
    ) {
        let expires = now.checked_add(LONGEST).map_or(expires, |last| expires.min(last));
        let Some(bytes) = seal(key, value, expires) else {
            let note = format!("cache: {} is too large to be kept", printable(key.as_bytes()));
            say_once(note, notes);
            return;
        };
        if let Err(e) = guarded(|| self.0.put(key, &bytes, expires)) {
            away(&e, notes);
        }
    }
}

/// An entry as it is kept; `None` if it is too large (or cannot be written as JSON: none of ours).
fn seal<T: Serialize>(key: &str, value: &T, expires: SystemTime) -> Option<Vec<u8>> {
    let envelope = Envelope {
        key,
        expires: seconds(expires),
        value,
    };
    let body = serde_json::to_string(&envelope).ok()?;
    let sum = hex(&sha256(body.as_bytes()));
    Some(format!("{FORMAT}\n{sum}\n{body}").into_bytes()).filter(|bytes| bytes.len() <= MAX_VALUE)
}

/// What is in the envelope; `None` if its time is over.
///
/// # Errors
/// Why it is not to be believed.
fn open<T: DeserializeOwned>(bytes: &[u8], key: &str, now: SystemTime) -> Result<Option<T>, &'static str> {
    const DAMAGED: &str = "is damaged";
    if bytes.len() > MAX_VALUE {
        return Err("is too large");
    }
    let rest = bytes
        .strip_prefix(FORMAT.as_bytes())
        .ok_or("is of another format")?;
    let rest = rest.strip_prefix(b"\n").ok_or("is of another format")?;
    let (sum, rest) = rest.split_at_checked(CHECKSUM).ok_or(DAMAGED)?;
    let body = rest.strip_prefix(b"\n").ok_or(DAMAGED)?;
    if hex(&sha256(body)).as_bytes() != sum {
        return Err(DAMAGED);
    }
    // The value only after the key: what is of another key may be of another type.
    let envelope: Envelope<String, &serde_json::value::RawValue> =
        serde_json::from_slice(body).map_err(|_| DAMAGED)?;
    if envelope.key != key {
        return Err("belongs to another key");
    }
    if envelope.expires <= seconds(now) {
        return Ok(None);
    }
    // A clock that was in the future once must not make it eternal.
    if envelope.expires.saturating_sub(seconds(now)) > LONGEST.saturating_add(SKEW).as_secs() {
        return Err("ends in more than a year");
    }
    serde_json::from_str(envelope.value.get())
        .map(Some)
        .map_err(|_| "is not understood")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A cache may be a caller's code: its panic ends here.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        // Dropping it is the caller's code again.
        std::mem::forget(payload);
        Err(io::Error::other("it panicked"))
    })
}

/// Says that the cache is away, once for the notes of one connection.
fn away(e: &io::Error, notes: &mut Vec<String>) {
    if !notes.iter().any(|n| n.starts_with(AWAY)) {
        // The error may be a caller's, and to write it his code.
        let why = guarded(|| Ok(e.to_string())).unwrap_or_else(|_| "(it does not say why)".into());
        notes.push(format!("{AWAY}{}", printable(why.as_bytes())));
    }
}

fn say_once(note: String, notes: &mut Vec<String>) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

#[cfg(test)]
mod tests;
