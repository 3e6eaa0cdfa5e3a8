//! The one decision: what must hold is compared with what did happen. Its whole matrix is
//! `tests/policies.tsv`, played below.

use crate::error::Word;
use crate::level::Level;
use crate::outcome::{
    Because, Channel, Check, CheckKind, Effective, NameFrom, Outcome, PolicyType, Role, StsMode,
};
use crate::rules::Rules;

/// What is missing. Only [`judge`](crate::judge) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// The word for programs.
    pub word: Word,
    /// The sentence for people.
    pub message: String,
}

impl Shortfall {
    fn new(word: Word, message: impl Into<String>) -> Self {
        Self {
            word,
            message: message.into(),
        }
    }
}

/// What a connection must meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) level: Level,
    /// What the level came to by what the peer's domain asks for.
    pub(crate) effective: Effective,
    pub(crate) role: Role,
    pub(crate) name_from: NameFrom,
    /// MTA-STS must hold beside DANE: insecure MX records named the host.
    pub(crate) sts_too: bool,
}

impl Wanted {
    /// Of a connection to come.
    pub(crate) fn by(rules: &Rules, role: Role) -> Self {
        Self {
            level: rules.level,
            effective: rules.effective(),
            role,
            name_from: rules.name_from,
            sts_too: rules.demand.as_ref().is_some_and(|demand| demand.sts_too),
        }
    }

    /// Of one that has been made, by its own account.
    fn of(level: Level, outcome: &Outcome) -> Self {
        let name_from = outcome.peer.name_from.unwrap_or(NameFrom::Caller);
        let enforced = outcome.domain.iter().flat_map(|d| &d.policies).any(|policy| {
            policy.kind == PolicyType::Sts
                && policy.mode == Some(StsMode::Enforce)
                && policy.failure.is_none()
        });
        Self {
            level,
            effective: outcome.effective,
            role: outcome.role,
            name_from,
            sts_too: level.heeds_sts()
                && outcome.effective == Effective::Dane
                && name_from == NameFrom::InsecureDns
                && enforced,
        }
    }
}

/// Whether the outcome meets the level; the error is the first thing that is missing.
pub(crate) fn judge_outcome(level: Level, outcome: &Outcome) -> Result<(), Shortfall> {
    let wanted = Wanted::of(level, outcome);
    if !level.may_become(wanted.effective) {
        return Err(Shortfall::new(
            Word::Bug,
            format!(
                "level \"{}\" cannot come to what the outcome says",
                level.as_str()
            ),
        ));
    }
    match (wanted.effective, outcome.channel) {
        (Effective::None | Effective::May, Some(Channel::Plain)) => Ok(()),
        (Effective::None, _) => Err(Shortfall::new(Word::Bug, "TLS was not to be used")),
        (_, Some(Channel::Tls)) => judge_peer(wanted, &outcome.checks),
        (_, Some(Channel::Plain)) => Err(match outcome.because {
            Some(Because::Refused) => {
                Shortfall::new(Word::Refused, "the server refuses TLS, which the level requires")
            }
            Some(Because::HandshakeFailed) => Shortfall::new(
                Word::Handshake,
                "the TLS handshake failed, and the level requires TLS",
            ),
            Some(Because::NotOffered | Because::NotAsked) | None => Shortfall::new(
                Word::NotOffered,
                "the session is in clear, and the level requires TLS",
            ),
        }),
        (_, None) => Err(Shortfall::new(Word::Closed, "there is no session")),
    }
}

/// Whether the checks of a TLS peer are those that are wanted. A check that was not run never counts as
/// passed.
pub(crate) fn judge_peer(wanted: Wanted, checks: &[Check]) -> Result<(), Shortfall> {
    let effective = wanted.effective;
    let short = |kind: CheckKind, word: Word, what: &str| {
        let (word, why) = match checks.iter().find(|c| c.check == kind) {
            Some(check) if check.ok => return Ok(()),
            Some(check) => (check.word.unwrap_or(word), check.why.clone().unwrap_or_default()),
            None => (word, "it was not checked".to_owned()),
        };
        Err(Shortfall::new(word, format!("{what}: {why}")))
    };
    if effective == Effective::Fingerprint {
        return short(
            CheckKind::Fingerprint,
            Word::FingerprintMismatch,
            "the certificate is none of those given",
        );
    }
    if effective == Effective::Dane {
        short(
            CheckKind::Dane,
            Word::DaneMismatch,
            "the TLSA records do not prove the certificate",
        )?;
    }
    let sts = effective == Effective::Sts || wanted.sts_too;
    if effective == Effective::Verify || sts {
        short(
            CheckKind::Chain,
            Word::Untrusted,
            "the certificate is not trusted",
        )?;
        short(CheckKind::Time, Word::Expired, "the certificate is not valid now")?;
        if wanted.role == Role::Server {
            // A server has no name to expect of its client; the outcome tells which it has.
            return Ok(());
        }
        short(
            CheckKind::Name,
            Word::NameMismatch,
            "the certificate is for another name",
        )?;
    }
    let knows_name = matches!(wanted.level, Level::Strict | Level::DaneOnly);
    if knows_name && wanted.name_from == NameFrom::InsecureDns && !wanted.sts_too {
        return Err(Shortfall::new(
            Word::NameInsecure,
            "the name that was checked comes from insecure DNS, so an attacker could have chosen it",
        ));
    }
    if sts {
        short(
            CheckKind::Sts,
            Word::StsMismatch,
            "the MTA-STS policy does not name this host",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Domain, DomainPolicy, Peer};

    const MATRIX: &str = include_str!("../../tests/policies.tsv");
    const BECAUSE: [(&str, Option<Because>); 5] = [
        ("not-asked", Some(Because::NotAsked)),
        ("not-offered", Some(Because::NotOffered)),
        ("refused", Some(Because::Refused)),
        ("handshake-failed", Some(Because::HandshakeFailed)),
        ("-", None),
    ];
    const RESULTS: [(&str, Option<bool>); 3] = [("ok", Some(true)), ("no", Some(false)), ("-", None)];
    const NAMES: [NameFrom; 4] = [
        NameFrom::Caller,
        NameFrom::Dnssec,
        NameFrom::MtaSts,
        NameFrom::InsecureDns,
    ];

    const KINDS: [CheckKind; 6] = [
        CheckKind::Fingerprint,
        CheckKind::Dane,
        CheckKind::Chain,
        CheckKind::Time,
        CheckKind::Name,
        CheckKind::Sts,
    ];
    const EFFECTIVES: [(&str, Effective); 7] = [
        ("none", Effective::None),
        ("may", Effective::May),
        ("encrypt", Effective::Encrypt),
        ("fingerprint", Effective::Fingerprint),
        ("verify", Effective::Verify),
        ("dane", Effective::Dane),
        ("sts", Effective::Sts),
    ];

    fn rows() -> Vec<Vec<&'static str>> {
        MATRIX
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| l.split('\t').collect())
            .collect()
    }

    /// Holds one outcome against the matrix: exactly one row is for it, and the verdict is that row's.
    fn play(rows: &[Vec<&str>], used: &mut [bool], level: Level, outcome: &Outcome, columns: &[&str]) {
        let fits = |row: &Vec<&str>| {
            assert_eq!(row.len(), 14, "{row:?}");
            row.iter()
                .zip(columns)
                .all(|(pattern, value)| *pattern == "*" || pattern.split('|').any(|p| p == *value))
        };
        let matching: Vec<usize> = (0..rows.len()).filter(|&i| fits(&rows[i])).collect();
        assert_eq!(matching.len(), 1, "{columns:?} is met by rows {matching:?}");
        used[matching[0]] = true;
        let verdict = match judge_outcome(level, outcome) {
            Ok(()) => "met",
            Err(shortfall) => shortfall.word.as_str(),
        };
        assert_eq!(verdict, rows[matching[0]][13], "{columns:?}");
    }

    #[test]
    fn the_whole_matrix() {
        let rows = rows();
        let mut used = vec![false; rows.len()];
        for (role_word, role) in [("client", Role::Client), ("server", Role::Server)] {
            for level in Level::ALL {
                for (effective_word, effective) in EFFECTIVES {
                    for (from, enforced) in NAMES.iter().flat_map(|n| [(*n, false), (*n, true)]) {
                        let peer = Peer {
                            name: Some("a.test".into()),
                            name_from: Some(from),
                            address: None,
                            port: None,
                        };
                        let mut begun = Outcome::begin(Some("smtp"), role, level, peer);
                        begun.effective = effective;
                        begun.domain = enforced.then(enforcing);
                        let mut try_one =
                            |outcome: &Outcome, channel: &str, because: &str, checks: [usize; 6]| {
                                let mut columns =
                                    vec![role_word, level.as_str(), effective_word, channel, because];
                                columns.extend(checks.map(|c| RESULTS[c].0));
                                columns.push(if enforced { "yes" } else { "no" });
                                columns.push(from.as_str());
                                play(&rows, &mut used, level, outcome, &columns);
                            };
                        for (word, because) in BECAUSE {
                            let mut outcome = begun.clone();
                            outcome.channel = Some(Channel::Plain);
                            outcome.because = because;
                            try_one(&outcome, "plain", word, [2; 6]);
                        }
                        try_one(&begun, "-", "-", [2; 6]);
                        // What a level cannot come to is a fault of ours, whatever the checks say.
                        let all = if level.may_become(effective) { 729 } else { 1 };
                        for n in 0..all {
                            let checks = [n % 3, n / 3 % 3, n / 9 % 3, n / 27 % 3, n / 81 % 3, n / 243];
                            let mut outcome = begun.clone();
                            outcome.channel = Some(Channel::Tls);
                            for (kind, result) in KINDS.into_iter().zip(checks) {
                                if let Some(ok) = RESULTS[result].1 {
                                    let why_not = (!ok).then(String::new);
                                    outcome.checks.push(Check::new(kind, why_not));
                                }
                            }
                            try_one(&outcome, "tls", "-", checks);
                        }
                    }
                }
            }
        }
        for (row, used) in rows.iter().zip(used) {
            assert!(used, "no outcome meets row {row:?}");
        }
    }

    fn enforcing() -> Domain {
        Domain {
            name: "example.test".into(),
            mx: None,
            policies: vec![DomainPolicy {
                kind: PolicyType::Sts,
                domain: "example.test".into(),
                mode: Some(StsMode::Enforce),
                string: Vec::new(),
                mx_host: Vec::new(),
                failure: None,
                why: None,
                listed: false,
            }],
            tlsrpt: None,
            lookups: 0,
        }
    }
}
