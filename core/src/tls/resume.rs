//! Resumption. OpenSSL skips every check on a resumed session, so a session is kept only after its
//! outcome has met the policy, in a store that belongs to that one policy, under a key of
//! everything that the verdict depended on, for at most an hour and never longer than the
//! certificate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use openssl::ssl::{SslRef, SslSession};

use super::check::Examined;
use super::{lock, Target};
use crate::dns::Tlsa;
use crate::level::MinTls;
use crate::name::ServerName;
use crate::outcome::Effective;
use crate::rules::Rules;

/// Tickets kept for one target: a server sends two, and both may be used at once.
const PER_TARGET: usize = 4;
/// Bytes of a session that is kept, the peer's chain and ticket with it; they are the peer's choice.
const MAX_SIZE: usize = 16 * 1024;
/// Targets kept; a daemon that talks to the whole world must not grow.
const TARGETS: usize = 1024;

/// Everything that the verdict on a session depended on beside the policy's own settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    service: String,
    port: u16,
    names: Vec<ServerName>,
    sni: Option<String>,
    pins: Vec<[u8; 32]>,
    effective: Effective,
    /// With it goes OpenSSL's security level.
    min_tls: Option<MinTls>,
    tlsa: Vec<Tlsa>,
    /// What a certificate under a DANE-TA record may be for.
    tlsa_names: Vec<ServerName>,
}

impl Key {
    pub(crate) fn new(rules: &Rules, target: &Target<'_>, names: &[ServerName]) -> Self {
        Self {
            service: target.service.to_owned(),
            port: target.port,
            names: names.to_vec(),
            sni: super::sni(rules, target.host).map(str::to_owned),
            pins: rules.fingerprints.clone(),
            effective: rules.effective(),
            min_tls: rules.min_tls,
            tlsa: rules.dane().map_or_else(Vec::new, |dane| dane.records.clone()),
            tlsa_names: rules.dane().map_or_else(Vec::new, |dane| {
                std::iter::once(&dane.base).chain(&dane.names).cloned().collect()
            }),
        }
    }
}

struct Kept {
    session: SslSession,
    examined: Examined,
}

/// The resumable sessions of one policy.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<Key, Vec<Kept>>>);

impl Sessions {
    /// A session for this target, and what was found out when it was made. It leaves the store:
    /// TLS 1.3 tickets are for one use (RFC 8446 §C.4). TLS 1.2 sessions come back with the
    /// handshake that they resume.
    pub(crate) fn take(&self, key: &Key) -> Option<(SslSession, Examined)> {
        let mut sessions = lock(&self.0);
        let kept = sessions.get_mut(key)?;
        let now = Instant::now();
        while let Some(newest) = kept.pop() {
            if newest.examined.holds_until > now {
                return Some((newest.session, newest.examined));
            }
        }
        sessions.remove(key);
        None
    }

    fn put(&self, key: &Key, kept: Kept) {
        let mut sessions = lock(&self.0);
        if sessions.len() >= TARGETS && !sessions.contains_key(key) {
            let now = Instant::now();
            sessions.retain(|_, kept| kept.iter().any(|k| k.examined.holds_until > now));
            if sessions.len() >= TARGETS {
                // Any one will do: a lost session costs a full handshake, nothing else.
                if let Some(any) = sessions.keys().next().cloned() {
                    sessions.remove(&any);
                }
            }
        }
        let list = sessions.entry(key.clone()).or_default();
        if list.len() >= PER_TARGET {
            list.remove(0);
        }
        list.push(kept);
    }
}

/// Where one connection's sessions wait for the verdict. With TLS 1.2 OpenSSL hands the session
/// out inside the handshake, before anything is judged; with 1.3 the tickets come afterwards.
pub(crate) struct Slot {
    key: Key,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
}

enum State {
    Undecided(Vec<SslSession>),
    Approved(Box<Examined>),
}

impl Slot {
    pub(crate) fn new(key: Key, sessions: Arc<Sessions>) -> Self {
        Self {
            key,
            sessions,
            state: Mutex::new(State::Undecided(Vec::new())),
        }
    }

    /// OpenSSL has made a session.
    pub(crate) fn put(&self, session: SslSession) {
        match &mut *lock(&self.state) {
            State::Undecided(waiting) => {
                if waiting.len() < PER_TARGET {
                    waiting.push(session);
                }
            }
            State::Approved(approved) => self.keep(session, approved),
        }
    }

    /// The verdict was yes.
    pub(crate) fn approve(&self, ssl: &SslRef, examined: &Examined) {
        let approved = Box::new(examined.clone());
        let mut state = lock(&self.state);
        if let State::Undecided(waiting) = &mut *state {
            for session in std::mem::take(waiting) {
                self.keep(session, &approved);
            }
        }
        // A TLS 1.2 session that was resumed is not made anew, and may be used again. One of
        // TLS 1.3 says itself that it is not resumable until a ticket has come.
        let reusable = ssl.session_reused() && ssl.version_str() != "TLSv1.3";
        if let Some(session) = ssl.session().filter(|_| reusable) {
            self.keep(session.to_owned(), &approved);
        }
        *state = State::Approved(approved);
    }

    fn keep(&self, session: SslSession, examined: &Examined) {
        if super::ffi::session_size(&session) > MAX_SIZE {
            return;
        }
        self.sessions.put(
            &self.key,
            Kept {
                session,
                examined: examined.clone(),
            },
        );
    }
}
