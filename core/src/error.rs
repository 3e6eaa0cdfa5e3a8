//! One error type. Its [`Word`] is the same in Rust, C, Python and the command; it carries the
//! outcome so far, so that whoever reports a failure can say how far things went.

use std::fmt;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::sys::Stopped;

/// What went wrong, in one word that never changes. Other programs are written against these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Word {
    /// The server does not do TLS here, and the level requires it.
    NotOffered,
    /// The server said no: in its greeting, or to an upgrade that it had advertised.
    Refused,
    /// The peer does not keep to the protocol.
    Malformed,
    /// Plaintext behind the go-ahead: an attack (CVE-2011-0411, CVE-2021-22947).
    Injected,
    /// A line above 64 KiB, or a dialog above 256 KiB.
    TooLong,
    /// The peer closed the connection without the protocol's own good-bye.
    Closed,
    /// A host that once proved its name over TLS does not offer TLS now.
    Stripped,
    /// The TLS handshake failed.
    Handshake,
    /// No given fingerprint is the certificate's or its key's.
    FingerprintMismatch,
    /// The TLSA records do not match the certificate (RFC 7672).
    DaneMismatch,
    /// The level wants DANE and there are no usable TLSA records.
    NoDane,
    /// The certificate chain does not end at a trusted root.
    Untrusted,
    /// The certificate is not valid now.
    Expired,
    /// The certificate is for another name (RFC 9525).
    NameMismatch,
    /// The name came from insecure DNS and proves nothing.
    NameInsecure,
    /// A look-up failed.
    LookupFailed,
    /// DNSSEC validation says that the answer is forged or broken.
    DnsBogus,
    /// The domain takes no mail (RFC 7505).
    NullMx,
    /// The MTA-STS policy could not be had.
    StsUnavailable,
    /// No MX host matches the MTA-STS policy.
    StsMismatch,
    /// The deadline passed.
    Timeout,
    /// The operating system reported an error on the connection.
    Io,
    /// The caller's input is wrong; the message says what to do.
    Invalid,
    /// This build or this protocol cannot do that.
    Unsupported,
    /// A fault in this library.
    Bug,
}

impl Word {
    /// Every word, in the order of the documentation.
    pub const ALL: [Word; 25] = [
        Word::NotOffered,
        Word::Refused,
        Word::Malformed,
        Word::Injected,
        Word::TooLong,
        Word::Closed,
        Word::Stripped,
        Word::Handshake,
        Word::FingerprintMismatch,
        Word::DaneMismatch,
        Word::NoDane,
        Word::Untrusted,
        Word::Expired,
        Word::NameMismatch,
        Word::NameInsecure,
        Word::LookupFailed,
        Word::DnsBogus,
        Word::NullMx,
        Word::StsUnavailable,
        Word::StsMismatch,
        Word::Timeout,
        Word::Io,
        Word::Invalid,
        Word::Unsupported,
        Word::Bug,
    ];

    /// The word as other programs see it, for example `name-mismatch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::NotOffered => "not-offered",
            Word::Refused => "refused",
            Word::Malformed => "malformed",
            Word::Injected => "injected",
            Word::TooLong => "too-long",
            Word::Closed => "closed",
            Word::Stripped => "stripped",
            Word::Handshake => "handshake",
            Word::FingerprintMismatch => "fingerprint-mismatch",
            Word::DaneMismatch => "dane-mismatch",
            Word::NoDane => "no-dane",
            Word::Untrusted => "untrusted",
            Word::Expired => "expired",
            Word::NameMismatch => "name-mismatch",
            Word::NameInsecure => "name-insecure",
            Word::LookupFailed => "lookup-failed",
            Word::DnsBogus => "dns-bogus",
            Word::NullMx => "null-mx",
            Word::StsUnavailable => "sts-unavailable",
            Word::StsMismatch => "sts-mismatch",
            Word::Timeout => "timeout",
            Word::Io => "io",
            Word::Invalid => "invalid",
            Word::Unsupported => "unsupported",
            Word::Bug => "bug",
        }
    }

    /// Whether an error of this word is temporary unless something else is known.
    fn temporary(self) -> bool {
        matches!(
            self,
            Word::Closed
                | Word::Stripped
                | Word::LookupFailed
                | Word::DnsBogus
                | Word::StsUnavailable
                | Word::StsMismatch
                | Word::Timeout
                | Word::Io
        )
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call failed: a word for programs, a sentence for people, and the outcome so far.
#[derive(Clone, Debug)]
pub struct Error {
    word: Word,
    message: String,
    temporary: bool,
    os_error: Option<i32>,
    unclean_end: bool,
    stopped: bool,
    outcome: Option<Box<Outcome>>,
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(word: Word, message: impl Into<String>) -> Self {
        Self {
            word,
            message: message.into(),
            temporary: word.temporary(),
            os_error: None,
            unclean_end: false,
            stopped: false,
            outcome: None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Word::Invalid, message)
    }

    /// For what the operating system says; `doing` is what was attempted ("connect to …").
    pub(crate) fn io(doing: &str, e: &std::io::Error) -> Self {
        let word = if e.kind() == std::io::ErrorKind::TimedOut {
            Word::Timeout
        } else {
            Word::Io
        };
        Self {
            os_error: e.raw_os_error(),
            stopped: e.get_ref().is_some_and(|inner| inner.is::<Stopped>()),
            ..Self::new(word, format!("{doing}: {e}"))
        }
    }

    pub(crate) fn temporary_if(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }

    /// The same error, told in other words.
    pub(crate) fn retold(&self, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..self.clone()
        }
    }

    /// Adds a note to the outcome.
    pub(crate) fn note(&mut self, note: &str) {
        if let Some(outcome) = &mut self.outcome {
            outcome.notes.push(note.to_owned());
        }
    }

    pub(crate) fn with_outcome(mut self, mut outcome: Outcome) -> Self {
        outcome.error = Some((self.word, self.message.clone()));
        self.outcome = Some(Box::new(outcome));
        self
    }

    /// The peer closed its side of a TLS session without close_notify.
    pub(crate) fn cut_short() -> Self {
        let message = "the peer closed the connection without close_notify: \
                       what came before may be cut short";
        Self {
            unclean_end: true,
            ..Self::new(Word::Closed, message)
        }
    }

    /// For the bindings: an error found on their side of the border, such as an argument that is
    /// NULL (`invalid`) or a panic (`bug`).
    pub fn at_border(word: Word, message: impl Into<String>) -> Self {
        Self::new(word, message)
    }

    /// The word for programs.
    pub fn word(&self) -> Word {
        self.word
    }

    /// The sentence for people. Bytes of the peer's are escaped.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// True if the same call may succeed later with nobody changing anything.
    pub fn temporary(&self) -> bool {
        self.temporary
    }

    /// The operating system's error number, where there was one.
    pub fn os_error(&self) -> Option<i32> {
        self.os_error
    }

    /// True for `closed` where a TLS session ended without close_notify, but without an alert or a
    /// reset either: some protocols' own end tells whether anything is missing.
    pub fn unclean_end(&self) -> bool {
        self.unclean_end
    }

    /// True where the caller's own hook ended the call: nothing else is to be tried then.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// What had happened by then; `None` if the call failed before anything was tried.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        let kind = match e.word {
            Word::Timeout => std::io::ErrorKind::TimedOut,
            Word::Closed => std::io::ErrorKind::UnexpectedEof,
            Word::Invalid => std::io::ErrorKind::InvalidInput,
            Word::Unsupported => std::io::ErrorKind::Unsupported,
            _ => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_writes_the_same_words() {
        for word in Word::ALL {
            assert_eq!(serde_json::to_string(&word).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn temporary_is_what_may_mend_itself() {
        let words: Vec<&str> = Word::ALL
            .iter()
            .filter(|w| w.temporary())
            .map(|w| w.as_str())
            .collect();
        assert_eq!(
            words,
            [
                "closed",
                "stripped",
                "lookup-failed",
                "dns-bogus",
                "sts-unavailable",
                "sts-mismatch",
                "timeout",
                "io"
            ]
        );
    }
}
