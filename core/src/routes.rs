//! Where a domain's mail goes, and what must hold there: its MX hosts in their order, each with the policy that
//! this domain and this host ask for. Nothing is dialled here.
//!
//! A host's own look-ups are made when its turn comes: what the first host takes costs nobody the look-ups of
//! the others. MTA-STS is asked for only where DANE does not decide.

mod sts;
mod tlsrpt;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::settled::NO_DNSSEC;
use crate::attempt::Attempt;
use crate::dane::{host::Host, Found};
use crate::demand::{Demand, StsOfHost};
use crate::destinations::Destination;
use crate::dns::{Answer, Asking, Proof, Resolver};
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::mta_sts::Look;
use crate::mx::mail_hosts;
use crate::name::ServerName;
use crate::outcome::{Domain, NameFrom};
use crate::policy::Policy;
use crate::protocol::{find, Service};
use crate::settle::Way;
use crate::srv::service_hosts;
use crate::sys::Deadline;
use sts::DomainSts;

/// The hosts of a domain, to be tried in their order: [`next`](Routes::next) until one will do.
///
/// [`Session::connect_domain`](crate::Session::connect_domain) does that. For programs that dial themselves.
pub struct Routes {
    service: Service,
    /// As the table of destinations has it for this domain.
    policy: Policy,
    resolver: Resolver,
    domain: ServerName,
    mx: Option<Proof>,
    name_from: NameFrom,
    /// Names beside the host's that a certificate under a DANE-TA record may be for.
    nexthop: Vec<ServerName>,
    waiting: VecDeque<Waiting>,
    sts: DomainSts,
    /// The domain's TLSRPT record, once it was asked for.
    tlsrpt: Option<Option<String>>,
    /// Questions that were asked for no host in particular, and are not yet told of.
    asked: u32,
    notes: Vec<String>,
    deadline: Option<Deadline>,
}

/// A host whose turn has not come.
struct Waiting {
    /// What is asked for in the handshake: the host, or with SRV records the domain.
    name: ServerName,
    /// Where it is.
    target: ServerName,
    port: u16,
    addresses: Option<Answer<IpAddr>>,
}

/// One host that takes the domain's mail, with the policy that holds there.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name to give to `connect`, `upgrade` or a negotiation, in A-labels, or an address.
    pub host: String,
    /// The port to dial.
    pub port: u16,
    /// All that was looked up: the host's addresses, best first.
    pub addresses: Vec<IpAddr>,
    /// What must hold there. [Derived](Policy::derive) from the caller's, with all look-ups done.
    pub policy: Policy,
}

impl Route {
    /// What must hold with a host that the caller names, with the look-ups done that
    /// [`connect`](crate::Session::connect) makes itself. For event loops: a [`Negotiation`](crate::Negotiation)
    /// waits for nothing, so another thread calls this before. The addresses are empty where nobody asked for them.
    ///
    /// # Errors
    /// As [`connect`](crate::Session::connect), before it dials.
    pub fn to_host(protocol: &str, host: &str, port: u16, policy: &Policy) -> Result<Self> {
        let service = find(protocol)?;
        let port = if port == 0 { service.default_port() } else { port };
        let mut attempt = Attempt::client(Some(service), host, Some(port), policy)?;
        attempt.outcome.peer.port = Some(port);
        let mut attempt = attempt.settled()?;
        let notes = std::mem::take(&mut attempt.outcome.notes);
        let rules = attempt.policy.set();
        rules.notes = notes;
        rules.port = Some(port);
        Ok(Self {
            host: host.to_owned(),
            port,
            addresses: attempt.policy.rules.addresses.clone(),
            policy: attempt.policy,
        })
    }
}

impl Routes {
    /// Looks up which hosts take the mail of a domain (RFC 5321 §5.1), which may also be an address literal
    /// such as `[192.0.2.1]`.
    ///
    /// Waits for as long as the policy's time-out at most, as each [`next`](Routes::next) does.
    ///
    /// # Errors
    /// `null-mx` where the domain takes no mail; `lookup-failed` and `dns-bogus`; `invalid` for what is no
    /// domain, or where TLSA records, an address or a name for one host were set on the policy.
    pub fn find(domain: &str, policy: &Policy) -> Result<Self> {
        Self::look_up("smtp", domain, policy, None)
    }

    /// Looks up which hosts run a service of a domain by its SRV records (RFC 2782), such as `imaps`,
    /// `submission` or `xmpp`; where there are none it is the domain itself. What is checked is the
    /// domain's name (RFC 6125), by DANE the host's (RFC 7673).
    ///
    /// # Errors
    /// As [`find`](Routes::find).
    pub fn find_service(protocol: &str, domain: &str, policy: &Policy) -> Result<Self> {
        Self::look_up(protocol, domain, policy, None)
    }

    pub(crate) fn look_up(
        protocol: &str,
        domain: &str,
        policy: &Policy,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        let service = find(protocol)?;
        let name = ServerName::parse(domain)?;
        let rules = &policy.rules;
        if rules.tlsa_proof.is_some() || !rules.addresses.is_empty() || rules.demand.is_some() {
            return Err(Error::invalid(
                "TLSA records, their proof and an address are one host's: they cannot be handed in for a domain",
            ));
        }
        let resolver = rules.resolver()?;
        let (mut policy, listed) = policy.for_destination(Destination::Domain(&name.to_string()));
        // Such as that the list has expired: told of the first host.
        let notes = std::mem::take(&mut policy.set().notes);
        let mut routes = Self {
            service,
            sts: DomainSts::new(&name, listed),
            policy,
            resolver,
            mx: None,
            name_from: NameFrom::Caller,
            nexthop: Vec::new(),
            waiting: VecDeque::new(),
            tlsrpt: None,
            asked: 0,
            notes,
            domain: name,
            deadline,
        };
        // What is wrong with the policy is told before anyone is asked.
        let attempt = routes.attempt(&routes.domain, &routes.policy)?;
        match routes.find_hosts() {
            Ok(()) => Ok(routes),
            Err(e) => Err(routes.fail(attempt, e)),
        }
    }

    /// The next host, with its look-ups done; `None` when there is no other. An error is about this host
    /// alone: what its domain asks for could not be met there, or could not be found out.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Route>> {
        let waiting = self.waiting.pop_front()?;
        Some(self.route(waiting))
    }

    /// How many hosts have not had their turn.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all have had it.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next host's look-ups take no longer than this, whatever the policy's time-out is: for programs that
    /// give all hosts together a time, as [`connect_domain`](crate::Session::connect_domain) does.
    pub fn within(&mut self, time: Duration) {
        self.deadline = Some(Deadline::after(Some(time)));
    }

    pub(crate) fn service(&self) -> Service {
        self.service
    }

    /// The next host's time ends then, whatever the policy's time-out is.
    pub(crate) fn until(&mut self, deadline: Deadline) {
        self.deadline = Some(deadline);
    }

    fn deadline(&self) -> Deadline {
        let own = || Deadline::after(Some(self.policy.rules.timeout));
        self.deadline.unwrap_or_else(own)
    }

    fn find_hosts(&mut self) -> Result<()> {
        let resolver = self.resolver.clone();
        let asking = Asking::new(&resolver, self.deadline(), self.policy.rules.interrupt_hook);
        let found = if self.is_mail() {
            self.find_mail_hosts(&asking)
        } else {
            self.find_service_hosts(&asking)
        };
        self.asked = asking.asked.get();
        found
    }

    fn find_mail_hosts(&mut self, asking: &Asking<'_>) -> Result<()> {
        let rules = &self.policy.rules;
        let me = rules
            .client_name
            .iter()
            .filter_map(|me| ServerName::parse(me).ok());
        let port = rules.port.unwrap_or_else(|| self.service.default_port());
        let found = mail_hosts(asking, &self.domain, &me.collect::<Vec<_>>())?;
        self.mx = found.proof;
        self.nexthop = vec![self.domain.clone()];
        let expanded = found.expanded.as_deref().map(ServerName::parse);
        self.nexthop.extend(expanded.and_then(Result::ok));
        self.notes.extend(found.notes);
        self.name_from = match found.proof {
            // The caller's own name is what is checked.
            None => NameFrom::Caller,
            _ if found.implicit => NameFrom::Caller,
            Some(Proof::Secure) => NameFrom::Dnssec,
            Some(_) => NameFrom::InsecureDns,
        };
        // Without a policy `strict` has only the permanent `name-insecure` for hosts that insecure DNS names. What is
        // kept of an answer that nobody proved must not make it.
        if (rules.level, self.name_from) == (Level::Strict, NameFrom::InsecureDns) {
            self.sts.look = Look::NotWithout;
        }
        let mut addresses = found.addresses;
        self.waiting.extend(found.hosts.into_iter().map(|host| Waiting {
            name: host.name.clone(),
            target: host.name,
            port,
            addresses: addresses.take(),
        }));
        Ok(())
    }

    fn find_service_hosts(&mut self, asking: &Asking<'_>) -> Result<()> {
        let port = self.policy.rules.port;
        let itself = |domain: &ServerName, port: u16| Waiting {
            name: domain.clone(),
            target: domain.clone(),
            port,
            addresses: None,
        };
        if matches!(self.domain, ServerName::Ip(_)) {
            let port = port.unwrap_or_else(|| self.service.default_port());
            self.waiting.push_back(itself(&self.domain, port));
            return Ok(());
        }
        let service = format!("_{}._tcp", self.service.srv_name());
        let found = service_hosts(asking, &service, &self.domain)?;
        self.mx = Some(found.proof);
        self.nexthop = vec![self.domain.clone()];
        self.notes.extend(found.notes);
        if found.hosts.is_empty() {
            let port = port.unwrap_or_else(|| self.service.default_port());
            self.waiting.push_back(itself(&self.domain, port));
            return Ok(());
        }
        self.waiting.extend(found.hosts.into_iter().map(|host| Waiting {
            name: self.domain.clone(),
            target: host.name,
            port: port.unwrap_or(host.port),
            addresses: None,
        }));
        Ok(())
    }

    fn is_mail(&self) -> bool {
        matches!(self.service, Service::InBand(row) if row.name == "smtp")
    }

    /// An attempt for the outcome of what goes wrong before there is a connection.
    fn attempt(&self, host: &ServerName, policy: &Policy) -> Result<Attempt> {
        let mut attempt = Attempt::client(Some(self.service), &host.to_string(), None, policy)?;
        attempt.outcome.domain = Some(self.described(None));
        Ok(attempt)
    }

    fn fail(&self, mut attempt: Attempt, e: Error) -> Error {
        attempt.outcome.notes.extend(self.notes.iter().cloned());
        if let Some(domain) = &mut attempt.outcome.domain {
            domain.mx = self.mx;
            domain.lookups = self.asked;
        }
        attempt.fail(e)
    }

    fn described(&self, host: Option<&Host>) -> Domain {
        let tlsa = host.and_then(|host| host.policy.clone());
        Domain {
            name: self.domain.to_string(),
            mx: self.mx,
            policies: tlsa.into_iter().chain(self.sts.policy.clone()).collect(),
            tlsrpt: self.tlsrpt.clone().flatten(),
            lookups: self.asked,
        }
    }

    fn route(&mut self, waiting: Waiting) -> Result<Route> {
        let mut policy = self.policy.derive();
        let rules = policy.set();
        rules.name_from = self.name_from;
        rules.destination = Some(self.domain.clone());
        let mut attempt = self.attempt(&waiting.name, &policy)?;
        attempt.outcome.peer.port = Some(waiting.port);
        let mut host = Host::unasked(&waiting.target, Found::Nothing);
        let settled = self.settle(&waiting, &mut host);
        // What was said once need not be said of every host.
        let notes = std::mem::take(&mut self.notes);
        attempt.outcome.notes.extend(notes.iter().cloned());
        attempt.outcome.domain = Some(self.described(Some(&host)));
        self.asked = 0;
        let demand = settled.map_err(|e| attempt.fail(e))?;
        let rules = policy.set();
        rules.name_from = demand.name_from(self.name_from);
        rules.notes = notes;
        rules.addresses.clone_from(&host.addresses);
        if waiting.target != waiting.name && self.mx == Some(Proof::Secure) {
            // RFC 7673 §4: secure SRV records make the target a name of the domain's.
            rules.names.push(waiting.target.clone());
        }
        rules.demand = Some(Arc::new(demand));
        rules.port = Some(waiting.port);
        Ok(Route {
            host: waiting.name.to_string(),
            port: waiting.port,
            addresses: host.addresses,
            policy,
        })
    }

    /// The look-ups of one host, and what follows from them.
    fn settle(&mut self, waiting: &Waiting, host: &mut Host) -> Result<Demand> {
        let resolver = self.resolver.clone();
        let rules = Arc::clone(&self.policy.rules);
        let asking = Asking::new(&resolver, self.deadline(), rules.interrupt_hook);
        let way = Way {
            name_from: self.name_from,
            smtp: self.is_mail(),
        };
        // RFC 7673 §3.1: behind insecure SRV records there is no DANE. Behind insecure MX records a host's
        // own TLSA records bind at least the host.
        let heeds = rules.level.heeds_dane() && (self.is_mail() || self.mx == Some(Proof::Secure));
        if heeds && !resolver.is_trusted() && !self.notes.iter().any(|note| note == NO_DNSSEC) {
            self.notes.push(NO_DNSSEC.to_owned());
        }
        if self.tlsrpt.is_none() && rules.ask_tlsrpt && self.is_mail() {
            let record = tlsrpt::record(&self.domain.to_string(), &rules, &asking, &mut self.notes);
            self.asked = self.asked.saturating_add(asking.asked.replace(0));
            self.tlsrpt = Some(record?);
        }
        let port = heeds.then(|| rules.tlsa_port.unwrap_or(waiting.port));
        let asked = Host::ask(&asking, &waiting.target, waiting.addresses.clone(), port);
        self.asked = self.asked.saturating_add(asking.asked.replace(0));
        *host = asked?;
        self.notes.append(&mut host.notes);
        if host.addresses.is_empty() {
            let message = format!("{} has no address", waiting.target);
            return Err(Error::new(Word::LookupFailed, message).temporary_if(false));
        }
        let decided = matches!(host.found, Found::Usable(_) | Found::Failed(_))
            && way.name_from != NameFrom::InsecureDns;
        let sts = if decided || !rules.level.heeds_sts() || !self.is_mail() {
            StsOfHost::nothing()
        } else {
            let said = self.sts.of_host(&waiting.name, &rules, &asking, &mut self.notes);
            self.asked = self.asked.saturating_add(asking.asked.get());
            said?
        };
        let domain = self.described(Some(host));
        Demand::new(rules.level, way, host, sts, &self.nexthop, domain)
    }
}
