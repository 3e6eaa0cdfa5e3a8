//! For programs that keep their own `SSL *` and only want the checks and the verdict.
//!
//! [`prepare_ctx`] once per `SSL_CTX`, [`prepare`] before each handshake, [`check`] after it. Who forgets
//! `check` still gets no peer that the policy does not accept: the verdict is given inside the
//! handshake.
#![allow(unsafe_code)]

use std::os::raw::{c_int, c_uchar, c_uint};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslRef, SslVerifyMode};
use openssl_sys as sys;

use super::{bug, context, ffi, lock, names, Watch};
use crate::attempt::Attempt;
use crate::error::{Error, Result, Word};
use crate::level::Level;
use crate::outcome::{self, Effective, Outcome, Role};
use crate::policy::Policy;
use crate::protocol::find;
use crate::verdict::judge_outcome;

extern "C" {
    fn SSL_set_session_id_context(ssl: *mut sys::SSL, id: *const c_uchar, length: c_uint) -> c_int;
    fn SSL_is_dtls(ssl: *const sys::SSL) -> c_int;
    fn SSL_in_before(ssl: *const sys::SSL) -> c_int;
    fn SSL_get_fd(ssl: *const sys::SSL) -> c_int;
    fn SSL_get_ciphers(ssl: *const sys::SSL) -> *mut sys::stack_st_SSL_CIPHER;
    fn SSL_CIPHER_get_auth_nid(cipher: *const sys::SSL_CIPHER) -> c_int;
    fn SSL_set_options(ssl: *mut sys::SSL, options: u64) -> u64;
}

const NID_AUTH_NULL: c_int = 1053;
const SSL_CTRL_SET_VERIFY_CERT_STORE: c_int = 106;

/// What the callers' `SSL_CTX *` and `SSL *` point to.
pub type SslCtx = sys::SSL_CTX;
/// See [`SslCtx`].
pub type Ssl = sys::SSL;

/// Makes an `SSL_CTX` fit for [`prepare`]. `version` is the caller's `OPENSSL_VERSION_NUMBER`.
///
/// It sets the context's certificate verification callback (SSL_CTX_set_cert_verify_callback), which leaves
/// an `SSL` that was not prepared to X509_verify_cert as before, and lets its `SSL`s use DANE
/// (SSL_CTX_dane_enable).
///
/// # Errors
/// `invalid` for NULL, `unsupported` if the caller was built for another OpenSSL than this library.
///
/// # Safety
/// `ctx` is NULL or a live `SSL_CTX` of the libssl that this library is linked with.
pub unsafe fn prepare_ctx(ctx: *mut SslCtx, version: u64) -> Result<()> {
    same_openssl(version)?;
    if ctx.is_null() {
        return Err(Error::invalid("the SSL_CTX is NULL"));
    }
    // SAFETY: the caller's: live, and of our libssl. What is stored is only compared with NULL.
    let marked = unsafe {
        ffi::dane::allow(ctx).map_err(bug)?;
        ffi::verify_prepared_peers(ctx);
        sys::SSL_CTX_set_ex_data(ctx, ffi::mark_index(), ptr::without_provenance_mut(1))
    };
    if marked == 1 {
        Ok(())
    } else {
        Err(bug(openssl::error::ErrorStack::get()))
    }
}

/// Makes an `SSL` do its handshake by the policy: SNI, ALPN, oldest version, trust store, the policy's
/// client certificate if it has one, its TLSA records, and the verdict inside the handshake. Before SSL_connect.
///
/// Nothing is looked up: what the levels heed beside the certificate is handed in
/// ([`Policy::tlsa`], [`Policy::tlsa_proof`]) or comes with the policy of a [`Route`](crate::Route).
///
/// The SSL cannot resume a session: it would skip the checks. One that is set later ends the handshake. What
/// the caller changes on the SSL or its context afterwards (verification mode or callback, ciphers without a
/// certificate, pre-shared keys) it takes out of the verdict inside the handshake; [`check`] finds that out.
///
/// # Errors
/// `invalid` if the context was not prepared, the SSL has a session, TLSA records or has begun, is a server's, or
/// for what is wrong with the policy, such as a level `dane` without [`tlsa_proof`](Policy::tlsa_proof); `no-dane`,
/// `dns-bogus` and `lookup-failed` where no handshake could do; `unsupported` as for
/// [`prepare_ctx`].
///
/// # Safety
/// `ssl` is NULL or a live `SSL` of the libssl that this library is linked with; it is not duplicated (SSL_dup)
/// afterwards.
pub unsafe fn prepare(
    policy: &Policy,
    protocol: &str,
    name: &str,
    ssl: *mut Ssl,
    version: u64,
) -> Result<()> {
    same_openssl(version)?;
    let service = find(protocol)?;
    let attempt = Attempt::client(Some(service), name, None, policy)?.settled_without_asking()?;
    let (policy, rules) = (&attempt.policy, &attempt.policy.rules);
    if rules.level == Level::None {
        return Err(Error::invalid("level \"none\" wants no TLS"));
    }
    let host = attempt.host.as_ref().ok_or_else(|| Error::invalid("no name"))?;
    if ssl.is_null() {
        return Err(Error::invalid("the SSL is NULL"));
    }
    // SAFETY: the caller's: live, and of our libssl.
    let ssl = unsafe {
        if sys::SSL_CTX_get_ex_data(sys::SSL_get_SSL_CTX(ssl), ffi::mark_index()).is_null() {
            return Err(Error::invalid(
                "the SSL_CTX of this SSL is not prepared: starttls_prepare_ctx",
            ));
        }
        if SSL_in_before(ssl) != 1 {
            return Err(Error::invalid("the handshake of this SSL has begun already"));
        }
        if SSL_is_dtls(ssl) == 1 {
            return Err(Error::new(Word::Unsupported, "this SSL is for DTLS"));
        }
        if sys::SSL_is_server(ssl) == 1 || sys::SSL_get_ssl_method(ssl) == sys::TLS_server_method() {
            return Err(Error::invalid("this SSL is a server's"));
        }
        if !sys::SSL_get_session(ssl).is_null() {
            return Err(Error::invalid(
                "this SSL has a session to resume, which would skip the checks: take it away (SSL_set_session(ssl, NULL))",
            ));
        }
        SslRef::from_ptr_mut(ssl)
    };
    let knows_peer = matches!(
        rules.effective(),
        Effective::Fingerprint | Effective::Verify | Effective::Dane | Effective::Sts
    );
    if knows_peer && has_anonymous_ciphers(ssl) {
        return Err(Error::invalid(
            "the cipher list of this SSL has ciphers without a certificate, which nobody could check: add \"!aNULL\"",
        ));
    }
    let shared = policy.shared.get(rules)?;
    super::demand_dane(ssl, rules)?;
    ssl.set_verify(SslVerifyMode::PEER);
    super::ask_for(ssl, rules, host, service.protocol().alpn)?;
    let (oldest, security) = context::oldest(rules, rules.effective());
    ssl.set_min_proto_version(Some(oldest)).map_err(bug)?;
    let mut id = [0; 32];
    openssl::rand::rand_bytes(&mut id).map_err(bug)?;
    // SAFETY: the SSL is live; pointers and lengths are those of live slices; OpenSSL takes a reference of its
    // own to the store.
    let set = unsafe {
        if let Some(level) = security {
            sys::SSL_set_security_level(ssl.as_ptr(), c_int::try_from(level).unwrap_or(0));
        } else if sys::SSL_get_security_level(ssl.as_ptr()) < 1 {
            // At level 0 a caller may have let in ciphers without a certificate, with which nothing
            // is verified.
            sys::SSL_set_security_level(ssl.as_ptr(), 1);
        }
        SSL_set_options(ssl.as_ptr(), sys::SSL_OP_NO_RENEGOTIATION);
        // OpenSSL ends a handshake that resumes a session of another id context; this one is of nobody else.
        let length = c_uint::try_from(id.len()).unwrap_or(0);
        SSL_set_session_id_context(ssl.as_ptr(), id.as_ptr(), length) == 1
            && sys::SSL_ctrl(
                ssl.as_ptr(),
                SSL_CTRL_SET_VERIFY_CERT_STORE,
                1,
                shared.context.cert_store().as_ptr().cast(),
            ) == 1
    };
    if !set {
        return Err(bug(openssl::error::ErrorStack::get()));
    }
    if let Some(identity) = &shared.identity {
        identity.show(ssl)?;
    }
    ssl.set_ex_data(
        super::needed_index()?,
        Watch {
            names: names(rules, host),
            begun: Some(Box::new(attempt.outcome.clone())),
            ..Watch::new(rules, Role::Client, shared.trust_is_system)
        },
    );
    Ok(())
}

/// What the handshake of a prepared SSL has come to, whether it ended well or not: call it after SSL_connect
/// has returned 1, or has failed for good.
///
/// # Errors
/// What the policy misses, with the outcome; `handshake` where it failed for another reason than our verdict;
/// `invalid` if [`prepare`] was not called.
///
/// # Safety
/// As for [`prepare`].
pub unsafe fn check(ssl: *mut Ssl, version: u64) -> Result<Outcome> {
    same_openssl(version)?;
    if ssl.is_null() {
        return Err(Error::invalid("the SSL is NULL"));
    }
    // SAFETY: the caller's: live, and of our libssl.
    let (ssl, finished, fd) = unsafe {
        (
            SslRef::from_ptr(ssl),
            sys::SSL_is_init_finished(ssl) == 1,
            SSL_get_fd(ssl),
        )
    };
    let watch = ssl.ex_data(super::needed_index()?);
    let (watch, begun) = watch
        .and_then(|watch| Some((watch, watch.begun.as_deref()?)))
        .ok_or_else(|| Error::invalid("this SSL was not prepared: starttls_prepare"))?;
    let mut outcome = begun.clone();
    if let Some(address) = crate::sys::peer_of(fd) {
        outcome.peer.address = Some(address.ip().to_canonical());
        outcome.peer.port = Some(address.port());
    }
    outcome.sni = ssl
        .servername(openssl::ssl::NameType::HOST_NAME)
        .map(str::to_owned);
    let mut examined = lock(&watch.examined).clone();
    if finished {
        // An SSL that was used before (SSL_clear) has what was found out then; what counts is this handshake.
        examined = super::examined(ssl, examined.as_ref()).filter(|_| ssl.peer_certificate().is_some());
    }
    if !finished && examined.is_none() {
        let e = if super::verification_broke(ssl) {
            Error::new(Word::Bug, "the verification of the certificate broke off")
        } else {
            not_finished()
        };
        return Err(e.with_outcome(outcome));
    }
    outcome.channel = Some(outcome::Channel::Tls);
    if let Some(found) = examined {
        found.record(&mut outcome);
    }
    if let Err(shortfall) = judge_outcome(watch.rules.level, &outcome) {
        if !finished {
            outcome.channel = None;
            outcome.identity = Default::default();
        }
        let e = match super::trust_trouble(ssl) {
            Some(e) if shortfall.word == Word::Untrusted => e,
            _ => Error::new(shortfall.word, shortfall.message),
        };
        return Err(e.with_outcome(outcome));
    }
    if !finished {
        outcome.channel = None;
        outcome.identity = Default::default();
        return Err(not_finished().with_outcome(outcome));
    }
    outcome.tls = Some(super::describe(ssl));
    Ok(outcome)
}

/// Whether a server could choose a cipher by which it shows no certificate.
fn has_anonymous_ciphers(ssl: &SslRef) -> bool {
    // SAFETY: the SSL is live; the list and its ciphers belong to it or are static.
    unsafe {
        let list = SSL_get_ciphers(ssl.as_ptr());
        (0..sys::OPENSSL_sk_num(list.cast())).any(|i| {
            let cipher = sys::OPENSSL_sk_value(list.cast(), i);
            !cipher.is_null() && SSL_CIPHER_get_auth_nid(cipher.cast()) == NID_AUTH_NULL
        })
    }
}

fn not_finished() -> Error {
    Error::new(
        Word::Handshake,
        "the TLS handshake did not come to its end; OpenSSL's own error says why",
    )
}

/// The caller's SSL must be one of the library that we call, not only be called so.
fn same_openssl(version: u64) -> Result<()> {
    let ours = u64::try_from(openssl::version::number()).unwrap_or(0);
    // From 3 on the first digit is the major version; before, the first two digits of the second.
    let major = |version: u64| match version >> 28 {
        0 | 1 => version >> 20,
        major => major,
    };
    if major(version) == major(ours) {
        return Ok(());
    }
    Err(Error::new(
        Word::Unsupported,
        format!(
            "the caller was built for OpenSSL {version:#x}, this library runs with {ours:#x} ({})",
            openssl::version::version()
        ),
    ))
}
