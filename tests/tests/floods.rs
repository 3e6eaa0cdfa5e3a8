//! Peers that say too much, or take too little, while we hold a deadline.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use conformance::certs::identity;
use conformance::check::{policy, verdict};
use conformance::peer::{accept, acceptor, drain, pop3_go_ahead, read_line, Peer};
use foreign_types::ForeignTypeRef;
use starttls::{Session, Stage, Word};

const SHORT: Duration = Duration::from_millis(300);
const HOST: &str = "mail.example.test";

/// OpenSSL skips HelloRequests inside one call, for as long as they come.
#[test]
fn endless_hello_requests_end_at_the_deadline() {
    let server = Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        // Not before the ClientHello: that is another fault.
        assert!(stream.read(&mut [0; 600]).unwrap() > 0);
        let mut record = vec![0x16, 3, 3, 0x40, 0];
        record.resize(5 + 0x4000, 0);
        while stream.write_all(&record).is_ok() {}
    });
    let policy = policy("verify").timeout(SHORT).unwrap();
    let start = Instant::now();
    let result = Session::connect("pop3", HOST, server.port, &policy);
    assert_eq!(verdict(&result), "error timeout temporary");
    assert!(start.elapsed() < 20 * SHORT, "{:?}", start.elapsed());
    drop(result);
    server.finish();
}

extern "C" {
    fn SSL_key_update(ssl: *mut std::ffi::c_void, kind: std::ffi::c_int) -> std::ffi::c_int;
}

/// The same after the handshake: new keys hold nothing for a reader.
#[test]
fn records_without_data_hold_nobody_up() {
    let server = Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let tls = acceptor(identity("good")).build();
        let mut tls = tls.accept(stream).unwrap();
        // SAFETY: the SSL is alive; 0 asks for no answer.
        while unsafe { SSL_key_update(tls.ssl().as_ptr().cast(), 0) } == 1 && tls.do_handshake().is_ok() {}
    });
    let session = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
    session.set_timeout(Some(SHORT));
    let start = Instant::now();
    assert_eq!(session.read(&mut [0; 10]).unwrap_err().word(), Word::Timeout);
    assert!(start.elapsed() < 20 * SHORT, "{:?}", start.elapsed());
    drop(session);
    server.finish();
}

/// Inside TLS, too: answers that are not the last, without end.
#[test]
fn endless_answers_inside_tls_are_cut_off() {
    for announced in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 C\r\nX: yyyyyyyy\r\n\r\n",
    ] {
        let server = Peer::start(move |listener| {
            let mut stream = accept(listener).unwrap();
            while read_line(&mut stream).unwrap() != b"\r\n" {}
            stream
                .write_all(b"HTTP/1.1 101 Switching\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n")
                .unwrap();
            let tls = acceptor(identity("good")).build();
            let mut tls = tls.accept(stream).unwrap();
            while tls.write_all(announced.as_bytes()).is_ok() {}
        });
        let start = Instant::now();
        let result = Session::connect("http", HOST, server.port, &policy("verify"));
        assert_eq!(verdict(&result), "error too-long permanent");
        assert!(start.elapsed() < 20 * SHORT, "{:?}", start.elapsed());
        drop(result);
        server.finish();
    }
}

/// A command that the kernel does not take at once goes out when it does, and not by spinning.
#[test]
fn a_full_send_buffer_before_the_dialog() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(n) = (&ours).write(&[b'x'; 4096]) {
        filled += n;
    }
    let peer = std::thread::spawn(move || {
        std::thread::sleep(SHORT / 3);
        let mut heard = vec![0; filled];
        theirs.read_exact(&mut heard).unwrap();
        let mut command = [0; 6];
        theirs.read_exact(&mut command).unwrap();
        theirs.write_all(b"-ERR not here\r\n").unwrap();
        command
    });
    let result = Session::upgrade("pop3", &ours, HOST, Stage::Ready, b"", &policy("may"));
    assert_eq!(verdict(&result), "plain not-offered");
    assert_eq!(&peer.join().unwrap(), b"STLS\r\n");
    drop(result);

    // And where it never does, the deadline holds.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[b'x'; 4096]).is_ok() {}
    let policy = policy("may").timeout(SHORT).unwrap();
    let result = Session::upgrade("pop3", &ours, HOST, Stage::Ready, b"", &policy);
    assert_eq!(verdict(&result), "error timeout temporary");
}

/// "552 too big", and then nobody reads what we still send.
#[test]
fn the_peers_last_words_are_read_although_it_takes_no_more() {
    let server = Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let tls = acceptor(identity("good")).build();
        let mut tls = tls.accept(stream).unwrap();
        tls.write_all(b"552 too big\r\n").unwrap();
        tls.get_ref().shutdown(Shutdown::Read).unwrap();
        std::thread::sleep(SHORT / 3);
    });
    let session = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
    let e = session.write_all(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!(e.word(), Word::Closed, "{e}");
    let mut said = [0; 100];
    let n = session.read(&mut said).unwrap();
    assert_eq!(&said[..n], b"552 too big\r\n");
    drop(session);
    server.finish();
}

#[test]
fn close_wakes_a_writer_that_waits() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let server = Peer::start(move |listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let tls = acceptor(identity("good")).build();
        let tls = tls.accept(stream).unwrap();
        wait.recv().unwrap_err();
        drop(tls);
    });
    let session = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| session.write_all(&vec![0; 64 << 20]));
        std::thread::sleep(SHORT);
        // For close: the writer waits for ever.
        session.set_timeout(Some(SHORT));
        let _ = session.close();
        assert!(writer.join().unwrap().is_err());
    });
    drop(session);
    drop(done);
    server.finish();
}

/// A client that only writes leaves the server's TLS 1.3 tickets unread: closing must not reset the
/// connection under its last bytes.
#[test]
fn what_was_written_before_close_arrives() {
    // More than the peer's buffer holds: the rest is still ours to send when we close.
    const ALL: usize = 16 << 20;
    let server = Peer::start(|listener| {
        let mut stream = accept(listener).unwrap();
        pop3_go_ahead(&mut stream).unwrap();
        let tls = acceptor(identity("good")).build();
        drain(tls.accept(stream).unwrap()).len()
    });
    let session = Session::connect("pop3", HOST, server.port, &policy("verify")).unwrap();
    session.write_all(&vec![1; ALL]).unwrap();
    session.close().unwrap();
    drop(session);
    assert_eq!(server.finish(), ALL);
}
