//! What a policy knows of the peer's domain, and whom it asks.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::Policy;
use crate::cache::{Cache, Store};
use crate::destinations::{Destination, Destinations, Entry, Row};
use crate::dns::{Proof, Resolver, Tlsa};
use crate::error::{Error, Result, Word};
use crate::memory;
use crate::mta_sts::StsPolicy;
use crate::name::ServerName;
use crate::rules::LookedUp;
use crate::tlsrpt::Collector;

impl Policy {
    /// A TLSA record of the host (RFC 6698 §2) that the caller has looked up itself; may be called several
    /// times. For levels `dane`, `dane-only`, `opportunistic` and `strict`, and for one host: on a policy
    /// [derived](Policy::derive) for its connection. Say with [`tlsa_proof`](Policy::tlsa_proof) how far
    /// the answer is proven. A record that cannot be used is left out, as RFC 7672 wants it.
    #[must_use]
    pub fn tlsa(mut self, usage: u8, selector: u8, matching: u8, data: &[u8]) -> Self {
        self.set().tlsa.push(Tlsa {
            usage,
            selector,
            matching,
            data: data.to_vec(),
        });
        self
    }

    /// What DNSSEC says of the caller's own look-up of TLSA records. Unset, the library looks up; secure and
    /// no [record](Policy::tlsa) added: there are none. It must be weaker than secure where the host's
    /// addresses are (RFC 7672 §2.2).
    #[must_use]
    pub fn tlsa_proof(mut self, proof: Proof) -> Self {
        self.set().tlsa_proof = Some(LookedUp::Answered(proof));
        self
    }

    /// The caller's own look-up of TLSA records failed: a connection at a level that heeds them then fails
    /// with `lookup-failed`, and is not tried with less.
    #[must_use]
    pub fn tlsa_failed(mut self) -> Self {
        self.set().tlsa_proof = Some(LookedUp::Failed);
        self
    }

    /// Look TLSA records up for this port (`_25._tcp.…`), though another is dialled: behind a port
    /// forwarding, or where the caller has made the connection.
    #[must_use]
    pub fn tlsa_port(mut self, port: u16) -> Self {
        self.set().tlsa_port = Some(port);
        self
    }

    /// The port at which a domain's mail hosts are dialled; 25 if not set. Calls that name a host have
    /// a port of their own.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.set().port = Some(port);
        self
    }

    /// The port of the host that has a domain's MTA-STS policy; 443 if not set (RFC 8461 knows no other).
    #[must_use]
    pub fn sts_port(mut self, port: u16) -> Self {
        self.set().sts_port = Some(port);
        self.set().web = Arc::default();
        self
    }

    /// What the caller knows of destinations and does not want to learn from DNS: a table of lines, or
    /// a STARTTLS Everywhere list (JSON). Read now. What a row says replaces this policy's level and what
    /// goes with it, for that destination; the outcome has the row's level.
    ///
    /// ```text
    /// # destination           level        what goes with it
    /// example.org             verify       name=mx.example.net
    /// .example.org            encrypt      min-tls=1.3
    /// [mail.example.com]:587  fingerprint  sha256=5b1f…
    /// *                       may
    /// ```
    ///
    /// Attributes are `name=` (a name that the certificate may have instead of the host's), `sha256=`, `ca=`
    /// (a PEM file) and `min-tls=`.
    ///
    /// # Errors
    /// `invalid`, with the line and what to do about it.
    pub fn destinations(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.set().destinations = Some(Arc::new(Destinations::load(file.as_ref())?));
        Ok(self)
    }

    /// Where to keep what was learnt: MTA-STS policies, and who proved its name over TLS before. Without
    /// a cache nothing is remembered: each policy is fetched anew, and a peer that does not offer TLS any more
    /// is no surprise.
    #[must_use]
    pub fn cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.set().cache = Some(Store::new(cache));
        self
    }

    /// Tell the TLSRPT collector at this Unix socket (`tlsrpt-collectd`) how TLS went with each host of a domain
    /// that asks for reports (RFC 8460), in each [`connect_domain`](crate::Session::connect_domain). Where that
    /// fails the mail goes on, and the outcome has a note.
    ///
    /// # Errors
    /// `invalid` if the path is too long for a socket.
    pub fn tlsrpt(mut self, socket: impl AsRef<Path>) -> Result<Self> {
        self.set().collector = Some(Arc::new(Collector::new(socket)?));
        Ok(self.ask_tlsrpt())
    }

    /// Look a domain's TLSRPT record up, so that the outcome gives [events](crate::Outcome::tlsrpt_events)
    /// for [`Reports`](crate::tlsrpt::Reports) of one's own.
    #[must_use]
    pub fn ask_tlsrpt(mut self) -> Self {
        self.set().ask_tlsrpt = true;
        self
    }

    /// Forgets that a host, or a domain's hosts, did TLS before: for one that stops doing so and means it. What
    /// it proves later is remembered again.
    ///
    /// # Errors
    /// `invalid` without a [`cache`](Policy::cache) or for what is no name; `io` if the cache cannot be written.
    pub fn forget(&self, name: &str) -> Result<()> {
        let name = ServerName::parse(name)?;
        let Some(store) = &self.rules.cache else {
            return Err(Error::invalid(
                "this policy has no cache, and so nothing to forget",
            ));
        };
        let mut notes = Vec::new();
        memory::forget(store, &name.to_string(), SystemTime::now(), &mut notes);
        match notes.pop() {
            Some(why) => Err(Error::new(Word::Io, why)),
            None => Ok(()),
        }
    }

    /// The policy for this destination by the caller's table, and what a list says of it.
    pub(crate) fn for_destination(&self, destination: Destination<'_>) -> (Self, Option<StsPolicy>) {
        let Some(destinations) = &self.rules.destinations else {
            return (self.derive(), None);
        };
        let now = SystemTime::now();
        let mut policy = self.derive();
        let rules = policy.set();
        // What it says is said.
        rules.destinations = None;
        rules.notes.extend(destinations.expired(now));
        match destinations.find(destination, now) {
            Some(Row::Table(entry)) => {
                policy.obey(entry);
                (policy, None)
            }
            Some(Row::Listed(listed)) => (policy, Some(listed.clone())),
            None => (policy, None),
        }
    }

    fn obey(&mut self, entry: &Entry) {
        if let Some(file) = &entry.ca_file {
            self.shared = self.shared.trusting(file);
        }
        let rules = self.set();
        rules.level = entry.level;
        rules.fingerprints.clone_from(&entry.fingerprints);
        rules.min_tls = entry.min_tls.or(rules.min_tls);
        if let Some(file) = &entry.ca_file {
            rules.ca_file = Some(file.clone());
            rules.ca_path = None;
        }
        if !entry.names.is_empty() {
            rules.names.clone_from(&entry.names);
            rules.only_names = true;
        }
        if !entry.level.heeds_dane() {
            rules.tlsa.clear();
        }
    }

    /// Whom to ask for MX, address, TLSA and TXT records; [`Resolver::system`] if not set.
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.set().resolver = Some(resolver);
        self
    }
}
