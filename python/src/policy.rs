//! `starttls.Policy`: keyword arguments to the core's policy, and one policy per level word.

mod cache;
mod known;
mod lookup;
mod nested;
mod settings;

use std::sync::OnceLock;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use starttls::Level;

use self::known::Known;
use self::settings::{described, Own, Shared};
use crate::error::{check_signals, exception, invalid, raise_later, wait};

pub(crate) use self::settings::seconds_of;

/// What must hold on a connection.
///
/// Immutable, and safe to share between threads; a policy made before ``fork`` serves the children
/// of a single-threaded parent. The ``SSL_CTX``, the trust store and the store of resumable TLS
/// sessions are made at the first use and belong to the policy and all derived from it, so make one
/// and keep it. A level word given as ``policy=`` stands for one policy kept per process.
///
/// level: ``none``, ``may``, ``encrypt``, ``fingerprint``, ``verify``, ``dane``, ``dane-only``,
/// ``opportunistic``, ``strict``.
/// ca_file, ca_path: PEM file, directory with hash links; they replace the system's trust store.
/// fingerprints: SHA-256 (hex) of the certificate or its public key; for level ``fingerprint``.
/// client_cert: PEM file with certificate and key, or the pair of files.
/// min_tls: ``1.0`` to ``1.3``; 1.2 if not set, but at ``may`` whatever the build has.
/// timeout: seconds for resolving, dialling, dialog and handshake together; None: 30.
/// client_name: for EHLO and LHLO; the local address if not set, nothing is looked up.
/// names: accepted in the certificate beside the host's. sni: sent instead of the host's.
/// address: dial this address; the host is then only what is checked.
/// name_from: where the host's name comes from: ``caller``, ``dnssec``, ``mta-sts``, ``insecure-dns``.
/// server_cert: for ``accept``: a PEM file with certificate, chain and key; a pair (certificate, key) of
/// files; the same as ``bytes``, for PEM in memory; a directory of ``HOST.pem`` (or ``HOST.crt`` and
/// ``HOST.key``; ``_.DOMAIN.pem`` is for any one label below); or a list of such. A client that names a
/// host is shown the certificate for it, all others the first. A server's levels are ``encrypt``,
/// ``verify`` and ``fingerprint``; the last two demand a certificate of the client.
/// ask_client_cert: at ``encrypt``, ask the client for one; the outcome tells what came.
/// resolver: whom to ask for MX, addresses, TLSA and TXT: ``127.0.0.1``, ``192.0.2.1:53 trust-ad``, ``unbound``;
/// or a callable ``(name, type, timeout)`` that returns a ``starttls.Answer``; None: the system's.
/// cache: where to keep what was learnt: ``memory``, ``directory``, a path, ``redis://…``, a mapping from str to
/// bytes, or an object with ``get(key)``, ``put(key, value, expires)`` and ``remove(key)``. What it raises is a
/// note in the outcome. It is called on the thread that connects.
/// destinations: file with what you know of destinations, one a line, or a STARTTLS Everywhere list.
/// tlsrpt: socket of the TLSRPT collector; True: only look a domain's record up, for ``starttls.tlsrpt``.
/// port: of a domain's mail hosts, 25 if not set. sts_port: of the host that has the MTA-STS policy, 443.
/// tlsa: the host's TLSA records, if you have looked them up: tuples (usage, selector, matching, bytes) or
/// texts ``3 1 1 hex``. tlsa_proof: what DNSSEC says of them: ``secure``, ``insecure``, ``bogus``,
/// ``indeterminate``, or ``failed``. tlsa_port: the port that is in their name, if another one is dialled.
#[pyclass(frozen, module = "starttls", name = "Policy")]
pub(crate) struct Policy {
    /// With the shared settings only: what all derived policies come from.
    root: starttls::Policy,
    /// With what is known of domains: what those come from that know the same.
    knowing: starttls::Policy,
    pub(crate) core: starttls::Policy,
    shared: Shared,
    known: Known,
    own: Own,
    /// For one host of a domain, whose look-ups are done.
    settled: bool,
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(
        signature = (level=None, **settings),
        text_signature = "(level='strict', *, ca_file=None, ca_path=None, fingerprints=(), tlsa=(), tlsa_proof=None, client_cert=None, server_cert=None, ask_client_cert=False, min_tls=None, timeout=30.0, client_name=None, names=(), sni=None, address=None, name_from=None, cache=None, destinations=None, resolver=None, tlsrpt=None, port=None, sts_port=None, tlsa_port=None)"
    )]
    fn new(py: Python<'_>, level: Option<&str>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let shared = Shared::new(read_level(py, level.unwrap_or("strict"))?);
        Draft {
            base: None,
            shared,
            known: Known::default(),
            own: Own::default(),
        }
        .finished(py, settings)
    }

    /// A policy with these changes, named as the arguments of ``Policy``.
    ///
    /// It shares ``SSL_CTX``, trust store and resumable sessions with this one unless the level, the
    /// CA, a certificate of ours, ``ask_client_cert`` or ``min_tls`` are among them.
    #[pyo3(signature = (**changes))]
    fn derive(&self, py: Python<'_>, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        self.draft().finished(py, changes)
    }

    /// Reads all files and builds the ``SSL_CTX`` now, which else the first connection does: before
    /// ``fork`` or dropping privileges. Raises ``invalid`` if a file holds nothing usable.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        let policy = &self.core;
        wait(py, || policy.ready())?.map_err(|e| exception(py, &e))
    }

    /// As server, reads certificates, keys and CA anew, for all policies that share them with this one;
    /// sessions that exist go on, and tickets given out stay good. A program that forks calls it in the
    /// parent. Raises ``invalid``; what was read before then stays in use.
    fn reload(&self, py: Python<'_>) -> PyResult<()> {
        let policy = &self.core;
        wait(py, || policy.reload())?.map_err(|e| exception(py, &e))
    }

    /// For ``starttls.stdlib``: a policy that dials from this address, as ``192.0.2.1:0`` or
    /// ``[2001:db8::1]:0``.
    fn _with_source_address(&self, py: Python<'_>, address: &str) -> PyResult<Self> {
        let source = address
            .parse()
            .map_err(|_| invalid(py, "source_address: not an IP address and a port"))?;
        let mut draft = self.draft();
        draft.own.source_address = Some(source);
        draft.finished(py, None)
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

    /// The address that is dialled whatever the host; None: the host's.
    #[getter]
    fn address(&self) -> Option<String> {
        self.own.address.map(|a| a.to_string())
    }

    /// Host and port that are dialled from, if ``_with_source_address`` has set them.
    #[getter]
    fn _source_address(&self) -> Option<(String, u16)> {
        self.own.source_address.map(|a| (a.ip().to_string(), a.port()))
    }

    /// Forgets that a host, or a domain's hosts, did TLS before: for one that stops doing so and means it. What it
    /// proves later is remembered again. Raises ``invalid`` without a cache, ``io`` if that cannot be written.
    fn forget(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let policy = &self.core;
        wait(py, || policy.forget(name))?.map_err(|e| exception(py, &e))
    }

    /// Whether making and checking a connection may wait for a cache.
    #[getter]
    fn _has_cache(&self) -> bool {
        self.known.has_cache()
    }

    /// Whether something may have to be looked up before a host is dialled: by the level, or by that of the host's
    /// row in the table of destinations.
    #[getter]
    fn _looks_up(&self) -> bool {
        let by_level = matches!(
            self.shared.level,
            Level::Dane | Level::DaneOnly | Level::Opportunistic | Level::Strict
        );
        by_level || self.known.has_destinations()
    }

    /// The socket of the TLSRPT collector.
    #[getter]
    fn _collector(&self) -> Option<std::path::PathBuf> {
        self.known.collector()
    }

    fn __repr__(&self) -> String {
        let settings = described(&self.shared, &self.known, &self.own);
        format!("starttls.Policy('{}'{settings})", self.level())
    }
}

impl Policy {
    fn draft(&self) -> Draft<'_> {
        Draft {
            base: Some(self),
            shared: self.shared.clone(),
            known: self.known.clone(),
            own: self.own.clone(),
        }
    }

    /// The one of a host, which came of this one.
    pub(crate) fn of_route(&self, core: starttls::Policy) -> Self {
        let mut shared = self.shared.clone();
        shared.level = core.level();
        // All that was set is in the core's policy, and some of it a table may have replaced.
        let own = self.own.of_any_host(core.time_limit());
        Self {
            root: core.clone(),
            knowing: core.clone(),
            core,
            shared,
            known: self.known.clone(),
            own,
            settled: true,
        }
    }
}

/// A policy that is being made, anew or from another.
struct Draft<'a> {
    base: Option<&'a Policy>,
    shared: Shared,
    known: Known,
    own: Own,
}

impl Draft<'_> {
    fn finished(mut self, py: Python<'_>, changes: Option<&Bound<'_, PyDict>>) -> PyResult<Policy> {
        let settled = self.base.is_some_and(|base| base.settled);
        let mut root = self.base.map(|base| &base.root);
        let mut knowing = self.base.map(|base| &base.knowing);
        for (key, value) in changes.into_iter().flatten() {
            // Not by `to_string`, which would run signal handlers and swallow what they raise.
            let key = key.cast::<PyString>()?.to_str()?;
            let shared = self.shared.set(py, key, &value)?;
            if shared || self.known.set(py, key, &value)? {
                if settled {
                    let message =
                        format!("{key}: what a route's policy demands is settled; change the domain's");
                    return Err(invalid(py, &message));
                }
                root = root.filter(|_| !shared);
                knowing = None;
            } else if !self.own.set(py, key, &value)? {
                return Err(PyTypeError::new_err(format!(
                    "Policy has no setting called '{key}'"
                )));
            }
        }
        let Self {
            shared, known, own, ..
        } = self;
        let build = || -> starttls::Result<[starttls::Policy; 3]> {
            let root = match root {
                Some(root) => root.clone(),
                None => shared.build()?,
            };
            let knowing = match knowing {
                Some(knowing) => knowing.clone(),
                None => known.apply(root.derive())?,
            };
            let core = own.apply(knowing.derive())?;
            Ok([root, knowing, core])
        };
        // Files are read here.
        let [root, knowing, core] = wait(py, build)?.map_err(|e| exception(py, &e))?;
        Ok(Policy {
            root,
            knowing,
            core,
            shared,
            known,
            own,
            settled,
        })
    }
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
    Py::new(
        py,
        Policy {
            root: core.clone(),
            knowing: core.clone(),
            shared: Shared::new(core.level()),
            core,
            known: Known::default(),
            own: Own::default(),
            settled: false,
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
