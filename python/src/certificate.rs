//! A certificate as the dict that `ssl.SSLSocket.getpeercert` gives.

use openssl::asn1::Asn1TimeRef;
use openssl::error::ErrorStack;
use openssl::x509::{X509NameRef, X509};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// Subject, issuer, serial number, validity and subjectAltName; what the standard library fills in
/// beyond that (OCSP, caIssuers, crlDistributionPoints) is left out, and so are the alternative names
/// that are neither DNS, email, URI, address nor directory name.
pub(crate) fn as_dict<'py>(py: Python<'py>, der: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let wrong = |e: ErrorStack| pyo3::exceptions::PyValueError::new_err(e.to_string());
    let certificate = X509::from_der(der).map_err(wrong)?;
    let dict = PyDict::new(py);
    dict.set_item("subject", name(py, certificate.subject_name())?)?;
    dict.set_item("issuer", name(py, certificate.issuer_name())?)?;
    dict.set_item("version", certificate.version() + 1)?;
    let serial = certificate
        .serial_number()
        .to_bn()
        .and_then(|n| n.to_hex_str())
        .map_err(wrong)?;
    dict.set_item("serialNumber", &**serial)?;
    dict.set_item("notBefore", time(certificate.not_before()))?;
    dict.set_item("notAfter", time(certificate.not_after()))?;
    let text = |s: &str| PyString::new(py, s).into_any();
    let mut names = Vec::new();
    for alternative in certificate.subject_alt_names().into_iter().flatten() {
        if let Some(dns) = alternative.dnsname() {
            names.push(("DNS", text(dns)));
        } else if let Some(email) = alternative.email() {
            names.push(("email", text(email)));
        } else if let Some(uri) = alternative.uri() {
            names.push(("URI", text(uri)));
        } else if let Some(octets) = alternative.ipaddress() {
            names.push(("IP Address", text(&address(octets))));
        } else if let Some(directory) = alternative.directory_name() {
            names.push(("DirName", name(py, directory)?.into_any()));
        }
    }
    if !names.is_empty() {
        dict.set_item("subjectAltName", PyTuple::new(py, names)?)?;
    }
    Ok(dict)
}

/// A tuple of relative names, each a tuple of pairs.
fn name<'py>(py: Python<'py>, name: &X509NameRef) -> PyResult<Bound<'py, PyTuple>> {
    let mut parts = Vec::new();
    for entry in name.entries() {
        let kind = entry.object().nid().long_name().unwrap_or("unknown").to_owned();
        let data = entry.data();
        let value = data
            .to_string()
            .unwrap_or_else(|_| String::from_utf8_lossy(data.as_slice()).into_owned());
        parts.push(PyTuple::new(py, [(kind, value)])?);
    }
    PyTuple::new(py, parts)
}

/// OpenSSL prints it as `ssl.cert_time_to_seconds` reads it: `Jan  5 09:34:43 2018 GMT`.
fn time(time: &Asn1TimeRef) -> String {
    time.to_string()
}

/// As OpenSSL prints it, which for IPv6 is in full and in capitals.
fn address(octets: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    let Ok(v6) = <[u8; 16]>::try_from(octets) else {
        return "<invalid>".to_owned();
    };
    let groups = std::net::Ipv6Addr::from(v6).segments();
    groups.map(|group| format!("{group:X}")).join(":")
}
