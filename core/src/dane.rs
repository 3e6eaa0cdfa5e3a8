//! DANE (RFC 6698, 7671, 7672): the domain names its hosts' certificates or keys in signed DNS, so that
//! nobody on the path can take the demand for TLS away or answer in the host's place.
//!
//! What is here decides which records can be used and what follows from a look-up. Whether a certificate
//! matches is OpenSSL's own verdict (tls/ffi/dane.rs).

pub(crate) mod host;

use openssl::pkey::PKey;
use openssl::x509::X509;

use crate::dns::{Proof, Tlsa};
use crate::error::{Error, Word};
use crate::name::ServerName;
use crate::text::hex;

/// The usable records for one host, and the names that go with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dane {
    pub(crate) records: Vec<Tlsa>,
    /// Where they were found, without port and protocol: SNI, and the first reference name for DANE-TA
    /// (RFC 7672 §3.2.2, §8.1).
    pub(crate) base: ServerName,
    /// Further reference names for DANE-TA: the nexthop domain and its secure CNAME expansion.
    pub(crate) names: Vec<ServerName>,
}

/// What a look-up of TLSA records came to.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Secure records, of which these can be used.
    Usable(Vec<Tlsa>),
    /// Secure records, none of which can be used: TLS, but with whom cannot be told (RFC 7672 §2.2).
    Unusable,
    /// No secure records.
    Nothing,
    /// The look-up failed: the host must not be used now (RFC 7672 §2.2).
    Failed(Error),
}

impl Found {
    /// What these records, with this proof, come to.
    pub(crate) fn of(records: &[Tlsa], proof: Proof) -> Self {
        match proof {
            Proof::Bogus => Self::Failed(Error::new(
                Word::DnsBogus,
                "the TLSA records are forged or broken, as DNSSEC says",
            )),
            Proof::Insecure | Proof::Indeterminate => Self::Nothing,
            Proof::Secure if records.is_empty() => Self::Nothing,
            Proof::Secure => {
                let mut usable: Vec<Tlsa> = Vec::new();
                for record in records.iter().filter(|r| is_usable(r)) {
                    // All of them: leaving one out could leave out the one that matches. A DNS message has at
                    // most some 1,400.
                    if !usable.contains(record) {
                        usable.push(record.clone());
                    }
                }
                match usable.is_empty() {
                    true => Self::Unusable,
                    false => Self::Usable(usable),
                }
            }
        }
    }
}

/// Whether this record can be matched between mail servers: usages DANE-TA and DANE-EE only, as nobody
/// knows which CAs the others mean (RFC 7672 §3.1.3), and data that fit what they say they are.
fn is_usable(record: &Tlsa) -> bool {
    if !matches!(record.usage, 2 | 3) {
        return false;
    }
    match (record.selector, record.matching) {
        (0 | 1, 1) => record.data.len() == 32,
        (0 | 1, 2) => record.data.len() == 64,
        // As a whole, and nothing behind it: what OpenSSL could not read it could not match.
        (0, 0) => X509::from_der(&record.data)
            .is_ok_and(|cert| cert.public_key().is_ok() && cert.to_der().is_ok_and(|der| der == record.data)),
        (1, 0) => PKey::public_key_from_der(&record.data)
            .and_then(|key| key.public_key_to_der())
            .is_ok_and(|der| der.len() == record.data.len()),
        _ => false,
    }
}

/// `3 1 1 0123…`, as in a zone file.
pub(crate) fn as_text(record: &Tlsa) -> String {
    let Tlsa {
        usage,
        selector,
        matching,
        data,
    } = record;
    format!("{usage} {selector} {matching} {}", hex(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa {
            usage,
            selector,
            matching,
            data: vec![7; length],
        }
    }

    fn good(record: Tlsa) {
        assert!(is_usable(&record), "{}", as_text(&record));
    }

    fn bad(record: Tlsa, why: &str) {
        assert!(!is_usable(&record), "{}: {why}", as_text(&record));
    }

    #[test]
    fn usable_records() {
        good(record(3, 1, 1, 32));
        good(record(3, 0, 1, 32));
        good(record(3, 1, 2, 64));
        good(record(2, 0, 2, 64));
        good(record(2, 1, 1, 32));
        bad(record(0, 1, 1, 32), "PKIX-TA, RFC 7672 §3.1.3");
        bad(record(1, 1, 1, 32), "PKIX-EE, RFC 7672 §3.1.3");
        bad(record(4, 1, 1, 32), "unknown usage");
        bad(record(3, 2, 1, 32), "unknown selector");
        bad(record(3, 1, 3, 32), "unknown matching type");
        bad(record(3, 1, 1, 31), "a SHA-256 is 32 octets");
        bad(record(3, 1, 1, 0), "no data");
        bad(record(3, 1, 2, 32), "a SHA-512 is 64 octets");
        bad(record(3, 1, 0, 80), "no public key");
        bad(record(2, 0, 0, 80), "no certificate");
        let key = openssl::ec::EcKey::generate(
            &openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap(),
        );
        let mut whole = record(3, 1, 0, 0);
        whole.data = key.unwrap().public_key_to_der().unwrap();
        good(whole.clone());
        whole.data.push(0);
        bad(whole, "something behind the key");
    }

    #[test]
    fn what_a_look_up_comes_to() {
        let usable = record(3, 1, 1, 32);
        let unusable = record(0, 1, 1, 32);
        assert!(matches!(Found::of(&[], Proof::Secure), Found::Nothing));
        assert!(matches!(
            Found::of(std::slice::from_ref(&unusable), Proof::Secure),
            Found::Unusable
        ));
        let both = [unusable, usable.clone(), usable.clone()];
        match Found::of(&both, Proof::Secure) {
            Found::Usable(records) => assert_eq!(records, [usable]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(Found::of(&both, Proof::Insecure), Found::Nothing));
        assert!(matches!(Found::of(&both, Proof::Indeterminate), Found::Nothing));
        assert!(matches!(Found::of(&both, Proof::Bogus), Found::Failed(_)));
    }
}
