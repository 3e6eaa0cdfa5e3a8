//! PEM files, read by us and not by OpenSSL: it would ask for a passphrase on the terminal, or take
//! a daemon's standard input for one.

use std::path::Path;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::error::{Error, Result};

/// All certificates of a file.
pub(crate) fn certificates(file: &Path, what: &str) -> Result<Vec<X509>> {
    certificates_in(&read(file)?, &format!("{what} {}", file.display()))
}

/// All certificates of a PEM text.
pub(crate) fn certificates_in(pem: &[u8], what: &str) -> Result<Vec<X509>> {
    not_encrypted(pem, what)?;
    X509::stack_from_pem(pem).map_err(|e| wrong(what, &format!("is not PEM: {}", super::reason(&e))))
}

/// The key of a file.
pub(crate) fn key(file: &Path, what: &str) -> Result<PKey<Private>> {
    key_in(&read(file)?, &format!("{what} {}", file.display()))
}

/// The key of a PEM text.
pub(crate) fn key_in(pem: &[u8], what: &str) -> Result<PKey<Private>> {
    not_encrypted(pem, what)?;
    // No passphrase is ever given.
    PKey::private_key_from_pem_callback(pem, |_| Ok(0))
        .map_err(|e| wrong(what, &format!("holds no key in PEM: {}", super::reason(&e))))
}

/// In "BEGIN ENCRYPTED PRIVATE KEY" and "Proc-Type: 4,ENCRYPTED".
fn not_encrypted(pem: &[u8], what: &str) -> Result<()> {
    if pem.windows(9).any(|w| w == b"ENCRYPTED") {
        return Err(wrong(what, "is encrypted; give it without a passphrase"));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
            wrong(&file.display().to_string(), &format!("cannot be read: {e}"))
        }
        // For want of descriptors or memory: nobody's configuration is wrong.
        _ => Error::io(&format!("read {}", file.display()), &e),
    })
}

fn wrong(what: &str, why: &str) -> Error {
    Error::invalid(format!("{what}: {why}"))
}
