//! Channel bindings: what both ends of one TLS session know and nobody between them does.

use openssl::ssl::SslRef;

use crate::error::{Error, Result, Word};
use crate::text::printable;

/// `tls-exporter` (RFC 9266) or `tls-server-end-point` (RFC 5929).
pub(crate) fn channel_binding(ssl: &SslRef, kind: &str) -> Result<Vec<u8>> {
    match kind {
        "tls-exporter" => exporter(ssl),
        "tls-server-end-point" => end_point(ssl),
        _ => Err(Error::invalid(format!(
            "no channel binding is called \"{}\"; it is one of: tls-exporter tls-server-end-point",
            printable(kind.as_bytes())
        ))),
    }
}

fn exporter(ssl: &SslRef) -> Result<Vec<u8>> {
    let mut material = vec![0u8; 32];
    // RFC 9266 §2: the context is empty, but present.
    ssl.export_keying_material(&mut material, "EXPORTER-Channel-Binding", Some(&[]))
        .map_err(super::bug)?;
    Ok(material)
}

fn end_point(ssl: &SslRef) -> Result<Vec<u8>> {
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    let none = || Error::invalid("the peer has no certificate");
    let certificate = ssl.peer_certificate().ok_or_else(none)?;
    let signed_with = certificate.signature_algorithm().object().nid();
    let digest = signed_with.signature_algorithms().map(|a| a.digest);
    // RFC 5929 §4.1: the signature's hash, but SHA-256 for MD5 and SHA-1. Signatures without a
    // hash of their own (Ed25519) are not covered there.
    let digest = match digest {
        Some(Nid::MD5 | Nid::SHA1) => Some(MessageDigest::sha256()),
        Some(nid) => MessageDigest::from_nid(nid),
        None => None,
    };
    let unsupported = || {
        Error::new(
            Word::Unsupported,
            "tls-server-end-point is not defined for this certificate's signature",
        )
    };
    certificate
        .digest(digest.ok_or_else(unsupported)?)
        .map(|d| d.to_vec())
        .map_err(|_| unsupported())
}
