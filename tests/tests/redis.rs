//! A real Redis (or Valkey): shared, away, back again, and killed in between.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use starttls::cache::Cache;
use starttls::RedisCache;

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

/// The program, from the servers that run or from the system. Without it the test is left out, but not where real
/// servers are wanted.
fn program() -> Option<PathBuf> {
    let listing = std::env::var_os("STARTTLS_SERVERS");
    if let Some(listing) = &listing {
        let text = std::fs::read_to_string(listing).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Some(program) = json["redis"]["program"].as_str() {
            return Some(program.into());
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into()])
        .flat_map(|directory| [directory.join("redis-server"), directory.join("valkey-server")])
        .find(|program| program.is_file());
    if found.is_none() {
        assert!(
            listing.is_none(),
            "neither redis-server nor valkey-server is installed"
        );
        eprintln!("left out: neither redis-server nor valkey-server is installed");
    }
    found
}

/// One server with a directory of its own; killed at the end, by its id.
struct Server {
    program: PathBuf,
    place: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    fn start(name: &str) -> Option<Self> {
        let program = program()?;
        let place = std::env::temp_dir().join(format!("starttls-redis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            program,
            place,
            port,
            child: None,
        };
        server.run(&[]);
        Some(server)
    }

    fn run(&mut self, options: &[&str]) {
        self.kill();
        let child = Command::new(&self.program)
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args([
                "--databases",
                "4",
                "--unixsocketperm",
                "700",
                "--unixsocket",
                "socket",
                "--dir",
            ])
            .arg(&self.place)
            .args(options)
            .current_dir(&self.place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, signal: libc::c_int) {
        let id = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        // SAFETY: kill has no memory arguments; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    fn cache(&self) -> RedisCache {
        RedisCache::open(&self.url("")).unwrap()
    }

    fn url(&self, user: &str) -> String {
        format!("redis://{user}127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

#[test]
fn what_one_machine_learns_the_next_one_uses() {
    let Some(server) = Server::start("shared") else {
        return;
    };
    let socket = format!("unix://{}", server.place.join("socket").display());
    let (one, next) = (server.cache(), starttls::cache::open(&socket).unwrap());
    assert_eq!(next.get("k").unwrap(), None);
    one.put("k", b"a\r\n\0\xff", soon()).unwrap();
    assert_eq!(next.get("k").unwrap(), Some(b"a\r\n\0\xff".to_vec()));
    next.put("k", b"b", soon()).unwrap();
    assert_eq!(one.get("k").unwrap(), Some(b"b".to_vec()));
    one.remove("k").unwrap();
    assert_eq!(next.get("k").unwrap(), None);
    // Another database is another cache.
    let other = RedisCache::open(&format!("{}/3", server.url(""))).unwrap();
    other.put("k", b"in 3", soon()).unwrap();
    assert_eq!(one.get("k").unwrap(), None);
    assert_eq!(other.get("k").unwrap(), Some(b"in 3".to_vec()));
    // The largest, and one that somebody else put and that is larger.
    one.put("large", &vec![b'x'; 128 * 1024], soon()).unwrap();
    assert_eq!(next.get("large").unwrap().map(|v| v.len()), Some(128 * 1024));
    assert!(one.put("large", &vec![b'x'; 128 * 1024 + 1], soon()).is_err());
    // It expires there, and what has expired is not put.
    one.put("short", b"x", SystemTime::now() + Duration::from_millis(300))
        .unwrap();
    assert!(next.get("short").unwrap().is_some());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(next.get("short").unwrap(), None);
    one.put("large", b"x", SystemTime::now()).unwrap();
    assert_eq!(next.get("large").unwrap(), None);
}

#[test]
fn a_server_that_is_killed_and_comes_back() {
    let Some(mut server) = Server::start("killed") else {
        return;
    };
    let cache = server.cache();
    cache.put("k", b"1", soon()).unwrap();
    // Restarted while nobody asked: nobody notices, but for what it has lost.
    server.run(&[]);
    assert_eq!(cache.get("k").unwrap(), None);
    cache.put("k", b"2", soon()).unwrap();

    server.kill();
    let begin = Instant::now();
    let e = cache.get("k").unwrap_err();
    assert!(
        e.to_string()
            .contains(&format!("Redis at 127.0.0.1:{}", server.port)),
        "{e}"
    );
    for _ in 0..1000 {
        assert!(cache.put("k", b"3", soon()).is_err());
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    server.run(&[]);
    // Within the pause nobody asks; then it is back.
    while cache.put("k", b"4", soon()).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it is not asked again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begin.elapsed() > Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(cache.get("k").unwrap(), Some(b"4".to_vec()));
}

#[test]
fn a_server_that_hangs_costs_one_second() {
    let Some(server) = Server::start("hangs") else {
        return;
    };
    let cache = server.cache();
    cache.put("k", b"1", soon()).unwrap();
    server.signal(libc::SIGSTOP);
    let begin = Instant::now();
    assert_eq!(cache.get("k").unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(cache.get("k").is_err());
    let took = begin.elapsed();
    server.signal(libc::SIGCONT);
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_millis(1900),
        "{took:?}"
    );
    // The answer that came too late is not taken for that to another question.
    std::thread::sleep(Duration::from_millis(5100));
    assert_eq!(cache.get("another").unwrap(), None);
    assert_eq!(cache.get("k").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn a_password_and_what_the_server_refuses() {
    let Some(mut server) = Server::start("password") else {
        return;
    };
    server.run(&["--requirepass", "geheim", "--maxmemory", "1kb"]);
    let e = server.cache().get("k").unwrap_err();
    assert!(e.to_string().contains("NOAUTH"), "{e}");
    let e = RedisCache::open(&server.url(":falsch@"))
        .unwrap()
        .get("k")
        .unwrap_err();
    assert!(
        e.to_string().contains("WRONGPASS") && !e.to_string().contains("falsch"),
        "{e}"
    );
    for user in [":geheim@", "default:geheim@"] {
        let cache = RedisCache::open(&server.url(user)).unwrap();
        assert_eq!(cache.get("k").unwrap(), None);
        let e = cache.put("k", b"1", soon()).unwrap_err();
        assert!(e.to_string().contains("OOM"), "{e}");
        assert_eq!(cache.get("k").unwrap(), None, "reading goes on");
    }
}

#[test]
fn a_child_of_a_fork_has_a_connection_of_its_own() {
    let Some(server) = Server::start("fork") else {
        return;
    };
    let cache = server.cache();
    for n in 0..4 {
        cache
            .put(&n.to_string(), n.to_string().as_bytes(), soon())
            .unwrap();
    }
    let ask = |n: i32| {
        (0..500).all(|_| matches!(cache.get(&n.to_string()), Ok(Some(v)) if v == n.to_string().as_bytes()))
    };
    let mut children = Vec::new();
    for n in 0..3 {
        // SAFETY: the child calls nothing but the cache, which no other thread has, and leaves.
        match unsafe { libc::fork() } {
            // SAFETY: ends the process at once.
            0 => unsafe { libc::_exit(i32::from(!ask(n))) },
            child => children.push(child),
        }
    }
    // All at the same time: on one connection they would read each other's answers.
    assert!(ask(3));
    for child in children {
        let mut status = 0;
        // SAFETY: our own child, and a live local.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
    }
}
