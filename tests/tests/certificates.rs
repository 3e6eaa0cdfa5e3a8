//! Certificates: what each check says, and what each level makes of it.

use std::net::IpAddr;

use conformance::certs::{ca_file, identity};
use conformance::check::{all, outcome, policy, usable, verdict};
use conformance::peer::{acceptor, upgrades, Peer};
use openssl::hash::MessageDigest;
use starttls::{CheckKind, Level, Policy, ProvenBy, Session};

const HOST: &str = "mail.example.test";

/// Certificate, host, `chain time name`, and what `verify` says.
const TABLE: &[(&str, &str, [bool; 3], &str)] = &[
    ("good", HOST, [true, true, true], "tls"),
    ("good", "MAIL.example.TEST.", [true, true, true], "tls"),
    ("expired", HOST, [true, false, true], "error expired permanent"),
    (
        "not-yet-valid",
        HOST,
        [true, false, true],
        "error expired permanent",
    ),
    (
        "self-signed",
        HOST,
        [false, true, true],
        "error untrusted permanent",
    ),
    (
        "unknown-ca",
        HOST,
        [false, true, true],
        "error untrusted permanent",
    ),
    (
        "no-intermediate",
        HOST,
        [false, true, true],
        "error untrusted permanent",
    ),
    ("via-intermediate", HOST, [true, true, true], "tls"),
    (
        "wrong-name",
        HOST,
        [true, true, false],
        "error name-mismatch permanent",
    ),
    // A wildcard stands for one whole label (RFC 9525 §6.3).
    ("wildcard", HOST, [true, true, true], "tls"),
    (
        "wildcard",
        "a.mail.example.test",
        [true, true, false],
        "error name-mismatch permanent",
    ),
    (
        "wildcard",
        "example.test",
        [true, true, false],
        "error name-mismatch permanent",
    ),
    (
        "partial-wildcard",
        HOST,
        [true, true, false],
        "error name-mismatch permanent",
    ),
    // The common name is never looked at (RFC 9525 §2).
    (
        "cn-only",
        HOST,
        [true, true, false],
        "error name-mismatch permanent",
    ),
    ("idn", "bücher.example.test", [true, true, true], "tls"),
    ("idn", "BÜCHER.example.test", [true, true, true], "tls"),
    ("idn", "xn--bcher-kva.example.test", [true, true, true], "tls"),
    (
        "idn",
        "bucher.example.test",
        [true, true, false],
        "error name-mismatch permanent",
    ),
    // Addresses match iPAddress only (RFC 9525 §6.5).
    ("good", "127.0.0.1", [true, true, true], "tls"),
    ("good", "[127.0.0.1]", [true, true, true], "tls"),
    ("good", "[::1]", [true, true, true], "tls"),
    ("good", "[IPv6:::1]", [true, true, true], "tls"),
    (
        "good",
        "127.0.0.2",
        [true, true, false],
        "error name-mismatch permanent",
    ),
    (
        "address-as-dns",
        "127.0.0.1",
        [true, true, false],
        "error name-mismatch permanent",
    ),
];

#[test]
fn every_check_is_run_and_recorded_whatever_the_level() {
    all(TABLE, |(certificate, host, checks, at_verify)| {
        let wrong = |what: String| format!("{certificate} for {host}: {what}");
        for level in ["may", "encrypt", "verify"] {
            let wanted = if level == "verify" { *at_verify } else { "tls" };
            let server = upgrades(acceptor(identity(certificate)).build(), 1);
            let result = Session::connect("pop3", host, server.port, &policy(level));
            if verdict(&result) != wanted {
                return Err(wrong(format!("{} at {level}", verdict(&result))));
            }
            if let Ok(session) = &result {
                usable(session).map_err(wrong)?;
            }
            let outcome = outcome(&result).map_err(wrong)?.clone();
            let kinds = [CheckKind::Chain, CheckKind::Time, CheckKind::Name];
            let found = kinds.map(|kind| outcome.check(kind).map(|c| c.ok));
            if found != checks.map(Some) {
                return Err(wrong(format!("checks {found:?} at {level}")));
            }
            if outcome.checks.iter().any(|c| c.ok == c.why.is_some()) {
                return Err(wrong("a reason where it is ok, or none where it is not".into()));
            }
            let proven = (wanted == "tls" && *at_verify == "tls").then_some(ProvenBy::Pkix);
            if outcome.identity.proven_by != proven {
                return Err(wrong(format!("identity {:?} at {level}", outcome.identity)));
            }
            drop(result);
            let is_address = host.trim_matches(['[', ']']).trim_start_matches("IPv6:");
            let is_address = is_address.parse::<IpAddr>().is_ok();
            if let [Ok(seen)] = server.finish().as_slice() {
                // RFC 6066 §3: an address is never sent.
                if seen.server_name.is_some() == is_address || seen.server_name != outcome.sni {
                    return Err(wrong(format!("server name {:?}", seen.server_name)));
                }
            } else if wanted == "tls" {
                return Err(wrong(format!("the server does not agree at {level}")));
            }
        }
        Ok(())
    });
}

#[test]
fn over_ipv6_by_its_literal() {
    let tls = acceptor(identity("good")).build();
    let server = Peer::on("[::1]:0", move |listener| {
        let stream = conformance::peer::accept(listener)?;
        tls.accept(stream)
            .map(drop)
            .map_err(|e| std::io::Error::other(e.to_string()))
    });
    let Ok(server) = server else {
        eprintln!("left out: this machine has no IPv6 loopback");
        return;
    };
    let policy = Policy::new(Level::Verify).ca_file(ca_file()).unwrap();
    let session = Session::connect("pop3s", "[::1]", server.port, &policy).unwrap();
    assert_eq!(session.outcome().peer.name.as_deref(), Some("::1"));
    assert_eq!(session.outcome().peer.address, Some("::1".parse().unwrap()));
    assert_eq!(session.outcome().sni, None);
    drop(session);
    server.finish().unwrap();
}

fn pins() -> [String; 2] {
    let good = identity("expired");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
    let spki = good.cert.public_key().unwrap().public_key_to_der().unwrap();
    [
        hex(&good.cert.digest(MessageDigest::sha256()).unwrap()),
        hex(&openssl::hash::hash(MessageDigest::sha256(), &spki).unwrap()),
    ]
}

#[test]
fn a_fingerprint_of_the_certificate_or_of_its_key() {
    for pin in pins() {
        for written in [pin.clone(), pin.to_uppercase()] {
            let server = upgrades(acceptor(identity("expired")).build(), 1);
            // Neither its dates nor the name nor the CA matter: the pin is the evidence.
            let policy = policy("fingerprint").fingerprint(&written).unwrap();
            let session = Session::connect("pop3", "any.example.test", server.port, &policy).unwrap();
            let outcome = session.outcome().clone();
            usable(&session).unwrap();
            drop(session);
            assert_eq!(outcome.identity.proven_by, Some(ProvenBy::Fingerprint));
            assert!(outcome.identity.evidence.unwrap().contains(&pin));
            let failed: Vec<CheckKind> = outcome.checks.iter().filter(|c| !c.ok).map(|c| c.check).collect();
            assert_eq!(failed, [CheckKind::Name, CheckKind::Time]);
            server.finish();
        }
    }
}

#[test]
fn another_fingerprint() {
    let mut others = pins().map(|pin| pin.chars().rev().collect::<String>()).to_vec();
    others.push("00".repeat(32));
    let mut several = policy("fingerprint");
    for other in &others {
        several = several.fingerprint(other).unwrap();
    }
    let server = upgrades(acceptor(identity("expired")).build(), 1);
    let result = Session::connect("pop3", HOST, server.port, &several);
    assert_eq!(verdict(&result), "error fingerprint-mismatch permanent");
    assert_eq!(
        outcome(&result)
            .unwrap()
            .check(CheckKind::Fingerprint)
            .map(|c| c.ok),
        Some(false)
    );
    drop(result);
    server.finish();
    // One right one among the wrong is enough.
    let server = upgrades(acceptor(identity("expired")).build(), 1);
    let several = several.fingerprint(&pins()[1]).unwrap();
    let session = Session::connect("pop3", HOST, server.port, &several).unwrap();
    usable(&session).unwrap();
    drop(session);
    server.finish();
}

#[test]
fn an_extra_name_is_as_good_as_the_hosts() {
    let server = upgrades(acceptor(identity("wrong-name")).build(), 1);
    let policy = policy("verify").name("other.example.test").unwrap();
    let session = Session::connect("pop3", HOST, server.port, &policy).unwrap();
    assert_eq!(
        session.outcome().identity.name.as_deref(),
        Some("other.example.test")
    );
    // The server name stays the host's.
    assert_eq!(session.outcome().sni.as_deref(), Some(HOST));
    usable(&session).unwrap();
    drop(session);
    server.finish();
}

/// The words come in the documented order where several checks fail.
#[test]
fn the_first_reason_is_the_chain() {
    let server = upgrades(acceptor(identity("self-signed")).build(), 1);
    let result = Session::connect("pop3", "nobody.example.test", server.port, &policy("verify"));
    assert_eq!(verdict(&result), "error untrusted permanent");
    drop(result);
    server.finish();
}
