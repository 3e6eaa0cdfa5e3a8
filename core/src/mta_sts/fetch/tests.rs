use std::time::Instant;

use super::*;
use crate::mta_sts::site::{Does, Site};

const NAME: &str = "mta-sts.example.test";
const TEXT: &str = "Content-Type: text/plain\r\n";

fn get_within(web: &Web, time: Duration) -> std::result::Result<Vec<u8>, FetchFailure> {
    let patience = Patience {
        deadline: Deadline::after(Some(time)),
        hook: None,
    };
    web.get("example.test", vec![[127, 0, 0, 1].into()], patience)
        .unwrap()
}

fn get(site: &Site) -> std::result::Result<Vec<u8>, FetchFailure> {
    get_within(&site.web(), Duration::from_secs(5))
}

#[test]
fn a_body_however_it_is_framed() {
    let site = Site::begin(NAME, 9);
    for (answer, body) in [
        (format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 3\r\n\r\nabcdef"), "abc"),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nA: b\r\n\r\n"),
            "abc",
        ),
        (format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nabc"), "abc"),
        (format!("HTTP/1.0 200 OK\r\n{TEXT}\r\nabc"), "abc"),
        (
            "HTTP/1.1 200\r\ncontent-type: TEXT/Plain ; charset=utf-8\r\nContent-Length: 3\r\n\r\nabc".into(),
            "abc",
        ),
        (
            format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n{TEXT}Content-Length: 1\r\n\r\na"),
            "a",
        ),
        (format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 0\r\n\r\n"), ""),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 65536\r\n\r\n{}", "a".repeat(65536)),
            &"a".repeat(65536),
        ),
    ] {
        site.does(Does::Says(answer.clone().into_bytes()));
        let got = get(&site).unwrap_or_else(|e| panic!("{answer}: {e:?}"));
        assert_eq!(String::from_utf8(got).unwrap(), body);
    }
    let port = site.port;
    let request = site.last_request();
    let begin = format!("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {NAME}:{port}\r\n");
    assert!(request.starts_with(&begin), "{request}");
}

#[test]
fn what_is_no_policy_file() {
    let site = Site::begin(NAME, 9);
    let large = "a".repeat(70_000);
    for (answer, why, result) in [
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://other.test/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "redirects are not followed",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 404 Not \x1bFound\r\nContent-Length: 300000\r\n\r\n".into(),
            "no HTTP",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 300000\r\n\r\n".into(),
            "404",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into(),
            "503",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 206 Partial Content\r\n{TEXT}Content-Length: 1\r\n\r\na"),
            "206",
            FETCH_ERROR,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), "204", FETCH_ERROR),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n".into(),
            "101",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\na".into(),
            "text/html",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plainly\r\nContent-Length: 1\r\n\r\na".into(),
            "text/plainly",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na".into(),
            "Content-Type",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}{TEXT}Content-Length: 1\r\n\r\na"),
            "Content-Type",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 9\r\n\r\nabc"),
            "ends before",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
            "ends before",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: gzip\r\n\r\nx"),
            "transfer coding",
            FETCH_ERROR,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 65537\r\n\r\n"),
            "64 KiB",
            POLICY_INVALID,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{TEXT}\r\n{large}"),
            "64 KiB",
            POLICY_INVALID,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
                large.len()
            ),
            "64 KiB",
            POLICY_INVALID,
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(20_000)),
            "64 KiB",
            FETCH_ERROR,
        ),
        (
            "HTTP/1.1 103 x\r\n\r\n".repeat(20),
            "too much before",
            FETCH_ERROR,
        ),
        ("SSH-2.0-x\r\n\r\n".into(), "no HTTP", FETCH_ERROR),
        (String::new(), "ends before", FETCH_ERROR),
    ] {
        site.does(Does::Says(answer.clone().into_bytes()));
        let e = get(&site).expect_err(&answer);
        assert!(e.why.contains(why), "{answer:.80}: {e:?}");
        assert!(e.why.starts_with("https://mta-sts.example.test:"), "{e:?}");
        assert_eq!(e.result, result, "{e:?}");
        assert_eq!(e.temporary, why == "503" || why == "ends before", "{e:?}");
    }
}

#[test]
fn a_body_that_may_have_been_cut_off_is_none() {
    let site = Site::begin(NAME, 9);
    site.does(Does::SaysAndBreaks(
        format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nabc").into_bytes(),
    ));
    let e = get(&site).unwrap_err();
    assert!(e.temporary && e.result == FETCH_ERROR, "{e:?}");
    // Where the length is known nothing can be missing.
    site.does(Does::SaysAndBreaks(
        format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: 3\r\n\r\nabc").into_bytes(),
    ));
    assert_eq!(get(&site).unwrap(), b"abc");
}

#[test]
fn the_deadline_is_of_the_whole() {
    let site = Site::begin(NAME, 9);
    for begin in ["", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"] {
        site.does(Does::Drips(begin.into()));
        let start = Instant::now();
        let e = get_within(&site.web(), Duration::from_millis(500)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(e.temporary && e.why.contains("in time"), "{e:?}");
    }
    let e = get_within(&site.web(), Duration::ZERO).unwrap_err();
    assert!(e.why.contains("in time"), "{e:?}");
}

#[test]
fn the_certificate_must_be_good_by_the_trust_given() {
    let good = Site::begin(NAME, 9);
    good.serves("x");
    assert!(get(&good).is_ok());
    let requests = good.requests();
    for (web, what) in [
        (
            Site::begin("www.example.test", 9).web().port(good.port),
            "an unknown CA",
        ),
        (Web::new(false).port(good.port), "the system's trust"),
    ] {
        let e = get_within(&web, Duration::from_secs(5)).expect_err(what);
        assert_eq!(e.result, WEBPKI_INVALID, "{what}: {e:?}");
    }
    for (name, days) in [("www.example.test", 9), ("example.test", 9), (NAME, -1)] {
        let site = Site::begin(name, days);
        site.serves("x");
        let e = get(&site).expect_err(name);
        assert_eq!((e.result, e.temporary), (WEBPKI_INVALID, false), "{name}: {e:?}");
        assert_eq!(site.requests(), 0);
    }
    assert_eq!(good.requests(), requests);
    let wildcard = Site::begin("*.example.test", 9);
    wildcard.serves("x");
    assert_eq!(get(&wildcard).unwrap(), b"x");
}

#[test]
fn every_address_is_tried_and_no_other() {
    let site = Site::begin(NAME, 9);
    site.serves("x");
    let patience = Patience {
        deadline: Deadline::after(Some(Duration::from_secs(5))),
        hook: None,
    };
    // Nobody listens on the first.
    let addresses = vec![[127, 0, 0, 9].into(), [127, 0, 0, 1].into()];
    let body = site.web().get("example.test", addresses, patience).unwrap();
    assert_eq!(body.unwrap(), b"x");
    let none = site.web().get("example.test", Vec::new(), patience).unwrap();
    assert!(none.unwrap_err().why.contains("no address"));
    let refused = vec![[127, 0, 0, 9].into()];
    let e = site
        .web()
        .get("example.test", refused, patience)
        .unwrap()
        .unwrap_err();
    assert!(e.temporary && e.result == FETCH_ERROR, "{e:?}");
}

#[test]
fn the_callers_hook_ends_the_call() {
    let site = Site::begin(NAME, 9);
    site.does(Does::Drips(Vec::new()));
    let patience = Patience {
        deadline: Deadline::after(Some(Duration::from_secs(9))),
        hook: Some(|| Err(std::io::Error::other("enough"))),
    };
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = deaf.local_addr().unwrap().port();
    let web = site.web().port(port);
    let e = web
        .get("example.test", vec![[127, 0, 0, 1].into()], patience)
        .unwrap_err();
    assert!(e.stopped() && e.message().contains("enough"), "{e}");
}
