//! A certificate as the dict that `ssl.SSLSocket.getpeercert` gives.

use openssl::asn1::Asn1TimeRef;
use openssl::error::ErrorStack;
use openssl::x509::{X509NameRef, X509};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Subject, issuer, serial number, validity and subjectAltName; what the standard library fills in
/// beyond that (OCSP, caIssuers, crlDistributionPoints) is left out.
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
    let mut names = Vec::new();
    for alternative in certificate.subject_alt_names().into_iter().flatten() {
        if let Some(dns) = alternative.dnsname() {
            names.push(("DNS", dns.to_owned()));
        } else if let Some(email) = alternative.email() {
            names.push(("email", email.to_owned()));
        } else if let Some(uri) = alternative.uri() {
            names.push(("URI", uri.to_owned()));
        } else if let Some(address) = alternative.ipaddress().and_then(address) {
            names.push(("IP Address", address));
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

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}
