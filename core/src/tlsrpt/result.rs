//! From what did happen to what is reported: each attempt that an [`Outcome`] tells of becomes an [`Event`].
//!
//! A policy succeeds where a TLS session came about that meets it (RFC 8460 §4.2.1), and fails otherwise, also
//! where it is only tested or none is found and the mail went all the same: a stripped STARTTLS is what the
//! domain wants to hear of (§1). A policy that was not applied, because DANE outranks it or because the
//! connection broke before anyone spoke of TLS (§4.3.4), does neither. Every failed check is told, as failures
//! are not exclusive (§4). The whole mapping is `tests/tlsrpt/results.tsv`, played below.

use super::event::{Event, Failure, Policy, PolicyResult, ResultType};
use crate::error::{Error, Word};
use crate::outcome::{
    Because, Channel, CheckKind, Domain, DomainPolicy, Effective, Outcome, PolicyType, Role, Speaker, StsMode,
};
use crate::text::printable;

/// Lines of a policy that are told; each is cut at 512 bytes.
const MAX_LINES: usize = 256;
const MAX_REASON: usize = 200;

impl Outcome {
    /// What is to be reported of this attempt and those before it (RFC 8460), in their order. Nothing where
    /// the domain did not ask for reports, or was not asked whether it does.
    ///
    /// A resumed session counts as one: its name and dates were checked anew.
    pub fn tlsrpt_events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        collect(self, self.domain.as_ref(), &mut events);
        events
    }
}

impl Error {
    /// As [`Outcome::tlsrpt_events`], of a connection that failed.
    pub fn tlsrpt_events(&self) -> Vec<Event> {
        self.outcome().map(Outcome::tlsrpt_events).unwrap_or_default()
    }
}

fn collect(outcome: &Outcome, domain: Option<&Domain>, events: &mut Vec<Event>) {
    for earlier in &outcome.attempts {
        collect(earlier, earlier.domain.as_ref().or(domain), events);
    }
    events.extend(domain.and_then(|domain| event(outcome, domain)));
}

fn event(outcome: &Outcome, domain: &Domain) -> Option<Event> {
    let record = domain.tlsrpt.clone().filter(|_| outcome.role == Role::Client)?;
    let attempt = Attempt::new(outcome);
    let mut policies: Vec<PolicyResult> = Vec::new();
    let mut found = false;
    for policy in domain.policies.iter().filter(|p| is_policy(p)) {
        found = true;
        let failures = match policy.kind {
            PolicyType::Tlsa => attempt.tlsa(policy),
            _ => attempt.sts(policy),
        };
        policies.extend(failures.map(|failures| PolicyResult {
            policy: named(policy),
            failures,
        }));
    }
    // What no single policy is to blame for, unless one already is.
    let blamed = policies.iter().any(|p| !p.success());
    let without = if blamed {
        None
    } else {
        attempt.without_policy(found)
    };
    policies.extend(without.map(|failures| PolicyResult {
        policy: Policy {
            kind: PolicyType::NoPolicyFound,
            string: Vec::new(),
            domain: domain.name.clone(),
            mx_host: Vec::new(),
        },
        failures,
    }));
    (!policies.is_empty()).then(|| Event {
        domain: domain.name.clone(),
        record,
        policies,
    })
}

/// RFC 8461 §5: mode "none" is to be treated as no policy.
fn is_policy(policy: &DomainPolicy) -> bool {
    let none = policy.mode == Some(StsMode::None) && policy.failure.is_none();
    policy.kind != PolicyType::NoPolicyFound && !none && !policy.listed
}

/// DNS servers shuffle records, a report must not: the same policy is one row.
fn named(policy: &DomainPolicy) -> Policy {
    let shown = |lines: &[String]| {
        let lines = lines.iter().take(MAX_LINES);
        lines.map(|l| printable(l.as_bytes())).collect::<Vec<_>>()
    };
    let mut string = policy.string.clone();
    if policy.kind == PolicyType::Tlsa {
        string.sort();
    }
    Policy {
        kind: policy.kind,
        string: shown(&string),
        domain: policy.domain.clone(),
        mx_host: shown(&policy.mx_host),
    }
}

/// How far it came with TLS.
enum Came {
    /// There was a TLS session, or one that was given up for its certificate: the checks tell.
    ToTls,
    /// There was none, for this reason.
    NotToTls(ResultType),
    /// TLS was not asked for, or something else came first (§4.3.4: transient errors need no report).
    NotSoFar,
}

struct Attempt<'a> {
    outcome: &'a Outcome,
    word: Option<Word>,
    came: Came,
    /// Who and where, with which every failure begins.
    template: Failure,
}

impl<'a> Attempt<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        let banner = outcome.transcript.iter().find(|l| l.from == Speaker::S);
        let helo = banner.and_then(|l| l.text.strip_prefix("220"));
        let helo = helo.and_then(|l| l.trim_start_matches('-').split_whitespace().next());
        let word = outcome.error.as_ref().map(|(word, _)| *word);
        Self {
            outcome,
            word,
            came: came(outcome, word),
            template: Failure {
                sending_mta_ip: outcome.source,
                receiving_mx_hostname: outcome.peer.name.clone(),
                receiving_mx_helo: helo.filter(|h| h.len() <= 255).map(str::to_owned),
                receiving_ip: outcome.peer.address,
                ..Failure::bare(ResultType::ValidationFailure)
            },
        }
    }

    fn failure(&self, result_type: ResultType, reason: Option<&str>) -> Failure {
        Failure {
            result_type,
            failure_reason_code: reason.map(|r| r.chars().take(MAX_REASON).collect()),
            ..self.template.clone()
        }
    }

    /// The failure of the whole attempt, in the error's words.
    fn ended(&self, result_type: ResultType) -> Failure {
        let because = self.outcome.because.map(Because::as_str);
        match &self.outcome.error {
            Some((word, message)) => self.failure(result_type, Some(&format!("{word}: {message}"))),
            None => self.failure(result_type, because),
        }
    }

    /// What stood in the way of using the policy at all.
    fn unusable(&self, policy: &DomainPolicy) -> Option<Failure> {
        let result = policy.failure?;
        let result = ResultType::from_word(result).unwrap_or(ResultType::ValidationFailure);
        Some(self.failure(result, policy.why.as_deref()))
    }

    /// The failed ones of these checks; `None` if none failed and not all were run.
    fn checks(&self, kinds: &[(CheckKind, ResultType)]) -> Option<Vec<Failure>> {
        let run = || {
            kinds
                .iter()
                .map(|(kind, result)| (self.outcome.check(*kind), *result))
        };
        let failures: Vec<Failure> = run()
            .filter_map(|(check, result)| Some((check.filter(|c| !c.ok)?, result)))
            .map(|(check, result)| self.failure(result, check.why.as_deref()))
            .collect();
        (!failures.is_empty() || run().all(|(check, _)| check.is_some())).then_some(failures)
    }

    fn tlsa(&self, policy: &DomainPolicy) -> Option<Vec<Failure>> {
        // §4.3.1: "the certificate presented did not adhere to the constraints specified in the … DANE policy".
        const CHECKS: [(CheckKind, ResultType); 1] = [(CheckKind::Dane, ResultType::CertificateHostMismatch)];
        let unusable = self.unusable(policy);
        match (&self.came, unusable) {
            (Came::NotToTls(result), unusable) => {
                Some(unusable.into_iter().chain([self.ended(*result)]).collect())
            }
            (_, Some(unusable)) => Some(vec![unusable]),
            (Came::ToTls, None) => self.checks(&CHECKS).or_else(|| {
                let no = self.word == Some(Word::DaneMismatch);
                no.then(|| vec![self.ended(ResultType::CertificateHostMismatch)])
            }),
            (Came::NotSoFar, None) => None,
        }
    }

    fn sts(&self, policy: &DomainPolicy) -> Option<Vec<Failure>> {
        const CHECKS: [(CheckKind, ResultType); 4] = [
            (CheckKind::Sts, ResultType::ValidationFailure),
            (CheckKind::Chain, ResultType::CertificateNotTrusted),
            (CheckKind::Time, ResultType::CertificateExpired),
            (CheckKind::Name, ResultType::CertificateHostMismatch),
        ];
        if let Some(unusable) = self.unusable(policy) {
            let ended = match self.came {
                Came::NotToTls(result) => Some(self.ended(result)),
                _ => None,
            };
            return Some([Some(unusable), ended].into_iter().flatten().collect());
        }
        if self.word == Some(Word::StsMismatch) {
            return Some(vec![self.ended(ResultType::ValidationFailure)]);
        }
        // RFC 8461 §2: what DANE decides, MTA-STS does not; then it is applied only if it was looked at.
        if self.outcome.effective == Effective::Dane && self.outcome.check(CheckKind::Sts).is_none() {
            return None;
        }
        match self.came {
            Came::NotToTls(result) => Some(vec![self.ended(result)]),
            Came::ToTls => self.checks(&CHECKS),
            Came::NotSoFar => None,
        }
    }

    /// Under no policy any TLS will do, unless the sender itself wanted more and gave up.
    fn without_policy(&self, found: bool) -> Option<Vec<Failure>> {
        let result = match self.word {
            Some(Word::NoDane) => Some(ResultType::DaneRequired),
            Some(Word::DnsBogus) => Some(ResultType::DnssecInvalid),
            Some(Word::StsUnavailable) => Some(ResultType::StsPolicyFetchError),
            _ if found => None,
            Some(Word::Untrusted) => Some(ResultType::CertificateNotTrusted),
            Some(Word::Expired) => Some(ResultType::CertificateExpired),
            Some(Word::NameMismatch | Word::DaneMismatch) => Some(ResultType::CertificateHostMismatch),
            Some(Word::FingerprintMismatch | Word::NameInsecure | Word::StsMismatch) => {
                Some(ResultType::ValidationFailure)
            }
            _ => match self.came {
                Came::NotToTls(result) => Some(result),
                Came::ToTls => return Some(Vec::new()),
                Came::NotSoFar => None,
            },
        };
        result.map(|result| vec![self.ended(result)])
    }
}

fn came(outcome: &Outcome, word: Option<Word>) -> Came {
    let not_supported = Came::NotToTls(ResultType::StarttlsNotSupported);
    let failed = Came::NotToTls(ResultType::ValidationFailure);
    match (outcome.channel, outcome.because) {
        (Some(Channel::Tls), _) => return Came::ToTls,
        (Some(Channel::Plain), Some(Because::NotOffered | Because::Refused)) => return not_supported,
        // The attempt before this one tells of the handshake; this one did not ask for TLS.
        (Some(Channel::Plain), Some(Because::HandshakeFailed)) if !outcome.attempts.is_empty() => {
            return Came::NotSoFar
        }
        (Some(Channel::Plain), Some(Because::HandshakeFailed)) => return failed,
        (Some(Channel::Plain), _) => return Came::NotSoFar,
        (None, _) => {}
    }
    // Once STARTTLS was offered, a connection that breaks may have been broken for it.
    let offered = outcome.offered == Some(true);
    match word {
        Some(Word::NotOffered | Word::Stripped) => not_supported,
        Some(Word::Refused) if offered => not_supported,
        Some(Word::Malformed | Word::Injected | Word::TooLong | Word::Handshake) => failed,
        Some(Word::Closed | Word::Timeout | Word::Io) if offered => failed,
        Some(
            Word::FingerprintMismatch
            | Word::DaneMismatch
            | Word::Untrusted
            | Word::Expired
            | Word::NameMismatch
            | Word::NameInsecure,
        ) => Came::ToTls,
        Some(
            Word::Refused
            | Word::Closed
            | Word::Timeout
            | Word::Io
            | Word::NoDane
            | Word::LookupFailed
            | Word::DnsBogus
            | Word::NullMx
            | Word::StsUnavailable
            | Word::StsMismatch
            | Word::Invalid
            | Word::Unsupported
            | Word::Bug,
        )
        | None => Came::NotSoFar,
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
