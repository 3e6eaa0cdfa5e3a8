//! STARTTLS for mail software: negotiate, upgrade, check, and say what was obtained.
//!
//! ```text
//! a Protocol knows the dialog  ->  Negotiation plays it (no I/O)
//!   ->  one TLS handshake, every check run and recorded
//!   ->  Outcome: what did happen  ->  judge(Policy, Outcome): the one decision
//!   ->  Session: read / write / close
//! ```
//!
//! A [`Policy`] is what must hold; an [`Outcome`] is what did; only [`judge`] compares them. Security
//! is never a bool: plain text always says *because*, an identity names its evidence, and a name
//! says where it came from.
//!
//! ```no_run
//! use starttls::{Policy, Session};
//!
//! let policy = Policy::strict();
//! let session = Session::connect("smtp", "mail.example.org", 587, &policy)?;
//! session.write_all(b"EHLO client.example.org\r\n")?;
//! let mut reply = [0; 1024];
//! let n = session.read(&mut reply)?;
//! session.close()?;
//! # Ok::<(), starttls::Error>(())
//! ```
//!
//! Between mail servers it is the receiving domain that can demand what nobody on the path can hide.
//! [`Session::connect_domain`] finds its mail hosts and what it asks for:
//!
//! ```text
//! dns        answers, each with a Proof        mx      hosts in their order
//! dane       TLSA records of a host            mta_sts policy of a domain, kept in a cache
//!   ->  settle(level, what was found): what must hold with this host  ->  connect, and judge as above
//! memory     who proved its name before        tlsrpt  what the domain is told of it
//! ```
//!
//! Programs that dial themselves take its [`Routes`].
//!
//! A server answers its client's upgrade command with [`Session::accept`]. An event loop drives a
//! [`Negotiation`] and then a session's `try_…` calls; it is the same machine that `connect`, `upgrade` and
//! `accept` drive by waiting. A program that keeps its own `SSL *` takes the checks alone: [`foreign`].
//!
//! No threads, no signal handlers, no settings that are global: a policy made before `fork` serves the children
//! of a single-threaded parent; a session belongs to one process.

mod attempt;
pub mod cache;
#[cfg(test)]
mod cases;
mod channel;
mod command;
mod connection;
mod dane;
mod demand;
mod destinations;
mod dial;
mod dialog;
mod dns;
mod engine;
mod error;
mod establish;
#[doc(hidden)]
pub mod fuzz;
mod handshake;
mod level;
mod memory;
mod mta_sts;
mod mx;
mod name;
mod negotiation;
mod outcome;
mod policy;
pub mod protocol;
mod refusal;
mod routes;
mod rules;
mod session;
mod settle;
mod srv;
mod survey;
mod sys;
mod text;
mod tls;
pub mod tlsrpt;
mod transcript;
mod transport;
mod verdict;
mod wire;

#[cfg(feature = "redis")]
pub use cache::RedisCache;
pub use cache::{Cache, DirectoryCache, MemoryCache};
pub use connection::Connection;
pub use dialog::Stage;
pub use dns::{Lookup, Proof, RawAnswer, Resolver};
pub use engine::Want;
pub use error::{Error, Result, Word};
pub use level::{Level, MinTls};
pub use negotiation::Negotiation;
pub use outcome::{
    Because, Certificate, Channel, Check, CheckKind, Domain, DomainPolicy, Effective, Identity, Line,
    Milliseconds, NameFrom, Outcome, Peer, PolicyType, ProvenBy, Role, Speaker, StsMode, Tls,
};
pub use policy::{judge, Policy};
pub use routes::{Route, Routes};
pub use rules::InterruptHook;
pub use session::{Ready, Session};
pub use survey::{Fault, HostSurvey, MxSurvey, StsSurvey, Survey, TlsrptSurvey};
pub use sys::borrow_fd;
pub use tls::foreign;
pub use verdict::Shortfall;

/// The README's Rust example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
