//! Which hosts take a domain's mail (RFC 5321 §5.1): its MX hosts in their order, or the domain itself.
//!
//! DNS decides here whom mail goes to, so the proof of its answer goes with the list: DANE of an MX host says something
//! about the domain only if the MX records were secure (RFC 7672 §2.2.1). A domain may say that it takes no mail at
//! all (RFC 7505); a host that is us, and all that are less preferred, would send the mail round in a loop.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::dns::{random, Answer, Asking, Mx, Proof};
use crate::error::{Error, Result, Word};
use crate::name::ServerName;
use crate::text::printable;

/// Nobody has use for more (RFC 5321 §4.5.4.1 asks to try two at least); what is more costs us look-ups.
const MAX_HOSTS: usize = 20;

/// Where mail for a domain goes, in the order to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailHosts {
    /// As the caller named it.
    pub(crate) domain: ServerName,
    /// Where the domain's CNAMEs lead, if they are secure: a name that a DANE-TA certificate may be for as well
    /// (RFC 7672 §3.2.2).
    pub(crate) expanded: Option<String>,
    /// Of the MX records, or of their absence; `None` for an address literal, which needs no DNS.
    pub(crate) proof: Option<Proof>,
    /// There are no MX records: the domain is its own mail host.
    pub(crate) implicit: bool,
    /// The addresses of an implicit host, for which they had to be looked up.
    pub(crate) addresses: Option<Answer<IpAddr>>,
    /// At least one.
    pub(crate) hosts: Vec<MailHost>,
    pub(crate) ttl: Duration,
    /// What is wrong with the records, for people.
    pub(crate) notes: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailHost {
    pub(crate) name: ServerName,
    pub(crate) preference: u16,
}

/// Looks the hosts up. `me`: what we are called, to see a loop.
///
/// # Errors
/// `null-mx` where the domain takes no mail; `lookup-failed`, not temporary, where it does not exist, has no usable host
/// or only us; else as [`Asking::mx`].
pub(crate) fn mail_hosts(asking: &Asking<'_>, domain: &ServerName, me: &[ServerName]) -> Result<MailHosts> {
    let mut hosts = match domain {
        ServerName::Ip(_) => itself(domain, None, Duration::MAX),
        ServerName::Dns(name) => {
            let answer = asking.mx(name)?;
            if answer.no_such_name {
                return Err(permanent(format!("there is no domain {name}")));
            }
            if answer.is_empty() {
                implicit(asking, domain, name, &answer)?
            } else {
                explicit(domain, name, answer)?
            }
        }
    };
    if let Some(us) = hosts.hosts.iter().find(|host| me.contains(&host.name)).cloned() {
        hosts.loops_at(&us)?;
    }
    if hosts.hosts.len() > MAX_HOSTS {
        let note = format!(
            "{domain}: of {} mail hosts only {MAX_HOSTS} are used",
            hosts.hosts.len()
        );
        hosts.notes.push(note);
        hosts.hosts.truncate(MAX_HOSTS);
    }
    Ok(hosts)
}

impl MailHosts {
    /// This host turned out to be us: it and all that are not preferred to it are no way forward.
    ///
    /// # Errors
    /// `lookup-failed`, not temporary, if nothing is left.
    pub(crate) fn loops_at(&mut self, us: &MailHost) -> Result<()> {
        self.hosts.retain(|host| host.preference < us.preference);
        if self.hosts.is_empty() {
            return Err(permanent(format!(
                "mail for {} loops back to us: {} is our own name or address, and no host is preferred to it",
                self.domain, us.name
            )));
        }
        Ok(())
    }
}

fn permanent(message: String) -> Error {
    Error::new(Word::LookupFailed, message).temporary_if(false)
}

/// The domain is the host.
fn itself(domain: &ServerName, proof: Option<Proof>, ttl: Duration) -> MailHosts {
    MailHosts {
        domain: domain.clone(),
        expanded: None,
        proof,
        implicit: false,
        addresses: None,
        hosts: vec![MailHost {
            name: domain.clone(),
            preference: 0,
        }],
        ttl,
        notes: Vec::new(),
    }
}

fn implicit(asking: &Asking<'_>, domain: &ServerName, name: &str, answer: &Answer<Mx>) -> Result<MailHosts> {
    let addresses = asking.addresses(name)?;
    if addresses.is_empty() {
        return Err(permanent(format!(
            "{name} has no mail host: neither MX records nor an address"
        )));
    }
    Ok(MailHosts {
        expanded: expanded(name, answer),
        implicit: true,
        notes: addresses.note.iter().cloned().collect(),
        addresses: Some(addresses),
        ..itself(domain, Some(answer.proof), answer.ttl)
    })
}

fn explicit(domain: &ServerName, name: &str, answer: Answer<Mx>) -> Result<MailHosts> {
    let expanded = expanded(name, &answer);
    let mut notes = Vec::new();
    let mut found = Vec::new();
    let count = answer.records.len();
    for mx in answer.records {
        match ServerName::parse(&mx.exchange) {
            _ if mx.exchange.is_empty() && count == 1 => {
                return Err(Error::new(
                    Word::NullMx,
                    format!("{name} takes no mail: it says so with a null MX (RFC 7505)"),
                ));
            }
            // RFC 7505 §3 forbids it; the others are meant.
            _ if mx.exchange.is_empty() => {
                notes.push(format!("{name}: a null MX among others is ignored"));
            }
            Ok(host @ ServerName::Dns(_)) => found.push((mx.preference, random()?, host)),
            Ok(ServerName::Ip(ip)) => {
                notes.push(format!(
                    "{name}: MX host \"{ip}\" is an address instead of a name: skipped"
                ));
            }
            Err(e) => notes.push(format!("{name}: MX skipped: {}", e.message())),
        }
    }
    // What a hostile zone holds must not fill our log.
    notes.truncate(MAX_HOSTS);
    // Hosts of one preference in random order, to share the load (RFC 5321 §5.1).
    found.sort_by_key(|(preference, random, _)| (*preference, *random));
    let mut hosts = Vec::new();
    let mut seen = BTreeSet::new();
    for (preference, _, name) in found {
        if seen.insert(name.clone()) {
            hosts.push(MailHost { name, preference });
        }
    }
    if hosts.is_empty() {
        return Err(permanent(format!(
            "{name} has no usable mail host: {}",
            printable(notes.join("; ").as_bytes())
        )));
    }
    Ok(MailHosts {
        expanded,
        hosts,
        notes,
        ..itself(domain, Some(answer.proof), answer.ttl)
    })
}

/// The end of the domain's CNAMEs, if that is proven.
fn expanded<T>(name: &str, answer: &Answer<T>) -> Option<String> {
    (answer.proof == Proof::Secure && answer.name != name).then(|| answer.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::server::{mx, wire, Query, Server};
    use crate::dns::Resolver;
    use crate::sys::Deadline;

    const A: u16 = 1;
    const MX: u16 = 15;
    const CNAME: u16 = 5;

    fn hosts(domain: &str, me: &[&str], script: fn(&Query) -> Vec<Vec<u8>>) -> Result<MailHosts> {
        let server = Server::start(script);
        let resolver = Resolver::parse(&server.at.to_string()).unwrap();
        let deadline = Deadline::after(Some(Duration::from_secs(10)));
        let me: Vec<ServerName> = me.iter().map(|name| ServerName::parse(name).unwrap()).collect();
        let domain = ServerName::parse(domain).unwrap();
        mail_hosts(&Asking::new(&resolver, deadline, None), &domain, &me)
    }

    fn names(hosts: &MailHosts) -> Vec<String> {
        hosts.hosts.iter().map(|host| host.name.to_string()).collect()
    }

    fn refused(result: Result<MailHosts>, word: Word, why: &str) {
        let e = result.unwrap_err();
        assert_eq!(e.word(), word, "{e}");
        assert!(!e.temporary(), "{e}");
        assert!(e.message().contains(why), "{e}");
    }

    fn three(q: &Query) -> Vec<Vec<u8>> {
        let reply = q.reply().flag(0x20);
        let reply = reply.record(&q.name, MX, 300, &mx(20, "c.test"));
        let reply = reply.record(&q.name, MX, 300, &mx(10, "a.test"));
        let reply = reply.record(&q.name, MX, 300, &mx(30, "a.test"));
        reply.record(&q.name, MX, 300, &mx(10, "B.test")).sent()
    }

    #[test]
    fn in_order_of_preference_and_shuffled_among_equals() {
        let mut first = BTreeSet::new();
        for _ in 0..40 {
            let found = hosts("example.test", &["me.test"], three).unwrap();
            assert_eq!(found.proof, Some(Proof::Secure));
            assert!(!found.implicit && found.addresses.is_none());
            let names = names(&found);
            assert_eq!(names.len(), 3);
            assert_eq!(names[2], "c.test");
            first.insert(names[0].clone());
        }
        // Never both in 40 times: once in 2^39.
        assert_eq!(first.into_iter().collect::<Vec<_>>(), ["a.test", "b.test"]);
    }

    #[test]
    fn we_ourselves_and_what_is_behind_us_is_dropped() {
        let found = hosts("example.test", &["c.test"], three).unwrap();
        assert_eq!(found.hosts.len(), 2);
        refused(
            hosts("example.test", &["a.test"], three),
            Word::LookupFailed,
            "loops",
        );
        refused(
            hosts("192.0.2.1", &["192.0.2.1"], three),
            Word::LookupFailed,
            "loops",
        );
    }

    #[test]
    fn a_domain_that_takes_no_mail() {
        let null = |q: &Query| q.records(&[(&q.name, MX, mx(0, ""))], false);
        refused(hosts("example.test", &[], null), Word::NullMx, "RFC 7505");
        let two = |q: &Query| q.records(&[(&q.name, MX, mx(0, "")), (&q.name, MX, mx(9, "a.test"))], false);
        let found = hosts("example.test", &[], two).unwrap();
        assert_eq!(names(&found), ["a.test"]);
        assert!(found.notes[0].contains("null MX"));
    }

    #[test]
    fn a_domain_without_mx_is_its_own_host() {
        let address = |q: &Query| match q.kind {
            A => q.records(&[(&q.name, A, vec![192, 0, 2, 1])], true),
            _ => q.reply().soa("test", 300, 300).sent(),
        };
        let found = hosts("bücher.test", &[], address).unwrap();
        assert!(found.implicit);
        assert_eq!(names(&found), ["xn--bcher-kva.test"]);
        assert_eq!(found.proof, Some(Proof::Insecure));
        assert_eq!(found.addresses.unwrap().records.len(), 1);
        let none = |q: &Query| q.reply().soa("test", 300, 300).sent();
        refused(hosts("example.test", &[], none), Word::LookupFailed, "neither MX");
        let nxdomain = |q: &Query| q.reply().flag(3).soa("test", 300, 300).sent();
        refused(
            hosts("example.test", &[], nxdomain),
            Word::LookupFailed,
            "no domain",
        );
        let e = hosts("example.test", &[], |q| q.reply().flag(5).sent()).unwrap_err();
        assert!(e.word() == Word::LookupFailed && e.temporary(), "{e}");
    }

    #[test]
    fn aliases_keep_the_name_that_was_asked_for() {
        let secure = |q: &Query| {
            let reply = q
                .reply()
                .flag(0x20)
                .record(&q.name, CNAME, 300, &wire("real.test"));
            reply.record("real.test", MX, 300, &mx(1, "a.test")).sent()
        };
        let found = hosts("example.test", &[], secure).unwrap();
        assert_eq!(found.domain.to_string(), "example.test");
        assert_eq!(found.expanded.as_deref(), Some("real.test"));
        let insecure = |q: &Query| {
            let reply = q.reply().record(&q.name, CNAME, 300, &wire("real.test"));
            reply.record("real.test", MX, 300, &mx(1, "a.test")).sent()
        };
        assert_eq!(hosts("example.test", &[], insecure).unwrap().expanded, None);
    }

    #[test]
    fn names_that_are_none_are_skipped_and_too_many_cut() {
        let bad = |q: &Query| {
            let reply = q.reply().record(&q.name, MX, 1, &mx(1, "192.0.2.1"));
            let reply = reply.record(&q.name, MX, 1, &mx(1, "a b.test"));
            reply.record(&q.name, MX, 1, &mx(2, "good.test")).sent()
        };
        let found = hosts("example.test", &[], bad).unwrap();
        assert_eq!(names(&found), ["good.test"]);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        let only = |q: &Query| q.records(&[(&q.name, MX, mx(1, "a\r\nb.test"))], false);
        refused(hosts("example.test", &[], only), Word::LookupFailed, "no usable");
        let many = |q: &Query| {
            let mut reply = q.reply();
            for n in 0..60 {
                reply = reply.record(&q.name, MX, 1, &mx(n, &format!("m{n}.test")));
            }
            reply.sent()
        };
        let found = hosts("example.test", &[], many).unwrap();
        assert_eq!(found.hosts.len(), MAX_HOSTS);
        assert!(found.notes[0].contains("60"));
    }

    #[test]
    fn address_literals_need_no_dns() {
        for literal in ["[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            let found = hosts(literal, &[], |_| Vec::new()).unwrap();
            assert_eq!((found.proof, found.implicit), (None, false));
            assert!(matches!(found.hosts[0].name, ServerName::Ip(_)));
        }
    }
}
