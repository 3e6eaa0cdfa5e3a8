//! What a caller may get wrong: it is `invalid` before anything is dialled or said.

use std::net::{TcpListener, TcpStream};

use conformance::check::{policy, verdict};
use conformance::peer::wants_in;
use starttls::{Level, Policy, Session, Stage};

const BAD_HOSTS: &[&str] = &[
    "",
    ".",
    " ",
    "mail\0.example.test",
    "mail.example.test\r\nMAIL FROM:<x@y>",
    "mail\r.example.test",
    "mail\n.example.test",
    "mail example.test",
    " mail.example.test",
    "mail.example.test ",
    "mail\t.example.test",
    "mail\u{7f}.example.test",
    "mail\u{85}.example.test",
    "mail\u{a0}.example.test",
    "<mail.example.test>",
    "a&b.test",
    "a\"b.test",
    "a'b.test",
    "a>b.test",
    "a..b.test",
    ".example.test",
    "example.test..",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.test",
    "*.example.test",
    "https://example.test",
    "user@example.test",
    "mail.example.test:25",
    "[mail.example.test]",
    "[127.0.0.1",
    "127.0.0.1.2",
    "127.1",
    "::1%lo",
];

#[test]
fn bad_host_names_are_told_before_anything_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let long = "a.".repeat(128);
    for host in BAD_HOSTS.iter().copied().chain([long.as_str()]) {
        for level in ["none", "may", "verify"] {
            let result = Session::connect("smtp", host, port, &policy(level));
            assert_eq!(verdict(&result), "error invalid permanent", "{host:?} at {level}");
            let message = result.err().unwrap();
            assert!(message.message().contains("host name"), "{message}");
            assert!(!message.message().contains(['\r', '\n', '\0']), "{message}");
        }
    }
    assert!(!wants_in(&listener));
    // The one that is good does dial.
    let short = policy("verify")
        .timeout(std::time::Duration::from_millis(20))
        .unwrap();
    let result = Session::connect("smtp", &"a".repeat(63), port, &short);
    assert_eq!(verdict(&result), "error timeout temporary");
    assert!(wants_in(&listener));
}

#[test]
fn bad_names_beside_the_hosts() {
    let policy = Policy::strict();
    for bad in BAD_HOSTS {
        assert!(policy.derive().name(bad).is_err(), "{bad:?}");
        assert!(policy.derive().sni(bad).is_err(), "{bad:?}");
    }
    assert!(policy.derive().sni("127.0.0.1").is_err());
    for bad in ["", "a b", "me\r\nRCPT TO:<x@y>", "me\0", "bücher.test"] {
        assert!(policy.derive().client_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_unknown_word_or_a_setting_that_cannot_be() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    listener.accept().unwrap();
    let invalid = |result: starttls::Result<Session<'_>>| {
        assert_eq!(verdict(&result), "error invalid permanent");
    };
    for word in ["", "SMTP", "smtp ", "esmtp", "http2"] {
        invalid(Session::connect(word, "localhost", port, &policy("may")));
    }
    // TLS from the first byte: "none" asks for the impossible, and there is no other stage.
    invalid(Session::connect("smtps", "localhost", port, &policy("none")));
    for stage in [Stage::Ready, Stage::GoAhead] {
        invalid(Session::upgrade(
            "imaps",
            &stream,
            "localhost",
            stage,
            &[],
            &policy("may"),
        ));
    }
    // A level without its evidence.
    invalid(Session::connect(
        "smtp",
        "localhost",
        port,
        &Policy::new(Level::Fingerprint),
    ));
    assert!(!wants_in(&listener));
}

#[test]
fn a_descriptor_that_is_no_stream_socket() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let result = Session::upgrade("smtp", &file, "localhost", Stage::Greeting, &[], &policy("may"));
    assert_eq!(verdict(&result), "error invalid permanent");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let result = Session::upgrade("smtp", &socket, "localhost", Stage::Greeting, &[], &policy("may"));
    assert_eq!(verdict(&result), "error invalid permanent");
}

#[test]
fn nobody_listens_and_no_such_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let result = Session::connect("smtp", "localhost", port, &policy("may"));
    assert_eq!(verdict(&result), "error io temporary");
    let outcome = result.err().unwrap().outcome().cloned().unwrap();
    assert_eq!(outcome.peer.port, Some(port));
    assert!(outcome.attempts.is_empty());
}
