//! What the peer's domain asks for, and what that makes of the level, for one connection.

use std::sync::Arc;
use std::time::Instant;

use crate::dane::{host::Host, Dane, Found};
use crate::error::Result;
use crate::level::Level;
use crate::name::ServerName;
use crate::outcome::{Check, Domain, Effective, NameFrom};
use crate::settle::{settle, Sts, Way};

/// What one connection must meet: the level, settled by what the peer's domain publishes.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// The host that it is about, as it is asked for.
    pub(crate) host: ServerName,
    pub(crate) effective: Effective,
    /// The records to match where that is `dane`.
    pub(crate) dane: Option<Arc<Dane>>,
    /// What the MTA-STS policy says of this MX host.
    pub(crate) sts: Option<Check>,
    /// Whether the MTA-STS policy must hold beside DANE, as insecure MX records named the host.
    pub(crate) sts_too: bool,
    /// What was found, for the outcome.
    pub(crate) domain: Domain,
    /// Nothing that follows from it may be carried over for longer: TTL of the records, age of the policy.
    pub(crate) holds_until: Option<Instant>,
}

/// What MTA-STS says of one host, with what goes into the outcome.
#[derive(Clone, Debug)]
pub(crate) struct StsOfHost {
    pub(crate) says: Sts,
    pub(crate) check: Option<Check>,
    pub(crate) holds_until: Option<Instant>,
}

impl StsOfHost {
    pub(crate) fn nothing() -> Self {
        Self {
            says: Sts::Nothing,
            check: None,
            holds_until: None,
        }
    }
}

impl Demand {
    /// What must hold with this host. `names`: what a certificate under a DANE-TA record may also be for.
    ///
    /// # Errors
    /// Why no connection to it would do.
    pub(crate) fn new(
        level: Level,
        way: Way,
        name: &ServerName,
        host: &Host,
        sts: StsOfHost,
        names: &[ServerName],
        domain: Domain,
    ) -> Result<Self> {
        let settled = settle(level, way, &host.found, &sts.says)?;
        let dane = match (settled.effective, &host.found) {
            (Effective::Dane, Found::Usable(records)) => Some(Arc::new(Dane {
                records: records.clone(),
                base: host.base.clone(),
                names: names.iter().filter(|name| **name != host.base).cloned().collect(),
            })),
            _ => None,
        };
        let holds_until = match (host.holds_until, sts.holds_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Self {
            host: name.clone(),
            effective: settled.effective,
            dane,
            sts: sts.check,
            sts_too: settled.sts_too,
            domain,
            holds_until,
        })
    }

    /// Where the name comes from that is checked: a policy that names it vouches for it, where the MX records
    /// do not.
    pub(crate) fn name_from(&self, found: NameFrom) -> NameFrom {
        match (self.effective, found) {
            (Effective::Sts, NameFrom::InsecureDns) => NameFrom::MtaSts,
            _ => found,
        }
    }
}
