//! From a level and what the peer's domain publishes to what one connection must meet. The whole decision is
//! one table, `tests/demands.tsv`, played below; the look-ups are others' business.

use crate::dane;
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::outcome::{Effective, NameFrom};

/// What MTA-STS says of one MX host.
#[derive(Clone, Debug)]
pub(crate) enum Sts {
    /// There is no policy, or one of mode `none`.
    Nothing,
    /// There is one, and it could not be had; this is why.
    Unavailable(String),
    /// Failures are to be reported, and nothing else.
    Testing,
    /// The policy holds, and names this host, or not: this is why not.
    Enforce(std::result::Result<(), String>),
}

/// How the host was found, and by which protocol it is spoken to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) name_from: NameFrom,
    /// Between mail servers RFC 7672 holds, elsewhere RFC 7673.
    pub(crate) smtp: bool,
}

/// What a level has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) effective: Effective,
    /// MTA-STS must hold beside DANE.
    pub(crate) sts_too: bool,
}

/// What must hold with this host.
///
/// # Errors
/// Why nothing that could happen on a connection to it would do.
pub(crate) fn settle(level: Level, way: Way, dane: &dane::Found, sts: &Sts) -> Result<Settled> {
    let plain = |effective| {
        Ok(Settled {
            effective,
            sts_too: false,
        })
    };
    if !level.heeds_dane() {
        return plain(level.effective());
    }
    let insecure = way.name_from == NameFrom::InsecureDns;
    let usable = match dane {
        // RFC 7672 §2.2: a look-up that fails is not "no records"; delay, never downgrade.
        dane::Found::Failed(e) => return Err(e.clone()),
        dane::Found::Usable(_) => true,
        dane::Found::Unusable | dane::Found::Nothing => false,
    };
    // The host is bound by its records, but who says that it is the domain's? Only a proven name counts
    // as DANE; else MTA-STS is heard as well.
    let alone = usable && !insecure;
    if let (Sts::Enforce(named), true, false) = (sts, level.heeds_sts(), alone) {
        return match named {
            Ok(()) => Ok(Settled {
                effective: if usable { Effective::Dane } else { Effective::Sts },
                sts_too: usable,
            }),
            Err(why) => Err(Error::new(Word::StsMismatch, why.clone())),
        };
    }
    if let (Sts::Unavailable(why), true, Level::Strict) = (sts, insecure, level) {
        return Err(Error::new(
            Word::StsUnavailable,
            format!("the MX records are not signed, and the MTA-STS policy cannot be had: {why}"),
        ));
    }
    // That nothing vouches for an insecure name is the verdict's to say, after all else that is wrong.
    match (level, dane) {
        (_, dane::Found::Usable(_)) => plain(Effective::Dane),
        (Level::DaneOnly, dane::Found::Unusable) => {
            Err(no_dane("none of its secure TLSA records can be used"))
        }
        (Level::DaneOnly, _) => Err(no_dane("it has no secure TLSA records")),
        (Level::Strict, _) => plain(Effective::Verify),
        // Secure records that nobody can use still say that there is TLS (RFC 7672 §2.2).
        (_, dane::Found::Unusable) if way.smtp => plain(Effective::Encrypt),
        // RFC 7673 §4
        (_, dane::Found::Unusable) => plain(Effective::Verify),
        _ => plain(Effective::May),
    }
}

fn no_dane(why: &str) -> Error {
    Error::new(
        Word::NoDane,
        format!("the level wants DANE for this host, and {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Proof, Tlsa};

    const TABLE: &str = include_str!("../../tests/demands.tsv");

    fn record(usage: u8) -> Tlsa {
        Tlsa {
            usage,
            selector: 1,
            matching: 1,
            data: vec![1; 32],
        }
    }

    #[test]
    fn the_whole_table() {
        let rows: Vec<Vec<&str>> = TABLE
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(|l| l.split('\t').collect())
            .collect();
        let mut used = vec![false; rows.len()];
        let names = [
            NameFrom::Caller,
            NameFrom::Dnssec,
            NameFrom::MtaSts,
            NameFrom::InsecureDns,
        ];
        let danes = [
            ("usable", dane::Found::of(&[record(3), record(1)], Proof::Secure)),
            ("unusable", dane::Found::of(&[record(1)], Proof::Secure)),
            ("nothing", dane::Found::of(&[], Proof::Secure)),
            ("nothing", dane::Found::of(&[record(3)], Proof::Insecure)),
            ("nothing", dane::Found::of(&[record(3)], Proof::Indeterminate)),
            ("bogus", dane::Found::of(&[record(3)], Proof::Bogus)),
            (
                "failed",
                dane::Found::Failed(Error::new(Word::LookupFailed, "SERVFAIL")),
            ),
        ];
        let stss = [
            ("nothing", Sts::Nothing),
            ("unavailable", Sts::Unavailable("404".into())),
            ("testing", Sts::Testing),
            ("enforce", Sts::Enforce(Ok(()))),
            ("other-mx", Sts::Enforce(Err("it names others".into()))),
        ];
        for level in Level::ALL {
            for name_from in names {
                for smtp in [true, false] {
                    for (dane_word, dane) in &danes {
                        for (sts_word, sts) in &stss {
                            let protocol = if smtp { "smtp" } else { "other" };
                            let columns = [level.as_str(), protocol, name_from.as_str(), dane_word, sts_word];
                            let fits = |row: &Vec<&str>| {
                                assert_eq!(row.len(), 6, "{row:?}");
                                row.iter()
                                    .zip(&columns)
                                    .all(|(p, value)| *p == "*" || p.split('|').any(|p| p == *value))
                            };
                            let matching: Vec<usize> = (0..rows.len()).filter(|&i| fits(&rows[i])).collect();
                            assert_eq!(matching.len(), 1, "{columns:?} is met by rows {matching:?}");
                            used[matching[0]] = true;
                            let word = match settle(level, Way { name_from, smtp }, dane, sts) {
                                Ok(settled) => {
                                    assert!(level.may_become(settled.effective), "{columns:?}");
                                    let json = serde_json::to_string(&settled.effective).unwrap();
                                    let too = if settled.sts_too { "+sts" } else { "" };
                                    format!("{}{too}", json.trim_matches('"'))
                                }
                                Err(e) => e.word().as_str().to_owned(),
                            };
                            assert_eq!(word, rows[matching[0]][5], "{columns:?}");
                        }
                    }
                }
            }
        }
        for (row, used) in rows.iter().zip(used) {
            assert!(used, "nothing meets row {row:?}");
        }
    }
}
