//! The attacker before the policy hosts (RFC 8461 §3.3). With a certificate of theirs only their own people can do
//! something: `Broken` is a policy host that does it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;

use super::door::{dial, Door};
use super::mail::{copy, present, Certificate, Certificates};
use crate::certs::Identity;
use crate::peer::{drain, read_line, reset};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Web {
    Honest,
    Reset,
    Silent,
    Slow(Duration),
    /// A policy of the attacker's making, behind such a certificate.
    Forge(Certificate),
    /// "There is no policy any more", likewise.
    ForgeNone(Certificate),
    /// With the right certificate.
    Broken(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotFound,
    Redirect,
    Huge,
    Drip,
    /// No fault: the domain itself says that its policy is over.
    Over,
}

pub struct WebAttacker {
    door: Door,
    inner: Arc<Inner>,
}

struct Inner {
    attack: Web,
    certificates: Arc<Certificates>,
    right: Identity,
    https: u16,
    active: AtomicBool,
    met: AtomicBool,
}

const NONE: &str = "version: STSv1\r\nmode: none\r\nmax_age: 31557600\r\n";
const FORGED: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.attacker.test\r\nmax_age: 31557600\r\n";

impl WebAttacker {
    /// # Panics
    /// If the policy host's certificate cannot be read.
    pub fn start(attack: Web, https: u16, certificates: Arc<Certificates>, directory: &Path) -> Self {
        let file = |kind: &str| std::fs::read(directory.join(format!("sts-good.{kind}"))).unwrap();
        let inner = Arc::new(Inner {
            attack,
            certificates,
            right: Identity {
                cert: X509::from_pem(&file("crt")).unwrap(),
                chain: Vec::new(),
                key: PKey::private_key_from_pem(&file("key")).unwrap(),
            },
            https,
            active: AtomicBool::new(false),
            met: AtomicBool::new(false),
        });
        let this = Arc::clone(&inner);
        let door = Door::open(move |stream, _| {
            let _ = this.serve(stream);
        });
        Self { door, inner }
    }

    pub fn port(&self) -> u16 {
        self.door.port
    }

    pub fn attack(&self, active: bool) {
        self.inner.active.store(active, Ordering::SeqCst);
        self.inner.met.store(false, Ordering::SeqCst);
    }

    /// Whether anybody came.
    pub fn was_met(&self) -> bool {
        self.inner.met.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        self.met.store(true, Ordering::SeqCst);
        let active = self.active.load(Ordering::SeqCst);
        match if active { self.attack } else { Web::Honest } {
            Web::Honest => self.pass_on(client, Duration::ZERO),
            Web::Slow(time) => self.pass_on(client, time),
            Web::Reset => {
                reset(client);
                Ok(())
            }
            Web::Silent => {
                drain(client);
                Ok(())
            }
            Web::Forge(certificate) => {
                self.answer(client, self.certificates.get(certificate), &found(FORGED))
            }
            Web::ForgeNone(certificate) => {
                self.answer(client, self.certificates.get(certificate), &found(NONE))
            }
            Web::Broken(fault) => self.answer(client, &self.right, &broken(fault)),
        }
    }

    fn pass_on(&self, client: TcpStream, wait: Duration) -> io::Result<()> {
        let server = dial(Ipv4Addr::LOCALHOST, self.https)?;
        let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
        let back = std::thread::spawn(move || copy(from_server, to_client, wait, |_| {}));
        copy(client, server, Duration::ZERO, |_| {});
        let _ = back.join();
        Ok(())
    }

    fn answer(&self, client: TcpStream, identity: &Identity, parts: &[String]) -> io::Result<()> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        present(&mut builder, identity);
        let mut stream = builder
            .build()
            .accept(client)
            .map_err(|e| io::Error::other(e.to_string()))?;
        while read_line(&mut stream)? != b"\r\n" {}
        for part in parts {
            stream.write_all(part.as_bytes())?;
            if parts.len() > 1 {
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        let _ = stream.shutdown();
        Ok(())
    }
}

fn found(policy: &str) -> Vec<String> {
    let length = policy.len();
    vec![format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{policy}"
    )]
}

fn broken(fault: Fault) -> Vec<String> {
    match fault {
        Fault::NotFound => vec!["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into()],
        Fault::Redirect => vec![
            "HTTP/1.1 302 Found\r\nLocation: https://attacker.test/.well-known/mta-sts.txt\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
                .into(),
        ],
        Fault::Over => found(NONE),
        Fault::Huge => found(&format!("{NONE}{}", "padding: x\r\n".repeat(20_000))),
        Fault::Drip => {
            let whole = found(NONE).concat();
            whole.chars().map(String::from).collect()
        }
    }
}
