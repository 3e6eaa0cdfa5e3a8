//! Whom to ask: the system's servers, servers by address, a validator in this process, or the caller itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use super::message::{Found, Question};
use super::patience::Patience;
use super::resolv_conf::{self, all_loopback, PORT};
use super::stub::Stub;
use super::Proof;
use crate::error::{Error, Result};
use crate::rules::InterruptHook;
use crate::sys::Deadline;
use crate::text::printable;

/// Whom to ask in DNS, and whether the answers' proof counts. Cheap to clone; serves several threads, and the
/// children of a fork.
#[derive(Clone)]
pub struct Resolver {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Stub(Arc<Stub>),
    Custom(Arc<dyn Lookup>),
    #[cfg(feature = "unbound")]
    Unbound(Arc<super::unbound::Validator>),
}

/// Answers DNS questions, for those who have a resolver of their own.
///
/// Called on the thread that connects, several threads at once.
pub trait Lookup: Send + Sync {
    /// The records of this name and type (as a number: 1 A, 15 MX, 16 TXT, 28 AAAA, 33 SRV, 52 TLSA), or that there
    /// are none. The name is in A-labels, without its last dot. It should not take longer than `time_left`
    /// (`Duration::MAX`: no matter how long).
    ///
    /// # Errors
    /// That nobody knows now: [`Error::at_border`] with [`Word::LookupFailed`](crate::Word::LookupFailed). What does
    /// not validate is no error but an answer with [`Proof::Bogus`].
    fn look_up(&self, name: &str, kind: u16, time_left: Duration) -> Result<RawAnswer>;
}

/// The answer to a question, as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// The data of each record, names in it uncompressed; empty where there are none of this type.
    pub rdata: Vec<Vec<u8>>,
    /// What DNSSEC says of the whole answer, the CNAMEs on the way and a denial included.
    pub proof: Proof,
    /// How long it may be kept: the least TTL of all on the way, or of the denial (RFC 2308).
    pub ttl: Duration,
    /// The name at which the records are: the one asked for, or where its CNAMEs lead.
    pub name: String,
    /// No such name (NXDOMAIN), as opposed to no records of this type.
    pub no_such_name: bool,
}

/// One answer of a source, with what it leaves open.
pub(super) struct Raw {
    pub(super) answer: RawAnswer,
    /// Ends in a CNAME, with nothing about its target: ask for that.
    pub(super) goes_on: bool,
}

impl Resolver {
    /// The system's servers, as /etc/resolv.conf names them now, or the file in $STARTTLS_RESOLV_CONF (not in a
    /// set-id program); without a file the server on this machine. They are trusted to validate if all of them are on
    /// this machine, or with `options trust-ad`.
    ///
    /// # Errors
    /// `io` if the file is there and cannot be read.
    pub fn system() -> Result<Self> {
        Ok(Self::stub(resolv_conf::system()?))
    }

    /// Reads the text that C, Python and the command take:
    ///
    /// - `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, several with commas; ` trust-ad` behind says that they,
    ///   and the way to them, are trusted to validate (those on this machine are anyway);
    /// - `unbound`, `unbound:/etc/unbound/root.key`, `unbound:FILE@127.0.0.1:53`: validates in this process, with the
    ///   system's or this trust anchor, itself or behind these servers. Only in builds with the feature `unbound`.
    ///
    /// # Errors
    /// `invalid`, with what is wrong; `unsupported` for `unbound` in a build without it.
    pub fn parse(spec: &str) -> Result<Self> {
        let spec = spec.trim();
        if let Some(rest) = spec.strip_prefix("unbound") {
            if rest.is_empty() || rest.starts_with([':', '@']) {
                return Self::unbound(rest);
            }
        }
        let (list, trust_ad) = match spec.split_once(char::is_whitespace) {
            None => (spec, false),
            Some((list, option)) if option.trim() == "trust-ad" => (list, true),
            Some(_) => {
                return Err(wrong(
                    spec,
                    "only \"trust-ad\" may stand behind the addresses, after a space",
                ))
            }
        };
        let servers = addresses(list).map_err(|why| wrong(spec, &why))?;
        Ok(Self::stub(Stub {
            trusted: trust_ad || all_loopback(&servers),
            servers,
            ..resolv_conf::parse(b"")
        }))
    }

    /// The caller's own answers. Their proof counts as it is.
    pub fn custom(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            source: Source::Custom(lookup),
        }
    }

    /// Whether its answers prove anything. If not, every proof is [`Proof::Indeterminate`].
    pub fn is_trusted(&self) -> bool {
        match &self.source {
            Source::Stub(stub) => stub.trusted,
            Source::Custom(_) => true,
            #[cfg(feature = "unbound")]
            Source::Unbound(_) => true,
        }
    }

    fn stub(stub: Stub) -> Self {
        Self {
            source: Source::Stub(Arc::new(stub)),
        }
    }

    #[cfg(feature = "unbound")]
    fn unbound(rest: &str) -> Result<Self> {
        let (anchor, forward) = match rest.split_once('@') {
            None => (rest, Vec::new()),
            Some((anchor, list)) => (anchor, addresses(list).map_err(|why| wrong(rest, &why))?),
        };
        let anchor = anchor.strip_prefix(':').unwrap_or(anchor);
        let anchor = (!anchor.is_empty()).then(|| std::path::PathBuf::from(anchor));
        Ok(Self {
            source: Source::Unbound(Arc::new(super::unbound::Validator::new(anchor, forward)?)),
        })
    }

    #[cfg(not(feature = "unbound"))]
    fn unbound(_rest: &str) -> Result<Self> {
        Err(Error::new(
            crate::Word::Unsupported,
            "this build does not validate DNSSEC itself: build it with the feature \"unbound\", \
             or name a resolver that validates, such as one on this machine",
        ))
    }

    /// Asks all the questions at once where that can be.
    ///
    /// # Errors
    /// The outer one ends the whole call; the inner ones are of one question each.
    pub(super) fn ask(
        &self,
        questions: &[Question],
        deadline: Deadline,
        hook: Option<InterruptHook>,
    ) -> Result<Vec<Result<Raw>>> {
        match &self.source {
            Source::Stub(stub) => {
                let found = stub.ask(questions, Patience::new(deadline, hook))?;
                Ok(found
                    .into_iter()
                    .map(|found| found.map(|found| raw(found, stub.trusted)))
                    .collect())
            }
            Source::Custom(lookup) => questions
                .iter()
                .map(|question| {
                    if deadline.is_past() {
                        let message = format!("look up {question}: no time left to ask");
                        return Err(Error::new(crate::Word::Timeout, message));
                    }
                    let left = deadline.left().unwrap_or(Duration::MAX);
                    let answer = lookup.look_up(&question.name(), question.kind(), left);
                    Ok(answer.map(|answer| Raw {
                        answer,
                        goes_on: false,
                    }))
                })
                .collect(),
            #[cfg(feature = "unbound")]
            Source::Unbound(validator) => validator.ask(questions, deadline, hook),
        }
    }
}

fn raw(found: Found, trusted: bool) -> Raw {
    Raw {
        answer: RawAnswer {
            rdata: found.rdata,
            proof: match (trusted, found.authentic) {
                (false, _) => Proof::Indeterminate,
                (true, true) => Proof::Secure,
                (true, false) => Proof::Insecure,
            },
            ttl: found.ttl,
            name: found.name,
            no_such_name: found.no_such_name,
        },
        goes_on: found.goes_on,
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Stub(stub) => stub.fmt(f),
            Source::Custom(_) => f.write_str("Custom"),
            #[cfg(feature = "unbound")]
            Source::Unbound(validator) => validator.fmt(f),
        }
    }
}

fn wrong(spec: &str, why: &str) -> Error {
    let spec = printable(spec.as_bytes());
    Error::invalid(format!(
        "resolver \"{spec}\": {why}; give ADDRESS, ADDRESS:PORT or [IPV6]:PORT, several with commas, and \
         \" trust-ad\" behind if they are trusted to validate"
    ))
}

/// Nobody has more servers than this to ask.
const MAX_SERVERS: usize = 16;

fn addresses(list: &str) -> std::result::Result<Vec<SocketAddr>, String> {
    let servers: Vec<SocketAddr> = list
        .split(',')
        .map(|one| {
            let one = one.trim();
            server(one).ok_or_else(|| match one {
                "" => "there is no address".to_owned(),
                _ => format!("\"{}\" is no address of a server", printable(one.as_bytes())),
            })
        })
        .collect::<std::result::Result<_, _>>()?;
    if servers.len() > MAX_SERVERS {
        return Err(format!("there are more than {MAX_SERVERS} servers"));
    }
    Ok(servers)
}

/// `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]`, `[fe80::1%eth0]:53`.
fn server(text: &str) -> Option<SocketAddr> {
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (ip, "") => (ip, None),
            (ip, port) => (ip, Some(port.strip_prefix(':')?)),
        },
        None => match text.split_once(':') {
            Some((ip, port)) if !port.contains(':') => (ip, Some(port)),
            _ => (text, None),
        },
    };
    let port = match port {
        None => PORT,
        // `u16::from_str` takes a sign as well.
        Some(port) if port.starts_with('+') => return None,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    let (ip, scope) = match ip.split_once('%') {
        Some((ip, scope)) => (ip, Some(crate::sys::scope(scope)?)),
        None => (ip, None),
    };
    match (ip.parse().ok()?, scope) {
        (IpAddr::V6(ip), Some(scope)) => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
        (IpAddr::V4(_), Some(_)) => None,
        (ip, None) => Some(SocketAddr::new(ip, port)),
    }
}

#[cfg(test)]
impl Resolver {
    /// The same servers, whose AD does not count.
    pub(crate) fn untrusted(&self) -> Self {
        match &self.source {
            Source::Stub(stub) => Self::stub(Stub {
                trusted: false,
                ..(**stub).clone()
            }),
            _ => panic!("not a stub"),
        }
    }

    /// The servers, and whether they are trusted.
    pub(super) fn description(&self) -> String {
        match &self.source {
            Source::Stub(stub) => {
                let servers: Vec<String> = stub.servers.iter().map(ToString::to_string).collect();
                let trusted = if stub.trusted { "trusted" } else { "untrusted" };
                format!("{}, {trusted}", servers.join(" "))
            }
            _ => panic!("not a stub"),
        }
    }

    /// As a resolv.conf says, but these servers.
    pub(super) fn conf(text: &str, servers: &[SocketAddr]) -> Self {
        Self::stub(Stub {
            servers: servers.to_vec(),
            ..resolv_conf::parse(text.as_bytes())
        })
    }
}
