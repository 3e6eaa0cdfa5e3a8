//! DANE with records that the caller hands in: which certificates they prove, at every level that heeds them.
//! What a look-up of our own finds is tested against real name servers (tests/python/test_real_domain.py).

use std::net::{Ipv4Addr, TcpStream};

use conformance::certs::{ca_file, identity, issue, Identity, Says};
use conformance::check::verdict;
use conformance::peer::{acceptor, upgrades};
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use starttls::{CheckKind, Level, Negotiation, Policy, Proof, ProvenBy, Session, Stage, Word};

const HOST: &str = "mail.example.test";

/// A record of this usage, selector and matching type for this certificate.
fn record(cert: &X509, (usage, selector, matching): (u8, u8, u8)) -> (u8, u8, u8, Vec<u8>) {
    let whole = match selector {
        0 => cert.to_der().unwrap(),
        _ => cert.public_key().unwrap().public_key_to_der().unwrap(),
    };
    let data = match matching {
        1 => openssl::hash::hash(MessageDigest::sha256(), &whole)
            .unwrap()
            .to_vec(),
        2 => openssl::hash::hash(MessageDigest::sha512(), &whole)
            .unwrap()
            .to_vec(),
        _ => whole,
    };
    (usage, selector, matching, data)
}

fn policy(level: Level, records: &[(u8, u8, u8, Vec<u8>)]) -> Policy {
    let mut policy = Policy::new(level)
        .address(Ipv4Addr::LOCALHOST.into())
        .ca_file(ca_file())
        .unwrap()
        .tlsa_proof(Proof::Secure);
    for (usage, selector, matching, data) in records {
        policy = policy.tlsa(*usage, *selector, *matching, data);
    }
    policy
}

/// Upgrades POP3 at a server with this certificate.
fn try_with(server: &Identity, policy: &Policy, host: &str) -> starttls::Result<Session<'static>> {
    let server = upgrades(acceptor(server).build(), 1);
    let result = Session::connect("pop3", host, server.port, policy);
    if let Ok(session) = &result {
        let _ = session.close();
    }
    if result.as_ref().is_err_and(|e| e.word() == Word::NoDane) {
        // It was not dialled, and waits to be.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)));
    }
    let _ = server.finish();
    result
}

type Row = (&'static str, &'static str, &'static [(u8, u8, u8)], &'static str);

/// Server, whose certificate the records are of, the records, and the verdict of level `dane-only`.
const TABLE: &[Row] = &[
    // DANE-EE: the key is bound, names and dates are nobody's business (RFC 7671 §5.1).
    ("good", "good", &[(3, 1, 1)], "tls"),
    ("good", "good", &[(3, 0, 1)], "tls"),
    ("good", "good", &[(3, 1, 2)], "tls"),
    ("good", "good", &[(3, 0, 2)], "tls"),
    ("good", "good", &[(3, 1, 0)], "tls"),
    ("good", "good", &[(3, 0, 0)], "tls"),
    ("self-signed", "self-signed", &[(3, 1, 1)], "tls"),
    ("expired", "expired", &[(3, 1, 1)], "tls"),
    ("wrong-name", "wrong-name", &[(3, 1, 1)], "tls"),
    (
        "good",
        "self-signed",
        &[(3, 1, 1)],
        "error dane-mismatch permanent",
    ),
    // Roll-over: the record of the next key is there before the key is.
    (
        "good",
        "self-signed",
        &[(3, 1, 1), (3, 1, 2)],
        "error dane-mismatch permanent",
    ),
    // DANE-TA: chain, name and dates hold (RFC 7671 §5.2).
    ("via-intermediate", "intermediate", &[(2, 0, 1)], "tls"),
    ("via-intermediate", "intermediate", &[(2, 1, 1)], "tls"),
    ("via-intermediate", "intermediate", &[(2, 1, 2)], "tls"),
    ("via-intermediate", "intermediate", &[(2, 0, 0)], "tls"),
    (
        "good",
        "intermediate",
        &[(2, 1, 1)],
        "error dane-mismatch permanent",
    ),
    // An EE certificate under a TA usage is its own anchor only if it is one.
    ("good", "good", &[(2, 1, 0)], "error dane-mismatch permanent"),
    // What cannot be used is left out (RFC 7672 §3.1.3).
    ("good", "good", &[(1, 1, 1)], "error no-dane permanent"),
    ("good", "good", &[(0, 1, 1)], "error no-dane permanent"),
    ("good", "good", &[(1, 1, 1), (3, 1, 1)], "tls"),
    ("good", "good", &[], "error no-dane permanent"),
];

#[test]
fn what_the_records_prove() {
    for (server, of, kinds, wanted) in TABLE {
        let records: Vec<_> = kinds
            .iter()
            .map(|kind| record(&identity(of).cert, *kind))
            .collect();
        let result = try_with(identity(server), &policy(Level::DaneOnly, &records), HOST);
        assert_eq!(verdict(&result), *wanted, "{server}, {kinds:?} of {of}");
        if let Ok(session) = result {
            let outcome = session.outcome();
            assert_eq!(outcome.identity.proven_by, Some(ProvenBy::Dane), "{server}");
            let evidence = outcome.identity.evidence.as_ref().unwrap();
            assert!(evidence.starts_with("TLSA "), "{evidence}");
            // PKIX is run for the record.
            let trusted = !matches!(*server, "self-signed");
            assert_eq!(outcome.check(CheckKind::Chain).unwrap().ok, trusted, "{server}");
            let named = *server != "wrong-name";
            assert_eq!(outcome.check(CheckKind::Name).unwrap().ok, named, "{server}");
        }
    }
}

#[test]
fn a_trust_anchor_vouches_for_names_and_dates_as_well() {
    let anchor = identity("intermediate");
    let says = |names: &'static [&'static str], not_after| Says {
        not_before: -1000,
        not_after,
        ..Says::server("leaf", names)
    };
    let mut cases = vec![
        (issue(says(&["DNS:mail.example.test"], 1000), Some(anchor)), "tls"),
        (
            issue(says(&["DNS:other.example.test"], 1000), Some(anchor)),
            "error name-mismatch permanent",
        ),
        (
            issue(says(&["DNS:mail.example.test"], -10), Some(anchor)),
            "error expired permanent",
        ),
    ];
    for (server, wanted) in &mut cases {
        server.chain = vec![anchor.cert.clone()];
        let records = [record(&anchor.cert, (2, 1, 1))];
        let result = try_with(server, &policy(Level::DaneOnly, &records), HOST);
        assert_eq!(verdict(&result), *wanted);
    }
}

#[test]
fn what_each_level_makes_of_it() {
    let good = identity("good");
    let bad = identity("self-signed");
    let of = |identity: &Identity, usage| vec![record(&identity.cert, (usage, 1, 1))];
    for (level, records, server, wanted) in [
        (Level::Dane, of(bad, 3), bad, "tls"),
        (Level::Dane, of(good, 3), bad, "error dane-mismatch permanent"),
        (Level::Dane, vec![], bad, "tls"),
        // Beside SMTP records that nobody can use mean PKIX (RFC 7673 §4).
        (Level::Dane, of(bad, 1), bad, "error untrusted permanent"),
        (Level::Dane, of(bad, 1), good, "tls"),
        (Level::Strict, of(bad, 3), bad, "tls"),
        (Level::Strict, of(good, 3), bad, "error dane-mismatch permanent"),
        (Level::Strict, of(bad, 3), good, "error dane-mismatch permanent"),
        (Level::Strict, of(bad, 1), bad, "error untrusted permanent"),
        (Level::Strict, vec![], good, "tls"),
        (Level::Opportunistic, of(bad, 3), bad, "tls"),
        (
            Level::Opportunistic,
            of(good, 3),
            bad,
            "error dane-mismatch permanent",
        ),
        (Level::Opportunistic, vec![], bad, "tls"),
    ] {
        let result = try_with(server, &policy(level, &records), HOST);
        assert_eq!(verdict(&result), wanted, "{level:?} {}", records.len());
    }
}

#[test]
fn a_look_up_that_failed_is_no_reason_to_go_on() {
    for level in [Level::Dane, Level::DaneOnly, Level::Opportunistic, Level::Strict] {
        for (policy, wanted) in [
            (Policy::new(level).tlsa_failed(), "error lookup-failed temporary"),
            (
                Policy::new(level).tlsa_proof(Proof::Bogus),
                "error dns-bogus temporary",
            ),
        ] {
            // Nobody listens there, and nobody is asked.
            let policy = policy.address(Ipv4Addr::LOCALHOST.into());
            assert_eq!(verdict(&Session::connect("smtp", HOST, 1, &policy)), wanted);
        }
    }
    for proof in [Proof::Insecure, Proof::Indeterminate] {
        let unheard = record(&identity("self-signed").cert, (3, 1, 1));
        let policy = policy(Level::Strict, &[unheard]).tlsa_proof(proof);
        assert_eq!(
            verdict(&try_with(identity("good"), &policy, HOST)),
            "tls",
            "{proof:?}"
        );
    }
}

#[test]
fn a_resumed_session_is_bound_to_its_records() {
    let good = identity("good");
    let server = upgrades(acceptor(good).build(), 3);
    let base = policy(Level::DaneOnly, &[]);
    let with = |kind| {
        let (usage, selector, matching, data) = record(&good.cert, kind);
        base.derive().tlsa(usage, selector, matching, &data)
    };
    let connect = |policy: &Policy| {
        let session = Session::connect("pop3", HOST, server.port, policy).unwrap();
        session.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        let _ = session.read(&mut buffer).unwrap();
        session.close().unwrap();
        let tls = session.outcome().tls.clone().unwrap();
        assert_eq!(session.outcome().identity.proven_by, Some(ProvenBy::Dane));
        tls.resumed
    };
    assert!(!connect(&with((3, 1, 1))));
    assert!(connect(&with((3, 1, 1))));
    assert!(!connect(&with((3, 0, 1))), "other records, another verdict");
    let _ = server.finish();
}

#[test]
fn contradictions_are_invalid() {
    let records = Policy::new(Level::Verify)
        .tlsa(3, 1, 1, &[0; 32])
        .tlsa_proof(Proof::Secure);
    assert!(records.ready().is_err());
    assert!(Policy::strict().tlsa(3, 1, 1, &[0; 32]).ready().is_err());
    // An event loop waits for no look-up.
    let e = Negotiation::new("smtp", HOST, Stage::Greeting, &Policy::new(Level::Dane));
    assert_eq!(e.err().unwrap().word(), Word::Invalid);
}
