//! The throw-away certificates of `starttls demo`.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509Builder, X509Name, X509};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

/// Makes a CA for a day and with it a certificate for each list of names. Writes into the directory
/// `ca.crt` and, with certificate and key together, `NAME.pem`.
#[pyfunction]
pub(crate) fn make_certificates(directory: PathBuf, wanted: Vec<(String, Vec<String>)>) -> PyResult<()> {
    let broken = |e: ErrorStack| PyRuntimeError::new_err(format!("OpenSSL: {e}"));
    let ca = issue("A throw-away CA", &[], None).map_err(broken)?;
    let pem = ca.certificate.to_pem().map_err(broken)?;
    write(&directory.join("ca.crt"), &pem)?;
    for (name, hosts) in wanted {
        let subject = hosts.first().map_or("nobody", String::as_str);
        let made = issue(subject, &hosts, Some(&ca)).map_err(broken)?;
        let mut pem = made.certificate.to_pem().map_err(broken)?;
        pem.extend(made.key.private_key_to_pem_pkcs8().map_err(broken)?);
        write(&directory.join(format!("{name}.pem")), &pem)?;
    }
    Ok(())
}

/// A certificate for these hosts by this CA, or without one a CA.
fn issue(common_name: &str, hosts: &[String], ca: Option<&Identity>) -> Result<Identity, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut subject = X509Name::builder()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    let subject = subject.build();

    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(ca.map_or(&*subject, |ca| ca.certificate.subject_name()))?;
    let now = Asn1Time::days_from_now(0)?;
    let tomorrow = Asn1Time::days_from_now(1)?;
    builder.set_not_before(&now)?;
    builder.set_not_after(&tomorrow)?;
    builder.set_pubkey(&key)?;

    let mut usage = KeyUsage::new();
    usage.critical();
    let issuer = ca.map(|ca| &*ca.certificate);
    let extension = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None))?;
    builder.append_extension(extension)?;
    if let Some(ca) = ca {
        let context = builder.x509v3_context(Some(&ca.certificate), None);
        let authority = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        let mut names = SubjectAlternativeName::new();
        for host in hosts {
            match host.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(host),
                Err(_) => names.dns(host),
            };
        }
        let names = names.build(&context)?;
        builder.append_extension(authority)?;
        builder.append_extension(names)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        builder.append_extension(usage.digital_signature().build()?)?;
    } else {
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(usage.key_cert_sign().crl_sign().build()?)?;
    }
    builder.sign(ca.map_or(&key, |ca| &ca.key), MessageDigest::sha256())?;
    Ok(Identity {
        certificate: builder.build(),
        key,
    })
}

/// Keys are in these files: nobody else may read them.
fn write(file: &Path, pem: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(pem)
}
