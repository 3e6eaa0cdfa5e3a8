//! What the peer's domain asks for, and what that makes of the level, for one connection.

use std::sync::Arc;
use std::time::Instant;

use crate::dane::Dane;
use crate::outcome::{Check, Domain, Effective};

/// What one connection must meet: the level, settled by what the peer's domain publishes.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) effective: Effective,
    /// The records to match where that is `dane`.
    pub(crate) dane: Option<Arc<Dane>>,
    /// What the MTA-STS policy says of this MX host.
    pub(crate) sts: Option<Check>,
    /// Whether the MTA-STS policy must hold beside DANE, as insecure MX records named the host.
    pub(crate) sts_too: bool,
    /// What was found, for the outcome.
    pub(crate) domain: Option<Domain>,
    pub(crate) notes: Vec<String>,
    /// Nothing that follows from it may be carried over for longer: TTL of the records, age of the policy.
    pub(crate) holds_until: Option<Instant>,
}

impl Demand {
    /// Nothing was asked and nothing is known.
    pub(crate) fn of(effective: Effective) -> Self {
        Self {
            effective,
            dane: None,
            sts: None,
            sts_too: false,
            domain: None,
            notes: Vec::new(),
            holds_until: None,
        }
    }
}
