//! What can be said without a server, and with something that is none. The real one is in `tests/tests/redis.rs`.

use std::io::Write;
use std::net::TcpListener;

use super::*;

fn soon() -> SystemTime {
    SystemTime::now().checked_add(Duration::from_secs(60)).unwrap()
}

#[test]
fn addresses() {
    for (url, place) in [
        ("redis://localhost", "localhost:6379"),
        ("redis://user:pass@10.0.0.1:7000/3", "10.0.0.1:7000"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("valkey://cache.example", "cache.example:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ] {
        assert_eq!(RedisCache::open(url).unwrap().place, place);
    }
    for url in [
        "http://x",
        "redis://",
        "redis://h:99999",
        "redis://h/x",
        "unix:",
        "redis:",
    ] {
        let e = RedisCache::open(url).err().unwrap_or_else(|| panic!("{url}"));
        assert_eq!(e.word(), crate::Word::Invalid);
    }
    let e = RedisCache::open("redis://u:geheim@h:99999").err().unwrap();
    assert!(!e.message().contains("geheim"), "{e}");
    assert_eq!(
        RedisCache::open("rediss://h").err().unwrap().word(),
        crate::Word::Unsupported
    );
}

/// A listener that plays this to everybody and then waits.
fn playing(
    answer: &'static [u8],
) -> (
    RedisCache,
    std::thread::JoinHandle<usize>,
    std::sync::Arc<std::sync::atomic::AtomicBool>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = RedisCache::open(&format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let end = over.clone();
    let thread = std::thread::spawn(move || {
        listener.set_nonblocking(true).unwrap();
        let mut open = Vec::new();
        while !end.load(std::sync::atomic::Ordering::Relaxed) {
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(answer);
                open.push(stream);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        open.len()
    });
    (cache, thread, over)
}

#[test]
fn a_server_that_is_silent_costs_one_second_once() {
    let (cache, thread, over) = playing(b"");
    let begin = Instant::now();
    assert_eq!(cache.get("k").unwrap_err().kind(), ErrorKind::TimedOut);
    let first = begin.elapsed();
    for _ in 0..100 {
        assert!(cache.put("k", b"v", soon()).is_err());
    }
    assert!(
        first >= PATIENCE && begin.elapsed() < PATIENCE * 2,
        "{:?}",
        begin.elapsed()
    );
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(thread.join().unwrap(), 1, "connections");
}

#[test]
fn what_is_not_redis_is_an_error() {
    for answer in [
        &b"220 mail.example.test ESMTP\r\n"[..],
        b"*1\r\n",
        b"$999999999\r\n",
        b"+OK\r\n",
        b"$-5\r\n",
        b"\0",
    ] {
        let (cache, thread, over) = playing(answer);
        assert!(cache.get("k").is_err(), "{answer:?}");
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().unwrap();
    }
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = RedisCache::open(&format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = stream.write(b"$2000000000\r\n").unwrap();
        while let Ok(n) = stream.write(&[b'x'; 65536]) {
            sent += n;
        }
        sent
    });
    let begin = Instant::now();
    assert!(cache.get("k").is_err());
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    assert!(
        thread.join().unwrap() < 50_000_000,
        "what lies in the buffers of the system at most"
    );
}

#[test]
fn nobody_there_is_said_with_the_place() {
    let e = RedisCache::open("redis://user:geheim@127.0.0.1:1")
        .unwrap()
        .get("k")
        .unwrap_err();
    assert!(e.to_string().starts_with("Redis at 127.0.0.1:1: "), "{e}");
    let e = RedisCache::open("unix:///nowhere/redis.sock")
        .unwrap()
        .get("k")
        .unwrap_err();
    assert!(e.to_string().starts_with("Redis at /nowhere/redis.sock: "), "{e}");
}
