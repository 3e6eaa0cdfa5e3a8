//! Asking DNS what a host publishes: its addresses first, and only where those are secure its TLSA records
//! (RFC 7672 §2.2). Zones that are not signed have no DANE, and some of their name servers break when
//! they are asked for it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{as_text, Found};
use crate::dns::{Answer, Asking, Proof, Tlsa};
use crate::error::{Result, Word};
use crate::name::ServerName;
use crate::outcome::{DomainPolicy, PolicyType};

/// What a host publishes.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// All that it has; none where DNS does not know it.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) found: Found,
    /// Where the TLSA records are: the end of the host's CNAMEs, or the host itself.
    pub(crate) base: ServerName,
    /// The TLSA records for the outcome.
    pub(crate) policy: Option<DomainPolicy>,
    /// How long all of this may be relied on.
    pub(crate) holds_until: Option<Instant>,
    pub(crate) notes: Vec<String>,
}

impl Host {
    /// Nothing was asked.
    pub(crate) fn unasked(name: &ServerName, found: Found) -> Self {
        Self {
            addresses: Vec::new(),
            found,
            base: name.clone(),
            policy: None,
            holds_until: None,
            notes: Vec::new(),
        }
    }

    /// Asks for addresses, unless they are known, and where they are secure for the TLSA records of this port,
    /// if they matter.
    ///
    /// # Errors
    /// If the addresses cannot be looked up; or the deadline passes. That a look-up of TLSA records fails is
    /// an answer, [`Found::Failed`].
    pub(crate) fn ask(
        asking: &Asking<'_>,
        name: &ServerName,
        addresses: Option<Answer<IpAddr>>,
        tlsa_port: Option<u16>,
    ) -> Result<Self> {
        let mut host = Self::unasked(name, Found::Nothing);
        let dns = match name {
            ServerName::Dns(dns) => dns.as_str(),
            // It has no name at which records could be.
            ServerName::Ip(ip) => {
                host.addresses.push(*ip);
                return Ok(host);
            }
        };
        let addresses = match addresses {
            Some(addresses) => addresses,
            None => asking.addresses(dns)?,
        };
        host.addresses = addresses.records;
        host.notes.extend(addresses.note);
        host.keep_for(addresses.ttl);
        let Some(port) = tlsa_port.filter(|_| !host.addresses.is_empty()) else {
            return Ok(host);
        };
        // RFC 7672 §2.2.2: where the CNAMEs are secure the target's records are asked for first, else those of
        // the name itself; where only the first CNAME is secure, its own records alone.
        let mut bases = Vec::new();
        match addresses.proof {
            Proof::Secure => {
                if addresses.name != dns {
                    bases.push(addresses.name.as_str());
                }
                bases.push(dns);
            }
            Proof::Insecure if addresses.name != dns && asking.is_secure_alias(dns)? => bases.push(dns),
            Proof::Insecure | Proof::Indeterminate | Proof::Bogus => {}
        }
        for base in bases {
            let Ok(base) = ServerName::parse(base) else {
                continue;
            };
            host.ask_tlsa(asking, base, port)?;
            if !matches!(host.found, Found::Nothing) {
                break;
            }
        }
        Ok(host)
    }

    fn ask_tlsa(&mut self, asking: &Asking<'_>, base: ServerName, port: u16) -> Result<()> {
        let mut records = Vec::new();
        let found = match asking.tlsa(&format!("_{port}._tcp.{base}")) {
            Ok(answer) => {
                self.keep_for(answer.ttl);
                let found = Found::of(&answer.records, answer.proof);
                records = answer.records;
                found
            }
            // The caller's time is over, and with it the whole call.
            Err(e) if e.word() == Word::Timeout || e.stopped() => return Err(e),
            // A name so long that nothing fits before it has no records.
            Err(e) if e.word() == Word::Invalid => return Ok(()),
            Err(e) => Found::Failed(e),
        };
        if matches!(found, Found::Nothing) {
            return Ok(());
        }
        self.base = base;
        self.found = found;
        self.policy = self.described(&records);
        Ok(())
    }

    /// What was found, for the outcome.
    pub(crate) fn described(&self, records: &[Tlsa]) -> Option<DomainPolicy> {
        let failure = match &self.found {
            Found::Nothing => return None,
            Found::Usable(_) => None,
            Found::Unusable => Some(("tlsa-invalid", "none of the records can be used")),
            Found::Failed(e) => Some(("dnssec-invalid", e.message())),
        };
        Some(DomainPolicy {
            kind: PolicyType::Tlsa,
            domain: self.base.to_string(),
            mode: None,
            string: records.iter().map(as_text).collect(),
            mx_host: Vec::new(),
            failure: failure.map(|f| f.0),
            why: failure.map(|f| f.1.to_owned()),
            listed: false,
        })
    }

    fn keep_for(&mut self, ttl: Duration) {
        let until = Instant::now().checked_add(ttl);
        self.holds_until = match (self.holds_until, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}
