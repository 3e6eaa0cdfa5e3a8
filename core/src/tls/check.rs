//! Every check that can be run on a certificate, run and recorded, whatever the level needs.
//!
//! The chain is verified inside the handshake ([`verify_peer`]), so that a peer whom the policy
//! does not accept gets neither our client certificate nor a finished handshake.

use std::os::raw::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use openssl::asn1::{Asn1Time, Asn1TimeRef, TimeDiff};
use openssl::hash::MessageDigest;
use openssl::ssl::SslRef;
use openssl::x509::{X509NameRef, X509Ref, X509StoreContextRef};

use super::{ffi, trust};
use crate::error::Word;
use crate::level::Level;
use crate::name::ServerName;
use crate::outcome::{Certificate, Check, CheckKind, Identity, Outcome, ProvenBy, Role};
use crate::rules::Rules;
use crate::text::{hex, printable};
use crate::verdict::{judge_peer, Wanted};

/// How long a chain's verdict may be carried over.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// What was found out about the peer: complete once `checks` holds what the level needs.
#[derive(Clone, Debug)]
pub(crate) struct Examined {
    pub(crate) checks: Vec<Check>,
    pub(crate) identity: Identity,
    pub(crate) certificate: Arc<Certificate>,
    /// How long the chain's verdict may be carried over to resumed sessions.
    pub(crate) holds_until: Instant,
    /// The root at which the chain ends, for the evidence.
    root: Option<String>,
}

impl Examined {
    /// Writes it into the outcome.
    pub(crate) fn record(self, outcome: &mut Outcome) {
        outcome.checks = self.checks;
        outcome.identity = self.identity;
        outcome.certificate = Some((*self.certificate).clone());
    }
}

/// Called in the handshake with the peer's chain: verifies it, runs every check and records them
/// in the connection's [`Watch`]. False ends the handshake.
pub(crate) fn verify_peer(ssl: &SslRef, ctx: &mut X509StoreContextRef) -> Option<bool> {
    let watch = ssl.ex_data(super::watch_index()?)?;
    watch.began.store(true, Ordering::SeqCst);
    let mut dane = None;
    let first = if watch.rules.dane().is_some() {
        let log = ffi::verify_logged(ctx);
        dane = Some(by_dane(ssl, &log));
        // OpenSSL has looked at nothing else; what PKIX says is for the record.
        ffi::verify_without_dane(ctx, |ctx| (ffi::verify_logged(ctx), root_of(ctx)))?
    } else {
        // Records that a caller has put into its SSL itself would have PKIX passed over.
        ffi::dane::ignore(ctx);
        (ffi::verify_logged(ctx), root_of(ctx))
    };
    let (mut log, mut root) = first;
    if watch.trust_is_system && log.iter().any(|(code, _)| lacks_issuer(*code)) {
        match trust::system_bundle() {
            Ok(Some(bundle)) => {
                let again = ffi::verify_with_store(ctx, bundle, |ctx| {
                    let log = ffi::verify_logged(ctx);
                    (log, root_of(ctx))
                });
                if let Some(again) = again {
                    (log, root) = again;
                }
            }
            Ok(None) => {}
            Err(e) => *watch.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(e),
        }
    }
    let leaf = ffi::leaf(ctx)?;
    let chain = chain(&log);
    let examined = examine(Known {
        leaf,
        chain,
        dane,
        root,
        out_of_time: in_time(&log),
        names: &watch.names,
        rules: &watch.rules,
        role: watch.role,
        certificate: None,
        holds_until: holds_until(leaf, &watch.rules),
    });
    let verdict = judge_peer(Wanted::by(&watch.rules, watch.role), &examined.checks);
    *watch.examined.lock().unwrap_or_else(PoisonError::into_inner) = Some(examined);
    if verdict.is_err() {
        // The alert that the peer is sent follows from this.
        let code = log
            .first()
            .map_or(openssl_sys::X509_V_ERR_HOSTNAME_MISMATCH, |fault| fault.0);
        ctx.set_error(ffi::verify_result(code));
    }
    Some(verdict.is_ok())
}

/// What OpenSSL's DANE has come to: the check, and the evidence.
fn by_dane(ssl: &SslRef, log: &[ffi::Fault]) -> (Check, Option<String>) {
    let matched = ffi::dane::matched(ssl);
    let fault = log.first().map(|fault| explain(*fault));
    let why_not = match (&matched, fault) {
        (_, Some(fault)) => Some(fault),
        (None, None) => Some("no TLSA record matches".to_owned()),
        (Some(_), None) => None,
    };
    let mut check = Check::new(CheckKind::Dane, why_not);
    let no_match = openssl_sys::X509_V_ERR_DANE_NO_MATCH;
    if matched.is_some() && log.iter().all(|(code, _)| *code != no_match) {
        // A trust anchor was found; that does not make the certificate good (RFC 7671 §5.2).
        check.word = log
            .iter()
            .map(|(code, _)| word(*code))
            .min_by_key(|word| RANK.iter().position(|r| r == word));
    }
    let evidence = matched.map(|record| format!("TLSA {}", crate::dane::as_text(&record)));
    (check, evidence)
}

/// Runs the checks again on the certificate of a resumed session; only the verdicts on the chain, PKIX's and
/// DANE's, are carried over.
pub(crate) fn examine_again(
    leaf: &X509Ref,
    before: &Examined,
    names: &[ServerName],
    rules: &Rules,
) -> Examined {
    let chain = before
        .checks
        .iter()
        .find(|c| c.check == CheckKind::Chain)
        .cloned()
        .unwrap_or_else(|| {
            let why = "the chain's verdict was not kept".to_owned();
            Check::new(CheckKind::Chain, Some(why))
        });
    let dane = before.checks.iter().find(|c| c.check == CheckKind::Dane);
    examine(Known {
        leaf,
        chain,
        dane: dane.map(|check| (check.clone(), before.identity.evidence.clone())),
        root: before.root.clone(),
        out_of_time: None,
        names,
        rules,
        role: Role::Client,
        certificate: Some(Arc::clone(&before.certificate)),
        holds_until: before.holds_until,
    })
}

/// What is known before the checks that need no chain are run.
struct Known<'a> {
    leaf: &'a X509Ref,
    chain: Check,
    /// With its evidence.
    dane: Option<(Check, Option<String>)>,
    root: Option<String>,
    out_of_time: Option<String>,
    names: &'a [ServerName],
    rules: &'a Rules,
    role: Role,
    certificate: Option<Arc<Certificate>>,
    holds_until: Instant,
}

fn examine(known: Known<'_>) -> Examined {
    let Known {
        leaf,
        chain,
        dane,
        root,
        out_of_time,
        names,
        rules,
        role,
        certificate,
        holds_until,
    } = known;
    let certificate = certificate.unwrap_or_else(|| Arc::new(describe(leaf)));
    let matched = names.iter().find_map(|name| match name {
        ServerName::Dns(dns) => ffi::check_host(leaf, dns).map(|m| (name, m)),
        ServerName::Ip(ip) => ffi::check_ip(leaf, *ip).then(|| (name, ip.to_string())),
    });
    let name = Check::new(
        CheckKind::Name,
        matched.is_none().then(|| {
            let wanted: Vec<String> = names.iter().map(ToString::to_string).collect();
            let has = match certificate.names.as_slice() {
                [] => "no names (subjectAltName)".to_owned(),
                names => names.join(", "),
            };
            format!("the certificate has {has}; wanted {}", wanted.join(" or "))
        }),
    );
    let time = Check::new(CheckKind::Time, out_of_time.or_else(|| leaf_out_of_time(leaf)));
    let mut checks = match role {
        Role::Client => vec![chain, name, time],
        // No name is expected of a client.
        Role::Server => vec![chain, time],
    };
    let pkix = checks.iter().all(|check| check.ok);
    let by_dane = dane
        .as_ref()
        .filter(|(check, _)| check.ok)
        .map(|(_, evidence)| evidence.clone());
    checks.extend(dane.map(|(check, _)| check));
    checks.extend(rules.demand.as_ref().and_then(|demand| demand.sts.clone()));
    let mut pinned = None;
    if rules.level == Level::Fingerprint {
        pinned = [&certificate.sha256, &certificate.spki_sha256]
            .into_iter()
            .find(|have| rules.fingerprints.iter().any(|pin| hex(pin) == **have))
            .cloned();
        checks.push(Check::new(
            CheckKind::Fingerprint,
            pinned.is_none().then(|| {
                format!(
                    "neither the certificate's SHA-256 {} nor its key's {} was given",
                    certificate.sha256, certificate.spki_sha256
                )
            }),
        ));
    }
    let identity = match (pinned, matched) {
        (None, _) if by_dane.is_some() => Identity {
            proven_by: Some(ProvenBy::Dane),
            name: names.first().map(ToString::to_string),
            evidence: by_dane.flatten(),
        },
        (Some(pin), _) => Identity {
            proven_by: Some(ProvenBy::Fingerprint),
            name: match role {
                Role::Client => names.first().map(ToString::to_string),
                Role::Server => certificate.names.first().cloned(),
            },
            evidence: Some(format!("sha256 {pin}")),
        },
        (None, None) if role == Role::Server && pkix => Identity {
            proven_by: Some(ProvenBy::Pkix),
            name: Some(certificate.names.first().unwrap_or(&certificate.subject).clone()),
            evidence: Some(match &root {
                Some(root) => format!("{}, by {root}", certificate.subject),
                None => certificate.subject.clone(),
            }),
        },
        (None, Some((name, matched))) if pkix => Identity {
            proven_by: Some(ProvenBy::Pkix),
            name: Some(name.to_string()),
            evidence: Some(match &root {
                Some(root) => format!("{matched}, by {root}"),
                None => matched,
            }),
        },
        _ => Identity::default(),
    };
    Examined {
        checks,
        identity,
        certificate,
        holds_until,
        root,
    }
}

/// Faults for which a larger store could make up: the issuer is not found.
fn lacks_issuer(code: c_int) -> bool {
    matches!(
        code,
        openssl_sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
            | openssl_sys::X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
            | openssl_sys::X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
            | openssl_sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | openssl_sys::X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
    )
}

fn is_time(code: c_int) -> bool {
    matches!(
        code,
        openssl_sys::X509_V_ERR_CERT_NOT_YET_VALID | openssl_sys::X509_V_ERR_CERT_HAS_EXPIRED
    )
}

fn explain((code, depth): (c_int, c_int)) -> String {
    let text = ffi::verify_result(code).error_string();
    match depth {
        0 => text.to_owned(),
        depth => format!("{text} (certificate {depth} of the chain)"),
    }
}

/// Which of several words counts, as in the documentation.
const RANK: [Word; 3] = [Word::Untrusted, Word::Expired, Word::NameMismatch];

fn word(code: c_int) -> Word {
    match code {
        openssl_sys::X509_V_ERR_HOSTNAME_MISMATCH | openssl_sys::X509_V_ERR_IP_ADDRESS_MISMATCH => {
            Word::NameMismatch
        }
        code if is_time(code) => Word::Expired,
        _ => Word::Untrusted,
    }
}

/// Everything but the dates; names and pins are not OpenSSL's business here.
fn chain(log: &[ffi::Fault]) -> Check {
    let fault = log.iter().find(|(code, _)| !is_time(*code));
    Check::new(CheckKind::Chain, fault.map(|f| explain(*f)))
}

fn in_time(log: &[ffi::Fault]) -> Option<String> {
    log.iter().find(|(code, _)| is_time(*code)).map(|f| explain(*f))
}

/// OpenSSL does not get as far as the dates where the chain is broken, or where the session is
/// resumed; the leaf's are looked at in any case.
fn leaf_out_of_time(leaf: &X509Ref) -> Option<String> {
    let Ok(now) = Asn1Time::days_from_now(0) else {
        return Some("the time of day is not known".to_owned());
    };
    if leaf.not_before() > now {
        Some(format!("not valid before {}", leaf.not_before()))
    } else if leaf.not_after() < now {
        Some(format!("expired on {}", leaf.not_after()))
    } else {
        None
    }
}

fn root_of(ctx: &X509StoreContextRef) -> Option<String> {
    let chain = ctx.chain()?;
    chain.iter().last().map(|root| distinguished(root.subject_name()))
}

fn describe(cert: &X509Ref) -> Certificate {
    let digest = |bytes: Option<Vec<u8>>| {
        bytes
            .and_then(|b| openssl::hash::hash(MessageDigest::sha256(), &b).ok())
            .map(|d| hex(&d))
            .unwrap_or_default()
    };
    let names = cert.subject_alt_names().map_or_else(Vec::new, |names| {
        names
            .iter()
            .take(64)
            .filter_map(
                |name| match (name.dnsname().or_else(|| name.email()), name.ipaddress()) {
                    (Some(text), _) => Some(printable(text.as_bytes())),
                    (None, Some(ip)) => address(ip),
                    _ => None,
                },
            )
            .collect()
    });
    Certificate {
        subject: distinguished(cert.subject_name()),
        issuer: distinguished(cert.issuer_name()),
        names,
        not_after: rfc3339(cert.not_after()),
        sha256: digest(cert.to_der().ok()),
        spki_sha256: digest(ffi::spki(cert)),
    }
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

fn distinguished(name: &X509NameRef) -> String {
    let parts: Vec<String> = name
        .entries()
        .take(32)
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().to_string().map_or_else(
                |_| printable(entry.data().as_slice()),
                |text| printable(text.as_bytes()),
            );
            format!("{key}={value}")
        })
        .collect();
    parts.join(", ")
}

fn rfc3339(time: &Asn1TimeRef) -> Option<String> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let since = epoch.diff(time).ok()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds(&since)?))?;
    Some(humantime::format_rfc3339_seconds(at).to_string())
}

/// An hour at most, and not longer than the certificate, the TLSA records or the MTA-STS policy.
fn holds_until(cert: &X509Ref, rules: &Rules) -> Instant {
    let now = Instant::now();
    let time = MAX_AGE.min(Duration::from_secs(seconds_left(cert)));
    let until = now.checked_add(time).unwrap_or(now);
    let demanded = rules.demand.as_ref().and_then(|demand| demand.holds_until);
    demanded.map_or(until, |demanded| demanded.min(until))
}

/// Seconds until the certificate ends; 0 if it has.
fn seconds_left(cert: &X509Ref) -> u64 {
    Asn1Time::days_from_now(0)
        .and_then(|now| now.diff(cert.not_after()))
        .ok()
        .and_then(|left| seconds(&left))
        .unwrap_or(0)
}

/// `None` if negative.
fn seconds(time: &TimeDiff) -> Option<u64> {
    let seconds = i64::from(time.days)
        .checked_mul(86_400)?
        .checked_add(i64::from(time.secs))?;
    u64::try_from(seconds).ok()
}

/// What one connection's callbacks share with whoever drives it.
pub(crate) type Found = Mutex<Option<Examined>>;
