//! What a policy demands, as data: all that the verdict and the TLS code see of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Store;
use crate::dane::Dane;
use crate::demand::Demand;
use crate::destinations::Destinations;
use crate::dns::{Proof, Resolver, SystemResolver, Tlsa};
use once_cell::sync::OnceCell;

use crate::error::{Error, Result};
use crate::level::{Level, MinTls};
use crate::mta_sts::Web;
use crate::name::ServerName;
use crate::outcome::{Effective, Line, NameFrom};
use crate::tlsrpt::Collector;

/// Sees each line of the dialog as it is said.
pub(crate) type Observer = Arc<dyn Fn(&Line) + Send + Sync>;

/// Called when a signal interrupts a wait; an error ends the wait.
pub type InterruptHook = fn() -> io::Result<()>;

/// How a look-up of the caller's own went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookedUp {
    Answered(Proof),
    Failed,
}

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
    /// Dial these, in this order, and look nothing up; none: look the host's up.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) source_address: Option<SocketAddr>,
    pub(crate) name_from: NameFrom,
    /// TLSA records of the caller's own look-up.
    pub(crate) tlsa: Vec<Tlsa>,
    /// How that went; `None`: we look up ourselves.
    pub(crate) tlsa_proof: Option<LookedUp>,
    /// The port in the name of TLSA records, where it is another than the one dialled.
    pub(crate) tlsa_port: Option<u16>,
    /// The port of a domain's mail hosts; 25.
    pub(crate) port: Option<u16>,
    /// The port of the host that has the MTA-STS policy; 443.
    pub(crate) sts_port: Option<u16>,
    pub(crate) resolver: Option<Resolver>,
    /// The system's, where none is named.
    pub(crate) system_resolver: Arc<SystemResolver>,
    pub(crate) cache: Option<Store>,
    /// Whether a domain's TLSRPT record is looked up.
    pub(crate) ask_tlsrpt: bool,
    pub(crate) collector: Option<Arc<Collector>>,
    pub(crate) destinations: Option<Arc<Destinations>>,
    /// How MTA-STS policies are fetched; made at first use, and shared by all that are derived.
    pub(crate) web: Arc<OnceCell<Web>>,
    /// What the peer's domain asks for, once that is known.
    pub(crate) demand: Option<Arc<Demand>>,
    /// The mail domain on whose behalf the host is dialled.
    pub(crate) destination: Option<ServerName>,
    /// A certificate must be for one of `names`, not for the host's.
    pub(crate) only_names: bool,
    /// What is to be told of the host whatever comes.
    pub(crate) notes: Vec<String>,
    pub(crate) observer: Option<Observer>,
    pub(crate) interrupt_hook: Option<InterruptHook>,
}

impl Rules {
    /// What the level comes to for this connection.
    pub(crate) fn effective(&self) -> Effective {
        match &self.demand {
            Some(demand) => demand.effective,
            None => self.level.effective(),
        }
    }

    /// Whom to ask.
    pub(crate) fn resolver(&self) -> Result<Resolver> {
        match &self.resolver {
            Some(resolver) => Ok(resolver.clone()),
            None => self.system_resolver.get(),
        }
    }

    /// How MTA-STS policies are fetched.
    pub(crate) fn web(&self) -> &Web {
        self.web.get_or_init(|| {
            let web = Web::new(self.preload_ca);
            match self.sts_port {
                Some(port) => web.port(port),
                None => web,
            }
        })
    }

    /// The TLSA records by which the peer is verified.
    pub(crate) fn dane(&self) -> Option<&Dane> {
        self.demand.as_ref()?.dane.as_deref()
    }

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
        if !self.tlsa.is_empty() && !self.level.heeds_dane() {
            return Err(Error::invalid(format!(
                "level \"{}\" ignores TLSA records; use dane, dane-only, opportunistic or strict",
                self.level.as_str()
            )));
        }
        if !self.tlsa.is_empty() && self.tlsa_proof.is_none() {
            return Err(Error::invalid(
                "TLSA records that are handed in want the proof that goes with them (tlsa_proof)",
            ));
        }
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
