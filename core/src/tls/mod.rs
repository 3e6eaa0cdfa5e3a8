//! TLS by OpenSSL: one `SSL_CTX` per policy, one handshake, every check recorded, resumption bound
//! to the policy.

pub(crate) mod binding;
pub(crate) mod check;
mod context;
pub(crate) mod ffi;
pub mod foreign;
mod identity;
mod pem;
mod resume;
mod server;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::OnceCell;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{NameType, Ssl, SslRef, SslSession};

use crate::error::{Error, Result, Word};
use crate::name::ServerName;
use crate::outcome::{Outcome, Role, Tls};
use crate::protocol::Service;
use crate::rules::Rules;
use crate::text::printable;
use check::{Examined, Found};
use context::Context;
use resume::{Key, Sessions, Slot};
use server::{Identities, ServerContext};

/// What a policy and all derived from it share: made at first use, immutable but for the store of
/// resumable sessions.
#[derive(Default)]
pub(crate) struct Shared {
    context: OnceCell<Context>,
    server: Mutex<Option<Arc<ServerContext>>>,
    sessions: Arc<Sessions>,
    /// For destinations with a CA of their own.
    by_ca: Mutex<BTreeMap<PathBuf, Arc<Shared>>>,
}

/// What the callbacks of one connection's SSL need and find. Lives in the SSL.
pub(crate) struct Watch {
    rules: Arc<Rules>,
    role: Role,
    /// With what the outcome begins, where the SSL is a caller's.
    begun: Option<Box<Outcome>>,
    /// The identifier that the protocol has, for the server to choose.
    alpn: Option<&'static str>,
    /// The server's certificates.
    identities: Option<Arc<Identities>>,
    names: Vec<ServerName>,
    trust_is_system: bool,
    examined: Found,
    /// Whether the verification was begun: it is over once `examined` is there.
    began: AtomicBool,
    /// Why the system's bundle could not be asked.
    trouble: Mutex<Option<Error>>,
    /// Where sessions wait that may be resumed; a server keeps none.
    slot: Option<Slot>,
}

impl Watch {
    fn new(rules: &Arc<Rules>, role: Role, trust_is_system: bool) -> Self {
        Self {
            rules: Arc::clone(rules),
            role,
            begun: None,
            alpn: None,
            identities: None,
            names: Vec::new(),
            trust_is_system,
            examined: Mutex::new(None),
            began: AtomicBool::new(false),
            trouble: Mutex::new(None),
            slot: None,
        }
    }
}

/// A connection's SSL before its handshake, and the key under which its session may be kept.
pub(crate) struct Prepared {
    pub(crate) ssl: Ssl,
    /// What was found out about the peer when the session that is offered was made.
    before: Option<Examined>,
}

/// Who is asked for.
pub(crate) struct Target<'a> {
    pub(crate) service: &'a str,
    pub(crate) alpn: Option<&'a str>,
    pub(crate) host: &'a ServerName,
    pub(crate) port: u16,
}

/// A TLS session, and what was found out about the peer when it was made.
pub(crate) struct Resumable {
    session: SslSession,
    before: Examined,
}

impl Resumable {
    /// The peer's key, as [`Certificate::spki_sha256`](crate::Certificate::spki_sha256).
    pub(crate) fn spki_sha256(&self) -> &str {
        &self.before.certificate.spki_sha256
    }

    /// The session of a connection whose policy is met; `None` before the handshake.
    pub(crate) fn of(ssl: &SslRef) -> Option<Self> {
        // A copy: OpenSSL marks a TLS 1.3 session that was resumed as used up, and the next connection
        // beside this one resumes it, too.
        let copy = ssl.session()?.to_der().ok()?;
        Some(Self {
            session: SslSession::from_der(&copy).ok()?,
            before: examined_so_far(ssl)?,
        })
    }
}

/// Says whom and what is asked for: SNI (RFC 6066) and ALPN (RFC 7301).
fn ask_for(ssl: &mut SslRef, rules: &Rules, host: &ServerName, alpn: Option<&str>) -> Result<()> {
    if let Some(sni) = sni(rules, host) {
        ssl.set_hostname(sni).map_err(bug)?;
    }
    if let Some(alpn) = alpn {
        let mut list = vec![u8::try_from(alpn.len()).unwrap_or(0)];
        list.extend_from_slice(alpn.as_bytes());
        ssl.set_alpn_protos(&list).map_err(bug)?;
    }
    Ok(())
}

/// Has the peer verified by the TLSA records of its domain, where they count.
fn demand_dane(ssl: &mut SslRef, rules: &Rules) -> Result<()> {
    let Some(dane) = rules.dane() else {
        return Ok(());
    };
    let names = std::iter::once(&dane.base).chain(&dane.names).chain(&rules.names);
    let names = names.filter_map(ServerName::sni);
    // SSL_R_DANE_ALREADY_ENABLED
    const TWICE: std::os::raw::c_int = 172;
    let usable = ffi::dane::enable(ssl, &dane.records, names).map_err(|e| {
        if e.errors().iter().any(|e| e.reason_code() == TWICE) {
            return Error::invalid("this SSL has TLSA records already: make a new one");
        }
        bug(e)
    })?;
    if usable {
        Ok(())
    } else {
        Err(Error::new(
            Word::Bug,
            "OpenSSL cannot use TLSA records that were found to be usable",
        ))
    }
}

/// The names that the peer's certificate may have.
fn names(rules: &Rules, host: &ServerName) -> Vec<ServerName> {
    let host = Some(host).filter(|_| !rules.only_names);
    host.into_iter().chain(&rules.names).cloned().collect()
}

/// Whether this SSL is one that we check.
fn is_watched(ssl: &SslRef) -> bool {
    watch_index().is_some_and(|index| ssl.ex_data(index).is_some())
}

fn needed_index() -> Result<Index<Ssl, Watch>> {
    watch_index().ok_or_else(|| Error::new(Word::Bug, "OpenSSL has no memory"))
}

fn watch_index() -> Option<Index<Ssl, Watch>> {
    static INDEX: OnceCell<Option<Index<Ssl, Watch>>> = OnceCell::new();
    *INDEX.get_or_init(|| Ssl::new_ex_index().ok())
}

impl Shared {
    /// The `SSL_CTX`, built now if it was not yet.
    pub(crate) fn context(&self, rules: &Rules) -> Result<()> {
        self.get(rules).map(drop)
    }

    /// What connections share that trust this CA file alone.
    pub(crate) fn trusting(&self, ca_file: &Path) -> Arc<Self> {
        let mut by_ca = lock(&self.by_ca);
        Arc::clone(by_ca.entry(ca_file.to_owned()).or_default())
    }

    fn get(&self, rules: &Rules) -> Result<&Context> {
        self.context.get_or_try_init(|| Context::build(rules))
    }

    /// An SSL for one handshake with this target, with a session to resume if one is kept.
    ///
    /// `beside`: it is a second connection to the same peer, such as FTP's for data, which resumes this session
    /// and no other. What it gives is not kept: it is good for nothing else.
    pub(crate) fn prepare(
        &self,
        rules: &Arc<Rules>,
        target: &Target<'_>,
        beside: Option<Resumable>,
    ) -> Result<Prepared> {
        let context = self.get(rules)?;
        let mut ssl = Ssl::new(&context.context).map_err(bug)?;
        context.suit(&mut ssl, rules)?;
        demand_dane(&mut ssl, rules)?;
        ask_for(&mut ssl, rules, target.host, target.alpn)?;
        let names = names(rules, target.host);
        let (resumed, slot) = match beside {
            Some(resumable) => (Some((resumable.session, resumable.before)), None),
            None => {
                let key = Key::new(rules, target, &names);
                let kept = self.sessions.take(&key);
                (kept, Some(Slot::new(key, Arc::clone(&self.sessions))))
            }
        };
        let before = match resumed {
            Some((session, before)) => {
                ffi::set_session(&mut ssl, &session).map_err(bug)?;
                Some(before)
            }
            None => None,
        };
        ssl.set_ex_data(
            needed_index()?,
            Watch {
                names,
                slot,
                ..Watch::new(rules, Role::Client, context.trust_is_system)
            },
        );
        Ok(Prepared { ssl, before })
    }

    /// The server's `SSL_CTX`, built now if it was not yet.
    pub(crate) fn server_context(&self, rules: &Rules) -> Result<()> {
        self.get_server(rules).map(drop)
    }

    fn get_server(&self, rules: &Rules) -> Result<Arc<ServerContext>> {
        let mut server = lock(&self.server);
        if let Some(context) = &*server {
            return Ok(Arc::clone(context));
        }
        let context = Arc::new(ServerContext::build(rules, None)?);
        Ok(Arc::clone(server.insert(context)))
    }

    /// Reads the server's files anew; what was in use stays so if that fails.
    pub(crate) fn reload_server(&self, rules: &Rules) -> Result<()> {
        let before = lock(&self.server).clone();
        let context = ServerContext::build(rules, before.as_deref())?;
        *lock(&self.server) = Some(Arc::new(context));
        Ok(())
    }

    /// An SSL for one handshake as server.
    pub(crate) fn prepare_server(&self, rules: &Arc<Rules>, service: Option<Service>) -> Result<Prepared> {
        let server = self.get_server(rules)?;
        let mut ssl = Ssl::new(&server.context).map_err(bug)?;
        ssl.set_ex_data(
            needed_index()?,
            Watch {
                alpn: service.and_then(|s| s.protocol().alpn),
                identities: Some(Arc::clone(&server.identities)),
                ..Watch::new(rules, Role::Server, server.trust_is_system)
            },
        );
        Ok(Prepared { ssl, before: None })
    }
}

/// What goes into SNI: with DANE the TLSA base domain (RFC 7672 §8.1).
pub(crate) fn sni<'a>(rules: &'a Rules, host: &'a ServerName) -> Option<&'a str> {
    let base = rules.dane().map(|dane| &dane.base);
    rules.sni.as_ref().or(base).unwrap_or(host).sni()
}

/// The name that the client has sent.
pub(crate) fn sni_received(ssl: &SslRef) -> Option<String> {
    ssl.servername_raw(NameType::HOST_NAME).map(printable)
}

/// Whether the handshake failed for want of the client's certificate.
pub(crate) fn shows_no_certificate(e: &openssl::ssl::Error) -> bool {
    // SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE
    const REASON: libc::c_int = 199;
    e.ssl_error()
        .is_some_and(|stack| stack.errors().iter().any(|e| e.reason_code() == REASON))
}

/// What was found out about the peer in a finished handshake.
pub(crate) fn examined(ssl: &SslRef, before: Option<&Examined>) -> Option<Examined> {
    let watch = ssl.ex_data(watch_index()?)?;
    if ssl.session_reused() {
        let leaf = ssl.peer_certificate()?;
        let again = check::examine_again(&leaf, before?, &watch.names, &watch.rules);
        *lock(&watch.examined) = Some(again);
    }
    lock(&watch.examined).clone()
}

/// What was found out about the peer in a handshake that failed.
pub(crate) fn examined_so_far(ssl: &SslRef) -> Option<Examined> {
    lock(&ssl.ex_data(watch_index()?)?.examined).clone()
}

/// OpenSSL has made a session that can be resumed.
fn new_session(ssl: &SslRef, session: SslSession) {
    if let Some(watch) = watch_index().and_then(|index| ssl.ex_data(index)) {
        if let Some(slot) = &watch.slot {
            slot.put(session);
        }
    }
}

/// Whether the verification was begun and not ended: a fault of ours, not the peer's.
pub(crate) fn verification_broke(ssl: &SslRef) -> bool {
    watch_index()
        .and_then(|index| ssl.ex_data(index))
        .is_some_and(|watch| watch.began.load(Ordering::SeqCst) && lock(&watch.examined).is_none())
}

/// Why a chain that is not trusted might be, once the system's trust store can be read again.
pub(crate) fn trust_trouble(ssl: &SslRef) -> Option<Error> {
    lock(&ssl.ex_data(watch_index()?)?.trouble).take()
}

/// The policy is met: the session, and tickets still to come, may be kept for resumption.
pub(crate) fn keep_session(ssl: &SslRef, examined: &Examined) {
    if let Some(watch) = watch_index().and_then(|index| ssl.ex_data(index)) {
        if let Some(slot) = &watch.slot {
            slot.approve(ssl, examined);
        }
    }
}

impl Prepared {
    pub(crate) fn into_parts(self) -> (Ssl, Option<Examined>) {
        (self.ssl, self.before)
    }
}

/// What the handshake gave.
pub(crate) fn describe(ssl: &SslRef) -> Tls {
    let cipher = ssl.current_cipher();
    let version = ssl.version_str().to_owned();
    let name = cipher.map_or("", |c| c.name());
    Tls {
        // A session of TLS 1.2 that is resumed has no new key exchange: whoever gets the server's ticket
        // key can read it.
        forward_secrecy: version == "TLSv1.3"
            || !ssl.session_reused() && (name.starts_with("ECDHE-") || name.starts_with("DHE-")),
        cipher: name.to_owned(),
        group: ffi::group(ssl),
        resumed: ssl.session_reused(),
        alpn: ssl.selected_alpn_protocol().map(printable),
        version,
    }
}

/// OpenSSL's words for what went wrong.
pub(crate) fn reason(stack: &ErrorStack) -> String {
    let reasons: Vec<&str> = stack.errors().iter().filter_map(|e| e.reason()).collect();
    match reasons.as_slice() {
        [] => "OpenSSL gives no reason".to_owned(),
        reasons => reasons.join(", "),
    }
}

/// A call that fails only for want of memory, or because we used it wrongly.
fn bug(e: ErrorStack) -> Error {
    Error::new(Word::Bug, format!("OpenSSL: {}", reason(&e)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
