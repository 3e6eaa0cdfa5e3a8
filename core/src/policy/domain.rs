//! What a policy knows of the peer's domain, and whom it asks.

use super::Policy;
use crate::dns::{Proof, Resolver, Tlsa};
use crate::rules::LookedUp;

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
        self
    }

    /// Whom to ask for MX, address, TLSA and TXT records; [`Resolver::system`] if not set.
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.set().resolver = Some(resolver);
        self
    }
}
