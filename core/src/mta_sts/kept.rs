//! What is kept of a domain between deliveries, under two keys. The policy has one for itself: only a policy that
//! was fetched is ever written there, so nothing that goes wrong later, here or in another process, can take away
//! what it protects before its `max_age` is over (RFC 8461 §3.3, §10.2). The other is when the domain was last
//! asked and what came of it, so that not every delivery asks again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::fetch::{FetchFailure, FETCH_ERROR, POLICY_INVALID, WEBPKI_INVALID};
use super::policy::StsPolicy;
use crate::cache::Store;
use crate::outcome::StsMode;
use crate::text::printable;

/// How long a domain that was asked is not asked again.
pub(super) const CHECKED: Duration = Duration::from_secs(3600);
/// How long a policy host that failed is left alone where nothing is kept; §3.3: five minutes or longer.
pub(super) const FAILED: Duration = Duration::from_secs(300);
/// How old a policy becomes before it is fetched again; §3.3 suggests once a day.
/// By how much the clocks of a fleet may differ.
const SKEW: Duration = Duration::from_secs(86_400);
const REFRESH: Duration = Duration::from_secs(86_400);

/// A policy that was fetched, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) policy: StsPolicy,
    /// What the TXT record said then.
    pub(crate) id: String,
    pub(crate) fetched: SystemTime,
    /// It protects until then.
    pub(crate) expires: SystemTime,
}

impl Held {
    pub(super) fn new(policy: StsPolicy, id: String, fetched: SystemTime) -> Self {
        let expires = fetched.checked_add(policy.max_age).unwrap_or(fetched);
        Self {
            policy,
            id,
            fetched,
            expires,
        }
    }

    /// Whether it is time to fetch it again, although its id is the same.
    pub(super) fn grows_old(&self, now: SystemTime) -> bool {
        // A clock that was set back makes it no younger than new.
        let age = now.duration_since(self.fetched).unwrap_or_default();
        age >= REFRESH.min(self.half_life())
    }

    /// How long its domain need not be asked again.
    pub(super) fn patience(&self) -> Duration {
        CHECKED.min(self.half_life())
    }

    /// How long its host is left alone after a failure: once the policy is over the domain has no other protection.
    pub(super) fn pause(&self, now: SystemTime) -> Duration {
        let left = self.expires.duration_since(now).unwrap_or_default();
        self.patience().min(left.max(FAILED))
    }

    fn half_life(&self) -> Duration {
        self.policy.max_age.checked_div(2).unwrap_or_default()
    }

    /// §3.3: somebody should know of failures, unless the domain has said that it has no policy.
    pub(super) fn matters(&self) -> bool {
        self.policy.mode != StsMode::None
    }
}

/// What came of asking the domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Check {
    /// The policy that is kept stands.
    Same,
    /// There is no record.
    NoRecord,
    /// There is no policy to be had, of this id if the record had one; RFC 8460's word for it, and why.
    Failed {
        id: Option<String>,
        result: String,
        why: String,
        temporary: bool,
    },
}

impl Check {
    pub(super) fn failed(id: Option<&str>, failure: &FetchFailure) -> Self {
        Self::Failed {
            id: id.map(str::to_owned),
            result: failure.result.to_owned(),
            why: failure.why.clone(),
            temporary: failure.temporary,
        }
    }

    /// Whether the fetch of this id has failed.
    pub(super) fn has_failed(&self, of: &str) -> bool {
        matches!(self, Self::Failed { id: Some(id), .. } if id == of)
    }

    /// The failure again, marked as an old one.
    pub(super) fn failure(&self) -> Option<FetchFailure> {
        let Self::Failed {
            result,
            why,
            temporary,
            ..
        } = self
        else {
            return None;
        };
        let result = [POLICY_INVALID, WEBPKI_INVALID]
            .into_iter()
            .find(|word| word == result)
            .unwrap_or(FETCH_ERROR);
        Some(FetchFailure {
            result,
            why: format!("{} (some minutes ago)", printable(why.as_bytes())),
            temporary: *temporary,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Policy {
    id: String,
    /// Seconds since 1970.
    fetched: u64,
    /// The file as it was fetched.
    text: String,
}

/// The two entries of one domain; without a cache, of nothing.
pub(super) struct Shelf<'a> {
    pub(super) store: Option<&'a Store>,
    pub(super) domain: &'a str,
    pub(super) now: SystemTime,
}

impl Shelf<'_> {
    /// The policy, if it still protects. It is read again as if it came from its host: what is not a policy is
    /// none, whoever has put it there.
    pub(super) fn policy(&self, notes: &mut Vec<String>) -> Option<Held> {
        let kept: Policy = self.store?.get_at(&self.policy_key(), self.now, notes)?;
        match StsPolicy::parse(kept.text.as_bytes()) {
            Ok(policy) => {
                // Not later than now, whatever the clock was then.
                let written = UNIX_EPOCH.checked_add(Duration::from_secs(kept.fetched))?;
                let fetched = match written.duration_since(self.now) {
                    // A wrong clock: nobody knows how old it is. It holds, and is to be fetched anew.
                    Ok(ahead) if ahead > SKEW => self.now.checked_sub(policy.max_age.checked_div(2)?)?,
                    _ => written.min(self.now),
                };
                let held = Held::new(policy, kept.id, fetched);
                (self.now < held.expires).then_some(held)
            }
            Err(why) => {
                notes.push(format!(
                    "cache: the MTA-STS policy kept of {} was ignored: {why}",
                    self.domain
                ));
                None
            }
        }
    }

    /// Keeps a policy that was fetched now instead of any other.
    pub(super) fn keep(&self, held: &Held, text: &[u8], notes: &mut Vec<String>) {
        let Some(store) = self.store else {
            return;
        };
        if held.expires <= self.now {
            // max_age 0: from now on there is nothing to hold the domain to.
            store.remove(&self.policy_key(), notes);
            return;
        }
        let entry = Policy {
            id: held.id.clone(),
            fetched: held.fetched.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            // It was read as UTF-8.
            text: String::from_utf8_lossy(text).into_owned(),
        };
        store.put_at(&self.policy_key(), &entry, held.expires, self.now, notes);
    }

    /// What came of asking, as long as nobody need ask again.
    pub(super) fn check(&self, notes: &mut Vec<String>) -> Option<Check> {
        self.store?.get_at(&self.check_key(), self.now, notes)
    }

    /// Notes what came of asking, for so long.
    pub(super) fn note(&self, check: &Check, time: Duration, notes: &mut Vec<String>) {
        let until = self.now.checked_add(time);
        if let (Some(store), Some(until)) = (self.store, until.filter(|u| *u > self.now)) {
            store.put_at(&self.check_key(), check, until, self.now, notes);
        }
    }

    fn policy_key(&self) -> String {
        format!("sts/{}", self.domain)
    }

    fn check_key(&self) -> String {
        format!("sts-check/{}", self.domain)
    }
}
