//! Before a connection to a host that the caller names: what does its domain ask for?

use std::net::IpAddr;
use std::sync::Arc;

use super::Attempt;
use crate::dane::{host::Host, Found};
use crate::demand::{Demand, StsOfHost};
use crate::dns::Asking;
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::name::ServerName;
use crate::outcome::Domain;
use crate::protocol::Service;
use crate::rules::{LookedUp, Rules};
use crate::settle::Way;

impl Attempt {
    /// Looks up what the level heeds, unless the caller has handed it in or it is known already.
    ///
    /// # Errors
    /// That a look-up failed, or that no connection could meet the level.
    pub(crate) fn settled(mut self) -> Result<Self> {
        let mut settled = match self.look_up() {
            Ok(Some((host, lookups))) => self.demand(host, lookups)?,
            Ok(None) => self,
            Err(e) => return Err(self.fail(e)),
        };
        settled.recall();
        Ok(settled)
    }

    /// The same without asking anyone, for event loops and for programs with an SSL of their own.
    ///
    /// # Errors
    /// `invalid` at a level that is nothing without look-ups, where their answers were not handed in.
    pub(crate) fn settled_without_asking(self) -> Result<Self> {
        let asks = self.asks();
        let mut settled = match self.known() {
            Some(host) => self.demand(host, 0)?,
            None if asks && by_dane_alone(self.policy.rules.level) => {
                return Err(Error::invalid(format!(
                "level \"{}\" needs the host's TLSA records, and this call waits for no look-up: hand them \
                     in with their proof",
                self.policy.rules.level.as_str()
            )))
            }
            None => self,
        };
        if asks && settled.policy.rules.demand.is_none() {
            let note = "TLSA records were neither handed in nor looked up: this call waits for nothing";
            settled.outcome.notes.push(note.to_owned());
        }
        settled.recall();
        Ok(settled)
    }

    /// The addresses to dial that are known, or that the caller's own resolver knows; none: ask the system.
    ///
    /// # Errors
    /// That the look-up failed.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>> {
        let rules = &self.policy.rules;
        let known = rules.addresses.clone();
        let (Some(resolver), Some(name)) = (&rules.resolver, &self.host) else {
            return Ok(known);
        };
        let Some(dns) = name.sni().filter(|_| known.is_empty() && !is_never_signed(name)) else {
            return Ok(known);
        };
        let asking = Asking::new(resolver, self.deadline, rules.interrupt_hook);
        let found = asking.addresses(dns)?.records;
        if found.is_empty() {
            let message = format!("look up {dns}: it has no address");
            return Err(Error::new(Word::LookupFailed, message).temporary_if(false));
        }
        Ok(found)
    }

    /// Whether TLSA records count here: between mail servers where the level heeds them, elsewhere where the
    /// caller asks for DANE by name (RFC 7673).
    fn asks(&self) -> bool {
        let rules = &self.policy.rules;
        rules.demand.is_none() && rules.level.heeds_dane() && (self.is_smtp() || by_dane_alone(rules.level))
    }

    fn is_smtp(&self) -> bool {
        matches!(self.service, Some(Service::InBand(row)) if row.name == "smtp")
    }

    /// What is known without asking.
    fn known(&self) -> Option<Host> {
        let rules = &self.policy.rules;
        let name = self.host.as_ref().filter(|_| rules.demand.is_none())?;
        let handed_in = rules.tlsa_proof.filter(|_| rules.level.heeds_dane());
        match handed_in {
            Some(looked_up) => Some(handed(rules, name, looked_up)),
            // Neither an address nor this machine itself is in signed DNS (RFC 6761 §6.3).
            None if self.asks() && is_never_signed(name) => Some(Host::unasked(name, Found::Nothing)),
            None => None,
        }
    }

    fn look_up(&mut self) -> Result<Option<(Host, u32)>> {
        if let Some(host) = self.known() {
            return Ok(Some((host, 0)));
        }
        if !self.asks() {
            return Ok(None);
        }
        let Some(name) = &self.host else {
            return Ok(None);
        };
        let rules = &self.policy.rules;
        let resolver = rules.resolver()?;
        if !resolver.is_trusted() {
            // Said once for each connection, and no reason to stop all mail.
            let mut host = Host::unasked(name, Found::Nothing);
            host.notes.push(NO_DNSSEC.to_owned());
            return Ok(Some((host, 0)));
        }
        let port = rules.tlsa_port.or(self.outcome.peer.port);
        let port = port.or(self.service.map(|s| s.default_port())).unwrap_or(25);
        let asking = Asking::new(&resolver, self.deadline, rules.interrupt_hook);
        let host = Host::ask(&asking, name, None, Some(port))?;
        Ok(Some((host, asking.asked.get())))
    }

    /// Puts what was found into the rules of this connection.
    fn demand(mut self, host: Host, lookups: u32) -> Result<Self> {
        let rules = &self.policy.rules;
        let way = Way {
            name_from: rules.name_from,
            smtp: self.is_smtp(),
        };
        self.outcome.notes.extend(host.notes.iter().cloned());
        let domain = Domain {
            name: self.outcome.peer.name.clone().unwrap_or_default(),
            mx: None,
            policies: host.policy.iter().cloned().collect(),
            tlsrpt: None,
            lookups,
        };
        self.outcome.domain = Some(domain.clone());
        match Demand::new(rules.level, way, &host, StsOfHost::nothing(), &[], domain) {
            Ok(demand) => {
                self.outcome.effective = demand.effective;
                let rules = Arc::make_mut(&mut self.policy.rules);
                if rules.addresses.is_empty() {
                    rules.addresses = host.addresses;
                }
                rules.demand = Some(Arc::new(demand));
                Ok(self)
            }
            Err(e) => Err(self.fail(e)),
        }
    }
}

pub(crate) const NO_DNSSEC: &str =
    "DANE was not looked for: no resolver here is trusted to validate DNSSEC (one on this machine, or one \
     behind \"options trust-ad\" in resolv.conf)";

/// Levels that are nothing without TLSA records.
fn by_dane_alone(level: Level) -> bool {
    matches!(level, Level::Dane | Level::DaneOnly)
}

fn is_never_signed(name: &ServerName) -> bool {
    match name {
        ServerName::Ip(_) => true,
        ServerName::Dns(name) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The caller's own answer.
fn handed(rules: &Rules, name: &ServerName, looked_up: LookedUp) -> Host {
    let found = match looked_up {
        LookedUp::Answered(proof) => Found::of(&rules.tlsa, proof),
        LookedUp::Failed => Found::Failed(Error::new(
            Word::LookupFailed,
            "the caller's look-up of TLSA records failed",
        )),
    };
    let mut host = Host::unasked(name, found);
    host.policy = host.described(&rules.tlsa);
    host
}
