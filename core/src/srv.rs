//! Which hosts run a domain's service, where its SRV records say so (RFC 2782): for clients of mail boxes (RFC 6186),
//! XMPP (RFC 6120 §3.2) and others. As with MX, the proof of the answer goes with the list (RFC 7673 §3.1).

use std::time::Duration;

use crate::dns::{random, Asking, Proof, Srv};
use crate::error::{Error, Result, Word};
use crate::name::ServerName;

/// As for mail hosts.
const MAX_HOSTS: usize = 20;

/// Where a domain's service is, in the order to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceHosts {
    /// Of the SRV records, or of their absence.
    pub(crate) proof: Proof,
    /// None where there are no SRV records: the domain itself may have the service, at its usual port.
    pub(crate) hosts: Vec<ServiceHost>,
    pub(crate) ttl: Duration,
    /// What is wrong with the records, for people.
    pub(crate) notes: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceHost {
    pub(crate) name: ServerName,
    pub(crate) port: u16,
}

/// Looks the hosts of a service up, such as `_imaps._tcp`.
///
/// # Errors
/// `lookup-failed`, not temporary, where the domain says that it has no such service, or no usable host is named; else
/// as [`Asking::srv`].
pub(crate) fn service_hosts(asking: &Asking<'_>, service: &str, domain: &ServerName) -> Result<ServiceHosts> {
    let ServerName::Dns(domain) = domain else {
        return Err(Error::invalid(format!(
            "{domain} is an address: it has no SRV records"
        )));
    };
    let answer = asking.srv(&format!("{service}.{domain}"))?;
    let permanent = |message| Error::new(Word::LookupFailed, message).temporary_if(false);
    let named = answer.records.len();
    if answer.records.iter().any(|srv| srv.target.is_empty()) && named == 1 {
        return Err(permanent(format!(
            "{domain} has no service {service}: it says so with the target \".\" (RFC 2782)"
        )));
    }
    let mut notes = Vec::new();
    let mut hosts: Vec<ServiceHost> = Vec::new();
    for srv in ordered(answer.records)? {
        match ServerName::parse(&srv.target) {
            Ok(name @ ServerName::Dns(_)) if srv.port != 0 => {
                let host = ServiceHost { name, port: srv.port };
                if !hosts.contains(&host) && hosts.len() < MAX_HOSTS {
                    hosts.push(host);
                }
            }
            Ok(name) => notes.push(format!("{service}.{domain}: {name} port {} skipped", srv.port)),
            Err(e) => notes.push(format!("{service}.{domain}: skipped: {}", e.message())),
        }
    }
    notes.truncate(MAX_HOSTS);
    if hosts.is_empty() && named > 0 {
        let why = notes.join("; ");
        return Err(permanent(format!(
            "{service}.{domain} names no usable host: {why}"
        )));
    }
    Ok(ServiceHosts {
        proof: answer.proof,
        hosts,
        ttl: answer.ttl,
        notes,
    })
}

/// By priority; among equals at random, the weights as odds (RFC 2782, "Weight").
fn ordered(mut records: Vec<Srv>) -> Result<Vec<Srv>> {
    // More than a zone in good faith has, and the draw below costs their square.
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    records.truncate(MAX_HOSTS.saturating_mul(4));
    let mut ordered: Vec<Srv> = Vec::new();
    while let Some(first) = records.first() {
        let (mut equals, rest): (Vec<Srv>, Vec<Srv>) = records
            .iter()
            .cloned()
            .partition(|srv| srv.priority == first.priority);
        while !equals.is_empty() {
            let sum: u64 = equals.iter().map(|srv| u64::from(srv.weight)).sum();
            let draw = (u64::from(random()?) << 16) | u64::from(random()?);
            let draw = draw.checked_rem(sum.saturating_add(1)).unwrap_or(0);
            let mut running = 0_u64;
            let at = equals.iter().position(|srv| {
                running = running.saturating_add(u64::from(srv.weight));
                running >= draw
            });
            ordered.push(equals.remove(at.unwrap_or(0)));
        }
        records = rest;
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::server::{wire, Query, Server};
    use crate::dns::Resolver;
    use crate::sys::Deadline;

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
        let mut data = [priority, weight, port].map(u16::to_be_bytes).concat();
        data.extend(wire(target));
        data
    }

    fn hosts(script: impl FnMut(&Query) -> Vec<Vec<u8>> + Send + 'static) -> Result<ServiceHosts> {
        let server = Server::start(script);
        let resolver = Resolver::parse(&server.at.to_string()).unwrap();
        let asking = Asking::new(&resolver, Deadline::after(Some(Duration::from_secs(10))), None);
        let found = service_hosts(
            &asking,
            "_imaps._tcp",
            &ServerName::parse("example.test").unwrap(),
        );
        assert_eq!(server.asked()[0].name, "_imaps._tcp.example.test");
        found
    }

    #[test]
    fn priorities_are_kept_and_weights_are_odds() {
        let found = hosts(|q| {
            let one = |data| (q.name.as_str(), 33, data);
            q.records(
                &[one(srv(2, 0, 993, "b.test")), one(srv(1, 0, 994, "a.test"))],
                true,
            )
        })
        .unwrap();
        assert_eq!(found.proof, Proof::Secure);
        assert_eq!(found.hosts[0].name.to_string(), "a.test");
        assert_eq!((found.hosts[0].port, found.hosts[1].port), (994, 993));
        let record = |weight, target: &str| Srv {
            priority: 1,
            weight,
            port: 1,
            target: target.to_owned(),
        };
        let records = vec![record(90, "often"), record(10, "seldom"), record(0, "hardly")];
        let often = (0..300)
            .filter(|_| ordered(records.clone()).unwrap()[0].target == "often")
            .count();
        // Nine in ten, give or take more than six standard deviations.
        assert!((230..300).contains(&often), "{often}");
    }

    #[test]
    fn not_there_and_nothing_said() {
        let e = hosts(|q| q.records(&[(&q.name, 33, srv(0, 0, 0, ""))], false)).unwrap_err();
        assert!(e.word() == Word::LookupFailed && !e.temporary(), "{e}");
        assert!(e.message().contains("RFC 2782"), "{e}");
        let none = hosts(|q| q.reply().flag(3).soa("test", 60, 60).sent()).unwrap();
        assert!(none.hosts.is_empty());
        let bad = hosts(|q| q.records(&[(&q.name, 33, srv(0, 0, 1, "a b.test"))], false)).unwrap_err();
        assert!(bad.message().contains("no usable"), "{bad}");
    }
}
