//! PEM files, read by us and not by OpenSSL: it would ask for a passphrase on the terminal, or take
//! a daemon's standard input for one.

use std::path::Path;

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::error::{Error, Result};

/// All certificates of a file.
pub(crate) fn certificates(file: &Path, what: &str) -> Result<Vec<X509>> {
    let pem = read(file, what)?;
    X509::stack_from_pem(&pem).map_err(|e| wrong(file, what, &format!("is not PEM: {}", super::reason(&e))))
}

/// The key of a file.
pub(crate) fn key(file: &Path, what: &str) -> Result<PKey<Private>> {
    let pem = read(file, what)?;
    // No passphrase is ever given.
    PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
        .map_err(|e| wrong(file, what, &format!("holds no key in PEM: {}", super::reason(&e))))
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>> {
    let pem = std::fs::read(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
            wrong(file, what, &format!("cannot be read: {e}"))
        }
        // For want of descriptors or memory: nobody's configuration is wrong.
        _ => Error::io(&format!("read {}", file.display()), &e),
    })?;
    // In "BEGIN ENCRYPTED PRIVATE KEY" and "Proc-Type: 4,ENCRYPTED".
    if pem.windows(9).any(|w| w == b"ENCRYPTED") {
        return Err(wrong(file, what, "is encrypted; give it without a passphrase"));
    }
    Ok(pem)
}

fn wrong(file: &Path, what: &str, why: &str) -> Error {
    Error::invalid(format!("{what} {}: {why}", file.display()))
}
