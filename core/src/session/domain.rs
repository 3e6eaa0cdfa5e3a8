//! Connecting to a domain instead of a host: its hosts in their order, each by what it asks for.

use super::Session;
use crate::attempt::Attempt;
use crate::error::{Error, Result, Word};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::protocol::find;
use crate::routes::{Route, Routes};
use crate::sys::Deadline;

impl Session<'static> {
    /// Connects to a host that takes the mail of a domain (RFC 5321 §5.1), by what the domain asks of its senders:
    /// DANE (RFC 7672), MTA-STS (RFC 8461), the policy's table of destinations.
    ///
    /// The hosts are tried in the order of their MX records until one meets the policy. The outcome tells of each
    /// in [`attempts`](Outcome::attempts). The policy's time-out covers all of it; while others wait for their turn, a
    /// host gets half of what is left.
    ///
    /// # Errors
    /// As [`Routes::find`], and as [`connect`](Session::connect): of the last host, but of the last one that
    /// failed for the time being where there is one. With the domain's `attempts` and, in the message, all hosts.
    pub fn connect_domain(domain: &str, policy: &Policy) -> Result<Self> {
        Self::connect_service("smtp", domain, policy)
    }

    /// The same for another service of the domain, such as `imaps`, `submission` or `xmpp`, by its SRV records
    /// (RFC 2782). DANE by RFC 7673.
    ///
    /// # Errors
    /// As [`connect_domain`](Session::connect_domain).
    pub fn connect_service(protocol: &str, domain: &str, policy: &Policy) -> Result<Self> {
        let mut result = Self::try_all(protocol, domain, policy);
        if let Some(collector) = &policy.rules.collector {
            let events = match &result {
                Ok(session) => session.outcome().tlsrpt_events(),
                Err(e) => e.tlsrpt_events(),
            };
            // Of the others it would say the same.
            if let Some(Err(e)) = events
                .iter()
                .map(|event| collector.send(event))
                .find(Result::is_err)
            {
                match &mut result {
                    Ok(session) => session.outcome.notes.push(e.message().to_owned()),
                    Err(failed) => failed.note(e.message()),
                }
            }
        }
        result
    }

    fn try_all(protocol: &str, domain: &str, policy: &Policy) -> Result<Self> {
        let deadline = Deadline::after(Some(policy.time_limit()));
        let mut routes = Routes::look_up(protocol, domain, policy, Some(deadline))?;
        let mut tried = Tried::default();
        loop {
            let until = match routes.len() {
                0 | 1 => deadline,
                _ => deadline.halfway(),
            };
            routes.until(until);
            let Some(route) = routes.next() else {
                return Err(tried.into_error(domain));
            };
            let word = routes.service().word();
            match route.and_then(|route| Self::connect_route(word, &route, until)) {
                Ok(mut session) => {
                    // Before its own: where the handshake failed it has dialled this host twice.
                    session.outcome.attempts.splice(..0, tried.outcomes());
                    return Ok(session);
                }
                Err(e) if is_ours(&e) => return Err(tried.ended_by(e)),
                Err(e) => tried.0.push(e),
            }
            if deadline.is_past() {
                return Err(tried.into_error(domain));
            }
        }
    }

    fn connect_route(protocol: &str, route: &Route, until: Deadline) -> Result<Self> {
        let left = until.left().unwrap_or_else(|| route.policy.time_limit());
        if left.is_zero() {
            let e = Error::new(Word::Timeout, "no time is left after the look-ups");
            let service = find(protocol)?;
            return Err(
                Attempt::client(Some(service), &route.host, Some(route.port), &route.policy)?.fail(e),
            );
        }
        let policy = route.policy.derive().timeout(left)?;
        Self::connect(protocol, &route.host, route.port, &policy)
    }
}

/// Another host would not mend it.
fn is_ours(e: &Error) -> bool {
    e.stopped() || matches!(e.word(), Word::Invalid | Word::Unsupported | Word::Bug)
}

/// The hosts that would not do, in their order.
#[derive(Default)]
struct Tried(Vec<Error>);

impl Tried {
    /// The accounts of all connections, each once.
    fn outcomes(&self) -> Vec<Outcome> {
        self.0.iter().flat_map(accounts).collect()
    }

    /// Another error ends the call: with what happened at the hosts before.
    fn ended_by(&self, e: Error) -> Error {
        let mut all = accounts(&e);
        match all.pop() {
            Some(own) => with_attempts(e, own, self.outcomes().into_iter().chain(all).collect()),
            None => e,
        }
    }

    /// What to say when all have failed. One that may mend itself counts for more than one that will not: the
    /// message is worth keeping.
    fn into_error(mut self, domain: &str) -> Error {
        let temporary = self.0.iter().rposition(Error::temporary);
        let Some(index) = temporary.or(self.0.len().checked_sub(1)) else {
            return Error::new(Word::Timeout, format!("{domain}: no time was left for any host"));
        };
        let mut others = Vec::new();
        let mut messages = Vec::new();
        let mut own = None;
        for (i, e) in self.0.iter().enumerate() {
            let mut all = accounts(e);
            let host = all.last().and_then(|outcome| outcome.peer.name.clone());
            messages.push(format!("{}: {e}", host.as_deref().unwrap_or("?")));
            if i == index {
                own = all.pop();
            }
            others.append(&mut all);
        }
        let chosen = self.0.swap_remove(index);
        let chosen = match messages.len() {
            1 => chosen,
            _ => chosen.retold(format!(
                "no mail host of {domain} will do: {}",
                messages.join("; ")
            )),
        };
        match own {
            Some(own) => with_attempts(chosen, own, others),
            None => chosen,
        }
    }
}

/// What an error tells of each connection: earlier ones to the same host, then its own.
fn accounts(e: &Error) -> Vec<Outcome> {
    let Some(mut own) = e.outcome().cloned() else {
        return Vec::new();
    };
    let mut all = std::mem::take(&mut own.attempts);
    all.push(own);
    all
}

fn with_attempts(e: Error, mut own: Outcome, attempts: Vec<Outcome>) -> Error {
    own.attempts = attempts;
    e.with_outcome(own)
}
