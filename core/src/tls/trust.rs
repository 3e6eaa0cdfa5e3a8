//! Whom to trust: the policy's own CA, or the system's.
//!
//! A directory with hash links is looked up lazily (0.2 ms); parsing a bundle of 140 roots costs
//! some 24 ms, so it is read only where there is no such directory or a chain found no issuer in
//! it, and only once per process. `set_default_verify_paths` reads the bundle every time: it is
//! not called.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use once_cell::sync::OnceCell;
use openssl::ssl::SslFiletype;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::X509;

use super::ffi;
use crate::error::{Error, Result};
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
        let is_system = rules.ca_file.is_none() && rules.ca_path.is_none();
        if let Some(file) = &rules.ca_file {
            add_all(&mut builder, certificates(file)?)?;
        }
        let directories = match &rules.ca_path {
            Some(directory) => vec![directory.clone()],
            None if is_system => system_directories()?,
            None => Vec::new(),
        };
        for directory in &directories {
            if rules.preload_ca {
                for file in hash_links(directory)? {
                    add_all(&mut builder, certificates(&file)?)?;
                }
            } else {
                add_directory(&mut builder, directory)?;
            }
        }
        if is_system && rules.preload_ca {
            system_bundle()?;
        }
        Ok(Self {
            store: builder.build(),
            is_system,
        })
    }
}

fn add_all(builder: &mut X509StoreBuilder, certs: Vec<X509>) -> Result<()> {
    for cert in certs {
        builder.add_cert(cert).map_err(super::bug)?;
    }
    Ok(())
}

/// Certificates of a PEM file, all of them.
fn certificates(file: &Path) -> Result<Vec<X509>> {
    let certs = super::pem::certificates(file, "CA file")?;
    if certs.is_empty() {
        return Err(Error::invalid(format!(
            "CA file {}: holds no certificate in PEM",
            file.display()
        )));
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

/// A variable of the environment, unless the process runs with raised privileges. One that is set
/// replaces the defaults, also where it names nothing: who restricts trust must not get more.
fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|_| !ffi::set_id())
}

/// $SSL_CERT_DIR, a list; else the first known directory that has hash links.
fn system_directories() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Some(list) = env("SSL_CERT_DIR") {
        for directory in std::env::split_paths(&list) {
            if !hash_links(&directory)?.is_empty() {
                found.push(directory);
            }
        }
        return Ok(found);
    }
    let (default, _) = ffi::default_places();
    for directory in [&default, "/etc/ssl/certs", "/etc/pki/tls/certs"] {
        let directory = PathBuf::from(directory);
        if !hash_links(&directory)?.is_empty() {
            return Ok(vec![directory]);
        }
    }
    Ok(found)
}

/// The files of a directory that have a hash for their name; none where there is no directory.
///
/// # Errors
/// `io` where it cannot be read for now, such as for want of descriptors: not the same as none.
fn hash_links(directory: &Path) -> Result<Vec<PathBuf>> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .flatten()
            .filter(|e| e.file_name().to_str().is_some_and(is_hash_link))
            .map(|e| e.path())
            .collect()),
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | PermissionDenied) => Ok(Vec::new()),
        Err(e) => Err(Error::io(&format!("read {}", directory.display()), &e)),
    }
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
///
/// # Errors
/// What is wrong with it, or why it cannot be read for now; the next call tries again.
pub(crate) fn system_bundle() -> Result<Option<&'static X509Store>> {
    static BUNDLE: OnceCell<Option<X509Store>> = OnceCell::new();
    BUNDLE.get_or_try_init(read_bundle).map(Option::as_ref)
}

fn read_bundle() -> Result<Option<X509Store>> {
    let (_, default) = ffi::default_places();
    let places = match env("SSL_CERT_FILE") {
        Some(file) => vec![PathBuf::from(file)],
        None => vec![
            PathBuf::from(default),
            PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            PathBuf::from("/etc/pki/tls/certs/ca-bundle.crt"),
            PathBuf::from("/etc/ssl/ca-bundle.pem"),
            PathBuf::from("/etc/ssl/cert.pem"),
        ],
    };
    let Some(file) = places.into_iter().find(|f| f.is_file()) else {
        return Ok(None);
    };
    let mut builder = X509StoreBuilder::new().map_err(super::bug)?;
    add_all(&mut builder, certificates(&file)?)?;
    Ok(Some(builder.build()))
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
