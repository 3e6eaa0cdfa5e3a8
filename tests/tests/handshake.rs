//! Handshakes that go wrong, versions, client certificates, ALPN, and the redial rule.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use conformance::certs::{ca_file, cert_file, identity, key_file};
use conformance::check::{all, is_shut_down, outcome, policy, usable, verdict};
use conformance::peer::{accept, acceptor, drain, pop3_go_ahead, reset, upgrades, Peer};
use openssl::ssl::{AlpnError, SslAcceptor, SslOptions, SslVerifyMode, SslVersion};
use starttls::{MinTls, Policy, Result, Session, Stage};

const HOST: &str = "mail.example.test";

fn only(version: SslVersion) -> SslAcceptor {
    let mut tls = acceptor(identity("good"));
    if version == SslVersion::TLS1 {
        tls.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
        tls.set_security_level(0);
        tls.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    }
    tls.set_min_proto_version(Some(version)).unwrap();
    tls.set_max_proto_version(Some(version)).unwrap();
    tls.build()
}

fn upgrade<'a>(stream: &'a TcpStream, policy: &Policy) -> Result<Session<'a>> {
    Session::upgrade("pop3", stream, HOST, Stage::Greeting, &[], policy)
}

/// Lets so many bytes of the server's flights pass, or one whole flight; then the connection ends in
/// one way or another.
struct Cut<'a> {
    stream: &'a TcpStream,
    left: usize,
    said_something: bool,
}

/// For TLS 1.2, where the client cannot be through after it.
const ONE_FLIGHT: usize = usize::MAX;

impl Read for Cut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.said_something {
            return Err(io::Error::other("cut"));
        }
        (&*self.stream).read(buffer)
    }
}

impl Write for Cut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.left);
        if n == 0 {
            return Err(io::Error::other("cut"));
        }
        (&*self.stream).write_all(&bytes[..n])?;
        self.left -= n;
        self.said_something = true;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a handshake is cut off after some bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Close,
    Reset,
    Garbage,
    Silence,
}

#[test]
fn cut_off_after_so_many_bytes() {
    let mut jobs = Vec::new();
    for left in [0, 1, 4, 5, 6, 60, 127, 200, 600, ONE_FLIGHT] {
        for end in [End::Close, End::Reset, End::Garbage, End::Silence] {
            for level in ["may", "verify"] {
                jobs.push((left, end, level));
            }
        }
    }
    all(&jobs, |&(left, end, level)| {
        let server = Peer::start(move |listener| {
            let mut stream = accept(listener).unwrap();
            pop3_go_ahead(&mut stream).unwrap();
            let tls = match left {
                ONE_FLIGHT => only(SslVersion::TLS1_2),
                _ => only(SslVersion::TLS1_3),
            };
            let cut = Cut {
                stream: &stream,
                left,
                said_something: false,
            };
            assert!(tls.accept(cut).is_err());
            match end {
                End::Close => {}
                End::Reset => reset(stream),
                // More than any record that it could be part of.
                End::Garbage => {
                    let _ = (&stream).write_all(&[b'-'; 20_000]);
                    drain(&stream);
                }
                End::Silence => drop(drain(&stream)),
            }
        });
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let quick = std::time::Duration::from_millis(200);
        let policy = match end {
            End::Silence => policy(level).timeout(quick).unwrap(),
            _ => policy(level),
        };
        let result = upgrade(&stream, &policy);
        let got = verdict(&result);
        let wanted = match end {
            End::Close | End::Reset => "error closed temporary",
            End::Silence => "error timeout temporary",
            // Nothing of TLS was seen yet: clear text behind the go-ahead.
            End::Garbage if left < 2 => "error injected permanent",
            End::Garbage => "error handshake permanent",
        };
        outcome(&result)?;
        drop(result);
        let shut = is_shut_down(stream.as_raw_fd());
        drop(stream);
        server.finish();
        if got != wanted || !shut {
            return Err(format!(
                "{end:?} after {left} at {level}: {got}, shut down: {shut}"
            ));
        }
        Ok(())
    });
}

#[test]
fn tls_versions() {
    for (version, word) in [
        (SslVersion::TLS1, "TLSv1"),
        (SslVersion::TLS1_2, "TLSv1.2"),
        (SslVersion::TLS1_3, "TLSv1.3"),
    ] {
        for level in ["may", "opportunistic", "encrypt", "verify", "strict"] {
            let lax = ["may", "opportunistic"].contains(&level);
            let server = upgrades(only(version), 1);
            let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            let result = upgrade(&stream, &policy(level));
            if version == SslVersion::TLS1 && !lax {
                assert_eq!(verdict(&result), "error handshake permanent", "{level}");
                drop(result);
                drop(stream);
                server.finish();
                continue;
            }
            // Weak TLS beats clear (RFC 7435), where the build still has it.
            let session = result.unwrap();
            usable(&session).unwrap();
            let tls = session.outcome().tls.clone().unwrap();
            assert_eq!(tls.version, word);
            assert!(tls.forward_secrecy, "{}", tls.cipher);
            assert!(tls.group.is_some());
            drop(session);
            drop(stream);
            assert_eq!(server.finish()[0].as_ref().unwrap().version, word);
        }
    }
}

#[test]
fn a_minimum_version_that_the_server_does_not_reach() {
    for level in ["may", "encrypt", "verify"] {
        let server = upgrades(only(SslVersion::TLS1_2), 1);
        // By connect, which must not dial again: the demand was ours.
        let policy = policy(level).min_tls(MinTls::Tls13);
        let result = Session::connect("pop3", HOST, server.port, &policy);
        assert_eq!(verdict(&result), "error handshake permanent", "{level}");
        drop(result);
        server.finish();
    }
    let server = upgrades(only(SslVersion::TLS1_3), 1);
    let policy = policy("verify").min_tls(MinTls::Tls13);
    let session = Session::connect("pop3", HOST, server.port, &policy).unwrap();
    usable(&session).unwrap();
    drop(session);
    server.finish();
}

fn wants_client_cert(version: SslVersion, required: bool) -> SslAcceptor {
    let mut tls = acceptor(identity("good"));
    tls.set_min_proto_version(Some(version)).unwrap();
    tls.set_max_proto_version(Some(version)).unwrap();
    tls.set_ca_file(ca_file()).unwrap();
    let mut mode = SslVerifyMode::PEER;
    if required {
        mode |= SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    }
    tls.set_verify(mode);
    tls.build()
}

#[test]
fn client_certificates() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for (ours, required, works) in [
            (Some("client"), true, true),
            (Some("client"), false, true),
            (None, false, true),
            (None, true, false),
            (Some("other-client"), true, false),
        ] {
            let server = upgrades(wants_client_cert(version, required), 1);
            let policy = policy("verify");
            let policy = match ours {
                Some(name) => policy.client_cert(cert_file(name), key_file(name)).unwrap(),
                None => policy,
            };
            let result = Session::connect("pop3", HOST, server.port, &policy);
            // With TLS 1.3 the server's no comes after our side of the handshake is over.
            let used = match &result {
                Ok(session) => usable(session),
                Err(_) => Err(verdict(&result)),
            };
            let case = format!("{ours:?}, required: {required}, {version:?}: {used:?}");
            assert_eq!(used.is_ok(), works, "{case}");
            if !works && version == SslVersion::TLS1_2 {
                assert_eq!(used.unwrap_err(), "error handshake permanent", "{case}");
            }
            drop(result);
            let seen = server.finish().remove(0);
            assert_eq!(seen.is_ok(), works, "{case}");
            if let Ok(seen) = seen {
                assert_eq!(seen.has_client_cert, ours.is_some(), "{case}");
            }
        }
    }
}

#[test]
fn a_refused_client_certificate_is_our_own_fault_and_not_mended_in_clear() {
    let server = upgrades(wants_client_cert(SslVersion::TLS1_2, true), 1);
    let policy = policy("may")
        .client_cert(cert_file("other-client"), key_file("other-client"))
        .unwrap();
    let result = Session::connect("pop3", HOST, server.port, &policy);
    assert_eq!(verdict(&result), "error handshake permanent");
    drop(result);
    // finish() wants that nobody dialled again.
    server.finish();
}

#[test]
fn a_client_certificate_goes_to_nobody_who_is_not_proven() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut tls = acceptor(identity("wrong-name"));
        tls.set_max_proto_version(Some(version)).unwrap();
        let shown = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&shown);
        tls.set_verify_callback(SslVerifyMode::PEER, move |_, _| {
            seen.store(true, Ordering::SeqCst);
            true
        });
        let server = upgrades(tls.build(), 1);
        let policy = policy("verify")
            .client_cert(cert_file("client"), key_file("client"))
            .unwrap();
        let result = Session::connect("pop3", HOST, server.port, &policy);
        assert_eq!(verdict(&result), "error name-mismatch permanent");
        drop(result);
        assert!(server.finish()[0].is_err());
        assert!(
            !shown.load(Ordering::SeqCst),
            "the client has shown its certificate"
        );
    }
}

#[test]
fn alpn_is_offered_where_the_protocol_has_one_and_recorded() {
    for (protocol, offered) in [("pop3s", Some("pop3")), ("imaps", Some("imap")), ("smtps", None)] {
        let mut tls = acceptor(identity("good"));
        tls.set_alpn_select_callback(|_, list| {
            let mut names = Vec::new();
            let mut rest = list;
            while let Some((n, tail)) = rest.split_first() {
                let (name, tail) = tail.split_at(usize::from(*n));
                names.push(name);
                rest = tail;
            }
            // Exactly one is to be offered.
            match names.as_slice() {
                [one] => Ok(one),
                _ => Err(AlpnError::ALERT_FATAL),
            }
        });
        let tls = tls.build();
        let server = Peer::start(move |listener| tls.accept(accept(listener).unwrap()).map(drop).is_ok());
        let session = Session::connect(protocol, HOST, server.port, &policy("verify")).unwrap();
        assert_eq!(session.outcome().tls.as_ref().unwrap().alpn.as_deref(), offered);
        drop(session);
        assert!(server.finish());
    }
}

#[test]
fn redial_is_once_in_clear_and_says_so() {
    let server = Peer::start(|listener| {
        let mut first = accept(listener).unwrap();
        pop3_go_ahead(&mut first).unwrap();
        // A server with no cipher in common: it answers with a fatal alert in clear.
        first.read_exact(&mut [0; 5]).unwrap();
        first.write_all(b"\x15\x03\x03\x00\x02\x02\x28").unwrap();
        drain(first);
        let mut second = accept(listener).unwrap();
        second.write_all(b"+OK ready again\r\n").unwrap();
        drain(second)
    });
    let session = Session::connect("pop3", HOST, server.port, &policy("may")).unwrap();
    let outcome = session.outcome();
    assert_eq!(outcome.because, Some(starttls::Because::HandshakeFailed));
    assert_eq!(outcome.attempts.len(), 1);
    assert_eq!(outcome.attempts[0].channel, None);
    assert_eq!(outcome.attempts[0].offered, Some(true));
    assert!(outcome.tls.is_none() && outcome.certificate.is_none());
    assert!(
        outcome.notes.iter().any(|n| n.contains("in clear")),
        "{:?}",
        outcome.notes
    );
    session.write_all(b"QUIT\r\n").unwrap();
    session.close().unwrap();
    drop(session);
    assert_eq!(server.finish(), b"QUIT\r\n");
}
