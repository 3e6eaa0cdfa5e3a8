//! For tests: an HTTPS host on loopback, which answers as it is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslStream};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder, X509};

use super::fetch::Web;

/// What the host does once it has heard a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Says this and closes properly.
    Says(Vec<u8>),
    /// Says this, and the connection breaks.
    SaysAndBreaks(Vec<u8>),
    /// Says this, then one byte now and then.
    Drips(Vec<u8>),
}

pub(crate) struct Site {
    pub(crate) port: u16,
    ca_file: PathBuf,
    does: Arc<Mutex<Does>>,
    requests: Arc<AtomicUsize>,
    last_request: Arc<Mutex<Vec<u8>>>,
}

impl Site {
    /// With a certificate for this name, which is valid for so many days from now.
    pub(crate) fn begin(name: &str, days: i64) -> Self {
        let ca = issue("Test CA", None, 90, None);
        let leaf = issue(name, Some(name), days, Some(&ca));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ca_file = std::env::temp_dir().join(format!("starttls-sts-{}-{port}.pem", std::process::id()));
        std::fs::write(&ca_file, ca.0.to_pem().unwrap()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_certificate(&leaf.0).unwrap();
        acceptor.set_private_key(&leaf.1).unwrap();
        let context = acceptor.build().into_context();
        let site = Self {
            port,
            ca_file,
            does: Arc::new(Mutex::new(Does::Says(Vec::new()))),
            requests: Arc::default(),
            last_request: Arc::default(),
        };
        let (does, requests, last) = (
            site.does.clone(),
            site.requests.clone(),
            site.last_request.clone(),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, context) = (stream.unwrap(), context.clone());
                let Some((tls, request)) = hear(&context, stream) else {
                    continue;
                };
                *last.lock().unwrap() = request;
                requests.fetch_add(1, Ordering::SeqCst);
                let does = does.lock().unwrap().clone();
                std::thread::spawn(move || act(tls, does));
            }
        });
        site
    }

    pub(crate) fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    /// Serves this policy.
    pub(crate) fn serves(&self, policy: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            policy.len()
        );
        self.does(Does::Says(format!("{head}{policy}").into_bytes()));
    }

    /// How often it was asked.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn last_request(&self) -> String {
        String::from_utf8(self.last_request.lock().unwrap().clone()).unwrap()
    }

    /// The way to it.
    pub(crate) fn web(&self) -> Web {
        Web::trusting(&self.ca_file).port(self.port)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ca_file);
    }
}

type Tls = SslStream<std::net::TcpStream>;

fn hear(context: &SslContext, stream: std::net::TcpStream) -> Option<(Tls, Vec<u8>)> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut tls = SslStream::new(Ssl::new(context).unwrap(), stream).unwrap();
    tls.accept().ok()?;
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        if tls.read(&mut byte).ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    Some((tls, request))
}

fn act(mut tls: Tls, does: Does) {
    match does {
        Does::Says(bytes) => {
            let _ = tls.write_all(&bytes);
            let _ = tls.shutdown();
        }
        Does::SaysAndBreaks(bytes) => drop(tls.write_all(&bytes)),
        Does::Drips(bytes) => {
            let _ = tls.write_all(&bytes);
            for _ in 0..500 {
                if tls.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

type Pair = (X509, PKey<Private>);

fn issue(common_name: &str, dns: Option<&str>, days: i64, issuer: Option<&Pair>) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", common_name).unwrap();
    let name = name.build();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let at = |day: i64| Asn1Time::from_unix(now.saturating_add(day.saturating_mul(86_400))).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&name, |(cert, _)| cert.subject_name()))
        .unwrap();
    builder.set_not_before(&at(-30)).unwrap();
    builder.set_not_after(&at(days)).unwrap();
    builder.set_pubkey(&key).unwrap();
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    if issuer.is_none() {
        constraints.ca();
    }
    builder.append_extension(constraints.build().unwrap()).unwrap();
    if let Some(dns) = dns {
        let names = SubjectAlternativeName::new()
            .dns(dns)
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(names).unwrap();
    }
    let signer = issuer.map_or(&key, |(_, key)| key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}
