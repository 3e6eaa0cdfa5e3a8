//! What a policy demands, as data: all that the verdict and the TLS code see of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::level::{Level, MinTls};
use crate::name::ServerName;
use crate::outcome::{Line, NameFrom};

/// Sees each line of the dialog as it is said.
pub(crate) type Observer = Arc<dyn Fn(&Line) + Send + Sync>;

/// Called when a signal interrupts a wait; an error ends the wait.
pub type InterruptHook = fn() -> io::Result<()>;

/// Where a server's certificate and key come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ServerCert {
    /// PEM files: the certificate with its chain, and the key.
    Files(PathBuf, PathBuf),
    /// The same, in memory.
    Memory(Vec<u8>, Vec<u8>),
    /// A directory of PEM files, named for the host that they are for.
    Directory(PathBuf),
}

/// What the caller demands. `judge` and the TLS code see only this part of a policy.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) level: Level,
    pub(crate) timeout: Duration,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) ca_path: Option<PathBuf>,
    pub(crate) preload_ca: bool,
    pub(crate) client_cert: Option<(PathBuf, PathBuf)>,
    pub(crate) server_certs: Vec<ServerCert>,
    pub(crate) ask_client_cert: bool,
    pub(crate) min_tls: Option<MinTls>,
    pub(crate) fingerprints: Vec<[u8; 32]>,
    pub(crate) client_name: Option<String>,
    pub(crate) names: Vec<ServerName>,
    pub(crate) sni: Option<ServerName>,
    /// Where to dial; empty: look the host up.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) source_address: Option<SocketAddr>,
    pub(crate) name_from: NameFrom,
    pub(crate) observer: Option<Observer>,
    pub(crate) interrupt_hook: Option<InterruptHook>,
}

impl Rules {
    /// Whether the settings make sense for a server.
    pub(crate) fn consistent_for_server(&self) -> Result<()> {
        self.consistent()?;
        if !matches!(self.level, Level::Encrypt | Level::Verify | Level::Fingerprint) {
            return Err(Error::invalid(format!(
                "level \"{}\" is a client's; a server's is one of: encrypt verify fingerprint",
                self.level.as_str()
            )));
        }
        if self.server_certs.is_empty() {
            return Err(Error::invalid(
                "a server needs a certificate: set one with its key (server_cert)",
            ));
        }
        if self.level == Level::Verify && self.ca_file.is_none() && self.ca_path.is_none() {
            return Err(Error::invalid(
                "level \"verify\" asks clients for a certificate: set the CA that vouches for them (ca_file)",
            ));
        }
        Ok(())
    }

    /// Whether a server asks its clients for a certificate.
    pub(crate) fn asks_client_cert(&self) -> bool {
        self.ask_client_cert || self.level != Level::Encrypt
    }

    /// Whether the settings make sense together; checked at first use.
    pub(crate) fn consistent(&self) -> Result<()> {
        match (self.level, self.fingerprints.is_empty()) {
            (Level::Fingerprint, true) => Err(Error::invalid(
                "level \"fingerprint\" needs at least one fingerprint",
            )),
            (Level::Fingerprint, false) | (_, true) => Ok(()),
            (level, false) => Err(Error::invalid(format!(
                "level \"{}\" ignores fingerprints; use level \"fingerprint\"",
                level.as_str()
            ))),
        }
    }
}
