//! The words by which a caller says how much TLS it wants.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::outcome::Effective;

/// How much TLS is wanted. The words are the API in every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Level {
    /// Never TLS; nothing is read or sent.
    None,
    /// TLS if it is offered, with anyone; else in clear, with the reason.
    May,
    /// TLS with anyone, or an error.
    Encrypt,
    /// TLS with a certificate or key of a given SHA-256, or an error.
    Fingerprint,
    /// TLS with a PKIX chain and the right name (RFC 9525), or an error.
    Verify,
    /// As secure TLSA records say (RFC 7672): without them as [`May`](Level::May); where none of them can be used,
    /// TLS with anyone. A look-up that fails is an error.
    Dane,
    /// TLS with a peer that secure TLSA records prove, or an error.
    DaneOnly,
    /// The best that the peer's domain asks for: DANE, else MTA-STS (RFC 8461), else as [`May`](Level::May).
    Opportunistic,
    /// The default: TLS with a proven peer, or an error. DANE where it is published and can be used, else as
    /// [`Verify`](Level::Verify); the name must not come from insecure DNS, unless MTA-STS vouches for it.
    Strict,
}

impl Level {
    /// Every level.
    pub const ALL: [Level; 9] = [
        Level::None,
        Level::May,
        Level::Encrypt,
        Level::Fingerprint,
        Level::Verify,
        Level::Dane,
        Level::DaneOnly,
        Level::Opportunistic,
        Level::Strict,
    ];

    /// The word as other programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::May => "may",
            Level::Encrypt => "encrypt",
            Level::Fingerprint => "fingerprint",
            Level::Verify => "verify",
            Level::Dane => "dane",
            Level::DaneOnly => "dane-only",
            Level::Opportunistic => "opportunistic",
            Level::Strict => "strict",
        }
    }

    /// Reads a word.
    ///
    /// # Errors
    /// `invalid` for what is no level.
    pub fn from_word(word: &str) -> Result<Self> {
        if let Some(level) = Self::ALL.into_iter().find(|l| l.as_str() == word) {
            return Ok(level);
        }
        let words: Vec<&str> = Self::ALL.iter().map(|l| l.as_str()).collect();
        Err(Error::invalid(format!(
            "no level is called \"{}\"; it is one of: {}",
            crate::text::printable(word.as_bytes()),
            words.join(" ")
        )))
    }

    /// What the level comes to without a domain's wishes.
    pub fn effective(self) -> Effective {
        match self {
            Level::None => Effective::None,
            Level::May | Level::Dane | Level::Opportunistic => Effective::May,
            Level::Encrypt => Effective::Encrypt,
            Level::Fingerprint => Effective::Fingerprint,
            Level::Verify | Level::Strict => Effective::Verify,
            Level::DaneOnly => Effective::Dane,
        }
    }

    /// Whether the level can come to this, by what the peer's domain asks for.
    pub(crate) fn may_become(self, effective: Effective) -> bool {
        use Effective::{Dane, Encrypt, May, Sts, Verify};
        match self {
            Level::None
            | Level::May
            | Level::Encrypt
            | Level::Fingerprint
            | Level::Verify
            | Level::DaneOnly => effective == self.effective(),
            // Beside SMTP, records of which none can be used mean PKIX (RFC 7673 §3.1).
            Level::Dane => matches!(effective, May | Encrypt | Verify | Dane),
            Level::Opportunistic => matches!(effective, May | Encrypt | Verify | Dane | Sts),
            Level::Strict => matches!(effective, Verify | Dane | Sts),
        }
    }

    /// Whether TLSA records count.
    pub(crate) fn heeds_dane(self) -> bool {
        self.may_become(Effective::Dane)
    }

    /// Whether MTA-STS counts.
    pub(crate) fn heeds_sts(self) -> bool {
        self.may_become(Effective::Sts)
    }
}

/// The oldest TLS version to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum MinTls {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

impl MinTls {
    /// Reads `1.0`, `1.1`, `1.2`, `1.3`, also with `TLSv` before it.
    ///
    /// # Errors
    /// `invalid` for anything else.
    pub fn from_word(word: &str) -> Result<Self> {
        match word.strip_prefix("TLSv").unwrap_or(word) {
            "1" | "1.0" => Ok(Self::Tls10),
            "1.1" => Ok(Self::Tls11),
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(Error::invalid(format!(
                "\"{}\" is no TLS version; it is one of: 1.0 1.1 1.2 1.3",
                crate::text::printable(word.as_bytes())
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_levels() {
        for level in Level::ALL {
            assert_eq!(Level::from_word(level.as_str()).unwrap(), level);
        }
        assert_eq!(
            Level::from_word("Strict").unwrap_err().word(),
            crate::Word::Invalid
        );
    }
}
