//! Why a dialog does not end in TLS.

use crate::error::Word;
use crate::outcome::Because;
use crate::text::printable;
use crate::wire::line::trim_end;

/// Why a dialog does not end in TLS.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No upgrade, but the connection is fit for more: plain under `may`.
    NoUpgrade {
        because: Because,
        why: String,
        temporary: bool,
    },
    /// The connection is of no use; an error under every level.
    Failed {
        word: Word,
        why: String,
        temporary: bool,
    },
}

impl Refusal {
    /// The server advertises no upgrade, or refuses one that it did not advertise.
    pub(crate) fn not_offered(why: impl Into<String>) -> Self {
        Refusal::NoUpgrade {
            because: Because::NotOffered,
            why: why.into(),
            temporary: false,
        }
    }

    /// A no to the upgrade command: `refused` if it was advertised, else `not-offered`.
    pub(crate) fn no(offered: Option<bool>, answer: &[u8], temporary: bool) -> Self {
        let answer = printable(trim_end(answer));
        if offered == Some(true) {
            Refusal::NoUpgrade {
                because: Because::Refused,
                why: format!("the server refuses the upgrade that it advertised: {answer}"),
                temporary,
            }
        } else {
            Self::not_offered(format!("the server does not offer the upgrade: {answer}"))
        }
    }

    /// The greeting says no.
    pub(crate) fn unwelcome(answer: &[u8], temporary: bool) -> Self {
        Refusal::Failed {
            word: Word::Refused,
            why: format!(
                "the server refuses the connection: {}",
                printable(trim_end(answer))
            ),
            temporary,
        }
    }

    /// The server says good-bye in the middle.
    pub(crate) fn bye(answer: &[u8]) -> Self {
        Refusal::Failed {
            word: Word::Closed,
            why: format!("the server says good-bye: {}", printable(trim_end(answer))),
            temporary: true,
        }
    }

    /// The peer does not keep to the protocol.
    pub(crate) fn malformed(what: &str, said: &[u8]) -> Self {
        Refusal::Failed {
            word: Word::Malformed,
            why: format!("the peer sent {what}: \"{}\"", printable(trim_end(said))),
            temporary: false,
        }
    }
}
