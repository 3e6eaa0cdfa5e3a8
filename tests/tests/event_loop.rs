//! Negotiations and sessions that never wait: what an event loop needs to be true of them.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conformance::certs::{cert_file, identity, key_file};
use conformance::check::{is_shut_down, policy};
use conformance::peer::{acceptor, drain, pop3_go_ahead, readable, PATIENCE};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{ShutdownState, SslStream};
use starttls::{Because, Channel, Level, Negotiation, Policy, Ready, Role, Session, Stage, Want, Word};

const HOST: &str = "mail.example.test";
const SHORT: Duration = Duration::from_millis(200);

/// A POP3 server on one end of a pair; the other end does not block.
fn server<T: Send + 'static>(
    then: impl FnOnce(SslStream<UnixStream>) -> T + Send + 'static,
) -> (UnixStream, JoinHandle<T>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let thread = std::thread::spawn(move || {
        pop3_go_ahead(&mut theirs).unwrap();
        then(acceptor(identity("good")).build().accept(theirs).unwrap())
    });
    (ours, thread)
}

fn wait(stream: &UnixStream) {
    assert!(readable(stream.as_raw_fd(), PATIENCE), "nothing comes");
}

/// Plays the dialog to its end, as a loop does.
fn negotiate(stream: &UnixStream, policy: &Policy) -> starttls::Result<Negotiation> {
    let mut negotiation = Negotiation::new("pop3", HOST, Stage::Greeting, policy)?;
    loop {
        match negotiation.want() {
            Want::Read => {
                wait(stream);
                let mut buffer = [0; 100];
                match { stream }.read(&mut buffer).unwrap() {
                    0 => return Err(negotiation.closed()),
                    n => negotiation.receive(&buffer[..n])?,
                }
            }
            Want::Write => {
                let n = { stream }.write(negotiation.output()).unwrap();
                negotiation.sent(n);
            }
            Want::Handshake | Want::Plain(_) => return Ok(negotiation),
        }
    }
}

fn shake<'a>(stream: &'a UnixStream, policy: &Policy) -> Session<'a> {
    let session = Session::negotiated(negotiate(stream, policy).unwrap(), stream).unwrap();
    while session.try_handshake().unwrap() != Ready::Done(()) {
        wait(stream);
    }
    session
}

fn empty(stream: &UnixStream) -> bool {
    !readable(stream.as_raw_fd(), Duration::ZERO)
}

#[test]
fn the_outcome_is_there_when_the_handshake_is_done_and_not_before() {
    let (stream, server) = server(drain);
    let policy = policy("verify");
    let session = Session::negotiated(negotiate(&stream, &policy).unwrap(), &stream).unwrap();
    assert!(!session.is_established() && session.time_left().is_some_and(|t| t > SHORT));
    let early = session.outcome();
    assert!(early.channel.is_none() && early.tls.is_none() && early.identity.proven_by.is_none());
    assert_eq!(early.transcript.len(), 3);
    assert!(session.heard().starts_with(b"+OK ready"));
    assert_eq!(session.try_read(&mut [0; 9]).unwrap_err().word(), Word::Invalid);
    assert_eq!(session.try_write(b"x").unwrap_err().word(), Word::Invalid);
    assert_eq!(session.read(&mut [0; 9]).unwrap_err().word(), Word::Invalid);
    assert_eq!(session.write_all(b"x").unwrap_err().word(), Word::Invalid);
    assert_eq!(
        session.channel_binding("tls-exporter").unwrap_err().word(),
        Word::Invalid
    );
    while session.try_handshake().unwrap() != Ready::Done(()) {
        wait(&stream);
    }
    assert!(session.is_established() && session.time_left().is_none());
    let outcome = session.outcome();
    assert_eq!(outcome.channel, Some(Channel::Tls));
    assert!(outcome.identity.proven_by.is_some() && outcome.round_trips >= 2);
    assert!(outcome.milliseconds.handshake.is_some() && outcome.milliseconds.negotiate.is_some());
    // Done stays done.
    assert_eq!(session.try_handshake().unwrap(), Ready::Done(()));
    session.try_close().unwrap();
    drop(session);
    drop(stream);
    assert_eq!(server.join().unwrap(), b"");
}

extern "C" {
    fn SSL_key_update(ssl: *mut std::ffi::c_void, kind: std::ffi::c_int) -> std::ffi::c_int;
}

/// An edge-triggered loop is not told again of what was left in the socket: where a call says that it wants to
/// read, nothing may be left, however much of it held nothing for the caller.
#[test]
fn nothing_is_left_in_the_socket_when_it_wants_to_read() {
    let (stream, server) = server(|mut tls| {
        let mut sent = 0;
        // More than one call into OpenSSL may read.
        while sent < 100_000 {
            // SAFETY: the SSL is alive; 0 asks for no answer.
            assert_eq!(unsafe { SSL_key_update(tls.ssl().as_ptr().cast(), 0) }, 1);
            tls.do_handshake().unwrap();
            sent += 27;
        }
        tls.write_all(&[b'a'; 30_000]).unwrap();
        drain(tls)
    });
    let session = shake(&stream, &policy("verify"));
    let mut heard = 0;
    let mut buffer = [0; 1000];
    while heard < 30_000 {
        wait(&stream);
        loop {
            match session.try_read(&mut buffer).unwrap() {
                Ready::Done(n) => heard += n,
                Ready::WantRead => break,
                Ready::WantWrite => panic!("nothing was written"),
            }
        }
        // Unless the server was just adding to it.
        if !empty(&stream) {
            std::thread::sleep(SHORT);
        }
    }
    assert_eq!(heard, 30_000);
    assert!(empty(&stream));

    session.try_close().unwrap();
    drop(session);
    drop(stream);
    server.join().unwrap();
}

/// Sends what it is given at once, or all together when it is told.
#[derive(Debug)]
struct Gathered {
    stream: UnixStream,
    kept: Option<Vec<u8>>,
}

impl Read for Gathered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.kept {
            Some(kept) => kept.extend_from_slice(bytes),
            None => self.stream.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same when all of it lies there before the first call, which gets no second chance.
#[test]
fn one_event_is_enough_for_all_that_lies_there() {
    let (stream, mut theirs) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    theirs.set_write_timeout(Some(PATIENCE)).unwrap();
    let server = std::thread::spawn(move || {
        pop3_go_ahead(&mut theirs).unwrap();
        let stream = Gathered {
            stream: theirs,
            kept: None,
        };
        let mut tls = acceptor(identity("good")).build().accept(stream).unwrap();
        tls.get_mut().kept = Some(Vec::new());
        for _ in 0..4000 {
            // SAFETY: the SSL is alive; 0 asks for no answer.
            assert_eq!(unsafe { SSL_key_update(tls.ssl().as_ptr().cast(), 0) }, 1);
            tls.do_handshake().unwrap();
        }
        tls.write_all(b"at last").unwrap();
        let all = tls.get_mut().kept.take().unwrap();
        assert!(all.len() > 100_000);
        tls.get_mut().write_all(&all).unwrap();
        tls
    });
    let session = shake(&stream, &policy("verify"));
    let tls = server.join().unwrap();
    let mut buffer = [0; 100];
    assert_eq!(session.try_read(&mut buffer).unwrap(), Ready::Done(7));
    assert_eq!(session.try_read(&mut buffer).unwrap(), Ready::WantRead);
    assert!(empty(&stream));
    drop(tls);
    // Without close_notify it is no clean end.
    assert_eq!(session.try_read(&mut buffer).unwrap_err().word(), Word::Closed);
}

#[test]
fn what_the_kernel_does_not_take_is_kept_in_bounds_and_flushed_in_order() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (stream, server) = server(move |tls| {
        gone.recv().unwrap_err();
        drain(tls)
    });
    let session = shake(&stream, &policy("verify"));
    let mut sent = Vec::new();
    assert_eq!(session.try_write(b"").unwrap(), Ready::Done(0));
    loop {
        let block = vec![u8::try_from(sent.len() / 50_000 % 251).unwrap(); 50_000];
        match session.try_write(&block).unwrap() {
            Ready::Done(n) => {
                assert!((1..=16 * 1024).contains(&n), "{n}");
                sent.extend_from_slice(&block[..n]);
            }
            Ready::WantWrite => break,
            Ready::WantRead => panic!("there is nothing to read"),
        }
        assert!(sent.len() < 10 << 20, "it takes without end");
    }
    assert!(session.wants_write());
    assert_eq!(session.try_flush().unwrap(), Ready::WantWrite);
    // Reading goes on meanwhile.
    assert_eq!(session.try_read(&mut [0; 9]).unwrap(), Ready::WantRead);
    drop(go);
    let end = Instant::now() + PATIENCE;
    while session.try_flush().unwrap() != Ready::Done(()) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!session.wants_write());
    assert_eq!(session.try_close().unwrap(), Ready::Done(()));
    drop(session);
    drop(stream);
    let heard = server.join().unwrap();
    assert_eq!(heard.len(), sent.len());
    assert!(heard == sent);
}

#[test]
fn closing_never_waits_and_is_the_end() {
    let (stream, server) = server(|mut tls| {
        assert_eq!(tls.read(&mut [0; 9]).unwrap(), 0);
        tls.get_shutdown().contains(ShutdownState::RECEIVED)
    });
    let session = shake(&stream, &policy("verify"));
    assert_eq!(session.try_close().unwrap(), Ready::Done(()));
    assert_eq!(session.try_close().unwrap(), Ready::Done(()));
    assert_eq!(session.try_read(&mut [0; 9]).unwrap_err().word(), Word::Invalid);
    assert_eq!(session.try_write(b"x").unwrap_err().word(), Word::Invalid);
    assert!(server.join().unwrap(), "no close_notify");

    // A peer that takes nothing: the loop waits for it, or drops it.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let (stream, server) = self::server(move |tls| {
        gone.recv().unwrap_err();
        let mut tls = tls;
        let _ = std::io::copy(&mut tls, &mut std::io::sink());
        tls.get_shutdown().contains(ShutdownState::RECEIVED)
    });
    let session = shake(&stream, &policy("verify"));
    while let Ready::Done(_) = session.try_write(&[0; 16 * 1024]).unwrap() {}
    assert_eq!(session.try_close().unwrap(), Ready::WantWrite);
    assert!(session.wants_write());
    drop(go);
    while session.try_close().unwrap() != Ready::Done(()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(server.join().unwrap(), "no close_notify");
}

#[test]
fn the_deadline_holds_for_the_dialog_and_for_the_handshake() {
    let policy = policy("verify").timeout(SHORT).unwrap();

    // Silence, which only the loop can see.
    let mut silent = Negotiation::new("pop3", HOST, Stage::Greeting, &policy).unwrap();
    assert!(silent.time_left() > Duration::ZERO && silent.time_left() <= SHORT);
    silent.receive(b"+OK ready\r\n").unwrap();
    // And one that always has something to say.
    let mut busy = Negotiation::new("smtp", HOST, Stage::Greeting, &policy).unwrap();
    let end = Instant::now() + PATIENCE;
    let e = loop {
        assert!(Instant::now() < end);
        if let Err(e) = busy.receive(b"220-and more\r\n") {
            break e;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(e.word(), Word::Timeout, "{e}");
    assert!(e.temporary() && e.outcome().is_some());
    assert_eq!(silent.time_left(), Duration::ZERO);
    let e = silent.too_late();
    assert_eq!(e.word(), Word::Timeout);
    assert!(e.message().contains("STLS"), "{e}");
    assert_eq!(e.outcome().unwrap().transcript.len(), 2);
    assert!(silent.receive(b"+OK\r\n").is_err());
    let (stream, _peer) = UnixStream::pair().unwrap();
    assert_eq!(
        Session::negotiated(silent, &stream).err().unwrap().word(),
        Word::Invalid
    );

    // In the handshake the session sees it, and leaves no connection behind.
    let negotiation = Negotiation::new("pop3", HOST, Stage::GoAhead, &policy).unwrap();
    assert_eq!(negotiation.want(), Want::Handshake);
    let session = Session::negotiated(negotiation, &stream).unwrap();
    assert_eq!(session.try_handshake().unwrap(), Ready::WantRead);
    assert!(session.time_left().unwrap() <= SHORT);
    std::thread::sleep(SHORT);
    assert_eq!(session.time_left(), Some(Duration::ZERO));
    let e = session.try_handshake().unwrap_err();
    assert_eq!(e.word(), Word::Timeout);
    assert!(e.outcome().is_some() && is_shut_down(stream.as_raw_fd()));
    assert_eq!(session.try_handshake().unwrap_err().word(), Word::Invalid);
    assert!(!session.is_established());
}

/// That it did not come with the refusal makes no difference (CVE-2021-22947).
#[test]
fn what_lies_behind_a_refusal_is_found_when_the_session_is_made() {
    for (behind, word) in [(&b""[..], None), (b"+OK forged\r\n", Some(Word::Injected))] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut negotiation = Negotiation::new("pop3", HOST, Stage::Ready, &policy("may")).unwrap();
        assert_eq!(negotiation.output(), b"STLS\r\n");
        negotiation.sent(3);
        assert_eq!(
            (negotiation.want(), negotiation.output()),
            (Want::Write, &b"S\r\n"[..])
        );
        negotiation.sent(3);
        negotiation.receive(b"-ERR no\r\n").unwrap();
        assert_eq!(negotiation.want(), Want::Plain(Because::NotOffered));
        theirs.write_all(behind).unwrap();
        let result = Session::negotiated(negotiation, &ours);
        match (result, word) {
            (Ok(session), None) => {
                assert!(session.is_established() && session.time_left().is_none());
                assert_eq!(session.try_handshake().unwrap(), Ready::Done(()));
                assert_eq!(session.outcome().because, Some(Because::NotOffered));
                assert_eq!(session.try_read(&mut [0; 9]).unwrap(), Ready::WantRead);
                assert_eq!(session.try_write(b"QUIT\r\n").unwrap(), Ready::Done(6));
                assert_eq!(session.try_close().unwrap(), Ready::Done(()));
            }
            (Err(e), Some(word)) => {
                assert_eq!(e.word(), word, "{e}");
                assert!(e.outcome().is_some() && is_shut_down(ours.as_raw_fd()));
            }
            (result, _) => panic!("{:?}", result.map(|s| s.outcome().clone())),
        };
    }
}

#[test]
fn plaintext_behind_the_go_ahead_is_found_before_the_client_hello() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let negotiation = Negotiation::new("pop3", HOST, Stage::GoAhead, &policy("encrypt")).unwrap();
    let session = Session::negotiated(negotiation, &ours).unwrap();
    theirs.write_all(b"+OK forged\r\n").unwrap();
    assert_eq!(session.try_handshake().unwrap_err().word(), Word::Injected);
    assert!(is_shut_down(ours.as_raw_fd()));
    let mut said = Vec::new();
    theirs.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"", "not even a ClientHello");
}

/// Both ends by the step machine, in one thread.
#[test]
fn a_client_and_a_server_take_turns() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = Policy::new(Level::Encrypt)
        .server_cert(cert_file("good"), key_file("good"))
        .unwrap();
    let mut client = Negotiation::new("imap", HOST, Stage::Ready, &policy("verify")).unwrap();
    let mut server = Negotiation::accept("imap", &served).unwrap();
    for _ in 0..100 {
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            let output = ends[from].output().to_vec();
            // A byte at a time.
            if let Some(byte) = output.first() {
                ends[from].sent(1);
                ends[to].receive(&[*byte]).unwrap();
            }
        }
    }
    assert_eq!((client.want(), server.want()), (Want::Handshake, Want::Handshake));
    let client = Session::negotiated(client, &ours).unwrap();
    let server = Session::negotiated(server, &theirs).unwrap();
    let mut turns = 0;
    while !(client.is_established() && server.is_established()) {
        client.try_handshake().unwrap();
        server.try_handshake().unwrap();
        turns += 1;
        assert!(turns < 10);
    }
    assert_eq!(
        (client.outcome().role, server.outcome().role),
        (Role::Client, Role::Server)
    );
    assert_eq!(server.outcome().sni.as_deref(), Some(HOST));
    assert_eq!(client.try_write(b"hello").unwrap(), Ready::Done(5));
    let mut buffer = [0; 9];
    assert_eq!(server.try_read(&mut buffer).unwrap(), Ready::Done(5));
    assert_eq!(server.try_close().unwrap(), Ready::Done(()));
    assert_eq!(client.try_read(&mut buffer).unwrap(), Ready::Done(0));
    assert_eq!(client.try_read(&mut buffer).unwrap(), Ready::Done(0));
}
