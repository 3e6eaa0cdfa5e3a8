//! What must hold on a connection.
//!
//! A policy that C holds is in one of three states: open for setters, frozen by its first use, or
//! spoiled by a setter that failed, with that setter's error.

pub mod cache;
pub mod domain;
pub mod lookup;

use std::ffi::{c_char, c_void};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use starttls::{Error, Level, MinTls, NameFrom, Policy, Result, Word};

use crate::error::starttls_error;
use crate::handle::{bytes, free, get, give, invalid, path, text, Opaque};

/// What must hold on a connection: a level, and what goes with it.
pub struct starttls_policy {
    _opaque: [u8; 0],
}

impl Opaque for starttls_policy {
    type Inner = Mutex<State>;
    const NAME: &'static str = "starttls_policy";
    const MARK: u64 = 0x7374_746c_7370_6f6c;
}

pub(crate) struct State {
    policy: Policy,
    frozen: bool,
    spoiled: Option<Error>,
    /// It is part of another handle, and not the caller's to free.
    lent: bool,
}

impl State {
    fn new(policy: Policy) -> Mutex<Self> {
        Mutex::new(Self {
            policy,
            frozen: false,
            spoiled: None,
            lent: false,
        })
    }

    /// A policy that another handle lends out, to be used and derived from.
    pub(crate) fn lent(policy: Policy) -> Mutex<Self> {
        Mutex::new(Self {
            policy,
            frozen: true,
            spoiled: None,
            lent: true,
        })
    }
}

/// What the program wants handed to its functions.
pub(crate) struct Userdata(pub(crate) *mut c_void);

// SAFETY: it is never looked at here; the program's functions, which are called by several threads, know what it is.
unsafe impl Send for Userdata {}
// SAFETY: as above.
unsafe impl Sync for Userdata {}

/// A panic in a setter has poisoned the lock and so spoiled the policy.
fn sound(policy: &Mutex<State>) -> Result<MutexGuard<'_, State>> {
    let state = policy
        .lock()
        .map_err(|_| Error::at_border(Word::Bug, "a fault in libstarttls has spoiled this policy"))?;
    match &state.spoiled {
        Some(e) => Err(e.clone()),
        None => Ok(state),
    }
}

/// The policy for a use, which freezes it.
pub(crate) unsafe fn used(policy: *const starttls_policy) -> Result<Policy> {
    // SAFETY: the caller's.
    let mut state = sound(unsafe { get(policy) }?)?;
    state.frozen = true;
    Ok(state.policy.clone())
}

unsafe fn set(policy: *mut starttls_policy, change: impl FnOnce(Policy) -> Result<Policy>) -> Result<bool> {
    // SAFETY: the caller's.
    let mut state = sound(unsafe { get(policy) }?)?;
    let changed = if state.frozen {
        Err(invalid(
            "this policy is in use and can no longer be changed; derive one from it",
        ))
    } else {
        change(state.policy.clone())
    };
    match changed {
        Ok(policy) => state.policy = policy,
        Err(e) => return Err(state.spoiled.insert(e).clone()),
    }
    Ok(true)
}

/// A policy of this level, with a time-out of 30 seconds and the system's trust store:
///
/// | level           | TLS        | who the peer must be                                        |
/// |-----------------|------------|-------------------------------------------------------------|
/// | `none`          | never      |                                                             |
/// | `may`           | if offered | anyone                                                      |
/// | `encrypt`       | required   | anyone                                                      |
/// | `fingerprint`   | required   | has a certificate or key of a given SHA-256                 |
/// | `verify`        | required   | has a certificate of a trusted root for the host's name     |
/// | `dane`          | depends    | as the host's secure TLSA records say; without: as `may`    |
/// | `dane-only`     | required   | as the host's secure TLSA records say; without: `no-dane`   |
/// | `opportunistic` | depends    | as its domain asks: by DANE, else MTA-STS, else as `may`    |
/// | `strict`        | required   | by DANE where it can be had, else as `verify`; and the name |
/// |                 |            | not from insecure DNS                                       |
///
/// Where secure TLSA records are there and none can be used, `dane` and `opportunistic` require TLS, with anyone.
/// A look-up of TLSA records that fails is an error that may mend itself, never less TLS. They are looked up for `smtp`,
/// and for other protocols at `dane` and `dane-only`; by event loops and for an `SSL` of the program's own they are
/// handed in (`starttls_policy_add_tlsa`, or the policy of `starttls_routes_policy`): nothing waits there. MTA-STS is
/// a domain's: `starttls_connect_domain`.
///
/// `invalid` for another word. Free it with `starttls_policy_free`.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_new(
    level: *const c_char,
    error: *mut *mut starttls_error,
) -> *mut starttls_policy {
    guard!(error, {
        let level = Level::from_word(text(level, "level")?)?;
        Ok(give(State::new(Policy::new(level))))
    })
}

/// A policy for one connection, made from one for all of them. Cheap: it shares what was read and
/// built for the first, and its resumable TLS sessions, unless a file or a TLS version is set on it.
/// What is set on it does not touch the first, which is frozen and may be freed before it.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_derive(
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_policy {
    guard!(error, Ok(give(State::new(used(policy)?.derive()))))
}

/// Trust the certificates of this PEM file, and with it no longer the system's. `invalid` if it
/// cannot be read; what is in it is looked at by the first use or by `starttls_policy_ready`.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_ca_file(
    policy: *mut starttls_policy,
    file: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.ca_file(path(file, "file")?)))
}

/// Trust the certificates of this directory with hash links (`openssl rehash`), and with it no
/// longer the system's. `invalid` if it is no directory.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_ca_path(
    policy: *mut starttls_policy,
    directory: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.ca_path(path(directory, "directory")?)))
}

/// Read the whole trust store in `starttls_policy_ready`, directories and the system's bundle included,
/// for programs that chroot afterwards and no longer find them file by file.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_preload_ca(
    policy: *mut starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.preload_ca())))
}

/// Show this certificate (PEM, the leaf first, then its chain) and use this key (PEM) if the server
/// asks for one. Both may be the same file. `invalid` if one cannot be read.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_client_cert(
    policy: *mut starttls_policy,
    certificate: *const c_char,
    key: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            p.client_cert(path(certificate, "certificate")?, path(key, "key")?)
        })
    )
}

/// As server, show this certificate (PEM, the leaf first, then its chain) with this key (PEM); both may
/// be the same file. May be called several times: a client that asks for a host by name (SNI) is shown
/// the certificate with that name, all others the first. `invalid` if a file cannot be read.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_server_cert(
    policy: *mut starttls_policy,
    certificate: *const c_char,
    key: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            p.server_cert(path(certificate, "certificate")?, path(key, "key")?)
        })
    )
}

/// As `starttls_policy_set_server_cert`, with the PEM itself instead of its files.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_server_cert_pem(
    policy: *mut starttls_policy,
    certificate: *const c_void,
    certificate_length: usize,
    key: *const c_void,
    key_length: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let certificate = bytes(certificate, certificate_length, "certificate")?;
            Ok(p.server_cert_pem(certificate, bytes(key, key_length, "key")?))
        })
    )
}

/// As server, show the certificates of this directory, each to the clients that ask for its host:
/// `HOST.pem` (certificate, chain and key in one), or `HOST.crt` and `HOST.key`; in `_.DOMAIN.pem` the
/// `_` stands for any one label. Others are shown the first of `starttls_policy_set_server_cert` or,
/// without one, the first file by name. All are read at once, by the first use or by
/// `starttls_policy_ready`, and again by `starttls_policy_reload`.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_server_cert_dir(
    policy: *mut starttls_policy,
    directory: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| p.server_cert_dir(path(directory, "directory")?))
    )
}

/// As server at level `encrypt`, ask the client for a certificate; none, or one that is not trusted, is
/// no error, and the outcome tells. At `verify` and `fingerprint` one is demanded without this.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_ask_client_cert(
    policy: *mut starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.ask_client_cert())))
}

/// As server, reads certificates, keys and CA anew, for this policy and all derived from it: sessions
/// that exist go on, and tickets given out stay good. Who forks calls it in the parent. If it fails,
/// what was read before stays in use.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_reload(
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, used(policy)?.reload().map(|()| true))
}

/// Accept no TLS version older than `1.0`, `1.1`, `1.2` or `1.3`. If it is not set: 1.2, but under
/// `may` and `opportunistic` whatever the peers have in common, since weak TLS beats clear.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_min_tls(
    policy: *mut starttls_policy,
    version: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            Ok(p.min_tls(MinTls::from_word(text(version, "version")?)?))
        })
    )
}

/// The time for resolving, dialling, dialog and handshake together, in milliseconds; 30000 if it is
/// not set. `invalid` if it is 0 or more than a day.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_timeout(
    policy: *mut starttls_policy,
    milliseconds: u32,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| p.timeout(Duration::from_millis(milliseconds.into())))
    )
}

/// Accept a certificate whose own SHA-256, or whose public key's (SubjectPublicKeyInfo), is this: 64
/// hex digits, colons allowed. May be called several times. Only level `fingerprint` takes them, and
/// it needs one: else the first use is `invalid`.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_add_fingerprint(
    policy: *mut starttls_policy,
    sha256: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| p.fingerprint(text(sha256, "fingerprint")?))
    )
}

/// How the client calls itself in EHLO and LHLO: a host name in A-labels or an address literal. If
/// it is not set: the connection's own address, such as `[192.0.2.1]`; nothing is looked up.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_client_name(
    policy: *mut starttls_policy,
    name: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.client_name(text(name, "client name")?)))
}

/// Accept a certificate for this name too, beside the host's. May be called several times.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_add_name(
    policy: *mut starttls_policy,
    name: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.name(text(name, "name")?)))
}

/// Send this server name (SNI) in the handshake instead of the host's.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_sni(
    policy: *mut starttls_policy,
    name: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.sni(text(name, "server name")?)))
}

/// Dial this IPv4 or IPv6 address; the host is then only what is checked, and nothing is looked up.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_address(
    policy: *mut starttls_policy,
    address: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let address = text(address, "address")?;
            let address: IpAddr = address
                .parse()
                .map_err(|_| invalid("the address is no IPv4 or IPv6 address"))?;
            Ok(p.address(address))
        })
    )
}

/// Where the host's name comes from: `caller` (configuration or a person; the default), `dnssec`,
/// `mta-sts` or `insecure-dns`. What only insecure DNS says proves nothing: level `strict` then fails
/// with `name-insecure`.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_name_from(
    policy: *mut starttls_policy,
    source: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let source = NameFrom::from_word(text(source, "source of the name")?).ok_or_else(|| {
                invalid("no such source of a name; it is one of: caller dnssec mta-sts insecure-dns")
            })?;
            Ok(p.name_from(source))
        })
    )
}

/// Reads all files and builds everything now: before `fork` or dropping privileges, and, with
/// `starttls_policy_set_preload_ca`, before `chroot`; without that, directories of CA certificates are
/// looked up when they are needed. Without it the first connection does so. `invalid` if settings contradict each other or a file holds no
/// usable certificate or key.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_ready(
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, used(policy)?.ready().map(|()| true))
}

/// Frees a policy. Sessions and derived policies keep what they need of it. That of `starttls_routes_policy` is left
/// alone. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_free(policy: *mut starttls_policy) {
    guard!({
        let lent = |state: &Mutex<State>| state.lock().is_ok_and(|state| state.lent);
        if get(policy).is_ok_and(|state| !lent(state)) {
            free(policy);
        }
    })
}
