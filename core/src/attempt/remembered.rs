//! What an attempt knows of earlier ones, and leaves to later ones (memory.rs).

use std::time::SystemTime;

use super::Attempt;
use crate::memory::{self, Seen, Who};
use crate::outcome::{Effective, Outcome, ProvenBy, Role};
use crate::policy::Policy;
use crate::protocol::Service;

impl Attempt {
    /// Looks up who did TLS before, where it would matter: where the connection may go on in clear.
    pub(super) fn recall(&mut self) {
        let policy = self.policy.clone();
        let (Some(store), Effective::May) = (&policy.rules.cache, policy.rules.effective()) else {
            return;
        };
        let mut notes = Vec::new();
        if let Some(who) = who(&self.outcome, self.service, &policy) {
            self.seen = memory::recall(store, &who, SystemTime::now(), &mut notes);
        }
        self.note(notes);
    }

    /// Why this host may not go on in clear, though its domain asks for nothing.
    pub(crate) fn must_not_strip(&self) -> Option<String> {
        let seen = self.seen.filter(|seen| matches!(seen, Seen::Proven { .. }))?;
        let who = who(&self.outcome, self.service, &self.policy)?;
        Some(memory::message(&who, &seen))
    }

    /// It goes on in clear; that it did not do so before is worth a word.
    pub(crate) fn suspect(&mut self) {
        if let (Some(seen), Some(who)) = (self.seen, who(&self.outcome, self.service, &self.policy)) {
            let suspicion = memory::message(&who, &seen);
            self.outcome.suspicions.push(suspicion);
        }
    }

    /// It did TLS now.
    pub(crate) fn remember(&mut self, proven: Option<ProvenBy>) {
        let policy = self.policy.clone();
        let Some(store) = &policy.rules.cache else {
            return;
        };
        let mut notes = Vec::new();
        if let Some(who) = who(&self.outcome, self.service, &policy) {
            memory::record(store, &who, proven, SystemTime::now(), &mut notes);
        }
        self.note(notes);
    }

    /// That the cache is away is said once, whoever asked it.
    fn note(&mut self, notes: Vec<String>) {
        for note in notes {
            if !self.outcome.notes.contains(&note) {
                self.outcome.notes.push(note);
            }
        }
    }
}

/// Of whom something is to be remembered: only where TLS could be stripped.
fn who<'a>(outcome: &'a Outcome, service: Option<Service>, policy: &'a Policy) -> Option<Who<'a>> {
    let Some(Service::InBand(row)) = service else {
        return None;
    };
    if outcome.role != Role::Client {
        return None;
    }
    let host = outcome.peer.name.as_deref()?;
    let destination = policy.rules.destination.as_ref().and_then(|domain| domain.sni());
    Some(Who {
        destination: destination.unwrap_or(host),
        host,
        port: outcome.peer.port.unwrap_or(row.port),
        protocol: row.name,
    })
}
