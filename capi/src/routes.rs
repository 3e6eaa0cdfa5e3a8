//! Connecting to a domain instead of a host, and the hosts of a domain for daemons that dial themselves.

use std::ffi::{c_char, CString};
use std::sync::{Mutex, MutexGuard, TryLockError};

use starttls::{Error, Result, Route, Routes, Session, Word};

use crate::error::starttls_error;
use crate::handle::{borrowed, c_string, free, get, give, invalid, text, Handle, Opaque};
use crate::policy::{starttls_policy, used, State};
use crate::session::{new, starttls_session};

/// Connects to a host that takes the mail of a domain, by what the domain asks of those who send to it: DANE,
/// MTA-STS, the policy's table of destinations. The hosts are tried in the order of their MX records until one
/// meets the policy; what became of those before it, `starttls_outcome_attempt` tells. The time-out covers all of it.
/// `domain` may be an address literal, such as `[192.0.2.1]`.
///
/// Errors: those of `starttls_connect`, and `null-mx` (the domain takes no mail), `lookup-failed` and
/// `dns-bogus`, `sts-mismatch` and `sts-unavailable`, `dane-mismatch`, `no-dane`, `name-insecure`, `stripped`. If all
/// hosts fail it is the error of the last that may do later, else of the last; its message names all.
#[no_mangle]
pub unsafe extern "C" fn starttls_connect_domain(
    domain: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let policy = used(policy)?;
        Session::connect_domain(text(domain, "domain")?, &policy).map(new)
    })
}

/// The same for another service of a domain, such as `submission`, `imaps` or `xmpp`, by its SRV records. What is checked
/// is the domain's name or, by DANE, the host's (RFC 7673). Errors: as for `starttls_connect_domain`.
#[no_mangle]
pub unsafe extern "C" fn starttls_connect_service(
    protocol: *const c_char,
    domain: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_session {
    guard!(error, {
        let policy = used(policy)?;
        Session::connect_service(text(protocol, "protocol")?, text(domain, "domain")?, &policy).map(new)
    })
}

/// The hosts of a domain in their order, each with its addresses and with the policy that holds there: for
/// daemons that dial themselves. Nothing is dialled.
///
///     starttls_routes *routes = starttls_routes_find(domain, policy, &error);
///     while (starttls_routes_left(routes) > 0) {
///         if (!starttls_routes_next(routes, &error)) {
///             ... this host will not do: log it, remember whether it is temporary
///             starttls_error_free(error);
///             error = NULL;
///             continue;
///         }
///         ... dial starttls_routes_address(routes, i), then starttls_upgrade or starttls_negotiation_new
///         ... with starttls_routes_host(routes) and starttls_routes_policy(routes)
///     }
///
/// Looking up waits, so event loops do it in a thread or a process of its own. Not for several threads at once.
pub struct starttls_routes {
    _opaque: [u8; 0],
}

impl Opaque for starttls_routes {
    type Inner = Mutex<Walk>;
    const NAME: &'static str = "starttls_routes";
    const MARK: u64 = 0x7374_746c_7372_7465;
}

pub(crate) struct Walk {
    routes: Routes,
    /// In a box: C has pointers into it.
    current: Option<Box<Current>>,
}

struct Current {
    host: CString,
    port: u16,
    addresses: Vec<CString>,
    policy: Handle<starttls_policy>,
}

impl Current {
    fn new(route: Route) -> Box<Self> {
        Box::new(Self {
            host: c_string(&route.host),
            port: route.port,
            addresses: route.addresses.iter().map(|a| c_string(&a.to_string())).collect(),
            policy: Handle::new(State::lent(route.policy)),
        })
    }
}

fn found(routes: Result<Routes>) -> Result<*mut starttls_routes> {
    Ok(give(Mutex::new(Walk {
        routes: routes?,
        current: None,
    })))
}

fn locked(walk: &Mutex<Walk>) -> Result<MutexGuard<'_, Walk>> {
    // A look-up of the program's own that asked for these routes would wait for itself.
    walk.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => {
            invalid("these routes are in use: by another thread, or by the call that asks you")
        }
        TryLockError::Poisoned(_) => {
            Error::at_border(Word::Bug, "a fault in libstarttls has spoiled these routes")
        }
    })
}

/// Something of the current host.
unsafe fn current<T>(routes: *const starttls_routes, what: impl FnOnce(&Current) -> T) -> Option<T> {
    // SAFETY: the caller's.
    let walk = locked(unsafe { get(routes) }.ok()?).ok()?;
    walk.current.as_deref().map(what)
}

/// Looks up which hosts take the mail of a domain (MX records, or the domain itself). Each host's own look-ups are made
/// when its turn comes. Free it with `starttls_routes_free`.
///
/// Errors: `null-mx` where the domain takes no mail; `lookup-failed`, `dns-bogus` and `timeout`; `invalid` for what is
/// no domain, and for a policy with what is one host's: TLSA records, their proof, an address.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_find(
    domain: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_routes {
    guard!(error, {
        let policy = used(policy)?;
        found(Routes::find(text(domain, "domain")?, &policy))
    })
}

/// The same for another service of a domain, as `starttls_connect_service` has it.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_find_service(
    protocol: *const c_char,
    domain: *const c_char,
    policy: *const starttls_policy,
    error: *mut *mut starttls_error,
) -> *mut starttls_routes {
    guard!(error, {
        let policy = used(policy)?;
        found(Routes::find_service(
            text(protocol, "protocol")?,
            text(domain, "domain")?,
            &policy,
        ))
    })
}

/// How many hosts have not had their turn. 0 for NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_left(routes: *const starttls_routes) -> usize {
    guard!(get(routes).and_then(locked).map_or(0, |walk| walk.routes.len()))
}

/// Goes to the next host and does its look-ups, for as long as the policy's time-out at most. False with an error: this
/// host will not do, and has had its turn; free the error, set it to NULL, and the next call goes on (a call that finds
/// an error there does nothing, as everywhere). False without one: there is no other. Where `error` is NULL, hosts
/// that will not do are passed over; who must know whether one may do later (`starttls_error_temporary`), and so
/// whether the mail is kept, hands one in.
///
/// Errors: that a look-up failed, or that what the domain asks for cannot be met there: `lookup-failed`,
/// `dns-bogus`, `timeout`, `sts-mismatch`, `sts-unavailable`, `no-dane`.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_next(
    routes: *mut starttls_routes,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let mut walk = locked(get(routes)?)?;
        walk.current = None;
        loop {
            match walk.routes.next() {
                None => break Ok(false),
                Some(Ok(route)) => {
                    walk.current = Some(Current::new(route));
                    break Ok(true);
                }
                Some(Err(_)) if error.is_null() => {}
                Some(Err(e)) => break Err(e),
            }
        }
    })
}

/// The host's name, in A-labels, or its address: what is handed to `starttls_connect`, `starttls_upgrade` and so on.
/// As all of the current host it is good until the next `starttls_routes_next`. NULL where there is none.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_host(routes: *const starttls_routes) -> *const c_char {
    guard!(current(routes, |c| c.host.as_ptr()).unwrap_or(std::ptr::null()))
}

/// The port to dial; 0 where there is no current host.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_port(routes: *const starttls_routes) -> u16 {
    guard!(current(routes, |c| c.port).unwrap_or(0))
}

/// The host's addresses, in the order in which they are to be tried. The i-th, from 0; NULL past the end.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_address(routes: *const starttls_routes, i: usize) -> *const c_char {
    guard!(current(routes, |c| borrowed(c.addresses.get(i))).unwrap_or(std::ptr::null()))
}

/// What must hold with this host. It belongs to the routes, as the host's name does; what is made of it, a session or
/// a derived policy, does not. NULL where there is no current host.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_policy(routes: *const starttls_routes) -> *const starttls_policy {
    guard!(current(routes, |c| c.policy.lend()).unwrap_or(std::ptr::null()))
}

/// Frees the routes, with their current host. NULL does nothing.
#[no_mangle]
pub unsafe extern "C" fn starttls_routes_free(routes: *mut starttls_routes) {
    guard!(free(routes))
}
