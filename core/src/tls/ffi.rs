//! The OpenSSL calls that the crate `openssl` lacks. All `unsafe` of core is here, in `ffi/`, in `foreign.rs`
//! and in `sys.rs`. Every wrapper names the C functions that it stands for.
#![allow(unsafe_code)]

pub(crate) mod dane;
pub(crate) mod server;

use std::net::IpAddr;
use std::os::raw::{c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use once_cell::sync::OnceCell;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::{SslContextBuilder, SslRef, SslSession, SslSessionRef};
use openssl::stack::StackRef;
use openssl::x509::store::X509StoreRef;
use openssl::x509::{X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult, X509};
use openssl_sys as sys;

type VerifyCallback = extern "C" fn(c_int, *mut sys::X509_STORE_CTX) -> c_int;
type CertVerifyCallback = extern "C" fn(*mut sys::X509_STORE_CTX, *mut c_void) -> c_int;

extern "C" {
    fn SSL_CTX_set_cert_verify_callback(
        ctx: *mut sys::SSL_CTX,
        callback: Option<CertVerifyCallback>,
        arg: *mut c_void,
    );
    fn SSL_CTX_use_cert_and_key(
        ctx: *mut sys::SSL_CTX,
        leaf: *mut sys::X509,
        key: *mut sys::EVP_PKEY,
        chain: *mut sys::stack_st_X509,
        replace: c_int,
    ) -> c_int;
    fn SSL_use_cert_and_key(
        ssl: *mut sys::SSL,
        leaf: *mut sys::X509,
        key: *mut sys::EVP_PKEY,
        chain: *mut sys::stack_st_X509,
        replace: c_int,
    ) -> c_int;
    fn SSL_certs_clear(ssl: *mut sys::SSL);
    fn X509_STORE_CTX_set_verify_cb(ctx: *mut sys::X509_STORE_CTX, callback: VerifyCallback);
    fn X509_STORE_CTX_get0_param(ctx: *mut sys::X509_STORE_CTX) -> *mut sys::X509_VERIFY_PARAM;
    fn X509_STORE_CTX_get0_cert(ctx: *mut sys::X509_STORE_CTX) -> *mut sys::X509;
    fn X509_STORE_CTX_get0_store(ctx: *const sys::X509_STORE_CTX) -> *mut sys::X509_STORE;
    fn X509_STORE_CTX_get0_untrusted(ctx: *mut sys::X509_STORE_CTX) -> *mut sys::stack_st_X509;
    fn X509_STORE_CTX_set_ex_data(ctx: *mut sys::X509_STORE_CTX, idx: c_int, data: *mut c_void) -> c_int;
    fn X509_VERIFY_PARAM_set1(to: *mut sys::X509_VERIFY_PARAM, from: *const sys::X509_VERIFY_PARAM) -> c_int;
    fn X509_VERIFY_PARAM_get_auth_level(param: *const sys::X509_VERIFY_PARAM) -> c_int;
    fn X509_get_X509_PUBKEY(x: *const sys::X509) -> *mut c_void;
    fn i2d_X509_PUBKEY(key: *const c_void, out: *mut *mut c_uchar) -> c_int;
    fn CRYPTO_get_ex_new_index(
        class_index: c_int,
        argl: c_long,
        argp: *mut c_void,
        new_func: *mut c_void,
        dup_func: *mut c_void,
        free_func: *mut c_void,
    ) -> c_int;
}

const CRYPTO_EX_INDEX_SSL_CTX: c_int = 1;
const CRYPTO_EX_INDEX_X509_STORE_CTX: c_int = 5;
const SSL_CTRL_GET_NEGOTIATED_GROUP: c_int = 134;
const TLSEXT_NID_UNKNOWN: c_long = 0x100_0000;
const NEVER_CHECK_SUBJECT: c_uint = 0x20;

/// A fault found by X509_verify_cert: its X509_V_ERR number and the depth of the certificate.
pub(crate) type Fault = (c_int, c_int);

/// Has the peer's chain verified by [`super::check::verify_peer`] instead of X509_verify_cert.
/// Stands for SSL_CTX_set_cert_verify_callback.
pub(crate) fn verify_peer_ourselves(builder: &mut SslContextBuilder) {
    // SAFETY: the builder's context is valid, and the callback needs no argument.
    unsafe {
        SSL_CTX_set_cert_verify_callback(builder.as_ptr(), Some(verify_callback), ptr::null_mut());
    }
}

extern "C" fn verify_callback(raw: *mut sys::X509_STORE_CTX, _: *mut c_void) -> c_int {
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: OpenSSL passes a context that lives for this call, used by nobody else.
        let ctx = unsafe { X509StoreContextRef::from_ptr_mut(raw) };
        let index = X509StoreContext::ssl_idx().ok()?;
        // SAFETY: libssl has put the SSL of this handshake there, which outlives the call.
        let ssl = unsafe {
            let ssl = sys::X509_STORE_CTX_get_ex_data(raw, index.as_raw());
            (!ssl.is_null()).then(|| SslRef::from_ptr(ssl.cast()))?
        };
        super::check::verify_peer(ssl, ctx)
    }));
    // A panic, a missing SSL and a no are all a no.
    c_int::from(matches!(verdict, Ok(Some(true))))
}

/// The same for an `SSL_CTX` of the caller's, of which only prepared SSLs are ours.
///
/// # Safety
/// The context is live.
pub(crate) unsafe fn verify_prepared_peers(ctx: *mut sys::SSL_CTX) {
    extern "C" fn callback(raw: *mut sys::X509_STORE_CTX, _: *mut c_void) -> c_int {
        let prepared = X509StoreContext::ssl_idx().ok().is_some_and(|index| {
            // SAFETY: libssl has put the SSL of this handshake there, which outlives the call.
            let ssl = unsafe { sys::X509_STORE_CTX_get_ex_data(raw, index.as_raw()) };
            // SAFETY: as above, and it is not NULL.
            !ssl.is_null() && super::is_watched(unsafe { SslRef::from_ptr(ssl.cast()) })
        });
        if prepared {
            return verify_callback(raw, ptr::null_mut());
        }
        // SAFETY: OpenSSL passes a context that lives for this call, used by nobody else.
        unsafe { sys::X509_verify_cert(raw) }
    }
    // SAFETY: the caller's, and the callback needs no argument.
    unsafe { SSL_CTX_set_cert_verify_callback(ctx, Some(callback), ptr::null_mut()) };
}

/// Where an `SSL_CTX` of a caller's is marked as prepared.
pub(crate) fn mark_index() -> c_int {
    static INDEX: OnceCell<c_int> = OnceCell::new();
    *INDEX.get_or_init(|| {
        let none = ptr::null_mut();
        // SAFETY: no callbacks are registered; only a number is handed out.
        unsafe { CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, none, none, none, none) }
    })
}

/// Gives every session that can be resumed to [`super::new_session`]. Stands for
/// SSL_CTX_sess_set_new_cb; the crate's own keeps a closure in a map, which leak checkers take for
/// a leak.
pub(crate) fn hand_out_sessions(builder: &mut SslContextBuilder) {
    unsafe extern "C" fn callback(ssl: *mut sys::SSL, session: *mut sys::SSL_SESSION) -> c_int {
        // SAFETY: OpenSSL passes a reference of its own to the session, which 1 accepts: it is
        // freed with `SslSession`. The SSL outlives the call.
        let (ssl, session) = unsafe { (SslRef::from_ptr(ssl), SslSession::from_ptr(session)) };
        // A panic has nowhere to go; the session is then lost, and nothing else.
        let _ = catch_unwind(AssertUnwindSafe(|| super::new_session(ssl, session)));
        1
    }
    // SAFETY: the builder's context is valid, and the callback needs no argument.
    unsafe { sys::SSL_CTX_sess_set_new_cb(builder.as_ptr(), Some(callback)) }
}

fn log_index() -> c_int {
    static INDEX: OnceCell<c_int> = OnceCell::new();
    *INDEX.get_or_init(|| {
        let none = ptr::null_mut();
        // SAFETY: no callbacks are registered; only a number is handed out.
        unsafe { CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_X509_STORE_CTX, 0, none, none, none, none) }
    })
}

/// X509_verify_cert with a callback that notes every fault and goes on, so that nothing hides
/// behind the first or the last one.
pub(crate) fn verify_logged(ctx: &mut X509StoreContextRef) -> Vec<Fault> {
    extern "C" fn note(ok: c_int, ctx: *mut sys::X509_STORE_CTX) -> c_int {
        if ok == 0 {
            // SAFETY: `verify_logged` has put its log there for the time of X509_verify_cert.
            unsafe {
                let log: *mut Vec<Fault> = sys::X509_STORE_CTX_get_ex_data(ctx, log_index()).cast();
                let code = sys::X509_STORE_CTX_get_error(ctx);
                let depth = sys::X509_STORE_CTX_get_error_depth(ctx);
                // Chains are bounded, but what a hostile one can trigger is better bounded here.
                if let Some(log) = log.as_mut().filter(|log| log.len() < 64) {
                    log.push((code, depth));
                }
            }
        }
        1
    }
    let mut log: Vec<Fault> = Vec::new();
    let raw = ctx.as_ptr();
    // SAFETY: the context is valid and ours for this call; the log outlives X509_verify_cert and
    // is taken out of the context again before it goes.
    let (noted, verified) = unsafe {
        let noted = X509_STORE_CTX_set_ex_data(raw, log_index(), (&raw mut log).cast());
        X509_STORE_CTX_set_verify_cb(raw, note);
        let param = X509_STORE_CTX_get0_param(raw);
        // Security level 0 lets old TLS versions in; it is no reason to trust weak signatures.
        if X509_VERIFY_PARAM_get_auth_level(param) < 1 {
            sys::X509_VERIFY_PARAM_set_auth_level(param, 1);
        }
        let verified = sys::X509_verify_cert(raw);
        X509_STORE_CTX_set_ex_data(raw, log_index(), ptr::null_mut());
        (noted, verified)
    };
    // It could not note anything, or it failed without saying why (no memory, no certificate).
    if noted != 1 || (verified != 1 && log.is_empty()) {
        log.push((sys::X509_V_ERR_UNSPECIFIED, 0));
    }
    log
}

/// Verifies the same chain, with the same parameters, against another store. Stands for
/// X509_STORE_CTX_init and X509_VERIFY_PARAM_set1. `None` if OpenSSL fails.
pub(crate) fn verify_with_store<T>(
    first: &X509StoreContextRef,
    store: &X509StoreRef,
    with: impl FnOnce(&mut X509StoreContextRef) -> T,
) -> Option<T> {
    let mut again = X509StoreContext::new().ok()?;
    let raw = first.as_ptr();
    // SAFETY: `first` holds references to its certificate and the peer's other certificates as
    // long as it lives, and it outlives this call.
    let (cert, others) = unsafe {
        let cert = X509_STORE_CTX_get0_cert(raw);
        let others = X509_STORE_CTX_get0_untrusted(raw);
        if cert.is_null() || others.is_null() {
            return None;
        }
        let others: &StackRef<X509> = StackRef::from_ptr(others);
        (X509Ref::from_ptr(cert), others)
    };
    again
        .init(store, cert, others, |ctx| {
            // SAFETY: both contexts are valid and initialised; the parameters are copied.
            unsafe {
                X509_VERIFY_PARAM_set1(
                    X509_STORE_CTX_get0_param(ctx.as_ptr()),
                    X509_STORE_CTX_get0_param(raw),
                );
            }
            dane::forget_names(ctx);
            Ok(with(ctx))
        })
        .ok()
}

/// Verifies the same chain against the same store once more, by PKIX alone: after DANE, for the record. Stands
/// for X509_STORE_CTX_get0_store.
pub(crate) fn verify_without_dane<T>(
    first: &X509StoreContextRef,
    with: impl FnOnce(&mut X509StoreContextRef) -> T,
) -> Option<T> {
    // SAFETY: the context keeps its store alive as long as itself.
    let store = unsafe {
        let store = X509_STORE_CTX_get0_store(first.as_ptr());
        (!store.is_null()).then(|| X509StoreRef::from_ptr(store))?
    };
    verify_with_store(first, store, with)
}

/// Lets the connections of this context use DANE.
pub(crate) fn allow_dane(builder: &mut SslContextBuilder) -> Result<(), openssl::error::ErrorStack> {
    // SAFETY: the builder's context is valid.
    unsafe { dane::allow(builder.as_ptr()) }
}

/// Stands for SSL_CTX_get_security_level.
pub(crate) fn security_level(builder: &SslContextBuilder) -> c_int {
    // SAFETY: the builder's context is valid.
    unsafe { sys::SSL_CTX_get_security_level(builder.as_ptr()) }
}

/// Stands for SSL_set_security_level.
pub(crate) fn set_security_level(ssl: &mut SslRef, level: c_int) {
    // SAFETY: the SSL is valid.
    unsafe { sys::SSL_set_security_level(ssl.as_ptr(), level) }
}

/// Wraps an X509_V_ERR number.
pub(crate) fn verify_result(code: c_int) -> X509VerifyResult {
    // SAFETY: only a number is wrapped; OpenSSL has a text for every number.
    unsafe { X509VerifyResult::from_raw(code) }
}

/// The certificate being verified. Stands for X509_STORE_CTX_get0_cert.
pub(crate) fn leaf(ctx: &X509StoreContextRef) -> Option<&X509Ref> {
    // SAFETY: the context keeps the certificate alive as long as itself.
    unsafe {
        let cert = X509_STORE_CTX_get0_cert(ctx.as_ptr());
        (!cert.is_null()).then(|| X509Ref::from_ptr(cert))
    }
}

/// Whether the certificate is for this DNS name, and which of its names matched: subjectAltName
/// only, a wildcard is the whole left-most label. Stands for X509_check_host.
pub(crate) fn check_host(cert: &X509Ref, name: &str) -> Option<String> {
    let flags = sys::X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | NEVER_CHECK_SUBJECT;
    let mut matched: *mut c_char = ptr::null_mut();
    // SAFETY: pointer and length are those of one live string; OpenSSL allocates the match, which
    // is copied and then freed with its own function.
    unsafe {
        let result = sys::X509_check_host(
            cert.as_ptr(),
            name.as_ptr().cast(),
            name.len(),
            flags,
            &raw mut matched,
        );
        let text =
            (!matched.is_null()).then(|| std::ffi::CStr::from_ptr(matched).to_string_lossy().into_owned());
        sys::OPENSSL_free(matched.cast());
        (result == 1).then(|| text.unwrap_or_else(|| name.to_owned()))
    }
}

/// Whether the certificate is for this address (iPAddress only). Stands for X509_check_ip.
pub(crate) fn check_ip(cert: &X509Ref, ip: IpAddr) -> bool {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    // SAFETY: pointer and length are those of one live slice.
    unsafe { sys::X509_check_ip(cert.as_ptr(), octets.as_ptr(), octets.len(), 0) == 1 }
}

/// The SubjectPublicKeyInfo as it stands in the certificate (DER). Stands for i2d_X509_PUBKEY.
pub(crate) fn spki(cert: &X509Ref) -> Option<Vec<u8>> {
    // SAFETY: the key belongs to the certificate, which outlives the call; the buffer has the
    // length that OpenSSL itself asked for.
    unsafe {
        let key = X509_get_X509_PUBKEY(cert.as_ptr());
        let len = usize::try_from(i2d_X509_PUBKEY(key, ptr::null_mut())).ok()?;
        let mut der = vec![0u8; len];
        let mut end = der.as_mut_ptr();
        (i2d_X509_PUBKEY(key, &raw mut end) > 0).then_some(der)
    }
}

/// A certificate for every handshake. Stands for SSL_CTX_use_cert_and_key.
pub(crate) fn use_identity_for_all(
    builder: &mut SslContextBuilder,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    // SAFETY: all are valid; OpenSSL takes references of its own.
    let set =
        unsafe { SSL_CTX_use_cert_and_key(builder.as_ptr(), leaf.as_ptr(), key.as_ptr(), chain.as_ptr(), 1) };
    if set == 1 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}

/// A certificate for this handshake. Stands for SSL_use_cert_and_key.
pub(crate) fn use_identity(
    ssl: &mut SslRef,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    // SAFETY: as above.
    let set = unsafe { SSL_use_cert_and_key(ssl.as_ptr(), leaf.as_ptr(), key.as_ptr(), chain.as_ptr(), 1) };
    if set == 1 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}

/// Takes all certificates from this handshake. Stands for SSL_certs_clear.
pub(crate) fn clear_identities(ssl: &mut SslRef) {
    // SAFETY: the SSL is valid.
    unsafe { SSL_certs_clear(ssl.as_ptr()) };
}

/// The bytes that a session takes. Stands for i2d_SSL_SESSION.
pub(crate) fn session_size(session: &SslSessionRef) -> usize {
    // SAFETY: with NULL for the output OpenSSL only counts.
    let size = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut()) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Offers a session for resumption. Stands for SSL_set_session.
pub(crate) fn set_session(ssl: &mut openssl::ssl::Ssl, session: &SslSessionRef) -> Result<(), ErrorStack> {
    // SAFETY: sessions are kept per policy, beside the one SSL_CTX that made them.
    unsafe { ssl.set_session(session) }
}

/// The name of the key-exchange group. Stands for SSL_get_negotiated_group (OpenSSL 3) with
/// SSL_get_peer_tmp_key for the older.
pub(crate) fn group(ssl: &SslRef) -> Option<String> {
    // SAFETY: this control only reads from a valid SSL; versions that do not know it answer 0.
    let group = unsafe { sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_GET_NEGOTIATED_GROUP, 0, ptr::null_mut()) };
    if group >= TLSEXT_NID_UNKNOWN {
        // IANA's numbers of the groups that have no name inside OpenSSL 3.
        return Some(match group & 0xffff {
            0x11eb => "SecP256r1MLKEM768".to_owned(),
            0x11ec => "X25519MLKEM768".to_owned(),
            0x11ed => "SecP384r1MLKEM1024".to_owned(),
            other => format!("{other:#06x}"),
        });
    }
    let nid = if group > 0 {
        Nid::from_raw(c_int::try_from(group).ok()?)
    } else {
        let key = ssl.peer_tmp_key().ok()?;
        match key.ec_key() {
            Ok(ec) => ec.group().curve_name()?,
            Err(_) => Nid::from_raw(c_int::try_from(key.id().as_raw()).ok()?),
        }
    };
    nid.short_name().ok().map(str::to_owned)
}

/// Whether the process runs with raised privileges, when the environment must not be believed.
/// Stands for getauxval(AT_SECURE) where there is one.
pub(crate) fn set_id() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: getauxval takes a number and returns one.
    return unsafe { libc::getauxval(libc::AT_SECURE) != 0 };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the four calls take nothing and cannot fail.
    return unsafe { libc::geteuid() != libc::getuid() || libc::getegid() != libc::getgid() };
}

/// OPENSSLDIR's places: the directory of hashed certificates and the bundle. Stands for
/// X509_get_default_cert_dir and X509_get_default_cert_file.
pub(crate) fn default_places() -> (String, String) {
    // SAFETY: both return static strings.
    unsafe {
        let text = |s: *const c_char| std::ffi::CStr::from_ptr(s).to_string_lossy().into_owned();
        (
            text(sys::X509_get_default_cert_dir()),
            text(sys::X509_get_default_cert_file()),
        )
    }
}
