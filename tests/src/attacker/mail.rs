//! The attacker before a mail host: it changes the dialog in clear, breaks the handshake, or is the mail host itself,
//! with what certificates it can get. It says afterwards what it could read, whatever the client believes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::ssl::{NameType, SniError, SslAcceptor, SslContextBuilder, SslMethod, SslOptions, SslVersion};
use openssl::x509::X509;

use super::dns::{ELSEWHERE, HOST};
use super::door::{dial, Door, PATIENCE};
use crate::certs::{identity, issue, Identity, Says};
use crate::peer::{drain, read_line, reset};

/// What the client says when it believes that it may: the attacker must not be able to read it.
pub const SECRET: &str = "NOOP the-mail-itself";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Valid, by a CA that everybody trusts, and for the attacker's own names.
    Own,
    /// For the right name.
    SelfSigned,
    /// For the right name, by a CA that nobody trusts.
    UnknownCa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    Honest,
    /// Takes the offer away, and lets the command through.
    StripOffer,
    /// Takes both away.
    Strip,
    /// Overwrites both, as some firewalls do.
    Overwrite,
    /// Answers STARTTLS itself.
    Refuse(&'static str),
    /// Clear text right behind the go-ahead.
    Inject,
    /// The greeting is its own.
    Greet(&'static str),
    Reset,
    Silent,
    CloseAfterEhlo,
    /// After the go-ahead.
    CloseAtHello,
    ResetAtHello,
    SilentAtHello,
    GarbleClientHello,
    GarbleServerHello,
    /// Each message of the server's comes late.
    Slow(Duration),
    /// It is the mail host.
    Impersonate(Certificate),
    /// The same, and knows TLS 1.0 only.
    OldTls(Certificate),
}

/// What certificates it has.
pub struct Certificates {
    /// For HOST, and such that HOST's TLSA records match: what it has by right.
    host: Identity,
    own: Identity,
    self_signed: Identity,
    unknown_ca: Identity,
}

impl Certificates {
    /// From the CA that made the servers' certificates.
    ///
    /// # Panics
    /// If its files cannot be read.
    pub fn load(directory: &Path, victims: &[&str]) -> Self {
        let load = |name: &str| {
            let pem = std::fs::read(directory.join(format!("{name}.crt"))).unwrap();
            let key = std::fs::read(directory.join(format!("{name}.key"))).unwrap();
            Identity {
                cert: X509::from_pem(&pem).unwrap(),
                chain: Vec::new(),
                key: PKey::private_key_from_pem(&key).unwrap(),
            }
        };
        let ca = load("ca");
        let mut host = load("mx-good");
        host.chain = vec![load("intermediate").cert];
        let names: Vec<String> = victims.iter().map(|name| format!("DNS:{name}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self {
            host,
            own: issue(
                Says::server(HOST, &["DNS:mx.attacker.test", "DNS:attacker.test"]),
                Some(&ca),
            ),
            self_signed: issue(Says::server(victims[0], &names), None),
            unknown_ca: issue(Says::server(victims[0], &names), Some(identity("other-ca"))),
        }
    }

    pub(super) fn get(&self, which: Certificate) -> &Identity {
        match which {
            Certificate::Own => &self.own,
            Certificate::SelfSigned => &self.self_signed,
            Certificate::UnknownCa => &self.unknown_ca,
        }
    }
}

/// In the way to all mail hosts; does nothing until it is told to.
pub struct MailAttacker {
    door: Door,
    inner: Arc<Inner>,
}

struct Inner {
    attack: Mail,
    certificates: Arc<Certificates>,
    smtp: u16,
    active: AtomicBool,
    read_clear: AtomicBool,
    read_tls: AtomicBool,
    met: AtomicBool,
}

impl MailAttacker {
    pub fn start(attack: Mail, smtp: u16, certificates: Arc<Certificates>) -> Self {
        let inner = Arc::new(Inner {
            attack,
            certificates,
            smtp,
            active: AtomicBool::new(false),
            read_clear: AtomicBool::new(false),
            read_tls: AtomicBool::new(false),
            met: AtomicBool::new(false),
        });
        let this = Arc::clone(&inner);
        let door = Door::open(move |stream, host| {
            let _ = this.serve(stream, host);
        });
        Self { door, inner }
    }

    pub fn port(&self) -> u16 {
        self.door.port
    }

    pub fn attack(&self, active: bool) {
        self.inner.active.store(active, Ordering::SeqCst);
        for seen in [&self.inner.read_clear, &self.inner.read_tls, &self.inner.met] {
            seen.store(false, Ordering::SeqCst);
        }
    }

    /// Whether the secret passed in clear.
    pub fn read_in_clear(&self) -> bool {
        self.inner.read_clear.load(Ordering::SeqCst)
    }

    /// Whether it was told the secret over TLS.
    pub fn was_told(&self) -> bool {
        self.inner.read_tls.load(Ordering::SeqCst)
    }

    /// Whether anybody came.
    pub fn was_met(&self) -> bool {
        self.inner.met.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn serve(&self, mut client: TcpStream, host: IpAddr) -> io::Result<()> {
        self.met.store(true, Ordering::SeqCst);
        let attack = if self.active.load(Ordering::SeqCst) {
            self.attack
        } else {
            Mail::Honest
        };
        match attack {
            Mail::Reset => {
                reset(client);
                return Ok(());
            }
            Mail::Silent => {
                drain(client);
                return Ok(());
            }
            Mail::Greet(line) => {
                client.write_all(line.as_bytes())?;
                drain(client);
                return Ok(());
            }
            Mail::Impersonate(certificate) => return self.impersonate(client, certificate, false),
            Mail::OldTls(certificate) => return self.impersonate(client, certificate, true),
            _ => {}
        }
        let elsewhere = host == IpAddr::from(ELSEWHERE);
        let host = if elsewhere {
            Ipv4Addr::new(127, 0, 0, 11).into()
        } else {
            host
        };
        self.pass_on(client, dial(host, self.smtp)?, attack)
    }

    /// The dialog in clear, line by line, then all bytes.
    fn pass_on(&self, mut client: TcpStream, mut server: TcpStream, attack: Mail) -> io::Result<()> {
        let wait = if let Mail::Slow(time) = attack {
            time
        } else {
            Duration::ZERO
        };
        let hear = |server: &mut TcpStream| {
            let reply = read_reply(server);
            std::thread::sleep(wait);
            reply
        };
        client.write_all(&hear(&mut server)?)?;
        loop {
            let mut line = read_line(&mut client)?;
            self.look(&line, &self.read_clear);
            let command = String::from_utf8_lossy(&line).to_ascii_uppercase();
            let upgrades = command.trim_end() == "STARTTLS";
            match attack {
                Mail::Strip if upgrades => {
                    client.write_all(b"502 5.5.1 Error: command not implemented\r\n")?;
                    continue;
                }
                Mail::Refuse(answer) if upgrades => {
                    client.write_all(answer.as_bytes())?;
                    continue;
                }
                Mail::Overwrite if upgrades => line = b"XXXXXXXX\r\n".to_vec(),
                _ => {}
            }
            server.write_all(&line)?;
            let mut reply = hear(&mut server)?;
            if command.starts_with("EHLO") {
                match attack {
                    Mail::CloseAfterEhlo => return Ok(()),
                    Mail::Strip | Mail::StripOffer => reply = without_offer(&reply),
                    Mail::Overwrite => {
                        reply = String::from_utf8_lossy(&reply)
                            .replace("STARTTLS", "XXXXXXXA")
                            .into_bytes();
                    }
                    _ => {}
                }
            }
            let goes_ahead = upgrades && reply.starts_with(b"220");
            if goes_ahead && attack == Mail::Inject {
                reply.extend(b"250 2.0.0 all is well\r\n");
            }
            client.write_all(&reply)?;
            if goes_ahead {
                return self.handshake(client, server, attack);
            }
        }
    }

    fn handshake(&self, mut client: TcpStream, mut server: TcpStream, attack: Mail) -> io::Result<()> {
        match attack {
            Mail::CloseAtHello | Mail::ResetAtHello => {
                read_some(&mut client)?;
                if attack == Mail::ResetAtHello {
                    reset(client);
                }
                return Ok(());
            }
            Mail::SilentAtHello => {
                drain(client);
                return Ok(());
            }
            Mail::GarbleClientHello => {
                let hello = garbled(read_some(&mut client)?);
                server.write_all(&hello)?;
            }
            Mail::GarbleServerHello => {
                let hello = read_some(&mut client)?;
                server.write_all(&hello)?;
                let hello = garbled(read_some(&mut server)?);
                client.write_all(&hello)?;
            }
            _ => {}
        }
        let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
        let wait = if let Mail::Slow(time) = attack {
            time
        } else {
            Duration::ZERO
        };
        let back = std::thread::spawn(move || copy(from_server, to_client, wait, |_| {}));
        copy(client, server, Duration::ZERO, |bytes| {
            self.look(bytes, &self.read_clear)
        });
        let _ = back.join();
        Ok(())
    }

    fn impersonate(&self, mut client: TcpStream, certificate: Certificate, old: bool) -> io::Result<()> {
        client.write_all(b"220 mail ESMTP\r\n")?;
        loop {
            let line = read_line(&mut client)?;
            self.look(&line, &self.read_clear);
            match line.to_ascii_uppercase().as_slice() {
                b"STARTTLS\r\n" => break,
                command if command.starts_with(b"EHLO") => {
                    client.write_all(b"250-mail\r\n250 STARTTLS\r\n")?
                }
                _ => client.write_all(b"250 2.0.0 Ok\r\n")?,
            }
        }
        client.write_all(b"220 2.0.0 Ready\r\n")?;
        let tls = self.acceptor(certificate, old);
        let mut stream = tls.accept(client).map_err(|e| io::Error::other(e.to_string()))?;
        loop {
            let line = read_line(&mut stream)?;
            self.look(&line, &self.read_tls);
            stream.write_all(b"250 2.0.0 Ok\r\n")?;
        }
    }

    fn acceptor(&self, certificate: Certificate, old: bool) -> SslAcceptor {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        if old {
            // The profile forbids it.
            builder.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
            builder.set_security_level(0);
            builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
            builder.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
            builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        }
        present(&mut builder, self.certificates.get(certificate));
        let mut own = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        present(&mut own, &self.certificates.host);
        let own = own.build();
        builder.set_servername_callback(move |ssl, _| {
            if ssl.servername(NameType::HOST_NAME) == Some(HOST) {
                ssl.set_ssl_context(&own).map_err(|_| SniError::ALERT_FATAL)?;
            }
            Ok(())
        });
        builder.build()
    }

    fn look(&self, bytes: &[u8], read: &AtomicBool) {
        if bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
            read.store(true, Ordering::SeqCst);
        }
    }
}

pub(super) fn present(context: &mut SslContextBuilder, identity: &Identity) {
    context.set_certificate(&identity.cert).unwrap();
    context.set_private_key(&identity.key).unwrap();
    for cert in &identity.chain {
        context.add_extra_chain_cert(cert.clone()).unwrap();
    }
}

/// All lines of a reply (RFC 5321 §4.2).
fn read_reply(server: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    loop {
        let line = read_line(&mut *server)?;
        let is_last = line.get(3) != Some(&b'-');
        reply.extend(line);
        if is_last {
            return Ok(reply);
        }
    }
}

fn without_offer(reply: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(reply);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| !l.ends_with("STARTTLS"))
        .map(str::to_owned)
        .collect();
    if let Some(last) = lines.last_mut() {
        last.replace_range(3..4, " ");
    }
    lines
        .join("\r\n")
        .into_bytes()
        .into_iter()
        .chain(*b"\r\n")
        .collect()
}

fn read_some(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 16_384];
    let n = stream.read(&mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

/// Not in the head of the record, which would say at once that it is none.
fn garbled(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in bytes.iter_mut().skip(11).step_by(37) {
        *byte ^= 0x20;
    }
    bytes
}

/// Until one side ends, and then both do.
pub(super) fn copy(mut from: TcpStream, mut to: TcpStream, wait: Duration, look: impl Fn(&[u8])) {
    let _ = from.set_read_timeout(Some(PATIENCE));
    while let Ok(bytes) = read_some(&mut from) {
        look(&bytes);
        std::thread::sleep(wait);
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}
