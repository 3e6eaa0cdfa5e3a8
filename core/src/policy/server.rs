//! What a policy says for the server's role.

use std::path::Path;

use super::{readable, Policy};
use crate::error::{Error, Result};
use crate::rules::ServerCert;

impl Policy {
    /// As server, show this certificate (PEM, leaf first, then its chain) with this key (PEM); they may
    /// be the same file. May be called several times: a client that names a host (SNI) is shown the
    /// certificate whose subjectAltName has it, all others the first. Several for one name serve
    /// different kinds of keys.
    ///
    /// # Errors
    /// `invalid` if a file cannot be read.
    pub fn server_cert(mut self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let files = ServerCert::Files(
            readable(cert.as_ref(), "server certificate")?,
            readable(key.as_ref(), "server key")?,
        );
        self.set().server_certs.push(files);
        self.unshare();
        Ok(self)
    }

    /// As [`server_cert`](Policy::server_cert), with the PEM itself.
    #[must_use]
    pub fn server_cert_pem(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.set()
            .server_certs
            .push(ServerCert::Memory(cert.into(), key.into()));
        self.unshare();
        self
    }

    /// As server, show the certificates of this directory, each to the clients that ask for its host:
    /// `HOST.pem` (certificate, chain and key in one), or `HOST.crt` and `HOST.key`; in `_.DOMAIN.pem`
    /// `_` stands for any one label. Who asks for none of them is shown the first
    /// [`server_cert`](Policy::server_cert) or, without one, the first file by name.
    ///
    /// All are read by [`ready`](Policy::ready) or the first use, and again by
    /// [`reload`](Policy::reload).
    ///
    /// # Errors
    /// `invalid` if it is no directory.
    pub fn server_cert_dir(mut self, directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        if !directory.is_dir() {
            return Err(Error::invalid(format!(
                "server certificates: {} is not a directory",
                directory.display()
            )));
        }
        self.set()
            .server_certs
            .push(ServerCert::Directory(directory.to_owned()));
        self.unshare();
        Ok(self)
    }

    /// As server at level `encrypt`, ask the client for a certificate; none, or one that is not trusted,
    /// is no error, and the outcome tells. At `verify` and `fingerprint` one is required.
    #[must_use]
    pub fn ask_client_cert(mut self) -> Self {
        self.set().ask_client_cert = true;
        self.unshare();
        self
    }

    /// As server, reads certificates, keys and CA anew, for all that shares them with this policy, without a restart; sessions that
    /// exist go on, and tickets given out stay good. Who forks calls it in the parent.
    ///
    /// # Errors
    /// As [`ready`](Policy::ready); what was read before then stays in use.
    pub fn reload(&self) -> Result<()> {
        self.rules.consistent_for_server()?;
        self.shared.reload_server(&self.rules)
    }
}
