//! For programs that keep their own `SSL *`.

use std::ffi::c_char;

use starttls::foreign;

use crate::error::starttls_error;
use crate::handle::{free, get, give, text};
use crate::outcome::{starttls_outcome, Teller, Told};
use crate::policy::{starttls_policy, used};

/// OpenSSL's `SSL_CTX`. Its own header declares it; ours includes none of OpenSSL's.
pub struct ssl_ctx_st {
    _opaque: [u8; 0],
}

/// OpenSSL's `SSL`.
pub struct ssl_st {
    _opaque: [u8; 0],
}

/// For programs that keep their own `SSL *`: once for each of their `SSL_CTX`. `version` is the program's
/// `OPENSSL_VERSION_NUMBER`; `unsupported` if it was built for another OpenSSL than this library uses.
///
/// It sets the certificate verification callback of the context, and lets it use DANE (SSL_CTX_dane_enable). An `SSL`
/// of it that is not prepared is verified by OpenSSL as before.
#[no_mangle]
pub unsafe extern "C" fn starttls_prepare_ctx(
    ctx: *mut ssl_ctx_st,
    version: u64,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, foreign::prepare_ctx(ctx.cast(), version).map(|()| true))
}

/// Makes this `SSL` do its handshake by the policy: server name, ALPN, oldest TLS version, trust store,
/// the policy's client certificate if it has one, TLSA records, and the verdict on `name`. After SSL_new and before
/// SSL_connect; the caller plays the dialog itself, and must see to it that nothing came behind the go-ahead.
///
/// Nothing is looked up. What DANE needs is handed in (`starttls_policy_add_tlsa`, `_set_tlsa_proof`) or comes with the
/// policy of `starttls_routes_policy`; at `dane` and `dane-only` it is `invalid` without. Errors: also `no-dane`,
/// `dns-bogus` and `lookup-failed`, where no handshake could do. An `SSL` can be given TLSA records once.
///
/// The verdict is given inside the handshake: SSL_connect fails where the policy does not hold, also for
/// those who forget `starttls_check`, unless they change verification or ciphers of the `SSL` or use
/// pre-shared keys: that, only `starttls_check` finds out. An `SSL` is refused if it has a session, or a cipher list that
/// lets a server show no certificate (`aNULL`); one that is given a session afterwards fails its handshake,
/// since resumption would skip the checks. SSL_set_verify with SSL_VERIFY_NONE afterwards leaves
/// the verdict to `starttls_check`. Do not SSL_dup it.
#[no_mangle]
pub unsafe extern "C" fn starttls_prepare(
    policy: *const starttls_policy,
    protocol: *const c_char,
    name: *const c_char,
    ssl: *mut ssl_st,
    version: u64,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let policy = used(policy)?;
        let protocol = text(protocol, "protocol")?;
        foreign::prepare(&policy, protocol, text(name, "name")?, ssl.cast(), version).map(|()| true)
    })
}

/// What the handshake of a prepared `SSL` has come to; after SSL_connect, whether it went well or not.
/// The outcome is the caller's, who frees it with `starttls_outcome_free`; NULL where the policy does not
/// hold, with an error that has the outcome. Errors: the words for the peer, and `handshake` where SSL_connect
/// failed for another
/// reason, which OpenSSL's own error queue tells.
#[no_mangle]
pub unsafe extern "C" fn starttls_check(
    ssl: *mut ssl_st,
    version: u64,
    error: *mut *mut starttls_error,
) -> *mut starttls_outcome {
    guard!(
        error,
        foreign::check(ssl.cast(), version).map(|outcome| give(Told::new(Teller::Check(Box::new(outcome)))))
    )
}

/// Frees the outcome of `starttls_check`, and no other. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_outcome_free(outcome: *mut starttls_outcome) {
    guard!({
        // Those of sessions and errors are part of them.
        if get(outcome).is_ok_and(|told| matches!(told.by, Teller::Check(_))) {
            free(outcome);
        }
    })
}
