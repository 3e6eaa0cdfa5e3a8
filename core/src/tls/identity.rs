//! A certificate with its chain and key, to show to the peer.

use std::path::Path;

use openssl::pkey::{Id, PKey, Private};
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl::stack::Stack;
use openssl::x509::X509;

use super::{bug, ffi, pem};
use crate::error::{Error, Result};

/// Checked when it is read: the key is the first certificate's.
pub(super) struct Identity {
    pub(super) leaf: X509,
    chain: Stack<X509>,
    key: PKey<Private>,
}

impl Identity {
    /// From PEM files, which may be the same; `whose` is "client" or "server".
    pub(super) fn read(cert: &Path, key: &Path, whose: &str) -> Result<Self> {
        let chain = pem::certificates(cert, &format!("{whose} certificate"))?;
        let key = pem::key(key, &format!("{whose} key"))?;
        Self::new(chain, key, &format!("{whose} certificate {}", cert.display()))
    }

    /// From PEM in memory.
    pub(super) fn from_pem(cert: &[u8], key: &[u8], whose: &str) -> Result<Self> {
        let what = format!("{whose} certificate in memory");
        let chain = pem::certificates_in(cert, &what)?;
        let key = pem::key_in(key, &format!("{whose} key in memory"))?;
        Self::new(chain, key, &what)
    }

    fn new(certificates: Vec<X509>, key: PKey<Private>, what: &str) -> Result<Self> {
        let mut certificates = certificates.into_iter();
        let Some(leaf) = certificates.next() else {
            return Err(Error::invalid(format!("{what}: holds no certificate in PEM")));
        };
        if !leaf.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(Error::invalid(format!(
                "{what}: the key is not that of the first certificate"
            )));
        }
        let mut chain = Stack::new().map_err(bug)?;
        for issuer in certificates {
            chain.push(issuer).map_err(bug)?;
        }
        Ok(Self { leaf, chain, key })
    }

    /// RSA, EC and so on.
    pub(super) fn kind_of_key(&self) -> Id {
        self.key.id()
    }

    /// Shows it in every handshake. One of another kind of key does not replace it.
    pub(super) fn show_always(&self, builder: &mut SslContextBuilder) -> Result<()> {
        ffi::use_identity_for_all(builder, &self.leaf, &self.key, &self.chain).map_err(bug)
    }

    /// Shows it in this handshake.
    pub(super) fn show(&self, ssl: &mut SslRef) -> Result<()> {
        ffi::use_identity(ssl, &self.leaf, &self.key, &self.chain).map_err(bug)
    }
}
