//! What did happen on a connection, told by a session or by an error.

use std::ffi::{c_char, CString};
use std::sync::OnceLock;

use starttls::{Because, Error, Outcome, ProvenBy, Session};

use crate::handle::{borrowed, c_string, get, Opaque};

/// What did happen on a connection. It belongs to its session or error; only that of `starttls_check`
/// is the caller's.
pub struct starttls_outcome {
    _opaque: [u8; 0],
}

impl Opaque for starttls_outcome {
    type Inner = Told;
    const NAME: &'static str = "starttls_outcome";
    const MARK: u64 = 0x7374_746c_736f_7574;
}

/// Who tells. The outcome is not copied out of it: an idle session should stay small.
pub(crate) enum Teller {
    Session(Box<Session<'static>>),
    Error(Error),
    Check(Box<Outcome>),
}

/// An outcome and its strings, which are made when they are first asked for.
pub(crate) struct Told {
    pub(crate) by: Teller,
    texts: OnceLock<Box<Texts>>,
    json: OnceLock<CString>,
}

struct Texts {
    because: Option<CString>,
    proven_by: Option<CString>,
    name: Option<CString>,
    version: Option<CString>,
    cipher: Option<CString>,
    suspicions: Vec<CString>,
}

impl Told {
    pub(crate) fn new(by: Teller) -> Self {
        Self {
            by,
            texts: OnceLock::new(),
            json: OnceLock::new(),
        }
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.by {
            // Before that it still changes.
            Teller::Session(session) => session.is_established().then(|| session.outcome()),
            Teller::Check(outcome) => Some(outcome),
            Teller::Error(e) => e.outcome(),
        }
    }

    fn texts(&self) -> Option<&Texts> {
        let outcome = self.outcome()?;
        Some(self.texts.get_or_init(|| Box::new(Texts::of(outcome))))
    }
}

impl Texts {
    fn of(outcome: &Outcome) -> Self {
        let tls = outcome.tls.as_ref();
        Self {
            because: outcome.because.map(Because::as_str).map(c_string),
            proven_by: outcome.identity.proven_by.map(ProvenBy::as_str).map(c_string),
            name: outcome.identity.name.as_deref().map(c_string),
            version: tls.map(|t| c_string(&t.version)),
            cipher: tls.map(|t| c_string(&t.cipher)),
            suspicions: outcome.suspicions.iter().map(|s| c_string(s)).collect(),
        }
    }
}

unsafe fn string(outcome: *const starttls_outcome, which: fn(&Texts) -> Option<&CString>) -> *const c_char {
    // SAFETY: the caller's.
    let told = unsafe { get(outcome) };
    borrowed(told.ok().and_then(Told::texts).and_then(which))
}

/// Whether the connection runs over TLS. On the outcome of an error: whether it had come to that.
/// False for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_encrypted(outcome: *const starttls_outcome) -> bool {
    guard!(get(outcome)
        .ok()
        .and_then(Told::outcome)
        .is_some_and(Outcome::encrypted))
}

/// Why the connection is in clear: `not-asked` (level `none`), `not-offered`, `refused`,
/// `handshake-failed`. NULL where it is not.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_because(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.because.as_ref()))
}

/// What proved who the peer is: `pkix` (a chain to a trusted root, and the name) or `fingerprint`.
/// NULL where nothing did, which under `may` and `encrypt` is no error.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_identity(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.proven_by.as_ref()))
}

/// The name that was proven; NULL where none was.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_identity_name(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.name.as_ref()))
}

/// For example `TLSv1.3`; NULL in clear.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_tls_version(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.version.as_ref()))
}

/// OpenSSL's name of the cipher; NULL in clear.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_cipher(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.cipher.as_ref()))
}

/// Signs of an interception, for logs; nothing is decided by them. The i-th, from 0; NULL past the
/// end.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_suspicion(
    outcome: *const starttls_outcome,
    i: usize,
) -> *const c_char {
    guard!(borrowed(
        get(outcome)
            .ok()
            .and_then(Told::texts)
            .and_then(|t| t.suspicions.get(i))
    ))
}

/// All of it as one line of JSON, with stable keys: the dialog in clear, every check that was run,
/// the certificate, times. What the peer said is escaped. NULL for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_json(outcome: *const starttls_outcome) -> *const c_char {
    guard!(borrowed(get(outcome).ok().and_then(|told| {
        let outcome = told.outcome()?;
        Some(told.json.get_or_init(|| c_string(&outcome.to_json())))
    })))
}
