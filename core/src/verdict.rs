//! The one decision: what must hold is compared with what did happen. Its whole matrix is
//! `tests/policies.tsv`, played below.

use crate::error::Word;
use crate::level::Level;
use crate::outcome::{Because, Channel, Check, CheckKind, Effective, NameFrom, Outcome, Role};
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

/// Whether the outcome meets the rules; the error is the first thing that is missing.
pub(crate) fn judge_rules(rules: &Rules, outcome: &Outcome) -> Result<(), Shortfall> {
    match (rules.level.effective(), outcome.channel) {
        (Effective::None | Effective::May, Some(Channel::Plain)) => Ok(()),
        (Effective::None, _) => Err(Shortfall::new(Word::Bug, "TLS was not to be used")),
        (_, Some(Channel::Tls)) => judge_peer(rules, outcome.role, &outcome.checks),
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

/// Whether the checks of a TLS peer are those that the rules want. A check that was not run never
/// counts as passed.
pub(crate) fn judge_peer(rules: &Rules, role: Role, checks: &[Check]) -> Result<(), Shortfall> {
    let failed = |kind: CheckKind| match checks.iter().find(|c| c.check == kind) {
        Some(check) if check.ok => None,
        Some(check) => Some(check.why.clone().unwrap_or_default()),
        None => Some("it was not checked".to_owned()),
    };
    let short = |kind: CheckKind, word: Word, what: &str| match failed(kind) {
        None => Ok(()),
        Some(why) => Err(Shortfall::new(word, format!("{what}: {why}"))),
    };
    match rules.level.effective() {
        Effective::None | Effective::May | Effective::Encrypt => Ok(()),
        Effective::Fingerprint => short(
            CheckKind::Fingerprint,
            Word::FingerprintMismatch,
            "the certificate is none of those given",
        ),
        Effective::Dane => short(
            CheckKind::Dane,
            Word::DaneMismatch,
            "the certificate is none of those that the TLSA records name",
        ),
        Effective::Verify | Effective::Sts => {
            short(
                CheckKind::Chain,
                Word::Untrusted,
                "the certificate is not trusted",
            )?;
            short(CheckKind::Time, Word::Expired, "the certificate is not valid now")?;
            if role == Role::Server {
                // A server has no name to expect of its client; the outcome tells which it has.
                return Ok(());
            }
            short(
                CheckKind::Name,
                Word::NameMismatch,
                "the certificate is for another name",
            )?;
            if rules.level == Level::Strict && rules.name_from == NameFrom::InsecureDns {
                return Err(Shortfall::new(
                    Word::NameInsecure,
                    "the name that was checked comes from insecure DNS, so an attacker could have chosen it",
                ));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Peer;
    use crate::policy::Policy;

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

    /// Every combination of level and outcome, as the columns of the matrix.
    fn all() -> Vec<(Rules, Outcome, Vec<&'static str>)> {
        let mut all = Vec::new();
        let mut add = |role: Role, level: Level, channel, because, checks: [usize; 4], from: NameFrom| {
            let (because_word, because): (&str, Option<Because>) = BECAUSE[because];
            let policy = Policy::new(level).name_from(from);
            let peer = Peer {
                name: Some("a.test".into()),
                name_from: Some(from),
                address: None,
                port: None,
            };
            let mut outcome = Outcome::begin(Some("smtp"), role, level, peer);
            outcome.channel = channel;
            outcome.because = because;
            let kinds = [
                CheckKind::Fingerprint,
                CheckKind::Chain,
                CheckKind::Time,
                CheckKind::Name,
            ];
            for (kind, result) in kinds.into_iter().zip(checks) {
                if let Some(ok) = RESULTS[result].1 {
                    outcome.checks.push(Check {
                        check: kind,
                        ok,
                        why: None,
                    });
                }
            }
            let channel_word = match channel {
                Some(Channel::Tls) => "tls",
                Some(Channel::Plain) => "plain",
                None => "-",
            };
            let role_word = match role {
                Role::Client => "client",
                Role::Server => "server",
            };
            let mut columns = vec![role_word, level.as_str(), channel_word, because_word];
            columns.extend(checks.map(|c| RESULTS[c].0));
            columns.push(from.as_str());
            all.push(((*policy.rules).clone(), outcome, columns));
        };
        let pairs = [Role::Client, Role::Server].map(|role| Level::ALL.map(|level| (role, level)));
        for (role, level) in pairs.concat() {
            for from in NAMES {
                for because in 0..BECAUSE.len() {
                    add(role, level, Some(Channel::Plain), because, [2; 4], from);
                }
                add(role, level, None, 4, [2; 4], from);
                for n in 0..81 {
                    let checks = [n % 3, n / 3 % 3, n / 9 % 3, n / 27];
                    add(role, level, Some(Channel::Tls), 4, checks, from);
                }
            }
        }
        all
    }

    #[test]
    fn the_whole_matrix() {
        let rows: Vec<Vec<&str>> = MATRIX
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| l.split('\t').collect())
            .collect();
        let mut used = vec![false; rows.len()];
        for (rules, outcome, columns) in all() {
            let matching: Vec<usize> = (0..rows.len())
                .filter(|&i| {
                    assert_eq!(rows[i].len(), 10, "{:?}", rows[i]);
                    rows[i]
                        .iter()
                        .zip(&columns)
                        .all(|(pattern, value)| *pattern == "*" || pattern.split('|').any(|p| p == *value))
                })
                .collect();
            assert_eq!(matching.len(), 1, "{columns:?} is met by rows {matching:?}");
            used[matching[0]] = true;
            let verdict = match judge_rules(&rules, &outcome) {
                Ok(()) => "met",
                Err(shortfall) => shortfall.word.as_str(),
            };
            assert_eq!(verdict, rows[matching[0]][9], "{columns:?}");
        }
        for (row, used) in rows.iter().zip(used) {
            assert!(used, "no outcome meets row {row:?}");
        }
    }
}
