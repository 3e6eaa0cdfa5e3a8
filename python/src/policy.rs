//! `starttls.Policy`: keyword arguments to the core's policy, and one policy per level word.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use starttls::{Level, MinTls, NameFrom};

use crate::error::{check_signals, exception, invalid, raise_later, unsupported, wait};

/// What a policy's `SSL_CTX` is made of: policies derived from one share it as long as this is the
/// same.
#[derive(Clone)]
struct Shared {
    level: Level,
    ca_file: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    client_cert: Option<(PathBuf, PathBuf)>,
    min_tls: Option<String>,
}

/// What may differ from connection to connection.
#[derive(Clone, Default)]
struct Own {
    timeout: Option<f64>,
    fingerprints: Vec<String>,
    client_name: Option<String>,
    names: Vec<String>,
    sni: Option<String>,
    address: Option<IpAddr>,
    source_address: Option<SocketAddr>,
    name_from: Option<String>,
}

/// What must hold on a connection.
///
/// Immutable, and safe to share between threads; a policy made before ``fork`` serves the children
/// of a single-threaded parent. The ``SSL_CTX``, the trust store and the store of resumable TLS
/// sessions are made at the first use and belong to the policy and all derived from it, so make one
/// and keep it. A level word given as ``policy=`` stands for one policy kept per process.
///
/// level: ``none``, ``may``, ``encrypt``, ``fingerprint``, ``verify``, ``opportunistic``, ``strict``.
/// ca_file, ca_path: PEM file, directory with hash links; they replace the system's trust store.
/// fingerprints: SHA-256 (hex) of the certificate or its public key; for level ``fingerprint``.
/// client_cert: PEM file with certificate and key, or the pair of files.
/// min_tls: ``1.0`` to ``1.3``; 1.2 if not set, but at ``may`` whatever the build has.
/// timeout: seconds for resolving, dialling, dialog and handshake together.
/// client_name: for EHLO and LHLO; the local address if not set, nothing is looked up.
/// names: accepted in the certificate beside the host's. sni: sent instead of the host's.
/// address: dial this address; the host is then only what is checked.
/// name_from: where the host's name comes from: ``caller``, ``dnssec``, ``mta-sts``, ``insecure-dns``.
/// tlsa, tlsa_proof, server_cert, cache, destinations, resolver: not in this version; anything but
/// the default raises ``unsupported``.
#[pyclass(frozen, module = "starttls", name = "Policy")]
pub(crate) struct Policy {
    /// With the shared settings only: what all derived policies come from.
    root: starttls::Policy,
    pub(crate) core: starttls::Policy,
    shared: Shared,
    own: Own,
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(
        signature = (level=None, **settings),
        text_signature = "(level='strict', *, ca_file=None, ca_path=None, fingerprints=(), tlsa=(), tlsa_proof=None, client_cert=None, server_cert=None, min_tls=None, timeout=30.0, client_name=None, names=(), sni=None, address=None, name_from=None, cache=None, destinations=None, resolver=None)"
    )]
    fn new(py: Python<'_>, level: Option<&str>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let shared = Shared {
            level: read_level(py, level.unwrap_or("strict"))?,
            ca_file: None,
            ca_path: None,
            client_cert: None,
            min_tls: None,
        };
        Self::changed(py, None, shared, Own::default(), settings)
    }

    /// A policy with these changes, named as the arguments of ``Policy``.
    ///
    /// It shares ``SSL_CTX``, trust store and resumable sessions with this one unless the level, the
    /// CA, the client certificate or ``min_tls`` are among them.
    #[pyo3(signature = (**changes))]
    fn derive(&self, py: Python<'_>, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Self::changed(
            py,
            Some(&self.root),
            self.shared.clone(),
            self.own.clone(),
            changes,
        )
    }

    /// Reads all files and builds the ``SSL_CTX`` now, which else the first connection does: before
    /// ``fork`` or dropping privileges. Raises ``invalid`` if a file holds nothing usable.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        let policy = &self.core;
        wait(py, || policy.ready())?.map_err(|e| exception(py, &e))
    }

    /// For ``starttls.stdlib``: a policy that dials from this address, as ``192.0.2.1:0`` or
    /// ``[2001:db8::1]:0``.
    fn _with_source_address(&self, py: Python<'_>, address: &str) -> PyResult<Self> {
        let source = address
            .parse()
            .map_err(|_| invalid(py, "source_address: not an IP address and a port"))?;
        let own = Own {
            source_address: Some(source),
            ..self.own.clone()
        };
        Self::changed(py, Some(&self.root), self.shared.clone(), own, None)
    }

    /// The level's word.
    #[getter]
    fn level(&self) -> &'static str {
        self.shared.level.as_str()
    }

    /// Seconds for resolving, dialling, dialog and handshake together.
    #[getter]
    fn timeout(&self) -> f64 {
        self.core.time_limit().as_secs_f64()
    }

    /// For EHLO and LHLO; None: the local address.
    #[getter]
    fn client_name(&self) -> Option<&str> {
        self.own.client_name.as_deref()
    }

    fn __repr__(&self) -> String {
        let mut repr = format!("starttls.Policy('{}'", self.level());
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                repr.push_str(&format!(", {name}={value}"));
            }
        };
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| format!("'{}'", p.display()));
        add("ca_file", path(&self.shared.ca_file));
        add("ca_path", path(&self.shared.ca_path));
        let cert = self.shared.client_cert.as_ref().map(|(cert, _)| cert.clone());
        add("client_cert", path(&cert));
        add("min_tls", self.shared.min_tls.as_ref().map(|v| format!("'{v}'")));
        add("timeout", self.own.timeout.map(|t| t.to_string()));
        let text = |s: &Option<String>| s.as_ref().map(|s| format!("'{s}'"));
        let list = |items: &Vec<String>| (!items.is_empty()).then(|| format!("['{}']", items.join("', '")));
        add("fingerprints", list(&self.own.fingerprints));
        add("client_name", text(&self.own.client_name));
        add("names", list(&self.own.names));
        add("sni", text(&self.own.sni));
        add("address", self.own.address.map(|a| format!("'{a}'")));
        add("name_from", text(&self.own.name_from));
        repr.push(')');
        repr
    }
}

impl Policy {
    fn changed(
        py: Python<'_>,
        root: Option<&starttls::Policy>,
        mut shared: Shared,
        mut own: Own,
        changes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut same_root = root;
        for (key, value) in changes.into_iter().flatten() {
            // Not by `to_string`, which would run signal handlers and swallow what they raise.
            let key = key.cast::<PyString>()?.to_str()?;
            if shared.set(py, key, &value)? {
                same_root = None;
            } else if !own.set(py, key, &value)? {
                not_in_this_version(py, key, &value)?;
            }
        }
        let build = || -> starttls::Result<(starttls::Policy, starttls::Policy)> {
            let root = match same_root {
                Some(root) => root.clone(),
                None => shared.build()?,
            };
            let core = own.apply(root.derive())?;
            Ok((root, core))
        };
        // Files are read here.
        let (root, core) = wait(py, build)?.map_err(|e| exception(py, &e))?;
        Ok(Self {
            root,
            core,
            shared,
            own,
        })
    }
}

impl Shared {
    /// Whether the setting is one of these.
    fn set(&mut self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key {
            "level" => self.level = read_level(py, value.extract()?)?,
            "ca_file" => self.ca_file = value.extract()?,
            "ca_path" => self.ca_path = value.extract()?,
            "client_cert" => {
                self.client_cert = match value.extract::<Option<(PathBuf, PathBuf)>>() {
                    Ok(pair) => pair,
                    Err(_) => {
                        let both: PathBuf = value.extract()?;
                        Some((both.clone(), both))
                    }
                }
            }
            "min_tls" => self.min_tls = value.extract()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn build(&self) -> starttls::Result<starttls::Policy> {
        let mut policy = with_signals(starttls::Policy::new(self.level));
        if let Some(file) = &self.ca_file {
            policy = policy.ca_file(file)?;
        }
        if let Some(directory) = &self.ca_path {
            policy = policy.ca_path(directory)?;
        }
        if let Some((cert, key)) = &self.client_cert {
            policy = policy.client_cert(cert, key)?;
        }
        if let Some(version) = &self.min_tls {
            policy = policy.min_tls(MinTls::from_word(version)?);
        }
        Ok(policy)
    }
}

impl Own {
    /// Whether the setting is one of these.
    fn set(&mut self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key {
            "timeout" => self.timeout = value.extract()?,
            "fingerprints" => self.fingerprints = strings(key, value)?,
            "client_name" => self.client_name = value.extract()?,
            "names" => self.names = strings(key, value)?,
            "sni" => self.sni = value.extract()?,
            "address" if value.is_none() => self.address = None,
            "address" => {
                // A string, or an object of the module ipaddress.
                let text = value.str()?;
                let address = text.to_str()?.parse().map_err(|_| {
                    invalid(
                        py,
                        "address: not an IP address; a name to check goes into host or names",
                    )
                })?;
                self.address = Some(address);
            }
            "name_from" => self.name_from = value.extract()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn apply(&self, mut policy: starttls::Policy) -> starttls::Result<starttls::Policy> {
        if let Some(seconds) = self.timeout {
            policy = policy.timeout(seconds_of(seconds)?)?;
        }
        for fingerprint in &self.fingerprints {
            policy = policy.fingerprint(fingerprint)?;
        }
        if let Some(name) = &self.client_name {
            policy = policy.client_name(name)?;
        }
        for name in &self.names {
            policy = policy.name(name)?;
        }
        if let Some(name) = &self.sni {
            policy = policy.sni(name)?;
        }
        if let Some(address) = self.address {
            policy = policy.address(address);
        }
        if let Some(source) = self.source_address {
            policy = policy.source_address(source);
        }
        if let Some(word) = &self.name_from {
            let source = NameFrom::from_word(word).ok_or_else(|| {
                starttls::Error::at_border(
                    starttls::Word::Invalid,
                    "name_from is one of: caller dnssec mta-sts insecure-dns",
                )
            })?;
            policy = policy.name_from(source);
        }
        Ok(policy)
    }
}

/// Seconds as Python has them.
pub(crate) fn seconds_of(seconds: f64) -> starttls::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|e| {
        starttls::Error::at_border(starttls::Word::Invalid, format!("a time-out of {seconds} s: {e}"))
    })
}

fn strings(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "{key}: a sequence of strings, not one string"
        )));
    }
    value.try_iter()?.map(|item| item?.extract()).collect()
}

/// Settings of the documented interface whose features do not exist yet: their defaults pass.
fn not_in_this_version(py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let known = [
        "tlsa",
        "tlsa_proof",
        "server_cert",
        "cache",
        "destinations",
        "resolver",
    ];
    if !known.contains(&key) {
        return Err(PyTypeError::new_err(format!(
            "Policy has no setting called '{key}'"
        )));
    }
    if value.is_none() || value.len().is_ok_and(|n| n == 0) {
        return Ok(());
    }
    Err(unsupported(py, &format!("{key} is not in this version")))
}

fn read_level(py: Python<'_>, word: &str) -> PyResult<Level> {
    Level::from_word(word).map_err(|e| exception(py, &e))
}

fn with_signals(policy: starttls::Policy) -> starttls::Policy {
    policy.on_interrupt(check_signals)
}

/// The policy that an argument ``policy=`` stands for: itself, or the one that is kept for this level
/// word.
#[pyfunction]
pub(crate) fn policy_of(argument: &Bound<'_, PyAny>) -> PyResult<Py<Policy>> {
    let py = argument.py();
    if let Ok(policy) = argument.cast::<Policy>() {
        return Ok(policy.clone().unbind());
    }
    let core = core_of(argument)?;
    let shared = Shared {
        level: core.level(),
        ca_file: None,
        ca_path: None,
        client_cert: None,
        min_tls: None,
    };
    let own = Own::default();
    Py::new(
        py,
        Policy {
            root: core.clone(),
            core,
            shared,
            own,
        },
    )
}

/// The core's policy for an argument `policy=`: a `Policy`, or a level word.
pub(crate) fn core_of(argument: &Bound<'_, PyAny>) -> PyResult<starttls::Policy> {
    if let Ok(policy) = argument.cast::<Policy>() {
        return Ok(policy.get().core.clone());
    }
    let Ok(word) = argument.cast::<PyString>() else {
        return Err(PyTypeError::new_err(
            "policy: a starttls.Policy or a level word such as 'strict'",
        ));
    };
    let level = read_level(argument.py(), word.to_str()?)?;
    Ok(of_level(level))
}

/// One policy per level, so that all who name the word share `SSL_CTX` and resumable sessions.
fn of_level(level: Level) -> starttls::Policy {
    static POLICIES: [OnceLock<starttls::Policy>; Level::ALL.len()] =
        [const { OnceLock::new() }; Level::ALL.len()];
    let place = Level::ALL.iter().zip(&POLICIES).find(|(l, _)| **l == level);
    let make = || with_signals(starttls::Policy::new(level));
    match place {
        Some((_, policy)) => policy.get_or_init(make).clone(),
        None => make(),
    }
}

/// Shows each line of the dialog in clear to a callable `see(from, text)` as it is said.
pub(crate) fn observed(policy: &starttls::Policy, see: Py<PyAny>) -> starttls::Policy {
    policy.derive().observe(move |line| {
        let from = match line.from {
            starttls::Speaker::C => "C",
            starttls::Speaker::S => "S",
        };
        let shown = Python::try_attach(|py| see.call1(py, (from, &line.text)).map(drop));
        if let Some(Err(error)) = shown {
            raise_later(error);
        }
    })
}
