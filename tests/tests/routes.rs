//! Mail to domains whose DNS is the test's own: what holds between the hosts of one call, between calls, and between
//! the ways to make a connection. Real zones are in `domains.rs`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::certs::{identity, issue, Identity, Says};
use conformance::check::verdict;
use conformance::peer::{acceptor, drain, Peer};
use openssl::sha::sha256;
use starttls::{
    Level, Lookup, MemoryCache, Negotiation, Policy, Proof, RawAnswer, Resolver, Result, Routes, Session,
    Stage, Word,
};

const A: u16 = 1;
const MX: u16 = 15;
const AAAA: u16 = 28;
const TLSA: u16 = 52;

/// The records of a name and type.
type Answers = dyn Fn(&str, u16) -> Vec<Vec<u8>> + Send + Sync;

/// A DNS of functions.
struct Dns {
    proof: Proof,
    answer: Box<Answers>,
}

impl Lookup for Dns {
    fn look_up(&self, name: &str, kind: u16, _left: Duration) -> Result<RawAnswer> {
        Ok(RawAnswer {
            rdata: (self.answer)(name, kind),
            proof: self.proof,
            ttl: Duration::from_secs(60),
            name: name.to_owned(),
            no_such_name: false,
        })
    }
}

fn dns(proof: Proof, answer: impl Fn(&str, u16) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Resolver {
    Resolver::custom(Arc::new(Dns {
        proof,
        answer: Box::new(answer),
    }))
}

fn mx(preference: u8, host: &str) -> Vec<u8> {
    let mut data = vec![0, preference];
    for label in host.split('.') {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    data
}

fn loopback() -> Vec<Vec<u8>> {
    vec![vec![127, 0, 0, 1]]
}

fn table(rows: &str) -> PathBuf {
    let name = format!("starttls-rows-{}-{}", std::process::id(), rows.len());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, rows).unwrap();
    path
}

/// SMTP with STARTTLS and this certificate, for so many clients.
fn mail_host(identity: &Identity, clients: usize) -> Peer<()> {
    let tls = acceptor(identity).build();
    Peer::start(move |listener| {
        for _ in 0..clients {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 mail\r\n").unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"250-mail\r\n250 STARTTLS\r\n");
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"220 go\r\n");
            if let Ok(mut stream) = tls.accept(stream) {
                let _ = stream.write_all(b"250 inside\r\n");
                drain(&mut stream);
                let _ = stream.shutdown();
            }
        }
    })
}

#[test]
fn a_name_too_long_for_tlsa_is_not_the_end_of_the_list() {
    let long = [61, 61, 61, 58].map(|n| "a".repeat(n)).join(".");
    let resolver = dns(Proof::Secure, move |_, kind| match kind {
        A => loopback(),
        MX => vec![mx(1, &long), mx(2, "mx2.test")],
        _ => Vec::new(),
    });
    let policy = Policy::new(Level::Dane).resolver(resolver).port(1);
    let e = Session::connect_domain("example.test", &policy).err().unwrap();
    assert_eq!(e.word(), Word::Io, "{e}");
    assert!(e.message().contains("mx2.test"), "{e}");
}

#[test]
fn a_look_up_that_overruns_leaves_no_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let resolver = dns(Proof::Insecure, |_, kind| match kind {
        AAAA => {
            std::thread::sleep(Duration::from_millis(1050));
            Vec::new()
        }
        A => loopback(),
        MX => vec![mx(1, "mx.test")],
        _ => Vec::new(),
    });
    let policy = Policy::new(Level::May)
        .resolver(resolver)
        .port(listener.local_addr().unwrap().port())
        .timeout(Duration::from_secs(1))
        .unwrap();
    let start = Instant::now();
    let e = Session::connect_domain("example.test", &policy).err().unwrap();
    assert_eq!(e.word(), Word::Timeout, "{e}");
    assert_eq!(e.outcome().unwrap().peer.name.as_deref(), Some("mx.test"));
    // Not another time-out on top; the machine may be slow.
    assert!(
        start.elapsed() < Duration::from_millis(1950),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn each_connection_is_told_of_once() {
    // Two hosts; each spoils the handshake and then refuses the second connection, in clear.
    let server = Peer::start(|listener: &TcpListener| {
        for n in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            if n % 2 == 1 {
                stream.write_all(b"554 go away\r\n").unwrap();
                continue;
            }
            for line in [
                &b"220 mail\r\n"[..],
                b"250-mail\r\n250 STARTTLS\r\n",
                b"220 go\r\n",
            ] {
                stream.write_all(line).unwrap();
                let _ = stream.read(&mut [0; 2048]);
            }
            // Alert: handshake failure.
            stream.write_all(b"\x15\x03\x01\x00\x02\x02\x28").unwrap();
            let _ = stream.read(&mut [0; 2048]);
        }
    });
    let resolver = dns(Proof::Insecure, |_, kind| match kind {
        A => loopback(),
        MX => vec![mx(1, "mx1.test"), mx(2, "mx2.test")],
        _ => Vec::new(),
    });
    let policy = Policy::new(Level::May).resolver(resolver).port(server.port);
    let e = Session::connect_domain("example.test", &policy).err().unwrap();
    let outcome = e.outcome().unwrap();
    let mut hosts: Vec<_> = outcome
        .attempts
        .iter()
        .map(|o| o.peer.name.clone().unwrap())
        .collect();
    hosts.push(outcome.peer.name.clone().unwrap());
    assert_eq!(hosts, ["mx1.test", "mx1.test", "mx2.test", "mx2.test"]);
    server.finish();
}

#[test]
fn a_row_for_an_address_and_for_a_port() {
    let by_row = |rows| Policy::new(Level::May).destinations(table(rows)).unwrap();
    let resolver = dns(Proof::Insecure, |_, _| Vec::new());
    let policy = by_row("[127.0.0.1] verify\n").resolver(resolver);
    let route = Routes::find("[127.0.0.1]", &policy)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(route.policy.level(), Level::Verify);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let rows: &'static str = Box::leak(format!("[mail.example.test]:{port} verify\n").into_boxed_str());
    let policy = by_row(rows);
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let new = || Negotiation::new("smtp", "mail.example.test", Stage::Greeting, &policy).unwrap();
    assert_eq!(new().outcome().level, Level::May);
    assert_eq!(new().on(&stream).unwrap().outcome().level, Level::Verify);
    // Who never shows the connection finds out before there is a session.
    let mut negotiation = new();
    negotiation.receive(b"220 mail\r\n").unwrap();
    negotiation.sent(negotiation.output().len());
    negotiation.receive(b"250 mail\r\n").unwrap();
    let e = Session::negotiated(negotiation, stream).err().unwrap();
    assert_eq!(e.word(), Word::Invalid, "{e}");
}

#[test]
fn a_negotiation_remembers_what_connect_has_seen_at_this_port() {
    let policy = Policy::new(Level::May)
        .ca_file(conformance::certs::ca_file())
        .unwrap()
        .address(Ipv4Addr::LOCALHOST.into())
        .cache(Arc::new(MemoryCache::new()));
    let server = mail_host(identity("good"), 1);
    let port = server.port;
    Session::connect("smtp", "mail.example.test", port, &policy)
        .unwrap()
        .close()
        .unwrap();
    server.finish();

    // The same port, without STARTTLS now.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let new = || Negotiation::new("smtp", "mail.example.test", Stage::Greeting, &policy).unwrap();
    let mut negotiation = new().on(&stream).unwrap();
    let e = loop {
        let result = match negotiation.output().is_empty() {
            true => negotiation.receive(b"220 mail\r\n"),
            false => {
                let asked = negotiation.output().starts_with(b"STARTTLS");
                negotiation.sent(negotiation.output().len());
                negotiation.receive(if asked { b"502 what?\r\n" } else { b"250 mail\r\n" })
            }
        };
        if let Err(e) = result {
            break e;
        }
    };
    assert_eq!(e.word(), Word::Stripped, "{e}");
    assert!(e.temporary());

    let mut negotiation = new();
    negotiation.receive(b"220 mail\r\n").unwrap();
    negotiation.sent(negotiation.output().len());
    negotiation.receive(b"250 mail\r\n").unwrap();
    let e = Session::negotiated(negotiation, stream).err().unwrap();
    assert_eq!(e.word(), Word::Stripped, "{e}");
}

#[test]
fn a_session_proven_for_one_domain_is_not_resumed_for_another() {
    // Under a DANE-TA record the certificate may be for the nexthop: here for a.test alone.
    let anchor = identity("intermediate");
    let mut server = issue(Says::server("shared", &["DNS:a.test"]), Some(anchor));
    server.chain = vec![anchor.cert.clone()];
    let record = [&[2, 0, 1][..], &sha256(&anchor.cert.to_der().unwrap())].concat();
    let resolver = dns(Proof::Secure, move |_, kind| match kind {
        A => loopback(),
        MX => vec![mx(1, "mx.shared.test")],
        TLSA => vec![record.clone()],
        _ => Vec::new(),
    });
    let host = mail_host(&server, 3);
    let policy = Policy::new(Level::DaneOnly).resolver(resolver).port(host.port);
    let to = |domain: &str| {
        let result = Session::connect_domain(domain, &policy);
        if let Ok(session) = &result {
            // The ticket comes with what is read.
            assert!(session.read(&mut [0; 64]).unwrap() > 0);
            session.close().unwrap();
        }
        let resumed = result
            .as_ref()
            .is_ok_and(|s| s.outcome().tls.as_ref().unwrap().resumed);
        (verdict(&result), resumed)
    };
    assert_eq!(to("a.test"), ("tls".to_owned(), false));
    assert_eq!(to("b.test"), ("error name-mismatch permanent".to_owned(), false));
    assert_eq!(to("a.test"), ("tls".to_owned(), true));
    host.finish();
}

#[test]
fn a_route_is_for_its_host_alone() {
    let resolver = dns(Proof::Insecure, |_, kind| match kind {
        A => loopback(),
        MX => vec![mx(1, "mx.test")],
        _ => Vec::new(),
    });
    let policy = Policy::opportunistic().resolver(resolver);
    let route = Routes::find("example.test", &policy)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let e = Session::connect("smtp", "other.test", 1, &route.policy)
        .err()
        .unwrap();
    assert_eq!(e.word(), Word::Invalid, "{e}");
    for one_host in [
        policy.derive().name("a.test").unwrap(),
        policy.derive().sni("a.test").unwrap(),
    ] {
        assert_eq!(
            Routes::find("example.test", &one_host).err().unwrap().word(),
            Word::Invalid
        );
    }
}
