//! Keyword arguments of `starttls.Policy`: read, put into words, and given to the core's policy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use starttls::{Level, MinTls, NameFrom};

use super::known::{HandedIn, Known};
use super::{read_level, with_signals};
use crate::error::invalid;

/// What a policy's `SSL_CTX` is made of: policies derived from one share it as long as this is the
/// same.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) level: Level,
    ca_file: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    client_cert: Option<(PathBuf, PathBuf)>,
    server_certs: Vec<ServerCert>,
    ask_client_cert: bool,
    min_tls: Option<String>,
}

/// What may differ from connection to connection.
#[derive(Clone, Default)]
pub(super) struct Own {
    timeout: Option<f64>,
    fingerprints: Vec<String>,
    pub(super) client_name: Option<String>,
    names: Vec<String>,
    sni: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) source_address: Option<SocketAddr>,
    name_from: Option<String>,
    handed_in: HandedIn,
    tlsa_port: Option<u16>,
    port: Option<u16>,
}

/// Where a server's certificate and key come from.
#[derive(Clone)]
enum ServerCert {
    Files(PathBuf, PathBuf),
    Memory(Vec<u8>, Vec<u8>),
    Directory(PathBuf),
}

impl Shared {
    pub(super) fn new(level: Level) -> Self {
        Self {
            level,
            ca_file: None,
            ca_path: None,
            client_cert: None,
            server_certs: Vec::new(),
            ask_client_cert: false,
            min_tls: None,
        }
    }

    /// Whether the setting is one of these.
    pub(super) fn set(&mut self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key {
            "level" => self.level = read_level(py, value.extract()?)?,
            "ca_file" | "ca_path" => {
                let path = (!value.is_none()).then(|| path_of(key, value)).transpose()?;
                if key == "ca_file" {
                    self.ca_file = path;
                } else {
                    self.ca_path = path;
                }
            }
            "client_cert" => {
                self.client_cert = if value.is_none() {
                    None
                } else if value.is_instance_of::<PyTuple>() {
                    let (cert, key_file) = pair_of(key, value)?;
                    Some((path_of(key, &cert)?, path_of(key, &key_file)?))
                } else {
                    let both = path_of(key, value)?;
                    Some((both.clone(), both))
                }
            }
            "server_cert" => self.server_certs = server_certs(value)?,
            "ask_client_cert" => self.ask_client_cert = value.is_truthy()?,
            "min_tls" => self.min_tls = value.extract()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn build(&self) -> starttls::Result<starttls::Policy> {
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
        for source in &self.server_certs {
            policy = match source {
                ServerCert::Files(cert, key) => policy.server_cert(cert, key)?,
                ServerCert::Memory(cert, key) => policy.server_cert_pem(cert.clone(), key.clone()),
                ServerCert::Directory(directory) => policy.server_cert_dir(directory)?,
            };
        }
        if self.ask_client_cert {
            policy = policy.ask_client_cert();
        }
        if let Some(version) = &self.min_tls {
            policy = policy.min_tls(MinTls::from_word(version)?);
        }
        Ok(policy)
    }
}

impl Own {
    /// What is not replaced by anything that is known of a host, and so may be set once more.
    pub(super) fn of_any_host(&self, time: Duration) -> Self {
        Self {
            timeout: Some(time.as_secs_f64()),
            client_name: self.client_name.clone(),
            source_address: self.source_address,
            ..Self::default()
        }
    }

    /// Whether the setting is one of these.
    pub(super) fn set(&mut self, py: Python<'_>, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
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
            "tlsa" => self.handed_in.set_records(value)?,
            "tlsa_proof" => self.handed_in.set_proof(value)?,
            "tlsa_port" | "port" => {
                let port: Option<u16> = value.extract()?;
                if port == Some(0) {
                    return Err(invalid(py, &format!("{key}: a port is 1 to 65535")));
                }
                if key == "port" {
                    self.port = port;
                } else {
                    self.tlsa_port = port;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn apply(&self, mut policy: starttls::Policy) -> starttls::Result<starttls::Policy> {
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
        if let Some(port) = self.tlsa_port {
            policy = policy.tlsa_port(port);
        }
        if let Some(port) = self.port {
            policy = policy.port(port);
        }
        Ok(self.handed_in.apply(policy))
    }
}

/// Each setting that was given, as it stands in a `repr`. No key is shown.
pub(super) fn described(shared: &Shared, known: &Known, own: &Own) -> String {
    let mut repr = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            repr.push_str(&format!(", {name}={value}"));
        }
    };
    let path = |p: &PathBuf| format!("'{}'", p.display());
    add("ca_file", shared.ca_file.as_ref().map(path));
    add("ca_path", shared.ca_path.as_ref().map(path));
    add(
        "client_cert",
        shared.client_cert.as_ref().map(|(cert, _)| path(cert)),
    );
    let certs = shared.server_certs.iter().map(|source| match source {
        ServerCert::Files(file, _) | ServerCert::Directory(file) => path(file),
        ServerCert::Memory(..) => "<PEM>".to_owned(),
    });
    let certs: Vec<String> = certs.collect();
    add(
        "server_cert",
        (!certs.is_empty()).then(|| format!("[{}]", certs.join(", "))),
    );
    add(
        "ask_client_cert",
        shared.ask_client_cert.then(|| "True".to_owned()),
    );
    add("min_tls", shared.min_tls.as_ref().map(|v| format!("'{v}'")));
    add("timeout", own.timeout.map(|t| t.to_string()));
    let text = |s: &Option<String>| s.as_ref().map(|s| format!("'{s}'"));
    let list = |items: &Vec<String>| (!items.is_empty()).then(|| format!("['{}']", items.join("', '")));
    add("fingerprints", list(&own.fingerprints));
    add("client_name", text(&own.client_name));
    add("names", list(&own.names));
    add("sni", text(&own.sni));
    add("address", own.address.map(|a| format!("'{a}'")));
    add("name_from", text(&own.name_from));
    own.handed_in.described(&mut add);
    add("tlsa_port", own.tlsa_port.map(|port| port.to_string()));
    add("port", own.port.map(|port| port.to_string()));
    known.described(add);
    repr
}

/// One source, or a list of them: a path, a pair of paths, PEM, a pair of PEM.
fn server_certs(value: &Bound<'_, PyAny>) -> PyResult<Vec<ServerCert>> {
    if value.is_none() {
        return Ok(Vec::new());
    }
    match value.cast::<PyList>() {
        Ok(list) => list.iter().map(|source| server_cert(&source)).collect(),
        Err(_) => Ok(vec![server_cert(value)?]),
    }
}

fn server_cert(source: &Bound<'_, PyAny>) -> PyResult<ServerCert> {
    if let Ok(both) = source.cast::<PyBytes>() {
        return Ok(ServerCert::Memory(
            both.as_bytes().to_vec(),
            both.as_bytes().to_vec(),
        ));
    }
    if !source.is_instance_of::<PyTuple>() {
        let path = path_of("server_cert", source)?;
        return Ok(if path.is_dir() {
            ServerCert::Directory(path)
        } else {
            ServerCert::Files(path.clone(), path)
        });
    }
    let (cert, key) = pair_of("server_cert", source)?;
    match (cert.cast::<PyBytes>(), key.cast::<PyBytes>()) {
        (Ok(cert), Ok(key)) => Ok(ServerCert::Memory(
            cert.as_bytes().to_vec(),
            key.as_bytes().to_vec(),
        )),
        (Err(_), Err(_)) => Ok(ServerCert::Files(
            path_of("server_cert", &cert)?,
            path_of("server_cert", &key)?,
        )),
        _ => Err(PyTypeError::new_err(
            "server_cert: a pair of paths, or a pair of PEM as bytes",
        )),
    }
}

/// A path. One that is PEM is not repeated: it may hold a key.
pub(super) fn path_of(setting: &str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    let path: PathBuf = value.extract()?;
    let text = path.to_string_lossy();
    if text.contains("-----BEGIN") || text.contains(['\n', '\r']) {
        let instead = if setting == "server_cert" {
            "PEM goes in as bytes"
        } else {
            "PEM goes into a file"
        };
        let message = format!("{setting}: this is not a path; {instead}");
        return Err(invalid(value.py(), &message));
    }
    Ok(path)
}

fn pair_of<'py>(
    setting: &str,
    value: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    value.extract().map_err(|_| {
        PyTypeError::new_err(format!(
            "{setting}: a tuple is a pair of two, the certificate and its key"
        ))
    })
}

/// Seconds as Python has them.
pub(crate) fn seconds_of(seconds: f64) -> starttls::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|e| {
        starttls::Error::at_border(
            starttls::Word::Invalid,
            format!("a time-out of {seconds:e} s: {e}"),
        )
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
