//! Certificates made at test time, once per process: nothing in the repository can expire, and no
//! key lies around.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509Builder, X509NameBuilder, X509};

/// A certificate with its key and what a server sends along.
#[derive(Clone)]
pub struct Identity {
    pub cert: X509,
    pub chain: Vec<X509>,
    pub key: PKey<Private>,
}

/// What a certificate says.
#[derive(Clone, Copy)]
pub struct Says<'a> {
    pub common_name: &'a str,
    /// `DNS:name` or `IP:address`.
    pub alt_names: &'a [&'a str],
    /// Seconds from now.
    pub not_before: i64,
    pub not_after: i64,
    pub is_ca: bool,
}

const DAY: i64 = 86_400;
const GOOD: &[&str] = &["DNS:localhost", "DNS:mail.example.test", "IP:127.0.0.1", "IP:::1"];

impl<'a> Says<'a> {
    pub fn server(common_name: &'a str, alt_names: &'a [&'a str]) -> Self {
        Self {
            common_name,
            alt_names,
            not_before: -DAY,
            not_after: 90 * DAY,
            is_ca: false,
        }
    }

    fn authority(common_name: &'a str) -> Self {
        Self {
            is_ca: true,
            ..Self::server(common_name, &[])
        }
    }
}

/// Makes a certificate; without an issuer it is self-signed.
pub fn issue(says: Says<'_>, issuer: Option<&Identity>) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", says.common_name).unwrap();
    let name = name.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = |offset: i64| Asn1Time::from_unix(i64::try_from(now).unwrap() + offset).unwrap();

    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&name, |i| i.cert.subject_name()))
        .unwrap();
    builder.set_not_before(&at(says.not_before)).unwrap();
    builder.set_not_after(&at(says.not_after)).unwrap();
    builder.set_pubkey(&key).unwrap();
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    if says.is_ca {
        constraints.ca();
        let usage = KeyUsage::new().critical().key_cert_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
    } else {
        let usage = ExtendedKeyUsage::new()
            .server_auth()
            .client_auth()
            .build()
            .unwrap();
        builder.append_extension(usage).unwrap();
    }
    builder.append_extension(constraints.build().unwrap()).unwrap();
    if !says.alt_names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for alt_name in says.alt_names {
            match alt_name.split_once(':').unwrap() {
                ("DNS", dns) => names.dns(dns),
                (_, ip) => names.ip(ip),
            };
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder
        .sign(issuer.map_or(&key, |i| &i.key), MessageDigest::sha256())
        .unwrap();
    Identity {
        cert: builder.build(),
        chain: Vec::new(),
        key,
    }
}

/// The certificates that dialogs and tests know by name; `ca` is the one to trust.
pub fn identity(name: &str) -> &'static Identity {
    static ALL: OnceLock<BTreeMap<&'static str, Identity>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let ca = issue(Says::authority("Test CA"), None);
        let other = issue(Says::authority("Unknown CA"), None);
        let middle = issue(Says::authority("Test intermediate CA"), Some(&ca));
        let good = Says::server("mail.example.test", GOOD);
        let leaf = |name, alt_names: &[&str]| issue(Says::server(name, alt_names), Some(&ca));
        let without_middle = issue(good, Some(&middle));
        let with_middle = Identity {
            chain: vec![middle.cert.clone()],
            ..without_middle.clone()
        };
        let past = Says {
            not_before: -30 * DAY,
            not_after: -DAY,
            ..good
        };
        let future = Says {
            not_before: DAY,
            ..good
        };
        BTreeMap::from([
            ("good", issue(good, Some(&ca))),
            ("expired", issue(past, Some(&ca))),
            ("not-yet-valid", issue(future, Some(&ca))),
            ("self-signed", issue(good, None)),
            ("unknown-ca", issue(good, Some(&other))),
            ("no-intermediate", without_middle),
            ("via-intermediate", with_middle),
            (
                "wrong-name",
                leaf("other.example.test", &["DNS:other.example.test"]),
            ),
            ("wildcard", leaf("*.example.test", &["DNS:*.example.test"])),
            ("partial-wildcard", leaf("x", &["DNS:ma*.example.test"])),
            ("cn-only", leaf("mail.example.test", &[])),
            // bücher.example.test
            ("idn", leaf("idn", &["DNS:xn--bcher-kva.example.test"])),
            ("address-as-dns", leaf("127.0.0.1", &["DNS:127.0.0.1"])),
            (
                "client",
                leaf("client.example.test", &["DNS:client.example.test"]),
            ),
            ("other-client", issue(good, Some(&other))),
            ("intermediate", middle),
            ("other-ca", other),
            ("ca", ca),
        ])
    });
    &all[name]
}

/// A directory for this process's files, removed when the process ends.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        if let Some(directory) = DIRECTORY.get() {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("starttls-tests-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        // SAFETY: the handler takes nothing and does not panic.
        unsafe { libc::atexit(remove) };
        path
    })
}

fn file(name: &str, pem: impl FnOnce() -> Vec<u8>) -> PathBuf {
    let path = directory().join(name);
    static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = WRITING.lock().unwrap_or_else(|e| e.into_inner());
    if !path.exists() {
        std::fs::write(&path, pem()).unwrap();
    }
    path
}

/// A certificate as a PEM file.
pub fn cert_file(name: &str) -> PathBuf {
    file(&format!("{name}.crt"), || identity(name).cert.to_pem().unwrap())
}

/// A key as a PEM file.
pub fn key_file(name: &str) -> PathBuf {
    file(&format!("{name}.key"), || {
        identity(name).key.private_key_to_pem_pkcs8().unwrap()
    })
}

/// The CA to trust.
pub fn ca_file() -> PathBuf {
    cert_file("ca")
}
