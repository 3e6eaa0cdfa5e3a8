use std::collections::HashSet;

use super::*;
use crate::level::Level;
use crate::outcome::{Check, Line, Peer};

const RESULTS: &str = include_str!("../../../tests/tlsrpt/results.tsv");

fn outcome() -> Outcome {
    let peer = Peer {
        name: Some("mx.a.test".into()),
        name_from: None,
        address: "192.0.2.25".parse().ok(),
        port: Some(25),
    };
    let mut outcome = Outcome::begin(Some("smtp"), Role::Client, Level::Opportunistic, peer);
    outcome.source = "192.0.2.1".parse().ok();
    outcome.transcript.push(Line {
        from: Speaker::S,
        text: "220 mail.a.test ESMTP".into(),
    });
    outcome
}

fn domain(policies: Vec<DomainPolicy>) -> Domain {
    Domain {
        name: "a.test".into(),
        mx: None,
        policies,
        tlsrpt: Some("v=TLSRPTv1; rua=mailto:tls@a.test".into()),
        lookups: 0,
    }
}

/// `tlsa`, `sts-testing`, or with the reason why it cannot be used: `tlsa!tlsa-invalid`.
fn policy(word: &str) -> DomainPolicy {
    let (kind, failure) = word.split_once('!').unwrap_or((word, ""));
    let failure = ResultType::ALL.into_iter().find(|r| r.as_str() == failure);
    let (kind, mode) = match kind {
        "tlsa" => (PolicyType::Tlsa, None),
        "sts" => (PolicyType::Sts, None),
        "sts-enforce" => (PolicyType::Sts, Some(StsMode::Enforce)),
        "sts-testing" => (PolicyType::Sts, Some(StsMode::Testing)),
        "sts-none" => (PolicyType::Sts, Some(StsMode::None)),
        _ => panic!("{word}"),
    };
    DomainPolicy {
        kind,
        domain: if kind == PolicyType::Tlsa {
            "mx.a.test"
        } else {
            "a.test"
        }
        .into(),
        mode,
        string: vec!["z".into(), "a".into()],
        mx_host: Vec::new(),
        failure: failure.map(ResultType::as_str),
        why: failure.map(|f| format!("why {}", f.as_str())),
        listed: false,
    }
}

fn pick<T: Clone>(word: &str, table: &[(&str, T)]) -> T {
    let found = table.iter().find(|(w, _)| *w == word);
    found.unwrap_or_else(|| panic!("no \"{word}\"")).1.clone()
}

fn checks(words: &str) -> Vec<Check> {
    let kinds = [
        ("chain", CheckKind::Chain),
        ("name", CheckKind::Name),
        ("time", CheckKind::Time),
        ("dane", CheckKind::Dane),
        ("sts", CheckKind::Sts),
        ("fingerprint", CheckKind::Fingerprint),
    ];
    let words = words.split(' ').filter(|w| *w != "-");
    let check = |word: &str| {
        let (kind, ok) = word
            .strip_prefix("no-")
            .map_or((word, true), |kind| (kind, false));
        Check {
            check: pick(kind, &kinds),
            ok,
            word: None,
            why: (!ok).then(|| format!("why {kind}")),
        }
    };
    words.map(check).collect()
}

/// `tlsa ok, sts certificate-expired+certificate-not-trusted`.
fn shown(events: &[Event]) -> String {
    let kind = |p: &PolicyResult| serde_json::to_string(&p.policy.kind).unwrap().replace('"', "");
    let result = |p: &PolicyResult| {
        let words: Vec<&str> = p.failures.iter().map(|f| f.result_type.as_str()).collect();
        if p.success() {
            "ok".to_owned()
        } else {
            words.join("+")
        }
    };
    let all: Vec<String> = events
        .iter()
        .flat_map(|e| &e.policies)
        .map(|p| format!("{} {}", kind(p), result(p)))
        .collect();
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join(", ")
    }
}

#[test]
fn every_row_of_the_table() {
    let mut words = HashSet::new();
    let mut results = HashSet::new();
    for row in RESULTS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [policies, effective, channel, offered, run, error, expected, _why] = columns[..] else {
            panic!("{row}");
        };
        let mut o = outcome();
        let policies = policies.split(' ').filter(|w| *w != "-").map(policy).collect();
        o.domain = Some(domain(policies));
        o.effective = pick(
            effective,
            &[
                ("none", Effective::None),
                ("may", Effective::May),
                ("encrypt", Effective::Encrypt),
                ("fingerprint", Effective::Fingerprint),
                ("verify", Effective::Verify),
                ("dane", Effective::Dane),
                ("sts", Effective::Sts),
            ],
        );
        (o.channel, o.because) = pick(
            channel,
            &[
                ("tls", (Some(Channel::Tls), None)),
                ("not-asked", (Some(Channel::Plain), Some(Because::NotAsked))),
                ("not-offered", (Some(Channel::Plain), Some(Because::NotOffered))),
                ("refused", (Some(Channel::Plain), Some(Because::Refused))),
                (
                    "handshake-failed",
                    (Some(Channel::Plain), Some(Because::HandshakeFailed)),
                ),
                ("-", (None, None)),
            ],
        );
        o.offered = pick(offered, &[("yes", Some(true)), ("no", Some(false)), ("-", None)]);
        o.checks = checks(run);
        let events = match Word::ALL.into_iter().find(|w| w.as_str() == error) {
            Some(word) => {
                words.insert(word);
                Error::new(word, "said").with_outcome(o).tlsrpt_events()
            }
            None => {
                assert_eq!(error, "-", "{row}");
                o.tlsrpt_events()
            }
        };
        assert_eq!(shown(&events), expected, "{row}");
        let failures = events.iter().flat_map(|e| &e.policies).flat_map(|p| &p.failures);
        for failure in failures {
            results.insert(failure.result_type);
            assert!(failure.failure_reason_code.is_some(), "{row}");
            assert_eq!(failure.receiving_mx_hostname.as_deref(), Some("mx.a.test"));
            assert_eq!(failure.receiving_mx_helo.as_deref(), Some("mail.a.test"));
            assert_eq!(failure.sending_mta_ip, "192.0.2.1".parse().ok());
            assert_eq!(failure.receiving_ip, "192.0.2.25".parse().ok());
        }
    }
    for word in Word::ALL {
        assert!(words.contains(&word), "no row has the error {word}");
    }
    for result in ResultType::ALL {
        assert!(results.contains(&result), "no row gives {}", result.as_str());
    }
}

#[test]
fn every_attempt_is_told_once_with_its_own_reason() {
    let mut first = outcome();
    first.offered = Some(true);
    let first = Error::new(Word::Handshake, "no shared cipher").with_outcome(first);
    let mut second = outcome();
    second.channel = Some(Channel::Plain);
    second.because = Some(Because::HandshakeFailed);
    second.attempts.push(first.outcome().unwrap().clone());
    second.domain = Some(domain(Vec::new()));
    let events = second.tlsrpt_events();
    assert_eq!(shown(&events), "no-policy-found validation-failure");
    assert_eq!(
        events[0].policies[0].failures[0].failure_reason_code.as_deref(),
        Some("handshake: no shared cipher")
    );

    // The next host is reached: its domain's policies are its own.
    let mut third = outcome();
    third.channel = Some(Channel::Tls);
    third.domain = Some(domain(vec![policy("tlsa")]));
    third.checks = checks("dane");
    third.attempts.push(second);
    assert_eq!(
        shown(&third.tlsrpt_events()),
        "no-policy-found validation-failure, tlsa ok"
    );
}

/// As a connection knows it: both addresses are those of the socket.
#[test]
fn an_attempt_on_a_socket_knows_both_ends() {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    let server = TcpListener::bind("127.0.0.2:0").unwrap();
    let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let service = crate::protocol::find("smtp").unwrap();
    let policy = crate::Policy::new(Level::Encrypt);
    let mut attempt = crate::attempt::Attempt::client(Some(service), "mx.a.test", None, &policy).unwrap();
    attempt.outcome.domain = Some(domain(Vec::new()));
    attempt.note_peer(client.as_fd());
    let error = attempt.fail(Error::new(Word::NotOffered, "no STARTTLS"));
    let failure = &error.tlsrpt_events()[0].policies[0].failures[0];
    assert_eq!(failure.sending_mta_ip, Some(client.local_addr().unwrap().ip()));
    assert_eq!(failure.receiving_ip, "127.0.0.2".parse().ok());
    assert_eq!(
        failure.failure_reason_code.as_deref(),
        Some("not-offered: no STARTTLS")
    );
}

#[test]
fn only_a_domain_that_asks_is_told() {
    let mut o = outcome();
    o.channel = Some(Channel::Tls);
    assert!(o.tlsrpt_events().is_empty());
    o.domain = Some(domain(Vec::new()));
    assert_eq!(shown(&o.tlsrpt_events()), "no-policy-found ok");
    o.role = Role::Server;
    assert!(o.tlsrpt_events().is_empty());
    o.role = Role::Client;
    o.domain.as_mut().unwrap().tlsrpt = None;
    assert!(o.tlsrpt_events().is_empty());
}

#[test]
fn tlsa_records_have_one_order_and_texts_are_bounded() {
    let mut tlsa = policy("tlsa");
    tlsa.why = Some("y".repeat(1000));
    tlsa.failure = Some("tlsa-invalid");
    let mut sts = policy("sts-enforce");
    sts.string = vec!["x".repeat(600); 300];
    let mut o = outcome();
    o.channel = Some(Channel::Tls);
    o.checks = checks("sts chain time name");
    o.transcript.clear();
    o.domain = Some(domain(vec![tlsa, sts]));
    let events = o.tlsrpt_events();
    let [tlsa, sts] = &events[0].policies[..] else {
        panic!("{events:?}");
    };
    assert_eq!(tlsa.policy.string, ["a", "z"]);
    assert_eq!(
        tlsa.failures[0].failure_reason_code.as_ref().unwrap().len(),
        MAX_REASON
    );
    assert_eq!(tlsa.failures[0].receiving_mx_helo, None);
    assert!(sts.success());
    assert_eq!(sts.policy.string.len(), MAX_LINES);
    assert!(events[0].to_json().len() < 160 * 1024);
    assert_eq!(Event::from_json(&events[0].to_json()).unwrap(), events[0]);
}
