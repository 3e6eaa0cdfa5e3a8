//! Every row of the table plays both ends: the dialog in a protocol's own comment, up to the client's
//! upgrade command, then `accept` against `connect`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use conformance::check::{policy, policy_for, usable};
use conformance::script::{Play, Step};
use conformance::{certs, comments, peer};
use starttls::{protocol, Level, Negotiation, Policy, Ready, Role, Session, Speaker, Want};

fn server_policy() -> Policy {
    let identity = certs::identity("good");
    let cert = identity.cert.to_pem().unwrap();
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    Policy::new(Level::Encrypt).server_cert_pem(cert, key)
}

/// What a daemon says and hears before the client's upgrade command.
fn before_the_command(play: &Play) -> &[Step] {
    let mut steps = play.steps.as_slice();
    let end = steps.iter().position(|s| *s == Step::Tls).unwrap();
    steps = &steps[..end];
    while let [rest @ .., Step::Say(_)] = steps {
        steps = rest;
    }
    while let [rest @ .., Step::Hear(_)] = steps {
        steps = rest;
    }
    steps
}

fn play(stream: &mut TcpStream, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Say(bytes) => stream.write_all(bytes).unwrap(),
            Step::Hear(bytes) => {
                let mut heard = vec![0; bytes.len()];
                stream.read_exact(&mut heard).unwrap();
                assert_eq!(heard, *bytes, "{}", heard.escape_ascii());
            }
            other => panic!("{other:?} in a comment"),
        }
    }
}

#[test]
fn a_client_upgrades_against_a_server_of_every_row() {
    for row in protocol::PROTOCOLS {
        let (dialog, name) = comments::dialog(row.name);
        let part = dialog.clone();
        let inside = row.name == "http";
        let server = peer::Peer::start(move |listener| {
            let mut stream = peer::accept(listener).unwrap();
            play(&mut stream, before_the_command(&part));
            let session = Session::accept(&part.protocol, &stream, b"", &server_policy())
                .unwrap_or_else(|e| panic!("{}: {e}", part.protocol));
            if inside {
                // The answer to what was asked in clear.
                session
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
            }
            let mut heard = [0; 100];
            while let Ok(n @ 1..) = session.read(&mut heard) {
                session.write_all(&heard[..n]).unwrap();
            }
            session.outcome().clone()
        });
        let policy = policy_for(&dialog).client_name(&name).unwrap();
        let session = Session::connect(row.name, &dialog.host, server.port, &policy)
            .unwrap_or_else(|e| panic!("{}: {e}", row.name));
        usable(&session).unwrap();
        session.close().unwrap();
        let ours = session.outcome();
        let theirs = server.finish();
        assert_eq!(ours.role, Role::Client);
        assert_eq!(theirs.role, Role::Server);
        assert_eq!(theirs.sni.as_deref(), Some(dialog.host.as_str()), "{}", row.name);
        assert_eq!(theirs.peer.name, None);
        assert!(theirs.encrypted() && theirs.checks.is_empty());
        assert_eq!(ours.tls, theirs.tls, "{}", row.name);
        // The last words of both are the same, and each has them from the other.
        assert!(ours.transcript.ends_with(&theirs.transcript), "{}", row.name);
        assert!(theirs.transcript.iter().any(|line| line.from == Speaker::C));
        // And one for the handshake of TLS 1.3.
        assert_eq!(ours.round_trips, row.round_trips + 1, "{}", row.name);
    }
}

#[test]
fn tls_from_the_first_byte_in_both_roles() {
    for service in protocol::words() {
        let protocol::Service::Implicit(row) = service else {
            continue;
        };
        // Whether the caller has read some of the ClientHello makes no difference.
        for read in [0, 1, 100] {
            let server = peer::Peer::start(move |listener| {
                let mut stream = peer::accept(listener).unwrap();
                let mut hello = vec![0; read];
                stream.read_exact(&mut hello).unwrap();
                let session = Session::accept(service.word(), &stream, &hello, &server_policy()).unwrap();
                session.write_all(b"hello\r\n").unwrap();
                session.close().unwrap();
                session.outcome().clone()
            });
            let session =
                Session::connect(service.word(), "localhost", server.port, &policy("verify")).unwrap();
            let mut heard = [0; 10];
            assert_eq!(session.read(&mut heard).unwrap(), 7);
            assert_eq!(session.outcome().tls.as_ref().unwrap().alpn.as_deref(), row.alpn);
            drop(session);
            let theirs = server.finish();
            assert_eq!(theirs.protocol, Some(service.word()));
            assert_eq!(theirs.tls.unwrap().alpn.as_deref(), row.alpn);
        }
    }
}

/// A server's event loop may read some of the ClientHello with the command, and some more before the
/// session is made.
#[test]
fn a_client_hello_that_was_read_in_pieces() {
    let (dialog, _) = comments::dialog("mysql");
    for size in [1, 7, 35, 36, 37, 50, 100] {
        let part = dialog.clone();
        let server = peer::Peer::start(move |listener| {
            let mut stream = peer::accept(listener).unwrap();
            play(&mut stream, before_the_command(&part));
            let mut negotiation = Negotiation::accept("mysql", &server_policy()).unwrap();
            let mut buffer = vec![0; size];
            while negotiation.want() == Want::Read {
                let n = stream.read(&mut buffer).unwrap();
                negotiation.receive(&buffer[..n]).unwrap();
            }
            for _ in 0..2 {
                let n = stream.read(&mut buffer[..size.min(50)]).unwrap();
                negotiation.receive(&buffer[..n]).unwrap();
            }
            let session = Session::negotiated(negotiation, &stream).unwrap();
            while session.try_handshake().unwrap() != Ready::Done(()) {
                assert!(peer::readable(stream.as_raw_fd(), peer::PATIENCE));
            }
            session.write_all(b"done\r\n").unwrap();
            session.close().unwrap();
        });
        let policy = policy_for(&dialog);
        let session = Session::connect("mysql", "localhost", server.port, &policy).unwrap();
        assert_eq!(session.read(&mut [0; 10]).unwrap(), 6, "by {size}");
        drop(session);
        server.finish();
    }
}
