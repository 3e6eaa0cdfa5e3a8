//! What did happen: the truthful account of one connection, also as JSON with stable keys.
//!
//! Nothing here decides anything; [`judge`](crate::judge) does. A check that was not run is absent
//! from [`Outcome::checks`] and never reads as passed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dns::Proof;
use crate::error::Word;
use crate::level::Level;

/// Client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// We asked for TLS.
    Client,
    /// We were asked for TLS.
    Server,
}

/// What the level came to for this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Effective {
    /// TLS was not to be used.
    None,
    /// TLS if offered.
    May,
    /// TLS required, with anyone.
    Encrypt,
    /// TLS required, with a known certificate or key.
    Fingerprint,
    /// TLS required, with a PKIX chain and the right name.
    Verify,
    /// TLS required, with what the secure TLSA records say.
    Dane,
    /// TLS required, as an MTA-STS policy says: PKIX, and an MX host that the policy names.
    Sts,
}

/// What the session runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// TLS.
    Tls,
    /// In clear; [`Outcome::because`] says why.
    Plain,
}

/// Why a session is in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// The level is `none`.
    NotAsked,
    /// The server does not offer TLS.
    NotOffered,
    /// The server offered TLS and then refused it.
    Refused,
    /// The handshake failed and `connect` dialled again in clear.
    HandshakeFailed,
}

impl Because {
    /// The word as other programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Because::NotAsked => "not-asked",
            Because::NotOffered => "not-offered",
            Because::Refused => "refused",
            Because::HandshakeFailed => "handshake-failed",
        }
    }
}

/// Where the name that was checked comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameFrom {
    /// The caller knows it (configuration, a person).
    Caller,
    /// A DNS answer that DNSSEC proves.
    Dnssec,
    /// An MTA-STS policy.
    MtaSts,
    /// A DNS answer that nothing proves.
    InsecureDns,
}

impl NameFrom {
    /// The word as other programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            NameFrom::Caller => "caller",
            NameFrom::Dnssec => "dnssec",
            NameFrom::MtaSts => "mta-sts",
            NameFrom::InsecureDns => "insecure-dns",
        }
    }

    /// Reads a word; `None` if it is not one.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Caller, Self::Dnssec, Self::MtaSts, Self::InsecureDns]
            .into_iter()
            .find(|n| n.as_str() == word)
    }
}

/// Who was asked for, and where it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The name that was checked, in A-labels, or an IP address; `None` as server, which knows no
    /// name of its client's.
    pub name: Option<String>,
    /// Where that name comes from.
    pub name_from: Option<NameFrom>,
    /// The address that was reached.
    pub address: Option<IpAddr>,
    /// The port that was reached.
    pub port: Option<u16>,
}

/// What the handshake gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tls {
    /// For example `TLSv1.3`.
    pub version: String,
    /// OpenSSL's name of the cipher.
    pub cipher: String,
    /// The key-exchange group, for example `X25519`.
    pub group: Option<String>,
    /// Whether a later theft of the server's key leaves this session closed.
    pub forward_secrecy: bool,
    /// Whether an earlier session was resumed: its chain's verdict was carried over, name, time
    /// and fingerprint were checked again.
    pub resumed: bool,
    /// The application protocol agreed on (RFC 7301).
    pub alpn: Option<String>,
}

/// What proved who the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProvenBy {
    /// A chain to a trusted root, and the name.
    Pkix,
    /// A certificate or key that the caller knew.
    Fingerprint,
    /// A certificate or key that secure TLSA records name.
    Dane,
}

impl ProvenBy {
    /// The word as other programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            ProvenBy::Pkix => "pkix",
            ProvenBy::Fingerprint => "fingerprint",
            ProvenBy::Dane => "dane",
        }
    }
}

/// Who the peer is, with the evidence; all `None` where nothing was proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What proved it.
    pub proven_by: Option<ProvenBy>,
    /// The name proven.
    pub name: Option<String>,
    /// For people: the certificate's name that matched and the root, or the pin.
    pub evidence: Option<String>,
}

/// One of the things that can be checked about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CheckKind {
    /// The chain ends at a trusted root and every link holds.
    Chain,
    /// The certificate is for the name (RFC 9525).
    Name,
    /// All certificates of the chain are valid now.
    Time,
    /// The certificate or its key has a given SHA-256.
    Fingerprint,
    /// The chain matches a TLSA record, by OpenSSL's verdict (RFC 7671).
    Dane,
    /// The MTA-STS policy names this MX host (RFC 8461 §4.1).
    Sts,
}

/// A check that was run, with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Which one.
    pub check: CheckKind,
    /// Whether it passed.
    pub ok: bool,
    /// Why not, in OpenSSL's words or ours.
    pub why: Option<String>,
    /// The error that it makes, where that is not the one of its kind: a chain that ends at the trust anchor of
    /// a TLSA record may still be too old.
    #[serde(skip)]
    pub(crate) word: Option<Word>,
}

/// The peer's own certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Certificate {
    /// The subject, as `CN=…, O=…`.
    pub subject: String,
    /// The issuer, likewise.
    pub issuer: String,
    /// The DNS names and IP addresses of its subjectAltName.
    pub names: Vec<String>,
    /// The end of its validity, UTC, as `2026-12-31T00:00:00Z`.
    pub not_after: Option<String>,
    /// SHA-256 of the certificate (DER), in hex.
    pub sha256: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo, DER), in hex.
    pub spki_sha256: String,
}

/// Who said a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Speaker {
    /// The client.
    C,
    /// The server.
    S,
}

/// One line of the dialog in clear. Control and non-UTF-8 bytes are `\xNN`; at most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Who said it.
    pub from: Speaker,
    /// What was said, without its line end.
    pub text: String,
}

/// How long each part took, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Milliseconds {
    /// Resolving and dialling; `None` where the caller brought the connection.
    pub connect: Option<u64>,
    /// The dialog in clear.
    pub negotiate: Option<u64>,
    /// The TLS handshake.
    pub handshake: Option<u64>,
}

/// What kind of policy a domain has for those who send to it; the words of RFC 8460 §4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PolicyType {
    /// Secure TLSA records (RFC 7672).
    Tlsa,
    /// MTA-STS (RFC 8461).
    Sts,
    /// Neither.
    NoPolicyFound,
}

/// What an MTA-STS policy wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StsMode {
    /// Nothing may be delivered where it does not hold.
    Enforce,
    /// Deliver all the same, and report.
    Testing,
    /// There is no policy any more.
    None,
}

/// One policy of a domain, as it was found for this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DomainPolicy {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: PolicyType,
    /// The domain that it stands at: the MX host for TLSA records, the mail domain for MTA-STS.
    pub domain: String,
    /// What an MTA-STS policy wants.
    pub mode: Option<StsMode>,
    /// Its text: TLSA records as `3 1 1 <hex>`, the lines of an MTA-STS policy.
    pub string: Vec<String>,
    /// The patterns of an MTA-STS policy.
    pub mx_host: Vec<String>,
    /// Why it could not be used: a result type of RFC 8460 §4.3, such as `sts-policy-fetch-error`.
    pub failure: Option<&'static str>,
    /// The same for people.
    pub why: Option<String>,
}

/// What a domain asks of those who send to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Domain {
    /// The domain that the mail is for, in A-labels; for a host that the caller named, that host.
    pub name: String,
    /// What DNSSEC says of its MX records; `None` for a host that the caller named.
    pub mx: Option<Proof>,
    /// What was found, `tlsa` before `sts`.
    pub policies: Vec<DomainPolicy>,
    /// The TLSRPT record of the domain (RFC 8460 §3), where it was asked for.
    pub tlsrpt: Option<String>,
    /// DNS questions that this attempt cost.
    pub lookups: u32,
}

/// What did happen on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The protocol word the caller gave, such as `smtp` or `imaps`; `None` where the caller had
    /// the go-ahead itself and did not say.
    pub protocol: Option<&'static str>,
    /// Client or server.
    pub role: Role,
    /// The level asked for.
    pub level: Level,
    /// What it came to.
    pub effective: Effective,
    /// Who was asked for.
    pub peer: Peer,
    /// The server name sent in the handshake, by us or, as server, by the client; `None` for an IP
    /// address.
    pub sni: Option<String>,
    /// Whether the server advertised the upgrade; `None` where nobody asked or could see.
    pub offered: Option<bool>,
    /// TLS or plain; `None` if it failed before either.
    pub channel: Option<Channel>,
    /// Why plain.
    pub because: Option<Because>,
    /// What the handshake gave.
    pub tls: Option<Tls>,
    /// Who the peer is proven to be.
    pub identity: Identity,
    /// Every check that was run.
    pub checks: Vec<Check>,
    /// The peer's certificate.
    pub certificate: Option<Certificate>,
    /// Signs of an interception, for people and for logs. Nothing is decided by them.
    pub suspicions: Vec<String>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// The dialog in clear.
    pub transcript: Vec<Line>,
    /// Earlier attempts of the same call.
    pub attempts: Vec<Outcome>,
    /// How often we spoke and waited for the answer, the handshake's flights included, TCP's not.
    pub round_trips: u32,
    /// How long each part took.
    pub milliseconds: Milliseconds,
    /// What the peer's domain asks for; `None` where nobody looked.
    pub domain: Option<Domain>,
    /// Our address, for reports.
    #[serde(skip)]
    pub(crate) source: Option<IpAddr>,
    /// The error that carries this outcome: an attempt that is kept in [`attempts`](Self::attempts) still
    /// knows how it ended.
    #[serde(skip)]
    pub(crate) error: Option<(Word, String)>,
}

impl Check {
    /// A check that passed, or did not, and why.
    pub(crate) fn new(check: CheckKind, why_not: Option<String>) -> Self {
        Self {
            check,
            ok: why_not.is_none(),
            why: why_not,
            word: None,
        }
    }
}

impl Outcome {
    pub(crate) fn begin(protocol: Option<&'static str>, role: Role, level: Level, peer: Peer) -> Self {
        Self {
            protocol,
            role,
            level,
            effective: level.effective(),
            peer,
            sni: None,
            offered: None,
            channel: None,
            because: None,
            tls: None,
            identity: Identity::default(),
            checks: Vec::new(),
            certificate: None,
            suspicions: Vec::new(),
            notes: Vec::new(),
            transcript: Vec::new(),
            attempts: Vec::new(),
            round_trips: 0,
            milliseconds: Milliseconds::default(),
            domain: None,
            source: None,
            error: None,
        }
    }

    /// Whether the session runs over TLS.
    pub fn encrypted(&self) -> bool {
        self.channel == Some(Channel::Tls)
    }

    /// The result of one check; `None` if it was not run.
    pub fn check(&self, kind: CheckKind) -> Option<&Check> {
        self.checks.iter().find(|c| c.check == kind)
    }

    /// How it ended where it failed: the error's word and message. Of those in [`attempts`](Self::attempts) it
    /// tells why the next host was tried.
    pub fn error(&self) -> Option<(Word, &str)> {
        self.error
            .as_ref()
            .map(|(word, message)| (*word, message.as_str()))
    }

    /// One line of JSON. The keys are documented and stable.
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: serde_json has nothing to fail on.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_every_key_of_the_contract_in_order() {
        let peer = Peer {
            name: Some("mail.example.test".into()),
            name_from: Some(NameFrom::Caller),
            address: None,
            port: None,
        };
        let json = Outcome::begin(Some("smtp"), Role::Client, Level::Strict, peer).to_json();
        assert_eq!(
            json,
            concat!(
                r#"{"protocol":"smtp","role":"client","level":"strict","effective":"verify","#,
                r#""peer":{"name":"mail.example.test","name_from":"caller","address":null,"port":null},"#,
                r#""sni":null,"offered":null,"channel":null,"because":null,"tls":null,"#,
                r#""identity":{"proven_by":null,"name":null,"evidence":null},"checks":[],"#,
                r#""certificate":null,"suspicions":[],"notes":[],"transcript":[],"attempts":[],"#,
                r#""round_trips":0,"milliseconds":{"connect":null,"negotiate":null,"handshake":null},"domain":null}"#
            )
        );
    }
}
