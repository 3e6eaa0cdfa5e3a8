//! A second connection beside a session, such as FTP's for data: by the same policy, resuming if the server
//! lets it, with all checks if not.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use conformance::certs::identity;
use conformance::check::{is_shut_down, outcome, policy, usable, verdict};
use conformance::peer::{accept, acceptor, echo, pop3_go_ahead, Peer};
use openssl::ssl::{SslAcceptor, SslVersion};
use starttls::{ProvenBy, Role, Session, Stage};

const HOST: &str = "mail.example.test";

/// A control connection, upgraded with the first of these, and then data connections, one for each of the
/// others. What is told is which of them resumed.
fn server(control: SslAcceptor, data: Vec<SslAcceptor>) -> Peer<Vec<Result<bool, String>>> {
    Peer::start(move |listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let control = control.accept(stream).unwrap();
        // A ticket of TLS 1.3 comes with the first bytes read.
        let control = std::thread::spawn(move || echo(control));
        let serve = |tls: SslAcceptor| {
            let stream = tls.accept(accept(listener).unwrap()).map_err(|e| e.to_string())?;
            let resumed = stream.ssl().session_reused();
            echo(stream);
            Ok(resumed)
        };
        let served = data.into_iter().map(serve).collect();
        control.join().unwrap();
        served
    })
}

fn tls(version: SslVersion, certificate: &str) -> SslAcceptor {
    let mut tls = acceptor(identity(certificate));
    tls.set_max_proto_version(Some(version)).unwrap();
    tls.build()
}

fn dial(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

#[test]
fn it_resumes_the_session_beside_it_again_and_again() {
    for version in VERSIONS {
        let tls = tls(version, "good");
        let server = server(tls.clone(), vec![tls.clone(), tls.clone(), tls]);
        let policy = policy("verify");
        let control = Session::connect("pop3", HOST, server.port, &policy).unwrap();
        usable(&control).unwrap();
        for _ in 0..3 {
            let data = control.protect_data(dial(server.port)).unwrap();
            usable(&data).unwrap();
            let (of_data, of_control) = (data.outcome(), control.outcome());
            assert!(of_data.tls.as_ref().unwrap().resumed, "{version:?}");
            assert_eq!(of_data.role, Role::Client);
            assert_eq!(of_data.checks, of_control.checks);
            assert_eq!(of_data.identity, of_control.identity);
            assert_eq!(of_data.identity.proven_by, Some(ProvenBy::Pkix));
            assert_eq!(of_data.certificate, of_control.certificate);
            assert!(of_data.transcript.is_empty());
            // So that the server knows the data to be whole.
            data.close().unwrap();
        }
        // It does no harm to the session beside it.
        usable(&control).unwrap();
        drop(control);
        assert_eq!(server.finish(), [Ok(true), Ok(true), Ok(true)], "{version:?}");
    }
}

#[test]
fn a_server_that_does_not_resume_is_checked_in_full() {
    for version in VERSIONS {
        // Other keys for the tickets.
        let server = server(
            tls(version, "good"),
            vec![tls(version, "good"), tls(version, "via-intermediate")],
        );
        let control = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
        usable(&control).unwrap();
        for _ in 0..2 {
            let data = control.protect_data(dial(server.port)).unwrap();
            usable(&data).unwrap();
            assert!(!data.outcome().tls.as_ref().unwrap().resumed, "{version:?}");
            assert_eq!(data.outcome().identity.proven_by, Some(ProvenBy::Pkix));
        }
        drop(control);
        assert_eq!(server.finish(), [Ok(false), Ok(false)], "{version:?}");
    }
}

#[test]
fn somebody_else_behind_the_data_port_is_found_out() {
    for version in VERSIONS {
        let wrong = [
            ("wrong-name", "error name-mismatch permanent"),
            ("unknown-ca", "error untrusted permanent"),
            ("expired", "error expired permanent"),
        ];
        let data = wrong.iter().map(|(name, _)| tls(version, name)).collect();
        let server = server(tls(version, "good"), data);
        let control = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
        usable(&control).unwrap();
        for (name, word) in wrong {
            let stream = dial(server.port);
            let result = control.protect_data(&stream);
            assert_eq!(verdict(&result), word, "{name}");
            assert!(outcome(&result).unwrap().tls.is_none());
            drop(result);
            assert!(is_shut_down(stream.as_raw_fd()), "{name}");
        }
        usable(&control).unwrap();
        drop(control);
        assert!(server.finish().iter().all(Result::is_err));
    }
}

#[test]
fn at_a_level_that_knows_nobody_it_is_at_least_the_same_peer() {
    let version = SslVersion::TLS1_3;
    for (data_channel, expected) in [
        ("expired", "tls"),
        ("wrong-name", "error fingerprint-mismatch permanent"),
        ("good", "tls"),
    ] {
        let server = server(tls(version, "expired"), vec![tls(version, data_channel)]);
        let control = Session::connect("pop3", HOST, server.port, &policy("encrypt")).unwrap();
        usable(&control).unwrap();
        assert_eq!(control.outcome().identity.proven_by, None);
        let data = control.protect_data(dial(server.port));
        assert_eq!(verdict(&data), expected, "{data_channel}");
        if let Ok(data) = &data {
            usable(data).unwrap();
        }
        drop(data);
        drop(control);
        server.finish();
    }
}

#[test]
fn a_session_in_clear_protects_nothing() {
    let server = Peer::start(|listener| conformance::peer::drain(accept(listener).unwrap()));
    let stream = dial(server.port);
    let plain = Session::upgrade("pop3", &stream, HOST, Stage::Greeting, &[], &policy("none")).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let result = plain.protect_data(&ours);
    assert_eq!(verdict(&result), "error invalid permanent");
    drop(result);
    // It was not touched.
    assert!(!is_shut_down(ours.as_raw_fd()) && !is_shut_down(theirs.as_raw_fd()));
    drop(plain);
    drop(stream);
    assert_eq!(server.finish(), b"");
}

/// Silence, plaintext and the end where the handshake should be.
#[test]
fn what_is_no_handshake_is_no_session() {
    for (said, word) in [
        (&b"150 here it comes\r\n"[..], "error injected permanent"),
        (b"", "error closed temporary"),
    ] {
        let tls = tls(SslVersion::TLS1_3, "good");
        let server = Peer::start(move |listener| {
            let mut stream = accept(listener).unwrap();
            pop3_go_ahead(&mut stream).unwrap();
            let control = tls.accept(stream).unwrap();
            let control = std::thread::spawn(move || echo(control));
            let mut data = accept(listener).unwrap();
            std::io::Write::write_all(&mut data, said).unwrap();
            data.shutdown(std::net::Shutdown::Write).unwrap();
            conformance::peer::drain(&data);
            control.join().unwrap();
        });
        let control = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
        let stream = dial(server.port);
        let result = control.protect_data(&stream);
        assert_eq!(verdict(&result), word);
        drop(result);
        drop(stream);
        usable(&control).unwrap();
        drop(control);
        server.finish();
    }
}
