//! The policy file is fetched from `https://mta-sts.DOMAIN/.well-known/mta-sts.txt` (RFC 8461 §3.3), over our own
//! TLS. This is the one thing that proves a policy: the host's certificate, by the system's trust store, whatever
//! CA the caller's own policy names for mail hosts.
//!
//! ```text
//! C: GET /.well-known/mta-sts.txt HTTP/1.1
//! S: HTTP/1.1 200 OK
//! S: Content-Type: text/plain
//! ```
//!
//! Nothing else of the answer is believed: no redirect, no cookie, no time to keep it. There is one deadline for
//! all of it, and a body that may have been cut off is none.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use super::policy::MAX_SIZE;
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::policy::Policy;
use crate::rules::InterruptHook;
use crate::session::{Ready, Session};
use crate::sys::{wait_any, Deadline};
use crate::text::printable;
use crate::wire::http::{unchunk, Body, Head, Http};
use crate::wire::{Cursor, Framing, Uncut};

/// The time that §3.3 suggests.
const LONGEST: Duration = Duration::from_secs(60);

/// No honest host has more to say before its answer.
const MAX_INFORMATIONAL: u32 = 8;

/// Why there is no policy file, in the words of RFC 8460 §4.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchFailure {
    /// `sts-policy-fetch-error`, `sts-policy-invalid` or `sts-webpki-invalid`.
    pub(crate) result: &'static str,
    pub(crate) why: String,
    pub(crate) temporary: bool,
}

pub(crate) const FETCH_ERROR: &str = "sts-policy-fetch-error";
pub(crate) const POLICY_INVALID: &str = "sts-policy-invalid";
pub(crate) const WEBPKI_INVALID: &str = "sts-webpki-invalid";

/// How policy files are fetched.
#[derive(Clone)]
pub(crate) struct Web {
    policy: Policy,
    port: u16,
}

/// Until when, and who may end it before.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) deadline: Deadline,
    pub(crate) hook: Option<InterruptHook>,
}

impl Web {
    /// By the system's trust store, at the port that RFC 8461 knows.
    pub(crate) fn new(preload_ca: bool) -> Self {
        let policy = Policy::new(Level::Verify);
        Self {
            policy: match preload_ca {
                true => policy.preload_ca(),
                false => policy,
            },
            port: 443,
        }
    }

    /// Reads what is to be read now.
    ///
    /// # Errors
    /// As [`Policy::ready`].
    pub(crate) fn ready(&self) -> Result<()> {
        self.policy.ready()
    }

    /// At another port.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// By another trust than the system's.
    #[cfg(test)]
    pub(crate) fn trusting(ca_file: &std::path::Path) -> Self {
        Self {
            policy: Policy::new(Level::Verify).ca_file(ca_file).unwrap(),
            port: 443,
        }
    }

    /// The policy file of a domain (A-labels), from one of the addresses of its [`host`].
    ///
    /// # Errors
    /// The outer one ends the whole call: the caller's hook says to end.
    pub(crate) fn get(
        &self,
        domain: &str,
        addresses: Vec<IpAddr>,
        patience: Patience,
    ) -> Result<std::result::Result<Vec<u8>, FetchFailure>> {
        let patience = Patience {
            deadline: patience.deadline.or_after(LONGEST),
            ..patience
        };
        match self.try_get(domain, addresses, patience) {
            Ok(body) => Ok(Ok(body)),
            Err(Trouble::Stop(e)) => Err(e),
            Err(Trouble::Failed(mut failure)) => {
                failure.why = format!("{}: {}", self.address_of(domain), failure.why);
                Ok(Err(failure))
            }
        }
    }

    fn try_get(
        &self,
        domain: &str,
        addresses: Vec<IpAddr>,
        patience: Patience,
    ) -> std::result::Result<Vec<u8>, Trouble> {
        let host = host(domain);
        let time = patience.deadline.left().unwrap_or(LONGEST);
        if time.is_zero() {
            return Err(late());
        }
        if addresses.is_empty() {
            // Session would look the name up by itself, elsewhere than the caller wants it looked up.
            return Err(failed(FETCH_ERROR, "the host has no address", false));
        }
        let trouble = |e: Error| Trouble::of(&e);
        let mut policy = self.policy.derive().addresses(addresses);
        policy = policy.timeout(time).map_err(trouble)?;
        if let Some(hook) = patience.hook {
            policy = policy.on_interrupt(hook);
        }
        let session = Session::connect("https", &host, self.port, &policy).map_err(trouble)?;
        session.set_timeout(patience.deadline.left());
        let place = match self.port {
            443 => host,
            port => format!("{host}:{port}"),
        };
        let request = format!(
            "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {place}\r\nUser-Agent: starttls/{}\r\n\
             Accept: text/plain\r\nConnection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        session.write_all(request.as_bytes()).map_err(trouble)?;
        let mut response = Response {
            session: &session,
            patience,
            bytes: Vec::new(),
        };
        let body = response.body()?;
        // Nobody waits for the answer to a good-bye.
        let _ = session.try_close();
        Ok(body)
    }

    /// For people.
    fn address_of(&self, domain: &str) -> String {
        let host = host(domain);
        match self.port {
            443 => format!("https://{host}/.well-known/mta-sts.txt"),
            port => format!("https://{host}:{port}/.well-known/mta-sts.txt"),
        }
    }
}

/// The host that has the policy file of a domain.
pub(crate) fn host(domain: &str) -> String {
    format!("mta-sts.{domain}")
}

/// Why there is no answer.
enum Trouble {
    Failed(FetchFailure),
    Stop(Error),
}

impl Trouble {
    fn of(e: &Error) -> Self {
        if e.stopped() {
            return Self::Stop(e.clone());
        }
        let result = match e.word() {
            Word::Untrusted | Word::Expired | Word::NameMismatch => WEBPKI_INVALID,
            _ => FETCH_ERROR,
        };
        failed(result, e.message(), e.temporary())
    }
}

fn failed(result: &'static str, why: impl Into<String>, temporary: bool) -> Trouble {
    Trouble::Failed(FetchFailure {
        result,
        why: why.into(),
        temporary,
    })
}

fn late() -> Trouble {
    failed(FETCH_ERROR, "no whole answer in time", true)
}

fn too_large() -> Trouble {
    failed(POLICY_INVALID, "the policy is over 64 KiB", false)
}

impl From<Uncut> for Trouble {
    fn from(Uncut(_, what): Uncut) -> Self {
        failed(FETCH_ERROR, format!("the answer is {what}"), false)
    }
}

/// An answer as it comes in.
struct Response<'a> {
    session: &'a Session<'static>,
    patience: Patience,
    bytes: Vec<u8>,
}

impl Response<'_> {
    fn body(&mut self) -> std::result::Result<Vec<u8>, Trouble> {
        for _ in 0..MAX_INFORMATIONAL {
            let end = self.until(Framing::Http(Http::Request))?;
            let bytes = self.bytes.get(..end).unwrap_or_default();
            let head = Head::response(bytes)?;
            match head.status {
                200 => {}
                // Early hints and the like: the answer is still to come.
                100 | 102..=199 => {
                    self.bytes.drain(..end);
                    continue;
                }
                status => {
                    let line = bytes.split(|b| *b == b'\r' || *b == b'\n').next();
                    let said = printable(line.unwrap_or_default());
                    let hint = match status {
                        300..=399 => "; redirects are not followed (RFC 8461 §3.3)",
                        _ => "",
                    };
                    let why = format!("the host answers \"{said}\"{hint}");
                    return Err(failed(FETCH_ERROR, why, (500..=599).contains(&status)));
                }
            }
            // RFC 8461 §3.2: a host where anyone may put pages under any path will not serve them so.
            let media = head.only("Content-Type").unwrap_or_default();
            let essence = media.split(|b| *b == b';').next().unwrap_or_default();
            if !essence.trim_ascii().eq_ignore_ascii_case(b"text/plain") {
                let why = format!("the Content-Type is \"{}\", not text/plain", printable(media));
                return Err(failed(FETCH_ERROR, why, false));
            }
            let body = head.body()?;
            return match body {
                Body::None => Ok(Vec::new()),
                Body::Sized(n) if n > MAX_SIZE => Err(too_large()),
                Body::Sized(n) => self.sized(end, n),
                Body::Chunked => {
                    let whole = self.until(Framing::Http(Http::Response))?;
                    let body = unchunk(self.bytes.get(end..whole).unwrap_or_default())?;
                    if body.len() > MAX_SIZE {
                        return Err(too_large());
                    }
                    Ok(body)
                }
                Body::UntilClose => self.until_close(end),
            };
        }
        Err(failed(
            FETCH_ERROR,
            "the host says too much before its answer",
            false,
        ))
    }

    /// Reads until a message of this framing is whole; where it ends.
    fn until(&mut self, framing: Framing) -> std::result::Result<usize, Trouble> {
        let mut cursor = Cursor::default();
        loop {
            if let Some(end) = framing.cut(&self.bytes, &mut cursor)? {
                return Ok(end);
            }
            if !self.more()? {
                return Err(cut_short());
            }
        }
    }

    fn sized(&mut self, begin: usize, size: usize) -> std::result::Result<Vec<u8>, Trouble> {
        let end = begin.saturating_add(size);
        while self.bytes.len() < end {
            if !self.more()? {
                return Err(cut_short());
            }
        }
        Ok(self.bytes.get(begin..end).unwrap_or_default().to_vec())
    }

    /// Only a close_notify says that this is all: an end without one is an error of the session.
    fn until_close(&mut self, begin: usize) -> std::result::Result<Vec<u8>, Trouble> {
        let most = begin.saturating_add(MAX_SIZE);
        while self.more()? {
            if self.bytes.len() > most {
                return Err(too_large());
            }
        }
        Ok(self.bytes.get(begin..).unwrap_or_default().to_vec())
    }

    /// Reads on; false at the end of the session. The deadline is of the whole answer: a host that sends a byte
    /// now and then does not extend it.
    fn more(&mut self) -> std::result::Result<bool, Trouble> {
        let Patience { deadline, hook } = self.patience;
        let mut buffer = [0; 4096];
        loop {
            if deadline.is_past() {
                return Err(late());
            }
            let ready = self.session.try_read(&mut buffer);
            match ready.map_err(|e| Trouble::of(&e))? {
                Ready::Done(0) => return Ok(false),
                Ready::Done(n) => {
                    self.bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    return Ok(true);
                }
                Ready::WantRead | Ready::WantWrite => {
                    let events = if self.session.wants_write() {
                        libc::POLLIN | libc::POLLOUT
                    } else {
                        libc::POLLIN
                    };
                    wait_any(&[(self.session.as_fd(), events)], deadline, hook).map_err(|e| {
                        if e.kind() == std::io::ErrorKind::TimedOut {
                            late()
                        } else {
                            Trouble::of(&Error::io("wait for the policy", &e))
                        }
                    })?;
                }
            }
        }
    }
}

fn cut_short() -> Trouble {
    failed(FETCH_ERROR, "the answer ends before its end", true)
}

#[cfg(test)]
mod tests;
