//! Keyword arguments about the peer's domain: whom to ask, where to keep what was learnt, whom to tell.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};
use starttls::{Cache, Proof, Resolver};

use super::cache::{self, Named};
use super::lookup;
use super::settings::path_of;
use crate::buffer::readable;
use crate::error::{exception, invalid};

/// What policies derived from one share as long as it is the same: they ask the same servers, and one opens
/// its cache and its table once.
#[derive(Clone, Default)]
pub(super) struct Known {
    resolver: Option<Named<Resolver>>,
    cache: Option<Named<Arc<dyn Cache>>>,
    destinations: Option<PathBuf>,
    sts_port: Option<u16>,
    tlsrpt: Tlsrpt,
}

/// Whether a domain's TLSRPT record is looked up, and whom events go to.
#[derive(Clone, Default)]
enum Tlsrpt {
    #[default]
    No,
    Ask,
    Socket(PathBuf),
}

impl Known {
    /// Whether the setting is one of these.
    pub(super) fn set(&mut self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let given = !value.is_none();
        match key {
            "resolver" => self.resolver = given.then(|| lookup::resolver(value)).transpose()?,
            "cache" => self.cache = given.then(|| cache::cache(value)).transpose()?,
            "destinations" => self.destinations = given.then(|| path_of(key, value)).transpose()?,
            "sts_port" => self.sts_port = value.extract()?,
            "tlsrpt" => {
                self.tlsrpt = match value.cast::<PyBool>() {
                    Ok(ask) if ask.is_true() => Tlsrpt::Ask,
                    Err(_) if given => {
                        let path = path_of(key, value)?;
                        if path.as_os_str().is_empty() {
                            let message =
                                "tlsrpt: the path of the collector's socket is empty; None: no reports";
                            return Err(invalid(py, message));
                        }
                        Tlsrpt::Socket(path)
                    }
                    _ => Tlsrpt::No,
                }
            }
            _ => return Ok(false),
        }
        if self.sts_port == Some(0) {
            return Err(invalid(py, "sts_port: a port is 1 to 65535"));
        }
        Ok(true)
    }

    pub(super) fn apply(&self, mut policy: starttls::Policy) -> starttls::Result<starttls::Policy> {
        if let Some(resolver) = &self.resolver {
            policy = policy.resolver(resolver.what.clone());
        }
        if let Some(cache) = &self.cache {
            policy = policy.cache(Arc::clone(&cache.what));
        }
        if let Some(file) = &self.destinations {
            policy = policy.destinations(file)?;
        }
        if let Some(port) = self.sts_port {
            policy = policy.sts_port(port);
        }
        match &self.tlsrpt {
            Tlsrpt::No => Ok(policy),
            Tlsrpt::Ask => Ok(policy.ask_tlsrpt()),
            Tlsrpt::Socket(path) => policy.tlsrpt(path),
        }
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    pub(super) fn has_destinations(&self) -> bool {
        self.destinations.is_some()
    }

    /// For ``starttls.aio``, which sends its events itself.
    pub(super) fn collector(&self) -> Option<PathBuf> {
        match &self.tlsrpt {
            Tlsrpt::Socket(path) => Some(path.clone()),
            _ => None,
        }
    }

    /// Each setting that was given, as it stands in a `repr`.
    pub(super) fn described(&self, mut add: impl FnMut(&str, Option<String>)) {
        let path = |p: &PathBuf| format!("'{}'", p.display());
        add("cache", self.cache.as_ref().map(|c| c.name.clone()));
        add("destinations", self.destinations.as_ref().map(path));
        add("resolver", self.resolver.as_ref().map(|r| r.name.clone()));
        add("sts_port", self.sts_port.map(|p| p.to_string()));
        add(
            "tlsrpt",
            match &self.tlsrpt {
                Tlsrpt::No => None,
                Tlsrpt::Ask => Some("True".to_owned()),
                Tlsrpt::Socket(socket) => Some(path(socket)),
            },
        );
    }
}

/// TLSA records of one host, which the caller has looked up itself.
#[derive(Clone, Default)]
pub(super) struct HandedIn {
    records: Vec<(u8, u8, u8, Vec<u8>)>,
    /// The word, and what it says; nothing for a look-up that failed.
    proof: Option<(String, Option<Proof>)>,
}

impl HandedIn {
    pub(super) fn set_records(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "tlsa: a sequence of records, not one string",
            ));
        }
        self.records = value
            .try_iter()?
            .map(|record| record_of(&record?))
            .collect::<PyResult<_>>()?;
        Ok(())
    }

    pub(super) fn set_proof(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let word: Option<String> = value.extract()?;
        let read = |word: String| {
            let proof = match word.as_str() {
                "failed" => None,
                _ => Some(proof_of(value.py(), "tlsa_proof", &word)?),
            };
            PyResult::Ok((word, proof))
        };
        self.proof = word.map(read).transpose()?;
        Ok(())
    }

    pub(super) fn apply(&self, mut policy: starttls::Policy) -> starttls::Policy {
        for (usage, selector, matching, data) in &self.records {
            policy = policy.tlsa(*usage, *selector, *matching, data);
        }
        match self.proof {
            None => policy,
            Some((_, None)) => policy.tlsa_failed(),
            Some((_, Some(proof))) => policy.tlsa_proof(proof),
        }
    }

    pub(super) fn described(&self, mut add: impl FnMut(&str, Option<String>)) {
        let text = |(usage, selector, matching, data): &(u8, u8, u8, Vec<u8>)| {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("'{usage} {selector} {matching} {hex}'")
        };
        let records: Vec<String> = self.records.iter().map(text).collect();
        add(
            "tlsa",
            (!records.is_empty()).then(|| format!("[{}]", records.join(", "))),
        );
        add(
            "tlsa_proof",
            self.proof.as_ref().map(|(word, _)| format!("'{word}'")),
        );
    }
}

/// A word of RFC 4033 §5.
pub(super) fn proof_of(py: Python<'_>, what: &str, word: &str) -> PyResult<Proof> {
    Ok(match word {
        "secure" => Proof::Secure,
        "insecure" => Proof::Insecure,
        "bogus" => Proof::Bogus,
        "indeterminate" => Proof::Indeterminate,
        _ => {
            let failed = if what == "tlsa_proof" { " failed" } else { "" };
            let message = format!("{what} is one of: secure insecure bogus indeterminate{failed}");
            return Err(invalid(py, &message));
        }
    })
}

/// A tuple (usage, selector, matching, bytes), or the text of a zone file: `3 1 1 0123…`.
fn record_of(record: &Bound<'_, PyAny>) -> PyResult<(u8, u8, u8, Vec<u8>)> {
    let py = record.py();
    if let Ok(text) = record.cast::<PyString>() {
        let text = text.to_str()?;
        return from_text(text).ok_or_else(|| {
            let message =
                format!("tlsa: not usage, selector, matching type and hex, as in \"3 1 1 0123\": {text:?}");
            invalid(py, &message)
        });
    }
    let Ok(tuple) = record.cast::<PyTuple>() else {
        return Err(PyTypeError::new_err(
            "tlsa: each record is a tuple (usage, selector, matching, bytes) or its text",
        ));
    };
    let (usage, selector, matching, data): (u8, u8, u8, Bound<'_, PyAny>) = tuple.extract()?;
    if data.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "tlsa: in a tuple the data are bytes; hex goes into a text",
        ));
    }
    Ok((
        usage,
        selector,
        matching,
        readable(&data, |bytes| Ok(bytes.to_vec()))?,
    ))
}

fn from_text(text: &str) -> Option<(u8, u8, u8, Vec<u8>)> {
    let mut words = text.split_ascii_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (usage, selector, matching) = (number()?, number()?, number()?);
    // Zone files break long data into several words (RFC 6698 §2.2).
    let digits = words.collect::<String>();
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    let bytes = pairs.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    Some((usage, selector, matching, bytes.collect::<Option<_>>()?))
}

/// `exception` for what opening a resolver or a cache came to.
pub(super) fn or_raise<T>(py: Python<'_>, made: starttls::Result<T>) -> PyResult<T> {
    made.map_err(|e| exception(py, &e))
}
