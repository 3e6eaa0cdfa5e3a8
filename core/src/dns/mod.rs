//! DNS with a proof of every answer: is it signed and validated, known to be unsigned, forged, or does
//! nobody here know?
//!
//! DNSSEC (RFC 4033 §5) is what lets a receiving domain say "I do TLS" in a way that nobody on the path can
//! take away. The AD bit of an answer counts only from a [`Resolver`] that is trusted: one on this machine,
//! one behind `options trust-ad` (resolv.conf(5)), one that the caller vouches for.

use std::cell::Cell;
use std::time::Duration;

use serde::Serialize;

use crate::rules::InterruptHook;
use crate::sys::Deadline;

mod asking;
#[cfg(test)]
mod data_tests;
mod fuzzed;
mod message;
mod patience;
mod rdata;
mod resolv_conf;
mod resolver;
#[cfg(test)]
pub(crate) mod server;
mod stub;
mod system;
mod tcp;
#[cfg(test)]
mod tests;
#[cfg(feature = "unbound")]
mod unbound;

pub(crate) use fuzzed::{fuzz_message, fuzz_resolv_conf};
pub use resolver::{Lookup, RawAnswer, Resolver};
pub(crate) use stub::random;
pub(crate) use system::SystemResolver;

/// What DNSSEC says of an answer (RFC 4033 §5, in its words).
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// Signed, and the signatures hold up to a trust anchor.
    Secure,
    /// Proven to be in a zone that is not signed.
    Insecure,
    /// Signed, and the signatures do not hold: forged or broken.
    Bogus,
    /// Nobody who is trusted has validated it.
    Indeterminate,
}

/// The answer to a question; no records where there are none of this type, or no such name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<T> {
    pub(crate) records: Vec<T>,
    /// Of the whole answer, the CNAMEs on the way included. Never `Bogus`: that is an error.
    pub(crate) proof: Proof,
    /// How long it may be kept: the least TTL of all on the way, or of the denial (RFC 2308).
    pub(crate) ttl: Duration,
    /// The name at which the records are: the one asked for, or where its CNAMEs lead (lower-case A-labels).
    pub(crate) name: String,
    /// No such name (NXDOMAIN), as opposed to no records of this type.
    pub(crate) no_such_name: bool,
    /// What else should be told: that one of two look-ups failed, and why.
    pub(crate) note: Option<String>,
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mx {
    pub(crate) preference: u16,
    /// Lower-case, without the last dot; empty for the root (null MX).
    pub(crate) exchange: String,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// Lower-case, without the last dot; empty for the root ("not available here").
    pub(crate) target: String,
}

/// One TLSA record (RFC 6698 §2), whatever is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tlsa {
    pub(crate) usage: u8,
    pub(crate) selector: u8,
    pub(crate) matching: u8,
    pub(crate) data: Vec<u8>,
}

/// The questions of one call: whom to ask, until when, and how many were asked.
pub(crate) struct Asking<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) deadline: Deadline,
    pub(crate) hook: Option<InterruptHook>,
    /// Questions that went out (a repetition to the same or the next server is none).
    pub(crate) asked: Cell<u32>,
}
