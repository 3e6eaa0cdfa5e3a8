//! Who did TLS before. A box on the path that takes the offer of TLS away cannot take away that we have seen it.
//!
//! Kept is, for a destination, a host, its port and the protocol: since when and until when the host *proved* its
//! name over TLS (PKIX, DANE or a fingerprint), and, apart from that, when it last did TLS without proving anything.
//! A host that proved its name within the last 30 days and now does not offer TLS is `stripped`: an error, and a
//! temporary one. TLS without a proof gives a suspicion, and no more.
//!
//! Why it is hard to poison: who intercepts one connection with a certificate of his own leaves only what gives a
//! suspicion, and cannot make mail fail after he has gone. What is proven and what is not have different keys, so that
//! the one never overwrites or shortens the other, not even in a race. A forged MX names another host, which has a
//! key of its own: what that host proves says nothing about the real one. And nobody but us writes to the cache.
//!
//! Who stops doing TLS and means it is forgotten by a marker, because a cache cannot be asked for all its keys:
//! what is older than the marker counts as nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cache::Store;
use crate::outcome::ProvenBy;

/// So long after the last time it is forgotten.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// A busy destination is written down once in this time.
const FRESH: Duration = Duration::from_secs(3600);
/// By how much the clocks of a fleet may differ. What is further in the future was written by a wrong clock: nobody
/// knows how old it is, and it counts as nothing.
const SKEW: Duration = Duration::from_secs(86_400);

/// Of whom something is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    /// The domain that the mail is for, in A-labels; the host itself where the caller named it.
    pub(crate) destination: &'a str,
    /// The host that was reached, in A-labels, or an IP address.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) protocol: &'a str,
}

/// What is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It did TLS and proved its name.
    Proven {
        by: ProvenBy,
        first: SystemTime,
        last: SystemTime,
    },
    /// It did TLS, and may have been anybody.
    Unproven { last: SystemTime },
}

/// As it is kept; times in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Proof {
    by: ProvenBy,
    first: u64,
    last: u64,
}

/// The same for what is not proven, and for the marker of what is forgotten.
#[derive(Serialize, Deserialize)]
struct Once {
    at: u64,
}

impl Who<'_> {
    /// A space is in no name and no other part, so that no two of them have one key.
    fn key(&self, kind: &str) -> String {
        let names = format!("{} {}", self.host, self.destination).to_ascii_lowercase();
        format!("{kind}/{} {} {names}", self.protocol, self.port)
    }
}

/// What is remembered; a proof before all else.
pub(crate) fn recall(store: &Store, who: &Who<'_>, now: SystemTime, notes: &mut Vec<String>) -> Option<Seen> {
    if let Some(proof) = proof(store, who, now, notes) {
        return Some(Seen::Proven {
            by: proof.by,
            first: time(proof.first),
            last: time(proof.last),
        });
    }
    let last = unproven(store, who, now, notes)?;
    Some(Seen::Unproven { last: time(last) })
}

/// Remembers that it did TLS now, and what proved its name, if anything did.
pub(crate) fn record(
    store: &Store,
    who: &Who<'_>,
    proven: Option<ProvenBy>,
    now: SystemTime,
    notes: &mut Vec<String>,
) {
    let seconds = seconds(now);
    let expires = now.checked_add(KEPT).unwrap_or(now);
    if let Some(by) = proven {
        let before = proof(store, who, now, notes);
        if before.as_ref().is_some_and(|p| is_fresh(p.last, now)) {
            return;
        }
        let first = before.map_or(seconds, |p| p.first.min(seconds));
        let proof = Proof {
            by,
            first,
            last: seconds,
        };
        store.put_at(&who.key("proven"), &proof, expires, now, notes);
    } else if !unproven(store, who, now, notes).is_some_and(|at| is_fresh(at, now)) {
        store.put_at(&who.key("unproven"), &Once { at: seconds }, expires, now, notes);
    }
}

/// Forgets a host or a destination: what is known of it, under all protocols, ports and destinations or hosts, as of
/// now. What it proves later is remembered again.
pub(crate) fn forget(store: &Store, name: &str, now: SystemTime, notes: &mut Vec<String>) {
    // As long as anything may last that it speaks of.
    let expires = now
        .checked_add(KEPT)
        .and_then(|t| t.checked_add(SKEW))
        .unwrap_or(now);
    store.put_at(&marker(name), &Once { at: seconds(now) }, expires, now, notes);
}

/// The message of the error `stripped`, or of the suspicion where nothing was proven.
pub(crate) fn message(who: &Who<'_>, seen: &Seen) -> String {
    let host = who.host;
    match seen {
        Seen::Proven { by, first, last } => {
            let by = match by {
                ProvenBy::Pkix => "PKIX",
                ProvenBy::Dane => "DANE",
                ProvenBy::Fingerprint => "its fingerprint",
            };
            let (first, last) = (day(*first), day(*last));
            let when = if first == last {
                format!("on {first}")
            } else {
                format!("from {first} until {last}")
            };
            format!(
                "{host} offered TLS and proved its name by {by} {when}; now it does not offer TLS. \
                 If that is meant: forget it (`starttls forget {host}`)"
            )
        }
        Seen::Unproven { last } => {
            let last = day(*last);
            format!("{host} did TLS on {last}, without a proof of its name, and does not offer it now")
        }
    }
}

fn proof(store: &Store, who: &Who<'_>, now: SystemTime, notes: &mut Vec<String>) -> Option<Proof> {
    let found: Proof = store.get_at(&who.key("proven"), now, notes)?;
    is_remembered(store, who, found.last, now, notes).then_some(found)
}

fn unproven(store: &Store, who: &Who<'_>, now: SystemTime, notes: &mut Vec<String>) -> Option<u64> {
    let Once { at } = store.get_at(&who.key("unproven"), now, notes)?;
    is_remembered(store, who, at, now, notes).then_some(at)
}

/// Whether what was last so still counts.
fn is_remembered(store: &Store, who: &Who<'_>, last: u64, now: SystemTime, notes: &mut Vec<String>) -> bool {
    if is_ahead(last, now) || seconds(now).saturating_sub(last) >= KEPT.as_secs() {
        return false;
    }
    let mut is_forgotten = |name: &str| {
        let marker: Option<Once> = store.get_at(&marker(name), now, notes);
        marker.is_some_and(|m| last <= m.at && !is_ahead(m.at, now))
    };
    let same = who.host.eq_ignore_ascii_case(who.destination);
    !is_forgotten(who.host) && (same || !is_forgotten(who.destination))
}

fn marker(name: &str) -> String {
    format!("forgotten/{}", name.to_ascii_lowercase())
}

/// Within the last hour, or by a clock that is a little ahead of ours.
fn is_fresh(at: u64, now: SystemTime) -> bool {
    seconds(now).abs_diff(at) < FRESH.as_secs()
}

fn is_ahead(at: u64, now: SystemTime) -> bool {
    at > seconds(now).saturating_add(SKEW.as_secs())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// What no calendar reaches is 1970.
fn time(seconds: u64) -> SystemTime {
    const END: u64 = 253_402_300_799;
    let since = Duration::from_secs(if seconds > END { 0 } else { seconds });
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// As `2026-11-20`, UTC.
fn day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests;
