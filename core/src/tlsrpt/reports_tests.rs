use std::io::Read;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{json, Value};

use super::super::event::tests::event;
use super::super::event::ResultType;
use super::*;
use crate::outcome::PolicyType;

fn reports() -> Reports {
    let day = Period::day(
        UNIX_EPOCH
            .checked_add(Duration::from_secs(1_459_468_800))
            .unwrap(),
    )
    .unwrap();
    Reports::new("Company-X", "sts-reporting@company-x.example", day).unwrap()
}

fn value(report: &Report) -> Value {
    serde_json::from_str(&report.to_json()).unwrap()
}

/// The one report.
fn only(reports: &Reports) -> Value {
    let mut all = reports.iter();
    let report = value(all.next().unwrap());
    assert!(all.next().is_none());
    report
}

/// Appendix B of RFC 8460, from events.
#[test]
fn the_example_of_the_rfc() {
    let mut reports = reports();
    let text = [
        "version: STSv1",
        "mode: testing",
        "mx: *.mail.company-y.example",
        "max_age: 86400",
    ];
    let failures = [
        (
            100,
            ResultType::CertificateExpired,
            "2001:db8:abcd:0012::1",
            "mx1.mail.company-y.example",
            None,
            None,
        ),
        (
            200,
            ResultType::StarttlsNotSupported,
            "2001:db8:abcd:0013::1",
            "mx2.mail.company-y.example",
            Some("203.0.113.56"),
            None,
        ),
        (
            3,
            ResultType::ValidationFailure,
            "198.51.100.62",
            "mx-backup.mail.company-y.example",
            Some("203.0.113.58"),
            Some("X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"),
        ),
    ];
    let mut event = event("company-y.example", PolicyType::Sts, &[]);
    event.policies[0].policy.string = text.map(str::to_owned).to_vec();
    event.policies[0].policy.mx_host = vec!["*.mail.company-y.example".into()];
    for _ in 0..5326 {
        reports.add(&event);
    }
    for (n, result, from, host, ip, reason) in failures {
        let mut failure = crate::tlsrpt::Failure::bare(result);
        failure.sending_mta_ip = from.parse().ok();
        failure.receiving_mx_hostname = Some(host.into());
        failure.receiving_ip = ip.and_then(|ip: &str| ip.parse().ok());
        failure.failure_reason_code = reason.map(str::to_owned);
        if reason.is_some() {
            failure.additional_information = Some(
                "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported".into(),
            );
        }
        event.policies[0].failures = vec![failure];
        for _ in 0..n {
            reports.add(&event);
        }
    }
    let expected = json!({
        "organization-name": "Company-X",
        "date-range": {
            "start-datetime": "2016-04-01T00:00:00Z",
            "end-datetime": "2016-04-01T23:59:59Z"
        },
        "contact-info": "sts-reporting@company-x.example",
        "report-id": "1459468800.1459555199.company-y.example@company-x.example",
        "policies": [{
            "policy": {
                "policy-type": "sts",
                "policy-string": text,
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"]
            },
            "summary": {
                "total-successful-session-count": 5326,
                "total-failure-session-count": 303
            },
            "failure-details": [{
                "result-type": "starttls-not-supported",
                "sending-mta-ip": "2001:db8:abcd:13::1",
                "receiving-mx-hostname": "mx2.mail.company-y.example",
                "receiving-ip": "203.0.113.56",
                "failed-session-count": 200
            }, {
                "result-type": "certificate-expired",
                "sending-mta-ip": "2001:db8:abcd:12::1",
                "receiving-mx-hostname": "mx1.mail.company-y.example",
                "failed-session-count": 100
            }, {
                "result-type": "validation-failure",
                "sending-mta-ip": "198.51.100.62",
                "receiving-ip": "203.0.113.58",
                "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                "failed-session-count": 3,
                "additional-information":
                    "https://reports.company-x.example/report_info?id=5065427c-23d3#StarttlsNotSupported",
                "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
            }]
        }]
    });
    assert_eq!(only(&reports), expected);
}

#[test]
fn names_and_headers_agree_with_the_report() {
    let mut reports = reports().unique_id("001").unwrap();
    reports.add(&event("b.test", PolicyType::Tlsa, &[]));
    reports.add(&event("a.test", PolicyType::NoPolicyFound, &[]));
    let all: Vec<&Report> = reports.iter().collect();
    assert_eq!(
        all.iter().map(|r| r.domain()).collect::<Vec<_>>(),
        ["a.test", "b.test"]
    );
    let report = all[0];
    assert_eq!(
        report.file_name(),
        "company-x.example!a.test!1459468800!1459555199!001.json.gz"
    );
    let id = "1459468800.1459555199.a.test.001@company-x.example";
    assert_eq!(value(report)["report-id"], id);
    assert_eq!(
        report.headers(),
        [
            (
                "Subject",
                format!("Report Domain: a.test Submitter: company-x.example Report-ID: <{id}>")
            ),
            ("TLS-Report-Domain", "a.test".to_owned()),
            ("TLS-Report-Submitter", "company-x.example".to_owned()),
        ]
    );
    assert_eq!(report.record().unwrap().rua[0].to_string(), "mailto:tls@a.test");
    let mut plain = String::new();
    let gzip = report.gzip();
    flate2::read::GzDecoder::new(&gzip[..])
        .read_to_string(&mut plain)
        .unwrap();
    assert_eq!(plain, report.to_json());
    assert_eq!(
        value(report)["policies"][0]["policy"],
        json!({
            "policy-type": "no-policy-found", "policy-domain": "a.test"
        })
    );
}

#[test]
fn what_cannot_be_used_is_said_at_once() {
    let period = reports().sender.period;
    for (organization, contact) in [
        ("", "a@b.test"),
        ("X", "b.test"),
        ("X", "a@"),
        ("X", "a@b.test\r\nBcc: c@d.test"),
        ("X\n", "a@b.test"),
    ] {
        let e = Reports::new(organization, contact, period).unwrap_err();
        assert_eq!(e.word(), crate::Word::Invalid, "{organization} {contact}");
    }
    for id in ["", "a!b", "ü"] {
        assert!(reports().unique_id(id).is_err());
    }
}

#[test]
fn the_fold_may_be_split_in_any_way() {
    let kinds = [PolicyType::Tlsa, PolicyType::Sts, PolicyType::NoPolicyFound];
    let events: Vec<Event> = (0..300)
        .map(|n| {
            let failures = [(ResultType::ALL[n % 11], "why"), (ResultType::ALL[n % 7], "else")];
            let domain = ["a.test", "b.test", "c.test", "d.test"][n % 4];
            event(domain, kinds[n % 3], &failures[..(n % 5).min(2)])
        })
        .collect();
    let mut whole = reports();
    for event in &events {
        whole.add(event);
    }
    let mut merged = reports();
    for part in events.rchunks(7) {
        let mut process = reports();
        for event in part {
            // As a child hands it to its parent.
            process.add(&Event::from_json(&event.to_json()).unwrap());
        }
        merged.merge(process).unwrap();
    }
    let json = |r: &Reports| r.iter().map(Report::to_json).collect::<Vec<_>>();
    assert_eq!(json(&whole), json(&merged));
    assert_eq!(whole.bytes, merged.bytes);
    assert_eq!(json(&whole).len(), 4);
    assert!(merged.merge(reports().unique_id("x").unwrap()).is_err());
}

/// The sessions that a report counts: successful, failed, and those of its failures.
fn sums(report: &Value) -> (u64, u64, u64) {
    let policies = report["policies"].as_array().unwrap();
    let sum = |key: &str| policies.iter().map(|p| p["summary"][key].as_u64().unwrap()).sum();
    let details = policies
        .iter()
        .flat_map(|p| p["failure-details"].as_array().unwrap());
    (
        sum("total-successful-session-count"),
        sum("total-failure-session-count"),
        details.map(|d| d["failed-session-count"].as_u64().unwrap()).sum(),
    )
}

#[test]
fn a_domain_that_always_says_something_new_is_bounded_and_counted() {
    let mut reports = reports();
    for n in 0..5000 {
        let reason = format!("reason {n}");
        reports.add(&event(
            "a.test",
            PolicyType::Sts,
            &[(ResultType::ValidationFailure, &reason)],
        ));
        let mut new_policy = event("a.test", PolicyType::Tlsa, &[]);
        new_policy.policies[0].policy.string = vec![format!("3 1 1 {n:0100}")];
        reports.add(&new_policy);
    }
    let report = only(&reports);
    assert_eq!(sums(&report), (5000, 5000, 5000));
    let text = report.to_string();
    assert!(text.len() < 1024 * 1024, "{}", text.len());
    assert!(text.contains("others: more than this report lists"));
    assert_eq!(reports.dropped(), 0);
}

#[test]
fn too_many_domains_are_said_to_be_dropped() {
    let mut reports = reports().limit(100_000);
    for n in 0..1000 {
        let failures = [
            (ResultType::CertificateExpired, "why"),
            (ResultType::CertificateNotTrusted, "why"),
        ];
        reports.add(&event(&format!("d{n}.test"), PolicyType::Sts, &failures));
    }
    // Over the limit are only the rows that say "others".
    assert!(reports.bytes <= 100_000 + 2000, "{}", reports.bytes);
    let listed: u64 = reports.iter().map(|r| sums(&value(r)).1).sum();
    assert!(listed > 50);
    assert_eq!(listed + reports.dropped(), 1000);
    let mut small = self::reports().limit(2000);
    small.merge(reports).unwrap();
    let listed: u64 = small.iter().map(|r| sums(&value(r)).1).sum();
    assert_eq!(listed + small.dropped(), 1000);
}

#[test]
fn the_newest_record_says_where_to() {
    let mut reports = reports();
    let mut event = event("a.test", PolicyType::Sts, &[]);
    reports.add(&event);
    event.record = "v=TLSRPTv1; rua=https://a.test/".into();
    reports.add(&event);
    let report = reports.iter().next().unwrap();
    assert_eq!(report.record().unwrap().rua[0].to_string(), "https://a.test/");
}
