//! Resumption: only for the same policy and the same target, with its checks on record, and never
//! past a verdict.

use std::time::{Duration, Instant};

use conformance::certs::{ca_file, identity, issue, Says};
use conformance::check::{outcome, policy, usable, verdict};
use conformance::peer::{accept, acceptor, echo, pop3_go_ahead, upgrades, Peer};
use openssl::ssl::{SslAcceptor, SslVersion};
use starttls::{CheckKind, Outcome, Policy, ProvenBy, Session};

const HOST: &str = "mail.example.test";

fn tls(version: SslVersion, certificate: &str) -> SslAcceptor {
    let mut tls = acceptor(identity(certificate));
    tls.set_max_proto_version(Some(version)).unwrap();
    tls.build()
}

/// Connects, uses the session (a ticket of TLS 1.3 comes with the first bytes read) and closes it.
fn once(host: &str, port: u16, policy: &Policy) -> Outcome {
    let session = Session::connect("pop3", host, port, policy).unwrap();
    usable(&session).unwrap();
    session.close().unwrap();
    session.outcome().clone()
}

fn resumed(outcome: &Outcome) -> bool {
    outcome.tls.as_ref().unwrap().resumed
}

#[test]
fn the_second_connection_resumes_with_its_checks_on_record() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let server = upgrades(tls(version, "good"), 4);
        let policy = policy("verify");
        let first = once(HOST, server.port, &policy);
        assert!(!resumed(&first));
        for _ in 0..2 {
            let again = once(HOST, server.port, &policy);
            assert!(resumed(&again), "{version:?}");
            assert_eq!(again.checks, first.checks);
            assert_eq!(again.identity, first.identity);
            assert_eq!(again.identity.proven_by, Some(ProvenBy::Pkix));
            assert_eq!(again.certificate, first.certificate);
        }
        // A derived policy belongs to it.
        let derived = policy.derive().client_name("me.example.test").unwrap();
        assert!(resumed(&once(HOST, server.port, &derived)));
        let seen: Vec<bool> = server.finish().into_iter().map(|s| s.unwrap().resumed).collect();
        assert_eq!(seen, [false, true, true, true]);
    }
}

#[test]
fn nothing_else_resumes() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let tls = tls(version, "good");
        let first = policy("verify");
        let server = upgrades(tls.clone(), 7);
        once(HOST, server.port, &first);
        let others = [
            ("another policy", HOST, policy("verify")),
            ("another level", HOST, policy("encrypt")),
            ("another host", "localhost", first.derive()),
            ("another SNI", HOST, first.derive().sni("localhost").unwrap()),
            ("another name", HOST, first.derive().name("localhost").unwrap()),
            ("another CA", HOST, first.derive().ca_file(ca_file()).unwrap()),
        ];
        for (what, host, policy) in &others {
            assert!(!resumed(&once(host, server.port, policy)), "{what}");
        }
        server.finish();
        // The same keys behind another port: who knows whether it is the same server.
        let elsewhere = upgrades(tls.clone(), 1);
        assert!(!resumed(&once(HOST, elsewhere.port, &first)), "another port");
        elsewhere.finish();
    }
}

#[test]
fn what_failed_stays_failed_on_the_resumed_session() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let server = upgrades(tls(version, "unknown-ca"), 2);
        let policy = policy("encrypt");
        let first = once("other.example.test", server.port, &policy);
        let again = once("other.example.test", server.port, &policy);
        server.finish();
        assert!(resumed(&again));
        assert_eq!(again.checks, first.checks);
        let ok = [CheckKind::Chain, CheckKind::Name, CheckKind::Time].map(|k| again.check(k).unwrap().ok);
        assert_eq!(ok, [false, false, true]);
        assert_eq!(again.identity.proven_by, None);
    }
}

/// The server keeps its ticket keys but shows another certificate each time: if the session of a
/// failed verdict were kept, the second connection would skip the checks.
#[test]
fn a_session_that_did_not_meet_the_policy_is_never_kept() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let server = upgrades(tls(version, "wrong-name"), 3);
        let strict = policy("verify");
        for _ in 0..2 {
            let result = Session::connect("pop3", HOST, server.port, &strict);
            assert_eq!(verdict(&result), "error name-mismatch permanent");
        }
        // With the name added it holds, by a handshake of its own.
        let extended = strict.derive().name("other.example.test").unwrap();
        assert!(!resumed(&once(HOST, server.port, &extended)));
        server.finish();
    }
}

/// A pin that is added to a policy must be checked, not resumed past.
#[test]
fn pins_are_part_of_what_a_session_is_kept_for() {
    let pin = |name: &str| {
        let digest = identity(name).cert.digest(openssl::hash::MessageDigest::sha256());
        digest
            .unwrap()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let server = upgrades(tls(version, "good"), 3);
        let base = policy("fingerprint");
        let right = base.derive().fingerprint(&pin("good")).unwrap();
        let wrong = base.derive().fingerprint(&pin("expired")).unwrap();
        assert!(!resumed(&once(HOST, server.port, &right)));
        let result = Session::connect("pop3", HOST, server.port, &wrong);
        assert_eq!(verdict(&result), "error fingerprint-mismatch permanent");
        drop(result);
        let again = once(HOST, server.port, &right);
        assert!(resumed(&again));
        assert_eq!(again.check(CheckKind::Fingerprint).map(|c| c.ok), Some(true));
        server.finish();
    }
}

#[test]
fn a_certificate_that_expires_in_between() {
    let short_lived = Says {
        not_after: 2,
        ..Says::server(HOST, &["DNS:mail.example.test"])
    };
    let identity = issue(short_lived, Some(identity("ca")));
    let end = Instant::now() + Duration::from_millis(3100);
    let connections = [SslVersion::TLS1_2, SslVersion::TLS1_3].map(|version| {
        let mut tls = acceptor(&identity);
        tls.set_max_proto_version(Some(version)).unwrap();
        let server = upgrades(tls.build(), 2);
        let policy = policy("verify");
        once(HOST, server.port, &policy);
        (server, policy)
    });
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    for (server, policy) in connections {
        let result = Session::connect("pop3", HOST, server.port, &policy);
        assert_eq!(verdict(&result), "error expired permanent");
        // By a handshake of its own, which ended in the middle.
        assert!(outcome(&result).unwrap().tls.is_none());
        drop(result);
        server.finish();
    }
}

#[test]
fn a_session_dropped_without_a_good_bye_still_resumes() {
    // SSL_free without a shutdown would spoil it.
    let server = upgrades(tls(SslVersion::TLS1_2, "good"), 2);
    let policy = policy("verify");
    let session = Session::connect("pop3", HOST, server.port, &policy).unwrap();
    drop(session);
    assert!(resumed(&once(HOST, server.port, &policy)));
    let seen: Vec<bool> = server
        .finish()
        .into_iter()
        .map(|s| s.unwrap().said_goodbye)
        .collect();
    // Dropping sends nothing.
    assert_eq!(seen, [false, true]);
}

#[test]
fn a_server_that_forgets_its_tickets_costs_a_full_handshake_and_nothing_else() {
    let server = Peer::start(|listener| {
        for _ in 0..2 {
            let mut stream = accept(listener).unwrap();
            pop3_go_ahead(&mut stream).unwrap();
            // New keys each time.
            echo(acceptor(identity("good")).build().accept(stream).unwrap());
        }
    });
    let policy = policy("verify");
    once(HOST, server.port, &policy);
    let again = once(HOST, server.port, &policy);
    assert!(!resumed(&again));
    assert_eq!(again.identity.proven_by, Some(ProvenBy::Pkix));
    server.finish();
}
