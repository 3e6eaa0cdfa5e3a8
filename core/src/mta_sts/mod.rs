//! MTA-STS (RFC 8461): a mail domain says which hosts take its mail, and that they do TLS with certificates that
//! the web's CAs vouch for. Where DNSSEC is not to be had this is what keeps an attacker on the path from
//! stripping TLS or naming an MX host of his own.
//!
//! ```text
//! TXT _mta-sts.DOMAIN           there is a policy, and its id         record.rs
//! HTTPS mta-sts.DOMAIN          the policy, proven by PKIX            policy.rs (format), fetch.rs
//! for max_age                   the policy holds, whatever follows    kept.rs
//! ```
//!
//! The TXT record is unproven: whoever can forge it can hide a policy from one who has not seen it yet, and no
//! more. So no failed look-up ever lowers what is kept (§3.3): a policy goes by another policy, or by its age.

mod fetch;
mod kept;
mod policy;
mod record;
#[cfg(test)]
mod site;

use std::time::{Duration, SystemTime};

use crate::cache::Store;
use crate::dns::Asking;
use crate::error::{Error, Result, Word};
use crate::name::ServerName;
use crate::text::printable;
use fetch::{Patience, FETCH_ERROR, POLICY_INVALID};
use kept::{Check, Shelf, CHECKED, FAILED};
use record::Record;

pub(crate) use fetch::{FetchFailure, Web};
pub(crate) use kept::Held;
pub(crate) use policy::{Pattern, StsPolicy};
pub(crate) use record::parse as parse_record;

/// What a domain is found to want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It does not do MTA-STS.
    NoPolicy,
    /// This; its mode may be `none`.
    Policy { held: Box<Held>, from_cache: bool },
    /// It says that it has a policy, or nobody knows whether it has one, and there is none to be had. Mail goes on
    /// as without (§3.3).
    Unavailable(FetchFailure),
}

/// How hard to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Ask nobody who was asked not long ago.
    AsNeeded,
    /// The same, but where no policy is kept ask for the record in any case: nothing goes without a policy, and that
    /// there is none may be what an attacker said not long ago.
    NotWithout,
    /// Ask for the record in any case: no MX host matches, and the policy may have changed (§5.1).
    Again,
}

/// Whoever waits for a policy while an older one holds need not wait long for it.
const REFRESHING: Duration = Duration::from_secs(10);
const ASKING: Duration = Duration::from_secs(10);
const ASKING_AGAIN: Duration = Duration::from_secs(5);
/// §3.3 suggests a minute for the whole.
const FETCHING: Duration = Duration::from_secs(60);

/// The policy of a mail domain, kept or new. Each look-up and fetch takes at most half of the time that is left:
/// who keeps us waiting does not keep the mail.
///
/// # Errors
/// Only what ends the whole call: its deadline, or the caller's hook.
pub(crate) fn find(
    domain: &str,
    look: Look,
    asking: &Asking<'_>,
    store: Option<&Store>,
    web: &Web,
    now: SystemTime,
    notes: &mut Vec<String>,
) -> Result<Found> {
    let Ok(ServerName::Dns(domain)) = ServerName::parse(domain) else {
        return Ok(Found::NoPolicy);
    };
    let shelf = Shelf {
        store,
        domain: &domain,
        now,
    };
    let held = shelf.policy(notes);
    let check = shelf.check(notes);
    let check = match (&held, check) {
        // Something has gone on since: no policy was kept, or none any more.
        (None, Some(Check::Same)) => None,
        (Some(_), Some(_)) if look != Look::Again => return Ok(settled(held, None)),
        (None, Some(check)) if look == Look::AsNeeded => return Ok(settled(None, check.failure())),
        (_, check) => check,
    };

    let (record, ttl) = match ask(&domain, asking, held.is_some())? {
        Ok(answer) => answer,
        Err(failure) => {
            // Nobody knows. One who is kept waiting by a broken DNS need not wait at every delivery.
            if let Some(held) = &held {
                shelf.note(&Check::Same, FAILED.min(held.patience()), notes);
            }
            complain(held.as_ref(), &failure, notes);
            return Ok(settled(held, Some(failure)));
        }
    };
    let record = match (record, &held) {
        (Ok(Some(record)), _) => record,
        (Ok(None), None) => {
            shelf.note(&Check::NoRecord, ttl.min(CHECKED), notes);
            return Ok(Found::NoPolicy);
        }
        (Err(why), None) => {
            let failure = invalid_record(&domain, &why);
            shelf.note(&Check::failed(None, &failure), ttl.min(CHECKED), notes);
            return Ok(Found::Unavailable(failure));
        }
        // §3.1: the absence of a usable record removes no policy.
        (gone, Some(kept)) => {
            let why = gone.err().unwrap_or("there is none any more".to_owned());
            complain(Some(kept), &invalid_record(&domain, &why), notes);
            shelf.note(&Check::Same, kept.patience(), notes);
            return Ok(settled(held, None));
        }
    };

    if let Some(kept) = &held {
        if kept.id == record.id && !kept.grows_old(now) {
            shelf.note(&Check::Same, kept.patience(), notes);
            return Ok(settled(held, None));
        }
    }
    if let Some(check) = check.filter(|check| check.has_failed(&record.id)) {
        // §3.3: not again so soon, even if asked to look again.
        return Ok(settled(held, check.failure()));
    }
    match fetch(&domain, asking, web, held.is_some())? {
        Ok((policy, text)) => {
            let new = Held::new(policy, record.id, now);
            shelf.keep(&new, &text, notes);
            shelf.note(&Check::Same, new.patience(), notes);
            Ok(Found::Policy {
                held: Box::new(new),
                from_cache: false,
            })
        }
        Err(failure) => {
            let pause = held.as_ref().map_or(FAILED, |held| held.pause(now));
            shelf.note(&Check::failed(Some(&record.id), &failure), pause, notes);
            complain(held.as_ref(), &failure, notes);
            Ok(settled(held, Some(failure)))
        }
    }
}

/// What is kept goes before any failure.
fn settled(held: Option<Held>, failure: Option<FetchFailure>) -> Found {
    match (held, failure) {
        (Some(held), _) => Found::Policy {
            held: Box::new(held),
            from_cache: true,
        },
        (None, Some(failure)) => Found::Unavailable(failure),
        (None, None) => Found::NoPolicy,
    }
}

/// §3.3: those who run this should hear of a policy that cannot be refreshed before it is over.
fn complain(held: Option<&Held>, failure: &FetchFailure, notes: &mut Vec<String>) {
    if let Some(held) = held.filter(|held| held.matters()) {
        notes.push(format!(
            "MTA-STS: {}; the policy kept holds until {}",
            failure.why,
            humantime::format_rfc3339_seconds(held.expires)
        ));
    }
}

fn invalid_record(domain: &str, why: &str) -> FetchFailure {
    FetchFailure {
        result: POLICY_INVALID,
        why: format!("the TXT record at _mta-sts.{domain}: {why}"),
        temporary: false,
    }
}

type Asked = (std::result::Result<Option<Record>, String>, Duration);

/// The TXT record, and for how long it is said to stay so.
fn ask(domain: &str, asking: &Asking<'_>, is_held: bool) -> Result<std::result::Result<Asked, FetchFailure>> {
    let most = if is_held { ASKING_AGAIN } else { ASKING };
    let answer = asking.within(most, |asking| asking.txt(&format!("_mta-sts.{domain}")));
    match answer {
        Ok(answer) => Ok(Ok((record::parse(&answer.records), answer.ttl))),
        // Too long for a DNS name: then there is no such record.
        Err(e) if e.word() == Word::Invalid => Ok(Ok((Ok(None), Duration::ZERO))),
        Err(e) => lookup_failed(e, asking).map(Err),
    }
}

/// The policy, and its text.
fn fetch(
    domain: &str,
    asking: &Asking<'_>,
    web: &Web,
    is_held: bool,
) -> Result<std::result::Result<(StsPolicy, Vec<u8>), FetchFailure>> {
    let most = if is_held { REFRESHING } else { FETCHING };
    asking.within(most, |asking| {
        let addresses = match asking.addresses(&fetch::host(domain)) {
            Ok(answer) => answer.records,
            Err(e) if e.word() == Word::Invalid => Vec::new(),
            Err(e) if e.stopped() => return Err(e),
            Err(e) => return Ok(Err(as_failure(&e))),
        };
        let patience = Patience {
            deadline: asking.deadline,
            hook: asking.hook,
        };
        Ok(web
            .get(domain, addresses, patience)?
            .and_then(|text| match StsPolicy::parse(&text) {
                Ok(policy) => Ok((policy, text)),
                Err(why) => Err(FetchFailure {
                    result: POLICY_INVALID,
                    why: format!("the MTA-STS policy of {domain}: {why}"),
                    temporary: false,
                }),
            }))
    })
}

fn as_failure(e: &Error) -> FetchFailure {
    FetchFailure {
        result: FETCH_ERROR,
        why: e.message().to_owned(),
        temporary: e.temporary(),
    }
}

/// A look-up that failed, unless the whole call is over.
fn lookup_failed(e: Error, asking: &Asking<'_>) -> Result<FetchFailure> {
    if e.stopped() || asking.deadline.is_past() {
        return Err(e);
    }
    Ok(as_failure(&e))
}

/// All that can be seen of a domain's MTA-STS now, for `starttls check`: nothing is kept, nothing kept is used.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// The TXT records at the name, printable.
    pub(crate) records: Vec<String>,
    /// What they say; the error is why they are of no use.
    pub(crate) record: std::result::Result<Option<Record>, FetchFailure>,
    /// The policy, where a record says that there is one.
    pub(crate) policy: Option<std::result::Result<StsPolicy, FetchFailure>>,
}

/// Looks at a domain (A-labels).
///
/// # Errors
/// As [`find`].
pub(crate) fn picture(domain: &str, asking: &Asking<'_>, web: &Web) -> Result<Picture> {
    let answer = asking.within(ASKING, |asking| asking.txt(&format!("_mta-sts.{domain}")));
    let found = match answer {
        Ok(answer) => answer.records,
        Err(e) if e.word() == Word::Invalid => Vec::new(),
        Err(e) => {
            return Ok(Picture {
                records: Vec::new(),
                record: Err(lookup_failed(e, asking)?),
                policy: None,
            })
        }
    };
    let record = record::parse(&found).map_err(|why| invalid_record(domain, &why));
    let policy = match &record {
        Ok(None) => None,
        // Also where the record is broken: whoever mends it wants to know of the rest.
        Ok(Some(_)) | Err(_) => Some(fetch(domain, asking, web, false)?.map(|(policy, _)| policy)),
    };
    Ok(Picture {
        records: found.iter().map(|record| printable(record)).collect(),
        record,
        policy,
    })
}

#[cfg(test)]
mod tests;
