//! The datagram to the standard collector, `tlsrpt-collectd`, as its own library libtlsrpt writes it: one JSON
//! object for one attempted session, to a Unix datagram socket.
//!
//! ```text
//! {"dpv":"1","d":"example.com","pr":"v=TLSRPTv1;…","policies":[{"policy-type":1,"policy-domain":"mx.example.com",
//!  "policy-string":["3 1 1 …"],"mx-host":[…],"failure-details":[{"c":204,"s":…,"n":…,"h":…,"r":…,"a":…,"f":…}],
//!  "t":1,"f":1}]}
//! ```
//!
//! `d` domain, `pr` its record, `t` how many failures, `f` whether the session failed; in a failure `c` its code,
//! `s` sending-mta-ip, `n` receiving-mx-hostname, `h` receiving-mx-helo, `r` receiving-ip,
//! `a` additional-information, `f` failure-reason-code. The collector takes rows together whose policies are the
//! same JSON, so keys are written in libtlsrpt's order.

use std::net::IpAddr;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::event::{Event, Failure, PolicyResult, ResultType};
use crate::error::{Error, Result};
use crate::outcome::PolicyType;

/// The way to the collector. It never waits and raises no signal; it may be used by threads and after `fork`.
#[derive(Debug)]
pub struct Collector {
    path: PathBuf,
    address: SocketAddr,
    /// Ours alone, and not connected: the collector may be restarted at any time.
    socket: UnixDatagram,
}

impl Collector {
    /// For the socket at this path, which need not be there yet: it is looked up for each event, after a chroot
    /// inside of it.
    ///
    /// # Errors
    /// `invalid` if the path is too long for a socket; `io` if there is no descriptor left.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let address = SocketAddr::from_pathname(&path)
            .map_err(|e| Error::invalid(format!("TLSRPT collector {}: {e}", path.display())))?;
        let socket = UnixDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|e| Error::io("make a socket for the TLSRPT collector", &e))?;
        Ok(Self {
            path,
            address,
            socket,
        })
    }

    /// Tells the collector of one session. An error means that this event is lost; it is no reason to hold the
    /// mail back.
    ///
    /// # Errors
    /// `io` if nobody listens at the path, the collector does not keep up, or the event is larger than a
    /// datagram may be.
    pub fn send(&self, event: &Event) -> Result<()> {
        let datagram = datagram(event);
        // The standard library sends with MSG_NOSIGNAL.
        match self.socket.send_to_addr(&datagram, &self.address) {
            Ok(_) => Ok(()),
            Err(e) => {
                let doing = format!("tell the TLSRPT collector at {}", self.path.display());
                Err(Error::io(&doing, &e))
            }
        }
    }
}

#[derive(Serialize)]
struct Datagram<'a> {
    dpv: &'static str,
    d: &'a str,
    pr: &'a str,
    policies: Vec<Row<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row<'a> {
    policy_type: u16,
    policy_domain: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_string: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mx_host: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<Detail<'a>>,
    t: usize,
    f: u8,
}

#[derive(Serialize)]
struct Detail<'a> {
    c: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<&'a str>,
}

fn datagram(event: &Event) -> Vec<u8> {
    let datagram = Datagram {
        dpv: "1",
        d: &event.domain,
        pr: &event.record,
        policies: event.policies.iter().map(row).collect(),
    };
    // Strings, numbers and lists only: serde_json has nothing to fail on.
    serde_json::to_vec(&datagram).unwrap_or_default()
}

fn row(result: &PolicyResult) -> Row<'_> {
    Row {
        policy_type: match result.policy.kind {
            PolicyType::Tlsa => 1,
            PolicyType::Sts => 2,
            PolicyType::NoPolicyFound => 9,
        },
        policy_domain: &result.policy.domain,
        policy_string: &result.policy.string,
        mx_host: &result.policy.mx_host,
        failure_details: result.failures.iter().map(detail).collect(),
        t: result.failures.len(),
        f: u8::from(!result.success()),
    }
}

fn detail(failure: &Failure) -> Detail<'_> {
    Detail {
        c: code(failure.result_type),
        s: failure.sending_mta_ip,
        n: failure.receiving_mx_hostname.as_deref(),
        h: failure.receiving_mx_helo.as_deref(),
        r: failure.receiving_ip,
        a: failure.additional_information.as_deref(),
        f: failure.failure_reason_code.as_deref(),
    }
}

/// `tlsrpt_failure_t` of libtlsrpt's tlsrpt.h.
fn code(result: ResultType) -> u16 {
    match result {
        ResultType::StarttlsNotSupported => 201,
        ResultType::CertificateHostMismatch => 202,
        ResultType::CertificateNotTrusted => 203,
        ResultType::CertificateExpired => 204,
        ResultType::ValidationFailure => 205,
        ResultType::StsPolicyFetchError => 301,
        ResultType::StsPolicyInvalid => 302,
        ResultType::StsWebpkiInvalid => 303,
        ResultType::TlsaInvalid => 304,
        ResultType::DnssecInvalid => 305,
        ResultType::DaneRequired => 306,
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::event;
    use super::*;
    use std::time::{Duration, Instant};

    /// A path of its own that is short enough for a socket.
    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("starttls-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn a_datagram_is_as_libtlsrpt_writes_it() {
        let path = path("datagram");
        let theirs = UnixDatagram::bind(&path).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let collector = Collector::new(&path).unwrap();
        let failures = [(ResultType::CertificateExpired, "why \"x\"\n")];
        collector
            .send(&event("a.test", PolicyType::Sts, &failures))
            .unwrap();
        collector
            .send(&event("a.test", PolicyType::NoPolicyFound, &[]))
            .unwrap();
        let mut buffer = [0; 4096];
        let n = theirs.recv(&mut buffer).unwrap();
        assert_eq!(
            std::str::from_utf8(&buffer[..n]).unwrap(),
            concat!(
                r#"{"dpv":"1","d":"a.test","pr":"v=TLSRPTv1; rua=mailto:tls@a.test","policies":[{"#,
                r#""policy-type":2,"policy-domain":"a.test","policy-string":["version: STSv1","#,
                r#""mode: testing","mx: *.mail.example.test","max_age: 86400"],"#,
                r#""mx-host":["*.mail.example.test"],"failure-details":[{"c":204,"s":"192.0.2.1","#,
                r#""n":"mx.a.test","h":"mx","r":"2001:db8::25","f":"why \"x\"\n"}],"t":1,"f":1}]}"#
            )
        );
        let n = theirs.recv(&mut buffer).unwrap();
        let end = r#""policies":[{"policy-type":9,"policy-domain":"a.test","t":0,"f":0}]}"#;
        assert!(std::str::from_utf8(&buffer[..n]).unwrap().ends_with(end));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nobody_there_is_an_error_and_a_restart_is_none() {
        let path = path("restart");
        let collector = Collector::new(&path).unwrap();
        let event = event("a.test", PolicyType::Tlsa, &[]);
        let e = collector.send(&event).unwrap_err();
        assert_eq!((e.word(), e.os_error()), (crate::Word::Io, Some(libc::ENOENT)));
        for _ in 0..2 {
            let theirs = UnixDatagram::bind(&path).unwrap();
            collector.send(&event).unwrap();
            drop(theirs);
            assert_eq!(
                collector.send(&event).unwrap_err().os_error(),
                Some(libc::ECONNREFUSED)
            );
            std::fs::remove_file(&path).unwrap();
        }
        assert!(Collector::new("x".repeat(200)).is_err());
    }

    #[test]
    fn a_collector_that_sleeps_is_not_waited_for() {
        let path = path("sleeps");
        let _theirs = UnixDatagram::bind(&path).unwrap();
        let collector = Collector::new(&path).unwrap();
        let mut event = event("a.test", PolicyType::Tlsa, &[]);
        let start = Instant::now();
        let e = (0..100_000).find_map(|_| collector.send(&event).err()).unwrap();
        assert_eq!(e.os_error(), Some(libc::EAGAIN));
        event.policies[0].policy.string = vec!["x".repeat(1 << 24)];
        assert_eq!(
            collector.send(&event).unwrap_err().os_error(),
            Some(libc::EMSGSIZE)
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        std::fs::remove_file(&path).unwrap();
    }
}
