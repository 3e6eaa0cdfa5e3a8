//! The client's `SSL_CTX`, and what it has in common with the server's.

use std::os::raw::c_int;

use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslRef, SslSessionCacheMode,
    SslVerifyMode, SslVersion,
};

use super::{bug, ffi, identity::Identity, trust::Trust};
use crate::error::Result;
use crate::level::MinTls;
use crate::outcome::{Effective, Role};
use crate::rules::Rules;

/// What a client needs for its handshakes.
pub(super) struct Context {
    pub(super) context: SslContext,
    pub(super) trust_is_system: bool,
    /// OpenSSL's own security level, where nothing lowers it.
    pub(super) security: c_int,
    pub(super) identity: Option<Identity>,
}

impl Context {
    pub(super) fn build(rules: &Rules) -> Result<Self> {
        let mut builder = SslContext::builder(SslMethod::tls_client()).map_err(bug)?;
        let security = ffi::security_level(&builder);
        common_settings(&mut builder, rules, Role::Client)?;
        let trust = Trust::load(rules)?;
        builder.set_cert_store(trust.store);
        builder.set_verify(SslVerifyMode::PEER);
        ffi::allow_dane(&mut builder).map_err(bug)?;
        ffi::verify_peer_ourselves(&mut builder);
        let identity = match &rules.client_cert {
            Some((cert, key)) => Some(Identity::read(cert, key, "client")?),
            None => None,
        };
        if let Some(identity) = &identity {
            identity.show_always(&mut builder)?;
        }
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        ffi::hand_out_sessions(&mut builder);
        Ok(Self {
            context: builder.build(),
            trust_is_system: trust.is_system,
            security,
            identity,
        })
    }
}

impl Context {
    /// Sets what this connection's rules want otherwise than others of the same policy.
    pub(super) fn suit(&self, ssl: &mut SslRef, rules: &Rules) -> Result<()> {
        let (oldest, security) = oldest(rules, rules.effective());
        ssl.set_min_proto_version(Some(oldest)).map_err(bug)?;
        let security = security.and_then(|level| c_int::try_from(level).ok());
        ffi::set_security_level(ssl, security.unwrap_or(self.security));
        Ok(())
    }
}

/// Versions, options and modes that client and server share.
pub(super) fn common_settings(builder: &mut SslContextBuilder, rules: &Rules, role: Role) -> Result<()> {
    // As lax as any connection of this policy may be; one that must not be is made stricter by itself.
    let (oldest, security) = match role {
        Role::Client => oldest(rules, rules.level.effective()),
        Role::Server => oldest(rules, Effective::Encrypt),
    };
    builder.set_min_proto_version(Some(oldest)).map_err(bug)?;
    if let Some(level) = security {
        builder.set_security_level(level);
    }
    builder.set_options(SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
    builder.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS,
    );
    Ok(())
}

/// The oldest version, and OpenSSL's security level where that must be lowered for it.
pub(super) fn oldest(rules: &Rules, effective: Effective) -> (SslVersion, Option<u32>) {
    let lax = effective == Effective::May && rules.min_tls.is_none();
    let oldest = match rules.min_tls {
        // Weak TLS beats clear (RFC 7435).
        None if lax => SslVersion::TLS1,
        None => SslVersion::TLS1_2,
        Some(MinTls::Tls10) => SslVersion::TLS1,
        Some(MinTls::Tls11) => SslVersion::TLS1_1,
        Some(MinTls::Tls12) => SslVersion::TLS1_2,
        Some(MinTls::Tls13) => SslVersion::TLS1_3,
    };
    // Above it OpenSSL 3 knows no TLS before 1.2.
    let lower = lax || rules.min_tls < Some(MinTls::Tls12) && rules.min_tls.is_some();
    (oldest, lower.then_some(0))
}
