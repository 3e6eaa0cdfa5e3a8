//! What must hold: the level and everything a caller may demand of a connection.

mod domain;
mod server;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::level::{Level, MinTls};
use crate::name::{client_name, ServerName};
use crate::outcome::{Line, NameFrom, Outcome};
use crate::rules::{InterruptHook, Rules};
use crate::tls::Shared;
use crate::verdict::{judge_outcome, Shortfall};

/// What must hold on a connection: a level, and what goes with it. Immutable once built, shared by
/// threads, and cheap to [derive](Policy::derive) from for one connection.
///
/// The trust store, the `SSL_CTX` and the store of resumable sessions are made at the first use
/// (or by [`ready`](Policy::ready)) and belong to the policy and all derived from it.
///
/// ```
/// let policy = starttls::Policy::strict().timeout(std::time::Duration::from_secs(10))?;
/// # Ok::<(), starttls::Error>(())
/// ```
#[derive(Clone)]
pub struct Policy {
    pub(crate) rules: Arc<Rules>,
    pub(crate) shared: Arc<Shared>,
}

impl Policy {
    /// A policy of this level with a time-out of 30 s and the system's trust store.
    pub fn new(level: Level) -> Self {
        Self {
            rules: Arc::new(Rules {
                level,
                timeout: Duration::from_secs(30),
                ca_file: None,
                ca_path: None,
                preload_ca: false,
                client_cert: None,
                server_certs: Vec::new(),
                ask_client_cert: false,
                min_tls: None,
                fingerprints: Vec::new(),
                client_name: None,
                names: Vec::new(),
                sni: None,
                addresses: Vec::new(),
                source_address: None,
                name_from: NameFrom::Caller,
                tlsa: Vec::new(),
                tlsa_proof: None,
                tlsa_port: None,
                port: None,
                sts_port: None,
                resolver: None,
                system_resolver: Arc::default(),
                cache: None,
                ask_tlsrpt: false,
                collector: None,
                destinations: None,
                web: Arc::default(),
                demand: None,
                destination: None,
                only_names: false,
                notes: Vec::new(),
                observer: None,
                interrupt_hook: None,
            }),
            shared: Arc::default(),
        }
    }

    /// [`Level::Strict`].
    pub fn strict() -> Self {
        Self::new(Level::Strict)
    }

    /// [`Level::Opportunistic`].
    pub fn opportunistic() -> Self {
        Self::new(Level::Opportunistic)
    }

    /// The level.
    pub fn level(&self) -> Level {
        self.rules.level
    }

    /// The deadline for resolving, dialling, dialog and handshake together.
    pub fn time_limit(&self) -> Duration {
        self.rules.timeout
    }

    /// A policy for one connection, which shares `SSL_CTX`, trust store and resumable sessions with
    /// this one. What is set on it afterwards (names, SNI, address …) does not touch this one; what
    /// concerns the `SSL_CTX` (CA, certificate, TLS version) gives the derived one its own.
    #[must_use]
    pub fn derive(&self) -> Self {
        self.clone()
    }

    pub(crate) fn set(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.rules)
    }

    /// For settings that are part of the `SSL_CTX`: what was built for others is not shared further.
    fn unshare(&mut self) {
        self.shared = Arc::default();
    }

    /// Trust the certificates of this PEM file, and with it no longer the system's.
    ///
    /// # Errors
    /// `invalid` if the file cannot be read. Its contents are read by the first use or by
    /// [`ready`](Policy::ready).
    pub fn ca_file(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.set().ca_file = Some(readable(file.as_ref(), "CA file")?);
        self.unshare();
        Ok(self)
    }

    /// Trust the certificates of this directory with hash links (`openssl rehash`), and with it no
    /// longer the system's.
    ///
    /// # Errors
    /// `invalid` if it is no directory.
    pub fn ca_path(mut self, directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        if !directory.is_dir() {
            return Err(Error::invalid(format!(
                "CA path {} is not a directory",
                directory.display()
            )));
        }
        if directory.as_os_str().as_encoded_bytes().contains(&b':') {
            // OpenSSL would take it for a list, and a part of it for a directory of its own.
            return Err(Error::invalid(format!(
                "CA path {} contains a colon; name one directory without",
                directory.display()
            )));
        }
        self.set().ca_path = Some(directory.to_owned());
        self.unshare();
        Ok(self)
    }

    /// Load the whole trust store in [`ready`](Policy::ready), directories and the system's bundle
    /// included, for programs that chroot afterwards and would no longer find them.
    #[must_use]
    pub fn preload_ca(mut self) -> Self {
        self.set().preload_ca = true;
        self.unshare();
        self
    }

    /// Show this certificate (PEM, leaf first, then its chain) and use this key (PEM) if the server
    /// asks for one. Both may be the same file.
    ///
    /// # Errors
    /// `invalid` if a file cannot be read.
    pub fn client_cert(mut self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        self.set().client_cert = Some((
            readable(cert.as_ref(), "client certificate")?,
            readable(key.as_ref(), "client key")?,
        ));
        self.unshare();
        Ok(self)
    }

    /// Accept no TLS version older than this. Unset, it is 1.2, but under an effective `may`
    /// whatever the build has: weak TLS beats clear (RFC 7435).
    #[must_use]
    pub fn min_tls(mut self, version: MinTls) -> Self {
        self.set().min_tls = Some(version);
        self.unshare();
        self
    }

    /// The deadline for resolving, dialling, dialog and handshake together; 30 s if not set.
    ///
    /// # Errors
    /// `invalid` if it is zero or over a day.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self> {
        if timeout.is_zero() || timeout > Duration::from_secs(86_400) {
            return Err(Error::invalid(
                "the time-out must be above zero and at most a day",
            ));
        }
        self.set().timeout = timeout;
        Ok(self)
    }

    /// Accept a certificate whose own SHA-256, or whose public key's (SPKI), is this: 64 hex
    /// digits, colons allowed. May be called several times; only for level `fingerprint`.
    ///
    /// # Errors
    /// `invalid` if it is no SHA-256 in hex.
    pub fn fingerprint(mut self, sha256: &str) -> Result<Self> {
        let digits: Vec<u8> = sha256.bytes().filter(|b| *b != b':').collect();
        let mut pin = [0u8; 32];
        let wrong = || {
            Error::invalid(format!(
                "fingerprint \"{}\" is not a SHA-256 in hex (64 digits)",
                crate::text::printable(sha256.as_bytes())
            ))
        };
        if digits.len() != 64 {
            return Err(wrong());
        }
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(wrong)?;
        }
        self.set().fingerprints.push(pin);
        Ok(self)
    }

    /// How the client calls itself in EHLO and LHLO. Unset: its address as a literal; nothing is
    /// looked up.
    ///
    /// # Errors
    /// `invalid` if it is neither a host name in A-labels nor an address literal.
    pub fn client_name(mut self, name: &str) -> Result<Self> {
        self.set().client_name = Some(client_name(name)?);
        Ok(self)
    }

    /// Accept a certificate for this name too, beside the host's.
    ///
    /// # Errors
    /// `invalid` if it is no host name or address.
    pub fn name(mut self, name: &str) -> Result<Self> {
        self.set().names.push(ServerName::parse(name)?);
        Ok(self)
    }

    /// Send this server name in the handshake instead of the host's (RFC 6066).
    ///
    /// # Errors
    /// `invalid` if it is no DNS name.
    pub fn sni(mut self, name: &str) -> Result<Self> {
        let sni = ServerName::parse(name)?;
        if sni.sni().is_none() {
            return Err(Error::invalid(
                "an IP address cannot be sent as server name (RFC 6066 §3)",
            ));
        }
        self.set().sni = Some(sni);
        Ok(self)
    }

    /// Dial this address; the host is then only what is checked. A level that heeds DANE still asks whether the host
    /// is in signed DNS, and for its TLSA records.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        self.addresses(vec![address])
    }

    /// Dial one of these, as RFC 8305 §5 says; none: look the host up.
    #[must_use]
    pub(crate) fn addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.set().addresses = addresses;
        self
    }

    /// Dial from this local address; port 0 is any. Addresses of the other family are not tried.
    #[must_use]
    pub fn source_address(mut self, source: SocketAddr) -> Self {
        self.set().source_address = Some(source);
        self
    }

    /// Where the host's name comes from. A name from insecure DNS proves nothing: level `strict`
    /// then fails with `name-insecure`.
    #[must_use]
    pub fn name_from(mut self, source: NameFrom) -> Self {
        self.set().name_from = source;
        self
    }

    /// Show each line of the dialog in clear as it is said. Called on the thread that negotiates.
    #[must_use]
    pub fn observe(mut self, see: impl Fn(&Line) + Send + Sync + 'static) -> Self {
        self.set().observer = Some(Arc::new(see));
        self
    }

    /// Call this when a signal interrupts a wait (EINTR), once a second of waiting, and where there is
    /// an [observer](Self::observe) before each wait of the dialog; if it returns an error the wait
    /// ends with that error, else it goes on with the time left.
    #[must_use]
    pub fn on_interrupt(mut self, hook: InterruptHook) -> Self {
        self.set().interrupt_hook = Some(hook);
        self
    }

    /// Reads all files, the system's `resolv.conf` among them, and builds the `SSL_CTX` now: before `fork` or dropping privileges. Without it
    /// the first connection does so. Before `chroot` it wants [`preload_ca`](Policy::preload_ca), as
    /// directories of CA certificates are else looked up when they are needed.
    ///
    /// # Errors
    /// `invalid` if the settings contradict each other or a file holds no usable certificate or key.
    pub fn ready(&self) -> Result<()> {
        self.rules.consistent()?;
        if !self.rules.server_certs.is_empty() {
            self.rules.consistent_for_server()?;
            self.shared.server_context(&self.rules)?;
        }
        let rules = &self.rules;
        if rules.level != Level::None {
            self.shared.context(rules)?;
        }
        if rules.level.heeds_dane() && rules.resolver.is_none() {
            rules.system_resolver.get()?;
        }
        if rules.level.heeds_sts() {
            rules.web().ready()?;
        }
        Ok(())
    }
}

/// Whether the outcome meets the policy. The whole decision is one table, `tests/policies.tsv`.
///
/// # Errors
/// The first thing that is missing, in the order of the documentation.
pub fn judge(policy: &Policy, outcome: &Outcome) -> std::result::Result<(), Shortfall> {
    // A table of destinations may have given this one another level.
    let level = match &policy.rules.destinations {
        Some(_) => outcome.level,
        None => policy.rules.level,
    };
    judge_outcome(level, outcome)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("level", &self.rules.level)
            .field("timeout", &self.rules.timeout)
            .finish_non_exhaustive()
    }
}

/// A file that is named must be there: said when it is named, not at the first connection.
pub(crate) fn readable(file: &Path, what: &str) -> Result<PathBuf> {
    match std::fs::File::open(file).and_then(|f| f.metadata()) {
        Ok(meta) if meta.is_dir() => Err(Error::invalid(format!(
            "{what} {} is a directory",
            file.display()
        ))),
        Ok(_) => Ok(file.to_owned()),
        Err(e) => Err(Error::invalid(format!(
            "{what} {} cannot be read: {e}",
            file.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_and_levels_go_together() {
        let pin = "ab".repeat(32);
        assert!(Policy::new(Level::Fingerprint).ready().is_err());
        assert!(Policy::new(Level::Fingerprint)
            .fingerprint(&pin)
            .unwrap()
            .ready()
            .is_ok());
        assert!(Policy::strict().fingerprint(&pin).unwrap().ready().is_err());
        let colons = ["AB"; 32].join(":");
        assert_eq!(
            Policy::strict().fingerprint(&colons).unwrap().rules.fingerprints,
            [[0xab; 32]]
        );
        for bad in ["", "ab", &"zz".repeat(32), &"+a".repeat(32), &"ab".repeat(33)] {
            assert!(Policy::strict().fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_concerns_the_context_is_not_shared_after_derive() {
        let policy = Policy::strict();
        assert!(Arc::ptr_eq(
            &policy.shared,
            &policy.derive().name("a.test").unwrap().shared
        ));
        assert!(!Arc::ptr_eq(
            &policy.shared,
            &policy.derive().min_tls(MinTls::Tls13).shared
        ));
    }
}
