//! A validating Unbound whose every question goes through the attacker, and which keeps what it heard no
//! longer than it is told to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "\
server:
  interface: 127.0.0.1@{port}
  do-ip6: no
  username: \"\"
  chroot: \"\"
  directory: \"{place}\"
  pidfile: \"\"
  use-syslog: no
  logfile: \"{place}/log\"
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  local-zone: \"test.\" transparent
  so-reuseport: no
  num-threads: 1
  trust-anchor-signaling: no
  root-key-sentinel: no
  ede: yes
  val-log-level: 2
  qname-minimisation: no
  module-config: \"validator iterator\"
  trust-anchor-file: \"{anchor}\"
  # Each case begins as if it were the first one.
  cache-max-ttl: {keep}
  cache-max-negative-ttl: {keep}
  val-bogus-ttl: 0
  aggressive-nsec: no
  infra-host-ttl: 1
  infra-keep-probing: yes
  infra-cache-max-rtt: 1000
  incoming-num-tcp: 64
remote-control:
  control-enable: no
";

const ZONES: [&str; 6] = [
    "",
    "test",
    "example.test",
    "insecure.test",
    "attacker.test",
    "live.test",
];

/// A running resolver; ends with this.
pub struct Unbound {
    child: Child,
    pub at: SocketAddr,
    authority: SocketAddr,
    anchor: PathBuf,
    keep: u32,
    place: PathBuf,
}

impl Unbound {
    /// # Panics
    /// If it does not start.
    pub fn start(authority: SocketAddr, anchor: &Path, keep: u32) -> Self {
        let at = free();
        let name = format!("starttls-unbound-{}-{}", std::process::id(), at.port());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&place).unwrap();
        let mut config = CONFIG
            .replace("{port}", &at.port().to_string())
            .replace("{keep}", &keep.to_string())
            .replace("{place}", &place.display().to_string())
            .replace("{anchor}", &anchor.display().to_string());
        for zone in ZONES {
            config += &format!(
                "stub-zone:\n  name: \"{zone}.\"\n  stub-addr: {}@{}\n  stub-prime: no\n",
                authority.ip(),
                authority.port()
            );
        }
        let file = place.join("conf");
        std::fs::write(&file, config).unwrap();
        let program = ["/usr/sbin/unbound", "/usr/local/sbin/unbound"];
        let program = program
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("unbound");
        let child = Command::new(program)
            .arg("-d")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.join("errors")).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            at,
            authority,
            anchor: anchor.to_owned(),
            keep,
            place,
        }
    }

    /// Until it listens; at another port if somebody else was faster at this one.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait(&mut self) {
        let start = Instant::now();
        let mut again = 5;
        while TcpStream::connect(self.at).is_err() || self.has_ended() {
            if self.has_ended() {
                let read = |name: &str| std::fs::read_to_string(self.place.join(name)).unwrap_or_default();
                assert!(again > 0, "unbound ends: {}{}", read("errors"), read("log"));
                again -= 1;
                *self = Self::start(self.authority, &self.anchor.clone(), self.keep);
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "unbound does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// A port that nobody has, below those that are given to everybody who dials.
fn free() -> SocketAddr {
    loop {
        let mut random = [0; 2];
        openssl::rand::rand_bytes(&mut random).unwrap();
        let port = 10_000 + u16::from_be_bytes(random) % 22_000;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            return at;
        }
    }
}
