//! What four levels obtain of real domains: signed and unsigned zones behind a validating resolver, Postfix with good and
//! bad certificates, a policy host. All of it is data, `tests/tlsa/{matrix,domains}.tsv`, from which the servers are
//! made, and against which posttls-finger is held as well (tests/servers/check_domains.py).
//!
//! With the feature `unbound` the same is validated in this process.
//!
//! Wants the servers (tests/servers/run.py); without them it says that it is left out.

use std::path::PathBuf;
use std::time::Duration;

use conformance::check::side_by_side;
use serde_json::Value;
use starttls::{Channel, Level, Policy, ProvenBy, Resolver, Result, Session};

struct Servers {
    resolver: Resolver,
    smtp: u16,
    sts: u16,
    ca_file: PathBuf,
}

/// The servers, if they are there.
fn servers() -> Option<Servers> {
    let Some(listing) = std::env::var_os("STARTTLS_SERVERS") else {
        eprintln!("left out: no servers (tests/servers/run.py)");
        return None;
    };
    let listing: Value = serde_json::from_slice(&std::fs::read(listing).unwrap()).unwrap();
    let port = |v: &Value| v.as_u64().and_then(|port| u16::try_from(port).ok());
    let Some(smtp) = port(&listing["dns"]["smtp_port"]) else {
        eprintln!("left out: name servers or Postfix are not installed");
        return None;
    };
    let text = |key: &str| listing["dns"][key].as_str().unwrap();
    // With the feature it is this process that validates, behind a resolver that does not.
    let resolver = if cfg!(feature = "unbound") {
        format!("unbound:{}@{}", text("trust_anchor"), text("plain_resolver"))
    } else {
        text("resolver").to_owned()
    };
    Some(Servers {
        resolver: Resolver::parse(&resolver).unwrap(),
        smtp,
        sts: port(&listing["sts"]["port"]).unwrap_or(0),
        ca_file: listing["ca_file"].as_str().unwrap().into(),
    })
}

fn policy(servers: &Servers, level: &str) -> Policy {
    Policy::new(Level::from_word(level).unwrap())
        .resolver(servers.resolver.clone())
        .ca_file(&servers.ca_file)
        .unwrap()
        .port(servers.smtp)
        .tlsa_port(servers.smtp)
        .sts_port(servers.sts)
        .timeout(Duration::from_secs(20))
        .unwrap()
}

/// What was obtained, as the tables write it.
fn obtained(result: &Result<Session<'_>>) -> String {
    let session = match result {
        Ok(session) => session,
        Err(e) => return e.word().to_string(),
    };
    let outcome = session.outcome();
    let effective = serde_json::to_value(outcome.effective).unwrap();
    match (outcome.channel, outcome.identity.proven_by) {
        (Some(Channel::Plain), _) => "plain".to_owned(),
        (Some(Channel::Tls), by) => {
            let word = effective.as_str().unwrap().to_owned();
            match word.as_str() {
                "dane" => assert_eq!(by, Some(ProvenBy::Dane), "{}", outcome.to_json()),
                "verify" | "sts" => assert_eq!(by, Some(ProvenBy::Pkix), "{}", outcome.to_json()),
                _ => {}
            }
            word
        }
        (None, _) => "nothing".to_owned(),
    }
}

/// Rows of a table: columns, without comments.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split('\t').collect())
}

#[test]
fn records_and_certificates() {
    let Some(servers) = servers() else { return };
    const CERTIFICATES: [&str; 8] = [
        "good",
        "nexthop",
        "no-root",
        "self-signed",
        "expired",
        "wrong-name",
        "unknown-ca",
        "no-tls",
    ];
    let mut cells = Vec::new();
    for row in rows(include_str!("../tlsa/matrix.tsv")) {
        assert_eq!(row.len(), CERTIFICATES.len() + 2, "{row:?}");
        for (certificate, wanted) in CERTIFICATES.into_iter().zip(&row[2..]) {
            cells.push((format!("{}.{certificate}.example.test", row[0]), *wanted));
        }
    }
    assert!(cells.len() > 300, "{}", cells.len());
    let policy = policy(&servers, "dane");
    side_by_side(8, &cells, |(domain, wanted)| {
        let result = Session::connect_domain(domain, &policy);
        let word = obtained(&result);
        if word == *wanted {
            Ok(())
        } else {
            Err(format!(
                "{domain}: wanted {wanted}, obtained {word}: {}",
                told(&result)
            ))
        }
    });
}

#[test]
fn domains_and_levels() {
    let Some(servers) = servers() else { return };
    // The policy host is proven by the system's trust store, whatever the policy's CA is.
    if std::env::var_os("SSL_CERT_FILE").as_deref() != Some(servers.ca_file.as_os_str()) {
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "domains_and_levels", "--nocapture"])
            .env("SSL_CERT_FILE", &servers.ca_file)
            .env("SSL_CERT_DIR", "/nonexistent")
            .status()
            .unwrap();
        assert!(again.success());
        return;
    }
    const LEVELS: [&str; 4] = ["dane", "dane-only", "opportunistic", "strict"];
    let policies = LEVELS.map(|level| policy(&servers, level));
    let mut cells = Vec::new();
    for row in rows(include_str!("../tlsa/domains.tsv")) {
        for (i, wanted) in row[2..6].iter().enumerate() {
            if *wanted != "-" {
                cells.push((row[0], i, *wanted));
            }
        }
    }
    assert!(cells.len() > 200, "{}", cells.len());
    side_by_side(16, &cells, |(domain, i, wanted)| {
        let result = Session::connect_domain(domain, &policies[*i]);
        let word = obtained(&result);
        if wanted.split('|').any(|w| w == word) {
            Ok(())
        } else {
            let level = LEVELS[*i];
            Err(format!(
                "{domain} at {level}: wanted {wanted}, obtained {word}: {}",
                told(&result)
            ))
        }
    });
}

fn told(result: &Result<Session<'_>>) -> String {
    match result {
        Ok(session) => session.outcome().to_json(),
        Err(e) => format!("{e} {}", e.outcome().map(|o| o.to_json()).unwrap_or_default()),
    }
}
