//! Whom to trust: the policy's own CA, or the system's.
//!
//! A directory with hash links is looked up lazily (0.2 ms); parsing a bundle of 140 roots costs
//! some 24 ms, so it is read only where there is no such directory or a chain found no issuer in
//! it, and only once per process. `set_default_verify_paths` reads the bundle every time: it is
//! not called.

use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use openssl::ssl::SslFiletype;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::X509;

use super::ffi;
use crate::error::{Error, Result, Word};
use crate::rules::Rules;

/// A store to verify against, and whether the system's bundle may be asked when it has no issuer.
pub(crate) struct Trust {
    pub(crate) store: X509Store,
    pub(crate) is_system: bool,
}

impl Trust {
    /// The store that the rules ask for.
    pub(crate) fn load(rules: &Rules) -> Result<Self> {
        let mut builder = X509StoreBuilder::new().map_err(super::bug)?;
        let own = rules.ca_file.is_some() || rules.ca_path.is_some();
        if let Some(file) = &rules.ca_file {
            for cert in certificates(file)? {
                builder.add_cert(cert).map_err(super::bug)?;
            }
        }
        if let Some(directory) = &rules.ca_path {
            add_directory(&mut builder, directory)?;
        }
        if !own {
            if let Some(directory) = system_directory() {
                add_directory(&mut builder, &directory)?;
            }
            if rules.preload_ca {
                system_bundle();
            }
        }
        Ok(Self {
            store: builder.build(),
            is_system: !own,
        })
    }
}

/// Certificates of a PEM file, all of them.
fn certificates(file: &Path) -> Result<Vec<X509>> {
    let wrong = |why: String| Error::invalid(format!("CA file {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let certs =
        X509::stack_from_pem(&pem).map_err(|e| wrong(format!("is not PEM: {}", super::reason(&e))))?;
    if certs.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(certs)
}

fn add_directory(builder: &mut X509StoreBuilder, directory: &Path) -> Result<()> {
    let Some(name) = directory.to_str() else {
        return Err(Error::invalid(format!(
            "CA path {} is not UTF-8",
            directory.display()
        )));
    };
    builder
        .add_lookup(X509Lookup::hash_dir())
        .and_then(|lookup| lookup.add_dir(name, SslFiletype::PEM))
        .map_err(super::bug)
}

/// A variable that the environment may set, unless the process runs with raised privileges.
fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|v| !v.is_empty() && !ffi::set_id())
        .map(PathBuf::from)
}

/// The first directory that has hash links.
fn system_directory() -> Option<PathBuf> {
    let (default, _) = ffi::default_places();
    env_path("SSL_CERT_DIR")
        .into_iter()
        .chain([
            PathBuf::from(default),
            PathBuf::from("/etc/ssl/certs"),
            PathBuf::from("/etc/pki/tls/certs"),
        ])
        .find(|d| has_hash_links(d))
}

fn has_hash_links(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().to_str().is_some_and(is_hash_link))
    })
}

/// `1a2b3c4d.0`: eight hex digits, a dot, a number.
fn is_hash_link(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, n)| {
        hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !n.is_empty()
            && n.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The system's bundle, read once per process; `None` where there is none.
pub(crate) fn system_bundle() -> Option<&'static X509Store> {
    static BUNDLE: OnceCell<Option<X509Store>> = OnceCell::new();
    BUNDLE.get_or_init(|| read_bundle().ok()).as_ref()
}

fn read_bundle() -> Result<X509Store> {
    let (_, default) = ffi::default_places();
    let file = env_path("SSL_CERT_FILE")
        .into_iter()
        .chain([
            PathBuf::from(default),
            PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            PathBuf::from("/etc/pki/tls/certs/ca-bundle.crt"),
            PathBuf::from("/etc/ssl/ca-bundle.pem"),
            PathBuf::from("/etc/ssl/cert.pem"),
        ])
        .find(|f| f.is_file())
        .ok_or_else(|| Error::new(Word::Untrusted, "this system has no CA bundle"))?;
    let mut builder = X509StoreBuilder::new().map_err(super::bug)?;
    for cert in certificates(&file)? {
        builder.add_cert(cert).map_err(super::bug)?;
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::is_hash_link;

    #[test]
    fn hash_links() {
        assert!(is_hash_link("002c0b4f.0"));
        assert!(is_hash_link("ffffffff.12"));
        for no in [
            "ca-certificates.crt",
            "002c0b4f",
            "002c0b4f.r0",
            "2c0b4f.0",
            "002c0b4f.",
        ] {
            assert!(!is_hash_link(no));
        }
    }
}
