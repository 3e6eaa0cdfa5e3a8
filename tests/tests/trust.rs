//! Which store a chain is verified against. The environment decides a part of it, and the system's
//! bundle is read once per process, so each case is played by a process of its own: this program,
//! called again.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::certs::{ca_file, cert_file, identity, key_file};
use conformance::check::verdict;
use conformance::peer::{acceptor, upgrades};
use starttls::{Policy, Session, Stage, Word};

const PORT: &str = "STARTTLS_TEST_PORT";
const SETTING: &str = "STARTTLS_TEST_SETTING";

/// Not a test of its own: what the processes below do.
#[test]
fn the_client_of_the_others() {
    let (Ok(port), Ok(setting)) = (std::env::var(PORT), std::env::var(SETTING)) else {
        return;
    };
    let mut policy = Policy::strict().address(Ipv4Addr::LOCALHOST.into());
    match setting.split_once('=') {
        Some(("ca_file", file)) => policy = policy.ca_file(file).unwrap(),
        Some(("ca_path", directory)) => policy = policy.ca_path(directory).unwrap(),
        Some(("preload, then remove", file)) => {
            policy = policy.preload_ca();
            policy.ready().unwrap();
            std::fs::remove_file(file).unwrap();
        }
        Some(("preload the directory, then remove", directory)) => {
            policy = policy.ca_path(directory).unwrap().preload_ca();
            policy.ready().unwrap();
            std::fs::remove_dir_all(directory).unwrap();
        }
        Some(("mended after a failure", bundle)) => {
            // What could not be read once is not given up for ever.
            let good = std::fs::read(bundle).unwrap();
            std::fs::write(bundle, "junk").unwrap();
            let e = policy.clone().preload_ca().ready().unwrap_err();
            assert!(e.message().contains(bundle), "{e}");
            std::fs::write(bundle, good).unwrap();
        }
        Some(other) => panic!("{other:?}"),
        None => {}
    }
    let result = Session::connect("pop3", "mail.example.test", port.parse().unwrap(), &policy);
    println!("verdict: {}", verdict(&result));
}

/// A directory with one certificate under its hash.
fn hashed(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("starttls-trust-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let cert = &identity(name.strip_suffix("-to-remove").unwrap_or(name)).cert;
    let link = format!("{:08x}.0", cert.subject_name_hash());
    std::fs::write(directory.join(link), cert.to_pem().unwrap()).unwrap();
    directory
}

/// What the client says with these variables and this setting.
fn client(cert_dir: &Path, cert_file: &Path, setting: &str) -> String {
    let server = upgrades(acceptor(identity("good")).build(), 1);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_client_of_the_others", "--nocapture"])
        .env("SSL_CERT_DIR", cert_dir)
        .env("SSL_CERT_FILE", cert_file)
        .env(PORT, server.port.to_string())
        .env(SETTING, setting)
        .output()
        .unwrap();
    let _ = server.finish();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdict = said
        .lines()
        .find_map(|l| l.split("verdict: ").nth(1))
        .map(str::to_owned);
    verdict.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn directory_then_bundle_and_a_policys_own_instead() {
    let nowhere = Path::new("/nonexistent");
    let ca = ca_file();
    let ca_dir = hashed("ca");
    let other_dir = hashed("other-ca");
    let other = cert_file("other-ca");
    let bundle = ca.with_file_name("bundle-to-remove.pem");
    std::fs::copy(&ca, &bundle).unwrap();
    let list = std::env::join_paths([&other_dir, &ca_dir]).unwrap();
    let list = PathBuf::from(list);
    let own_file = format!("ca_file={}", other.display());
    let own_path = format!("ca_path={}", ca_dir.display());
    let preload = format!("preload, then remove={}", bundle.display());

    let to_remove = hashed("ca-to-remove");
    let preload_path = format!("preload the directory, then remove={}", to_remove.display());
    let mended_bundle = ca.with_file_name("mended.pem");
    std::fs::copy(&ca, &mended_bundle).unwrap();
    let mended = format!("mended after a failure={}", mended_bundle.display());

    const UNTRUSTED: &str = "error untrusted permanent";
    for (cert_dir, cert_file, setting, expected) in [
        // A directory with hash links, looked up.
        (ca_dir.as_path(), nowhere, "", "tls"),
        (&other_dir, nowhere, "", UNTRUSTED),
        // No issuer in the directory: the bundle is asked.
        (&other_dir, &ca, "", "tls"),
        (&other_dir, &other, "", UNTRUSTED),
        // The policy's own replace the system's.
        (&ca_dir, &ca, &own_file, UNTRUSTED),
        (&other_dir, &other, &own_path, "tls"),
        // A variable that is set replaces the defaults; the directory is a list.
        (nowhere, &ca, "", "tls"),
        (&list, nowhere, "", "tls"),
        // Read before chroot.
        (&other_dir, &bundle, &preload, "tls"),
        (&other_dir, nowhere, &preload_path, "tls"),
        (&other_dir, &mended_bundle, &mended, "tls"),
    ] {
        assert_eq!(
            client(cert_dir, cert_file, setting),
            expected,
            "SSL_CERT_DIR={} SSL_CERT_FILE={} {setting}",
            cert_dir.display(),
            cert_file.display()
        );
    }
    for directory in [ca_dir, other_dir] {
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn files_that_are_no_trust_store_are_told_when_named_or_read() {
    let e = Policy::strict().ca_file("/nonexistent").unwrap_err();
    assert!(e.message().contains("/nonexistent"), "{e}");
    let e = Policy::strict().ca_file("/").unwrap_err();
    assert!(e.message().contains("directory"), "{e}");
    let e = Policy::strict().ca_path("/nonexistent").unwrap_err();
    assert!(e.message().contains("not a directory"), "{e}");
    let empty = Policy::strict().ca_file("/dev/null").unwrap();
    let e = empty.ready().unwrap_err();
    assert!(e.message().contains("no certificate"), "{e}");
}

/// OpenSSL would ask for the passphrase: on the terminal, or of a daemon's standard input.
#[test]
fn an_encrypted_key_is_told_and_nobody_is_asked() {
    let key = key_file("client").with_file_name("encrypted.key");
    let pem = identity("client")
        .key
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret")
        .unwrap();
    std::fs::write(&key, pem).unwrap();
    let policy = Policy::strict().client_cert(cert_file("client"), &key).unwrap();
    let e = policy.ready().unwrap_err();
    assert_eq!(e.word(), Word::Invalid);
    assert!(e.message().contains("is encrypted"), "{e}");
    let other = Policy::strict()
        .client_cert(cert_file("client"), key_file("good"))
        .unwrap();
    assert_eq!(other.ready().unwrap_err().word(), Word::Invalid);
}

/// Our own mistake is told before the server hears of us, and costs no connection.
#[test]
fn a_file_that_cannot_be_used_is_told_before_anything_is_said() {
    let junk = ca_file().with_file_name("junk.pem");
    std::fs::write(
        &junk,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let policy = Policy::strict().ca_file(&junk).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let result = Session::upgrade("smtp", &ours, "mail.example.test", Stage::Ready, b"", &policy);
    assert_eq!(verdict(&result), "error invalid permanent");
    drop(result);
    (&ours).write_all(b"QUIT").unwrap();
    let mut heard = [0; 100];
    assert_eq!(theirs.read(&mut heard).unwrap(), 4);
    assert!(Policy::strict().ca_path("/tmp:/etc").is_err());
}
