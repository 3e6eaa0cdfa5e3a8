//! What a server shows to whom, and which sessions it resumes.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use conformance::certs::{identity, issue, Identity, Says};
use conformance::check::{is_shut_down, policy, verdict};
use conformance::peer::{accept, Peer};
use openssl::ssl::{SslConnector, SslMethod, SslSession, SslStream, SslVerifyMode, SslVersion};
use starttls::{Level, Negotiation, Outcome, Policy, Ready, Session, Stage};

fn pem(identity: &Identity) -> (Vec<u8>, Vec<u8>) {
    let key = identity.key.private_key_to_pem_pkcs8().unwrap();
    (identity.cert.to_pem().unwrap(), key)
}

fn with(policy: Policy, identity: &Identity) -> Policy {
    let (cert, key) = pem(identity);
    policy.server_cert_pem(cert, key)
}

/// A server with TLS from the first byte, for so many clients one after the other; what it tells of them.
fn server(policy: Policy, clients: usize) -> Peer<Vec<Outcome>> {
    Peer::start(move |listener| {
        let serve = |_| {
            let stream = accept(listener).unwrap();
            let session = Session::accept("imaps", &stream, b"", &policy).unwrap();
            session.write_all(b"x").unwrap();
            // Its end.
            let _ = session.read(&mut [0; 10]);
            session.outcome().clone()
        };
        (0..clients).map(serve).collect()
    })
}

struct Client {
    version: SslVersion,
    session: Option<SslSession>,
}

impl Client {
    fn new(version: SslVersion) -> Self {
        Self {
            version,
            session: None,
        }
    }

    /// One connection that asks for this name: the certificate's CN, and whether it was resumed.
    fn connect(&mut self, port: u16, name: Option<&str>) -> (String, bool) {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_max_proto_version(Some(self.version)).unwrap();
        let config = builder.build().configure().unwrap();
        let config = config
            .use_server_name_indication(name.is_some())
            .verify_hostname(false);
        let mut ssl = config.into_ssl(name.unwrap_or("unsaid")).unwrap();
        if let Some(session) = &self.session {
            // SAFETY: the session is offered to another context of the same library, which only reads it.
            unsafe { ssl.set_session(session) }.unwrap();
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut stream = SslStream::new(ssl, stream).unwrap();
        stream.connect().unwrap();
        stream.ssl_read(&mut [0; 10]).unwrap();
        self.session = stream.ssl().session().map(ToOwned::to_owned);
        let cert = stream.ssl().peer_certificate().unwrap();
        let cn = cert
            .subject_name()
            .entries()
            .next()
            .unwrap()
            .data()
            .to_string()
            .unwrap();
        let resumed = stream.ssl().session_reused();
        let _ = stream.shutdown();
        (cn, resumed)
    }
}

/// RFC 6066 §3: a session is for one name. A ticket of TLS 1.2 would be the end of forward secrecy.
#[test]
fn tickets_are_for_one_name_and_for_tls_1_3() {
    let (a, b) = (identity("good"), identity("wrong-name"));
    let policy = with(with(Policy::new(Level::Encrypt), a), b);
    for (version, resumes) in [(SslVersion::TLS1_3, true), (SslVersion::TLS1_2, false)] {
        let server = server(policy.clone(), 5);
        let mut client = Client::new(version);
        let (first, _) = client.connect(server.port, Some("localhost"));
        assert_eq!(
            client.connect(server.port, Some("localhost")),
            (first.clone(), resumes)
        );
        let (other, resumed) = client.connect(server.port, Some("other.example.test"));
        assert!(other != first && !resumed, "{other}");
        assert_eq!(
            client.connect(server.port, Some("localhost")),
            (first.clone(), false)
        );
        assert_eq!(client.connect(server.port, None), (first, false));
        let told: Vec<_> = server
            .finish()
            .into_iter()
            .map(|o| (o.sni, o.tls.unwrap()))
            .collect();
        assert_eq!(told[2].0.as_deref(), Some("other.example.test"));
        assert_eq!(told[4].0, None);
        assert_eq!(told[1].1.resumed, resumes);
        assert!(told.iter().all(|(_, tls)| tls.forward_secrecy));
    }
}

#[test]
fn who_asks_for_nothing_known_is_shown_the_first() {
    let nameless = |cn| issue(Says::server(cn, &[]), None);
    let same_names = |cn| issue(Says::server(cn, &["DNS:twice.example.test"]), None);
    let base = || Policy::new(Level::Encrypt);
    for (policy, first) in [
        (with(with(base(), &nameless("one")), &nameless("two")), "one"),
        (
            with(with(base(), &same_names("three")), &same_names("four")),
            "three",
        ),
    ] {
        let server = server(policy, 3);
        let mut client = Client::new(SslVersion::TLS1_3);
        for name in [None, Some("unknown.example.test"), Some("twice.example.test")] {
            client.session = None;
            assert_eq!(client.connect(server.port, name).0, first, "{name:?}");
        }
        server.finish();
    }
}

#[test]
fn other_files_in_a_directory_of_certificates_are_left_alone() {
    let directory = std::env::temp_dir().join(format!("starttls-certs-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (cert, key) = pem(identity("good"));
    std::fs::write(
        directory.join("mail.example.test.pem"),
        [cert.clone(), key].concat(),
    )
    .unwrap();
    std::fs::write(directory.join("ca.pem"), cert).unwrap();
    std::fs::write(directory.join("dhparams.pem"), "none").unwrap();
    let ready = || {
        let policy = Policy::new(Level::Encrypt).server_cert_dir(&directory)?;
        policy.ready()
    };
    let alone = ready();
    std::fs::write(directory.join("broken.example.test.pem"), "none").unwrap();
    let broken = ready();
    std::fs::remove_dir_all(&directory).unwrap();
    alone.unwrap();
    assert!(broken.unwrap_err().message().contains("broken.example.test.pem"));
}

/// Whoever gives a handshake up in the middle cannot go on in clear.
#[test]
fn a_handshake_that_is_given_up_shuts_the_connection_down() {
    type GiveUp = fn(Session<'_>);
    let ways: [(&str, GiveUp); 3] = [
        ("drop", |session| drop(session)),
        ("close", |session| session.close().unwrap()),
        ("try_close", |session| {
            assert_eq!(session.try_close().unwrap(), Ready::Done(()));
        }),
    ];
    for (way, give_up) in ways {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let negotiation = Negotiation::new("imap", "localhost", Stage::GoAhead, &policy("encrypt")).unwrap();
        let session = Session::negotiated(negotiation, &ours).unwrap();
        assert_eq!(session.try_handshake().unwrap(), Ready::WantRead);
        give_up(session);
        assert!(is_shut_down(ours.as_raw_fd()), "{way}");
        drop(theirs);
    }
}

/// An answer to what was never asked, behind a no (CVE-2021-22947); what is nobody's answer is the caller's.
#[test]
fn what_lies_behind_imaps_no() {
    for (behind, expected) in [
        ("* 3 EXISTS\r\n", "plain not-offered"),
        ("a2 OK logged in\r\n", "error malformed permanent"),
        ("* 3 EXISTS\r\na2 OK logged in\r\n", "error malformed permanent"),
    ] {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let pending = format!("a1 NO not here\r\n{behind}");
        let mut negotiation = Negotiation::new("imap", "localhost", Stage::Ready, &policy("may")).unwrap();
        negotiation.sent(negotiation.output().len());
        let result = negotiation.receive(pending.as_bytes());
        let result = result.and_then(|()| Session::negotiated(negotiation, &ours));
        assert_eq!(verdict(&result), expected, "{behind}");
        if let Ok(session) = result {
            let mut unread = [0; 100];
            let n = session.read(&mut unread).unwrap();
            assert_eq!(&unread[..n], behind.as_bytes());
        }
    }
}
