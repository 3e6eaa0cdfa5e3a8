//! What did happen on a connection, told by a session or by an error.

use std::ffi::{c_char, CString};
use std::sync::OnceLock;

use starttls::{Because, CheckKind, Effective, Error, NameFrom, Outcome, ProvenBy, Session};

use crate::handle::{borrowed, c_string, get, text, Handle, Opaque};

/// What did happen on a connection. It belongs to its session, error or later outcome; only that of
/// `starttls_check` is the caller's.
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
    /// An earlier attempt, part of another outcome.
    Earlier(Box<Outcome>),
}

/// An outcome and its strings, which are made when they are first asked for.
pub(crate) struct Told {
    pub(crate) by: Teller,
    texts: OnceLock<Box<Texts>>,
    json: OnceLock<CString>,
    earlier: OnceLock<Box<[Handle<starttls_outcome>]>>,
}

struct Texts {
    effective: Option<CString>,
    host: Option<CString>,
    name_from: Option<CString>,
    error_word: Option<CString>,
    error_message: Option<CString>,
    notes: Vec<CString>,
    events: Vec<CString>,
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
            earlier: OnceLock::new(),
        }
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.by {
            // Before that it still changes.
            Teller::Session(session) => session.is_established().then(|| session.outcome()),
            Teller::Check(outcome) | Teller::Earlier(outcome) => Some(outcome),
            Teller::Error(e) => e.outcome(),
        }
    }

    fn texts(&self) -> Option<&Texts> {
        let outcome = self.outcome()?;
        Some(self.texts.get_or_init(|| Box::new(Texts::of(outcome))))
    }

    fn earlier(&self, i: usize) -> Option<&Handle<starttls_outcome>> {
        let attempts = &self.outcome()?.attempts;
        let told = |outcome: &Outcome| Handle::new(Told::new(Teller::Earlier(Box::new(outcome.clone()))));
        self.earlier
            .get_or_init(|| attempts.iter().map(told).collect())
            .get(i)
    }
}

impl Texts {
    fn of(outcome: &Outcome) -> Self {
        let tls = outcome.tls.as_ref();
        let error = outcome.error();
        Self {
            effective: effective(outcome.effective).map(c_string),
            host: outcome.peer.name.as_deref().map(c_string),
            name_from: outcome.peer.name_from.map(NameFrom::as_str).map(c_string),
            error_word: error.map(|(word, _)| c_string(word.as_str())),
            error_message: error.map(|(_, message)| c_string(message)),
            notes: outcome.notes.iter().map(|n| c_string(n)).collect(),
            events: outcome
                .tlsrpt_events()
                .iter()
                .map(|e| c_string(&e.to_json()))
                .collect(),
            because: outcome.because.map(Because::as_str).map(c_string),
            proven_by: outcome.identity.proven_by.map(ProvenBy::as_str).map(c_string),
            name: outcome.identity.name.as_deref().map(c_string),
            version: tls.map(|t| c_string(&t.version)),
            cipher: tls.map(|t| c_string(&t.cipher)),
            suspicions: outcome.suspicions.iter().map(|s| c_string(s)).collect(),
        }
    }
}

fn effective(effective: Effective) -> Option<&'static str> {
    Some(match effective {
        Effective::None => "none",
        Effective::May => "may",
        Effective::Encrypt => "encrypt",
        Effective::Fingerprint => "fingerprint",
        Effective::Verify => "verify",
        Effective::Dane => "dane",
        Effective::Sts => "sts",
        _ => return None,
    })
}

fn check_of(word: &str) -> Option<CheckKind> {
    Some(match word {
        "chain" => CheckKind::Chain,
        "name" => CheckKind::Name,
        "time" => CheckKind::Time,
        "dane" => CheckKind::Dane,
        "fingerprint" => CheckKind::Fingerprint,
        "sts" => CheckKind::Sts,
        _ => return None,
    })
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

/// What the level came to with this host: `none`, `may`, `encrypt`, `fingerprint`, `verify`, `dane` or `sts`. NULL
/// for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_effective(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.effective.as_ref()))
}

/// The host that was asked for, in A-labels, or its address. NULL as server.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_host(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.host.as_ref()))
}

/// Where its name comes from: `caller`, `dnssec`, `mta-sts` or `insecure-dns`. NULL as server.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_name_from(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.name_from.as_ref()))
}

/// How a check went that was run: `chain`, `name`, `time`, `dane`, `fingerprint` or `sts`. `ok` or `failed`; NULL
/// where it was not run, and for other words.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_check(
    outcome: *const starttls_outcome,
    check: *const c_char,
) -> *const c_char {
    guard!({
        let kind = text(check, "check").ok().and_then(check_of);
        let outcome = get(outcome).ok().and_then(Told::outcome);
        match kind.zip(outcome).and_then(|(kind, outcome)| outcome.check(kind)) {
            Some(check) if check.ok => c"ok".as_ptr(),
            Some(_) => c"failed".as_ptr(),
            None => std::ptr::null(),
        }
    })
}

/// The outcome of an earlier host that was tried, or of the same where `starttls_connect` has dialled again in clear.
/// The i-th, from 0; NULL past the end. It belongs to this outcome.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_attempt(
    outcome: *const starttls_outcome,
    i: usize,
) -> *const starttls_outcome {
    guard!(get(outcome)
        .ok()
        .and_then(|told| told.earlier(i))
        .map_or(std::ptr::null(), Handle::lend))
}

/// The word of the error with which this attempt ended; NULL where it did not fail.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_error_word(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.error_word.as_ref()))
}

/// That error's sentence for people.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_error_message(outcome: *const starttls_outcome) -> *const c_char {
    guard!(string(outcome, |t| t.error_message.as_ref()))
}

/// What else a reader should know, such as that no resolver here is trusted to validate DNSSEC. The i-th, from 0; NULL
/// past the end.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_note(outcome: *const starttls_outcome, i: usize) -> *const c_char {
    guard!(borrowed(
        get(outcome)
            .ok()
            .and_then(Told::texts)
            .and_then(|t| t.notes.get(i))
    ))
}

/// What is to be reported of this attempt and those before it (RFC 8460), each session one line of JSON, for
/// `starttls_reports_add` or `starttls_tlsrpt_send`, here or in another process. The i-th, from 0; NULL past the end: there
/// is none where the domain does not ask for reports, or was not asked (`starttls_policy_set_ask_tlsrpt`).
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_tlsrpt_event(
    outcome: *const starttls_outcome,
    i: usize,
) -> *const c_char {
    guard!(borrowed(
        get(outcome)
            .ok()
            .and_then(Told::texts)
            .and_then(|t| t.events.get(i))
    ))
}

/// What proved who the peer is: `pkix` (a chain to a trusted root, and the name), `dane` (a certificate or key that
/// secure TLSA records name) or `fingerprint`. NULL where nothing did, which under `may` and `encrypt` is no error.
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
