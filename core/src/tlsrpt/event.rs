//! What is told of one attempted session: for each policy of the domain whether it was met, and if not, why.
//!
//! The names are those of the report (RFC 8460 §4.4). An event is one line of JSON, so that processes can
//! hand theirs to the one that folds them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::ServerName;
use crate::outcome::PolicyType;

/// No honest event is longer; what reads lines stops here.
const MAX_LINE: usize = 256 * 1024;
/// A domain has one policy of each type for one host.
const MAX_POLICIES: usize = 8;
const MAX_FAILURES: usize = 32;

/// Why a session did not meet a policy (RFC 8460 §4.3, in its order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ResultType {
    /// The MX does not do STARTTLS.
    StarttlsNotSupported,
    /// The certificate is not what the MTA-STS or DANE policy wants.
    CertificateHostMismatch,
    /// The certificate is not valid now.
    CertificateExpired,
    /// The chain does not end at a trusted root.
    CertificateNotTrusted,
    /// Anything else; the reason says what.
    ValidationFailure,
    /// There are TLSA records, and none can be used.
    TlsaInvalid,
    /// The TLSA records could not be had, or their signatures do not hold.
    DnssecInvalid,
    /// The sender requires DANE, and there are no secure TLSA records.
    DaneRequired,
    /// The MTA-STS policy could not be fetched.
    StsPolicyFetchError,
    /// The MTA-STS policy is no valid one.
    StsPolicyInvalid,
    /// The host of the MTA-STS policy has no valid certificate.
    StsWebpkiInvalid,
}

impl ResultType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::DaneRequired,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// The word as reports have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }

    /// Reads a word; `None` if it is not one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == word)
    }
}

/// A policy, as a report names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Policy {
    /// Its type.
    #[serde(rename = "policy-type")]
    pub kind: PolicyType,
    /// Its text: TLSA records, sorted; the lines of an MTA-STS policy.
    #[serde(rename = "policy-string", default, skip_serializing_if = "Vec::is_empty")]
    pub string: Vec<String>,
    /// The domain that it stands at.
    #[serde(rename = "policy-domain")]
    pub domain: String,
    /// The patterns of an MTA-STS policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// One reason why a session did not meet a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Failure {
    /// What failed.
    pub result_type: ResultType,
    /// Our address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_mta_ip: Option<IpAddr>,
    /// The MX host that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_hostname: Option<String>,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_mx_helo: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<IpAddr>,
    /// A URI with more about it; for callers that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_information: Option<String>,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason_code: Option<String>,
}

impl Failure {
    pub(super) fn bare(result_type: ResultType) -> Self {
        Self {
            result_type,
            sending_mta_ip: None,
            receiving_mx_hostname: None,
            receiving_mx_helo: None,
            receiving_ip: None,
            additional_information: None,
            failure_reason_code: None,
        }
    }
}

/// How one policy fared in one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PolicyResult {
    /// Which policy.
    pub policy: Policy,
    /// Why the session did not meet it; empty if it did. Under a policy that is only tested the mail may have
    /// gone all the same.
    #[serde(default)]
    pub failures: Vec<Failure>,
}

impl PolicyResult {
    /// Whether a TLS session came about that met the policy ("success" of RFC 8460 §4.2.1).
    pub fn success(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What is to be reported of one attempted session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Event {
    /// The domain that the report goes to, in lower-case A-labels.
    pub domain: String,
    /// Its TLSRPT record, which says where to.
    pub record: String,
    /// How its policies fared; never empty.
    pub policies: Vec<PolicyResult>,
}

impl Event {
    /// One line of JSON, without its end. Processes that share a file append to it, each line with one write; a
    /// pipe keeps only lines up to `PIPE_BUF` (4096 bytes) apart, which one with a long policy is not.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: serde_json has nothing to fail on.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// `invalid` for anything else, such as a line that was cut off when its writer was killed.
    pub fn from_json(line: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("this is no TLSRPT event: {why}"));
        if line.len() > MAX_LINE {
            return Err(wrong(format!("{} bytes are too many", line.len())));
        }
        let mut event: Self = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let ServerName::Dns(domain) = ServerName::parse(&event.domain)? else {
            return Err(wrong("its domain is an address".to_owned()));
        };
        event.domain = domain;
        if !(1..=MAX_POLICIES).contains(&event.policies.len()) {
            return Err(wrong(format!("it has {} policies", event.policies.len())));
        }
        if event.policies.iter().any(|p| p.failures.len() > MAX_FAILURES) {
            return Err(wrong(format!("a policy has more than {MAX_FAILURES} failures")));
        }
        Ok(event)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event for tests: `tlsa`, `sts` or `no-policy-found`, and its failures.
    pub(in crate::tlsrpt) fn event(domain: &str, kind: PolicyType, failures: &[(ResultType, &str)]) -> Event {
        let string: &[&str] = match kind {
            PolicyType::Tlsa => &["3 1 1 00ff", "3 1 1 aa00"],
            PolicyType::Sts => &[
                "version: STSv1",
                "mode: testing",
                "mx: *.mail.example.test",
                "max_age: 86400",
            ],
            PolicyType::NoPolicyFound => &[],
        };
        let mx_host: &[&str] = match kind {
            PolicyType::Sts => &["*.mail.example.test"],
            _ => &[],
        };
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let failure = |(result_type, reason): &(ResultType, &str)| Failure {
            sending_mta_ip: "192.0.2.1".parse().ok(),
            receiving_mx_hostname: Some(format!("mx.{domain}")),
            receiving_mx_helo: Some("mx".to_owned()),
            receiving_ip: "2001:db8::25".parse().ok(),
            failure_reason_code: Some((*reason).to_owned()),
            ..Failure::bare(*result_type)
        };
        Event {
            domain: domain.to_owned(),
            record: format!("v=TLSRPTv1; rua=mailto:tls@{domain}"),
            policies: vec![PolicyResult {
                policy: Policy {
                    kind,
                    string: owned(string),
                    domain: domain.to_owned(),
                    mx_host: owned(mx_host),
                },
                failures: failures.iter().map(failure).collect(),
            }],
        }
    }

    #[test]
    fn serde_writes_the_same_words() {
        for result in ResultType::ALL {
            assert_eq!(
                serde_json::to_string(&result).unwrap(),
                format!("\"{}\"", result.as_str())
            );
            assert_eq!(ResultType::from_word(result.as_str()), Some(result));
        }
    }

    #[test]
    fn a_line_comes_back_as_it_was_and_a_part_of_it_does_not() {
        let event = event(
            "a.test",
            PolicyType::Sts,
            &[(ResultType::CertificateExpired, "line\nend \"")],
        );
        let line = event.to_json();
        assert!(!line.contains('\n'));
        assert_eq!(Event::from_json(&line).unwrap(), event);
        for (n, _) in line.char_indices() {
            assert!(Event::from_json(line.get(..n).unwrap()).is_err());
        }
        for bad in [
            r#"{"domain":"a b","record":"","policies":[]}"#,
            r#"{"domain":"192.0.2.1","record":"","policies":[]}"#,
            r#"{"domain":"a.test","record":"","policies":[]}"#,
        ] {
            assert_eq!(
                Event::from_json(bad).unwrap_err().word(),
                crate::error::Word::Invalid,
                "{bad}"
            );
        }
    }
}
