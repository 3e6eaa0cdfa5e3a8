//! What a session does once it is made: deadlines, ends, both directions at once, signals.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conformance::certs::identity;
use conformance::check::{flags, policy, usable, verdict};
use conformance::peer::{accept, acceptor, drain, echo, pop3_go_ahead, reset, upgrades, Peer};
use foreign_types::ForeignTypeRef;
use openssl::ssl::{ErrorCode, SslMode, SslStream};
use starttls::{Session, Stage, Word};

const HOST: &str = "mail.example.test";
const SHORT: Duration = Duration::from_millis(60);

/// A server that upgrades one client and then does this.
fn server<T: Send + 'static>(then: impl FnOnce(SslStream<TcpStream>) -> T + Send + 'static) -> Peer<T> {
    Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let tls = acceptor(identity("good")).build();
        then(tls.accept(stream).unwrap())
    })
}

fn connect(port: u16) -> Session<'static> {
    Session::connect("pop3", HOST, port, &policy("verify")).unwrap()
}

/// Small buffers, but not below what loopback's segments of 64 KiB need: TCP would crawl.
fn small_buffers(stream: &TcpStream) {
    for (option, bytes) in [(libc::SO_SNDBUF, 16i32 << 10), (libc::SO_RCVBUF, 64 << 10)] {
        // SAFETY: the pointer and the size are those of one live integer.
        let result = unsafe {
            let size = size_of::<i32>() as libc::socklen_t;
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size,
            )
        };
        assert_eq!(result, 0);
    }
}

#[test]
fn a_read_ends_at_its_deadline_and_the_session_lives_on() {
    let server = server(echo);
    let session = connect(server.port);
    session.set_timeout(Some(SHORT));
    let start = Instant::now();
    let e = session.read(&mut [0; 10]).unwrap_err();
    assert_eq!((e.word(), e.temporary()), (Word::Timeout, true));
    assert!(start.elapsed() >= SHORT && start.elapsed() < Duration::from_secs(5));
    usable(&session).unwrap();
    drop(session);
    server.finish();
}

#[test]
fn a_write_ends_at_its_deadline_where_the_peer_does_not_read() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let server = server(move |_stream| wait.recv().unwrap_err());
    let session = connect(server.port);
    session.set_timeout(Some(SHORT));
    let e = session.write_all(&vec![0; 32 << 20]).unwrap_err();
    assert_eq!(e.word(), Word::Timeout);
    drop(session);
    drop(done);
    server.finish();
}

/// The time-out counts from the last byte moved, not from the call.
#[test]
fn a_slow_peer_is_not_a_silent_one() {
    let server = server(|mut stream| {
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"x").unwrap();
        }
        stream.shutdown().unwrap();
        drain(stream);
    });
    let session = connect(server.port);
    session.set_timeout(Some(Duration::from_millis(300)));
    assert_eq!(drain(&session), b"xxxxxxxx");
    drop(session);
    server.finish();
}

#[test]
fn only_a_close_notify_is_a_clean_end() {
    type End = fn(SslStream<TcpStream>);
    let ends: [(End, Option<Word>); 3] = [
        (|mut s| assert!(s.shutdown().is_ok()), None),
        // An attacker on the path can send a FIN, but no close_notify.
        (|s| drop(s.get_ref().try_clone().unwrap()), Some(Word::Closed)),
        (|s| reset(s.get_ref().try_clone().unwrap()), Some(Word::Closed)),
    ];
    for (end, word) in ends {
        let server = server(move |mut stream| {
            stream.write_all(b"+OK\r\n").unwrap();
            // Not before the client has it: a reset throws away what was not read.
            stream.read_exact(&mut [0]).unwrap();
            end(stream);
        });
        let session = connect(server.port);
        let mut buffer = [0; 100];
        assert_eq!(session.read(&mut buffer).unwrap(), 5);
        session.write_all(b"x").unwrap();
        let result = session.read(&mut buffer);
        match word {
            None => assert_eq!(result.unwrap(), 0),
            Some(word) => {
                let e = result.unwrap_err();
                assert_eq!((e.word(), e.temporary()), (word, true), "{e}");
            }
        }
        drop(session);
        server.finish();
    }
}

#[test]
fn close_says_good_bye_once_and_dropping_says_nothing() {
    for close in [true, false] {
        let server = upgrades(acceptor(identity("good")).build(), 1);
        let session = connect(server.port);
        if close {
            session.close().unwrap();
            session.close().unwrap();
            for e in [session.read(&mut [0]).map(drop), session.write_all(b"x")] {
                assert_eq!(e.unwrap_err().word(), Word::Invalid);
            }
        }
        drop(session);
        assert_eq!(server.finish()[0].as_ref().unwrap().said_goodbye, close);
    }
}

#[test]
fn close_wakes_a_reader_that_waits() {
    let server = server(drain);
    let session = connect(server.port);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| session.read(&mut [0; 10]));
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        session.close().unwrap();
        // Whatever it is told, it is told so at once.
        let _ = reader.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    drop(session);
    server.finish();
}

extern "C" {
    fn SSL_key_update(ssl: *mut std::ffi::c_void, kind: std::ffi::c_int) -> std::ffi::c_int;
}

const AMOUNT: usize = 16 << 20;

fn pattern(at: usize, n: usize) -> Vec<u8> {
    (at..at + n).map(|i| ((i >> 8) ^ (i * 7)) as u8).collect()
}

/// Sends and receives by turns, as much as goes, and asks the client for new keys every megabyte:
/// its answer must go out between the blocks that it is writing.
fn both_ways(mut stream: SslStream<TcpStream>) {
    stream.get_ref().set_nonblocking(true).unwrap();
    let (mut sent, mut got, mut asked) = (0, 0, 0);
    let mut buffer = [0; 8192];
    let deadline = Instant::now() + Duration::from_secs(30);
    while sent < AMOUNT || got < AMOUNT {
        assert!(Instant::now() < deadline, "stuck at {sent} sent, {got} received");
        let mut moved = false;
        if sent < AMOUNT {
            if sent >> 20 > asked {
                asked = sent >> 20;
                // SAFETY: the pointer is to a live SSL; 1 is SSL_KEY_UPDATE_REQUESTED.
                assert_eq!(unsafe { SSL_key_update(stream.ssl().as_ptr().cast(), 1) }, 1);
            }
            match stream.ssl_write(&pattern(sent, 8192.min(AMOUNT - sent))) {
                Ok(n) => {
                    sent += n;
                    moved = true;
                }
                Err(e) => assert!(
                    [ErrorCode::WANT_READ, ErrorCode::WANT_WRITE].contains(&e.code()),
                    "{e}"
                ),
            }
        }
        if got < AMOUNT {
            match stream.ssl_read(&mut buffer) {
                Ok(n) => {
                    assert_eq!(buffer[..n], pattern(got, n), "at {got}");
                    got += n;
                    moved = true;
                }
                Err(e) => assert!(
                    [ErrorCode::WANT_READ, ErrorCode::WANT_WRITE].contains(&e.code()),
                    "{e}"
                ),
            }
        }
        if !moved {
            conformance::peer::readable(stream.get_ref().as_raw_fd(), Duration::from_millis(1));
        }
    }
    assert!(asked > 10);
    stream.get_ref().set_nonblocking(false).unwrap();
    stream.shutdown().unwrap();
    drain(stream);
}

#[test]
fn both_directions_at_once_under_back_pressure_with_new_keys() {
    for nonblocking in [false, true] {
        let server = Peer::start(|listener| {
            let mut stream = accept(listener).unwrap();
            small_buffers(&stream);
            pop3_go_ahead(&mut stream).unwrap();
            let mut tls = acceptor(identity("good"));
            tls.set_mode(SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
            both_ways(tls.build().accept(stream).unwrap());
        });
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        small_buffers(&stream);
        stream.set_nonblocking(nonblocking).unwrap();
        let before = flags(&stream);
        let session =
            Session::upgrade("pop3", &stream, HOST, Stage::Greeting, &[], &policy("verify")).unwrap();
        session.set_timeout(Some(Duration::from_secs(10)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for at in (0..AMOUNT).step_by(1 << 16) {
                    session.write_all(&pattern(at, 1 << 16)).unwrap();
                }
            });
            let mut got = 0;
            let mut buffer = [0; 20_000];
            loop {
                let n = session.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                assert_eq!(buffer[..n], pattern(got, n), "at {got}");
                got += n;
            }
            assert_eq!(got, AMOUNT);
        });
        session.close().unwrap();
        drop(session);
        assert_eq!(flags(&stream), before);
        drop(stream);
        server.finish();
    }
}

#[test]
fn on_a_plain_session_what_was_read_already_comes_first() {
    let server = Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        stream
            .write_all(b"* PREAUTH logged in\r\n* OK more\r\n* 1 EX")
            .unwrap();
        conformance::peer::read_line(&mut stream).unwrap();
        stream.write_all(b"ISTS\r\n").unwrap();
        drain(stream)
    });
    let session = Session::connect("imap", HOST, server.port, &policy("may")).unwrap();
    assert!(session.heard().starts_with(b"* PREAUTH logged in\r\n"));
    let mut buffer = [0; 5];
    assert_eq!(session.pending(), b"* OK more\r\n* 1 EX".len());
    assert_eq!(session.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer, b"* OK ");
    session.write_all(b"a1 NOOP\r\n").unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"EXISTS\r\n") {
        let n = session.read(&mut buffer).unwrap();
        rest.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(rest, b"more\r\n* 1 EXISTS\r\n");
    assert_eq!(session.pending(), 0);
    session.close().unwrap();
    drop(session);
    server.finish();
}

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);
static END_IT: AtomicBool = AtomicBool::new(false);

fn hook() -> io::Result<()> {
    INTERRUPTIONS.fetch_add(1, Ordering::SeqCst);
    if END_IT.load(Ordering::SeqCst) {
        return Err(io::Error::other("Ctrl-C"));
    }
    Ok(())
}

/// A signal calls the hook and the wait goes on; the hook's error ends it, in the dialog and later.
#[test]
fn signals_call_the_hook() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and without SA_RESTART a signal interrupts poll.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
    for in_dialog in [false, true] {
        END_IT.store(false, Ordering::SeqCst);
        INTERRUPTIONS.store(0, Ordering::SeqCst);
        let server = Peer::start(move |listener| {
            let mut stream = accept(listener).unwrap();
            if in_dialog {
                drain(stream);
                return;
            }
            pop3_go_ahead(&mut stream).unwrap();
            let tls = acceptor(identity("good")).build();
            drain(tls.accept(stream).unwrap());
        });
        let port = server.port;
        let (connected, wait) = std::sync::mpsc::channel();
        let client = std::thread::spawn(move || {
            let policy = policy("verify").on_interrupt(hook);
            let session = Session::connect("pop3", HOST, port, &policy)?;
            connected.send(()).unwrap();
            session.read(&mut [0; 10]).map(drop)
        });
        if !in_dialog {
            // Not a signal before it: on a slow machine they would end the handshake.
            wait.recv().unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(8);
        while !client.is_finished() {
            assert!(Instant::now() < deadline, "no signal ends the wait");
            // SAFETY: the thread is not joined yet, so its handle is valid.
            unsafe { libc::pthread_kill(client.as_pthread_t(), libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(1));
            if INTERRUPTIONS.load(Ordering::SeqCst) >= 5 {
                END_IT.store(true, Ordering::SeqCst);
            }
        }
        let e = client.join().unwrap().unwrap_err();
        assert_eq!(e.word(), Word::Io, "{e}");
        assert!(e.message().contains("Ctrl-C"), "{e}");
        assert!(INTERRUPTIONS.load(Ordering::SeqCst) > 5);
        server.finish();
    }
}

#[test]
fn channel_bindings_are_the_same_at_both_ends() {
    let server = server(|mut stream| {
        let mut material = vec![0; 32];
        stream
            .ssl()
            .export_keying_material(&mut material, "EXPORTER-Channel-Binding", Some(&[]))
            .unwrap();
        echo(&mut stream);
        material
    });
    let session = connect(server.port);
    let ours = session.channel_binding("tls-exporter").unwrap();
    let end_point = session.channel_binding("tls-server-end-point").unwrap();
    let digest = identity("good")
        .cert
        .digest(openssl::hash::MessageDigest::sha256());
    assert_eq!(end_point, digest.unwrap().to_vec());
    assert_eq!(
        session.channel_binding("tls-unique").unwrap_err().word(),
        Word::Invalid
    );
    drop(session);
    assert_eq!(server.finish(), ours);
}

#[test]
fn a_session_in_clear_has_no_channel_binding() {
    let server = Peer::start(|listener| drain(accept(listener).unwrap()));
    let result = Session::connect("pop3", HOST, server.port, &policy("none"));
    assert_eq!(verdict(&result), "plain not-asked");
    let session = result.unwrap();
    assert!(session.channel_binding("tls-exporter").is_err());
    assert_eq!(session.peer_certificate(), None);
    drop(session);
    server.finish();
}
