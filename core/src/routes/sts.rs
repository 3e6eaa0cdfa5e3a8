//! What MTA-STS says of a domain's hosts: asked once for the domain, and once more where it names none of them.

use std::time::{Instant, SystemTime};

use crate::demand::StsOfHost;
use crate::dns::Asking;
use crate::error::Result;
use crate::mta_sts::{self, Found, Look, StsPolicy};
use crate::name::ServerName;
use crate::outcome::{Check, CheckKind, DomainPolicy, PolicyType, StsMode};
use crate::rules::Rules;
use crate::settle::Sts;

/// A domain's policy, or why there is none.
pub(super) struct DomainSts {
    domain: ServerName,
    /// What the caller's STARTTLS Everywhere list says of it.
    listed: Option<StsPolicy>,
    /// How the domain is asked the first time.
    pub(super) look: Look,
    state: State,
    /// For the outcome.
    pub(super) policy: Option<DomainPolicy>,
    holds_until: Option<Instant>,
}

enum State {
    Unasked,
    Nothing,
    Unavailable(String),
    Policy {
        policy: StsPolicy,
        /// It came from the cache, and the domain may have another by now.
        may_be_old: bool,
    },
}

impl DomainSts {
    pub(super) fn new(domain: &ServerName, listed: Option<StsPolicy>) -> Self {
        Self {
            domain: domain.clone(),
            listed,
            look: Look::AsNeeded,
            state: State::Unasked,
            policy: None,
            holds_until: None,
        }
    }

    /// What it says of this host.
    ///
    /// # Errors
    /// Only what ends the whole call.
    pub(super) fn of_host(
        &mut self,
        host: &ServerName,
        rules: &Rules,
        asking: &Asking<'_>,
        notes: &mut Vec<String>,
    ) -> Result<StsOfHost> {
        if matches!(self.state, State::Unasked) {
            self.ask(self.look, rules, asking, notes)?;
        }
        let name = host.to_string();
        if let State::Policy {
            policy,
            may_be_old: true,
        } = &self.state
        {
            if policy.mode != StsMode::None && policy.matching(&name).is_none() {
                // RFC 8461 §5.1
                self.ask(Look::Again, rules, asking, notes)?;
            }
        }
        let says = match &self.state {
            State::Unasked | State::Nothing => Sts::Nothing,
            State::Unavailable(why) => Sts::Unavailable(why.clone()),
            State::Policy { policy, .. } => match policy.mode {
                StsMode::None => Sts::Nothing,
                StsMode::Testing => Sts::Testing,
                StsMode::Enforce => Sts::Enforce(names(policy, &name, &self.domain)),
            },
        };
        let check = match &self.state {
            State::Policy { policy, .. } if policy.mode != StsMode::None => Some(Check::new(
                CheckKind::Sts,
                names(policy, &name, &self.domain).err(),
            )),
            _ => None,
        };
        Ok(StsOfHost {
            says,
            check,
            holds_until: self.holds_until,
        })
    }

    fn ask(&mut self, look: Look, rules: &Rules, asking: &Asking<'_>, notes: &mut Vec<String>) -> Result<()> {
        let (domain, now) = (&self.domain, SystemTime::now());
        let name = domain.to_string();
        let web = rules.web();
        let found = mta_sts::find(&name, look, asking, rules.cache.as_ref(), web, now, notes)?;
        let mut failure = None;
        self.state = match found {
            Found::Policy { held, from_cache } => {
                let left = held.expires.duration_since(now).unwrap_or_default();
                self.holds_until = Instant::now().checked_add(left);
                State::Policy {
                    policy: held.policy.clone(),
                    may_be_old: from_cache && look != Look::Again,
                }
            }
            Found::NoPolicy => State::Nothing,
            Found::Unavailable(why) => {
                failure = Some(why.result);
                State::Unavailable(why.why)
            }
        };
        // The list holds where the domain's own word is not to be had.
        if !matches!(self.state, State::Policy { .. }) {
            if let Some(listed) = self.listed.take() {
                notes.push(format!("{name}: by the STARTTLS Everywhere list"));
                failure = None;
                self.state = State::Policy {
                    policy: listed,
                    may_be_old: false,
                };
            }
        }
        self.policy = match &self.state {
            State::Unasked | State::Nothing => None,
            State::Unavailable(why) => Some(described(domain, None, failure, Some(why.clone()))),
            State::Policy { policy, .. } => Some(described(domain, Some(policy), None, None)),
        };
        Ok(())
    }
}

/// Whether the policy names this host (RFC 8461 §4.1).
fn names(policy: &StsPolicy, host: &str, domain: &ServerName) -> std::result::Result<(), String> {
    if policy.matching(host).is_some() {
        return Ok(());
    }
    let patterns: Vec<String> = policy.mx.iter().map(ToString::to_string).collect();
    Err(format!(
        "{host} is no mail host by the MTA-STS policy of {domain}, which names {}",
        patterns.join(", ")
    ))
}

fn described(
    domain: &ServerName,
    policy: Option<&StsPolicy>,
    failure: Option<&'static str>,
    why: Option<String>,
) -> DomainPolicy {
    DomainPolicy {
        kind: PolicyType::Sts,
        domain: domain.to_string(),
        mode: policy.map(|policy| policy.mode),
        string: policy.map_or_else(Vec::new, |policy| policy.lines.clone()),
        mx_host: policy.map_or_else(Vec::new, |policy| {
            policy.mx.iter().map(ToString::to_string).collect()
        }),
        failure,
        why,
    }
}
