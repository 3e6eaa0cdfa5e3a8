//! What a policy knows of the peer's domain, whom it asks, and where it keeps what it learns.

use std::ffi::{c_char, c_void};

use starttls::{cache, Proof, Resolver, Result};

use super::{set, starttls_policy, used};
use crate::error::starttls_error;
use crate::handle::{bytes, invalid, path, text};

/// Hand in a TLSA record (RFC 6698) of the host that the program has looked up itself: its three numbers
/// and the `n` bytes of its data. May be called several times. For levels `dane`, `dane-only`,
/// `opportunistic` and `strict`, and for one host: on a policy derived for its connection. It wants
/// `starttls_policy_set_tlsa_proof`: else the first use is `invalid`, as it is at another level. A record
/// that mail servers cannot use (RFC 7672: usages 0 and 1, unknown numbers, data of the wrong length) is
/// passed over, and counts as RFC 7672 has it if no other is there.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_add_tlsa(
    policy: *mut starttls_policy,
    usage: u32,
    selector: u32,
    matching: u32,
    data: *const c_void,
    n: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let octet = |number: u32, what: &str| {
                u8::try_from(number)
                    .map_err(|_| invalid(format!("the {what} of a TLSA record is at most 255")))
            };
            let (usage, selector) = (octet(usage, "usage")?, octet(selector, "selector")?);
            Ok(p.tlsa(
                usage,
                selector,
                octet(matching, "matching type")?,
                bytes(data, n, "data")?,
            ))
        })
    )
}

/// How the program's own look-up of TLSA records went: `secure` (DNSSEC proves the answer; with no record
/// added it proves that there are none), `insecure`, `bogus`, `indeterminate` (nobody has validated it), or
/// `failed`. After `bogus` and `failed` a connection at a level that heeds TLSA records fails, for the time
/// being, and is not tried with less. It is to be weaker than `secure` where the host's addresses are (RFC 7672
/// section 2.2). Not set: `starttls_connect` and `starttls_upgrade` look up themselves.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_tlsa_proof(
    policy: *mut starttls_policy,
    proof: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let word = text(proof, "proof")?;
            match proof_of(word) {
                Some(proof) => Ok(p.tlsa_proof(proof)),
                None if word == "failed" => Ok(p.tlsa_failed()),
                None => Err(invalid(
                    "no such proof; it is one of: secure insecure bogus indeterminate failed",
                )),
            }
        })
    )
}

/// Look TLSA records up for this port though another is dialled: behind a port forwarding, or where the
/// program has made the connection and its port is not the protocol's own.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_tlsa_port(
    policy: *mut starttls_policy,
    port: u16,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.tlsa_port(not_zero(port)?))))
}

/// The port at which a domain's hosts are dialled, in place of 25 or of what the SRV records say. Calls that
/// name a host have a port of their own.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_port(
    policy: *mut starttls_policy,
    port: u16,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.port(not_zero(port)?))))
}

/// The port of the host that has a domain's MTA-STS policy, for tests: RFC 8461 knows 443 only.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_sts_port(
    policy: *mut starttls_policy,
    port: u16,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.sts_port(not_zero(port)?))))
}

/// Whom to ask in DNS: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, several with commas. What they say of
/// DNSSEC (the AD bit) counts if all are on this machine, or with ` trust-ad` behind, which says that they and
/// the way to them are trusted. Or `unbound`, `unbound:/etc/unbound/root.key`: validates in this process,
/// `unsupported` in builds without that. Not set: what /etc/resolv.conf says when it is asked.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_resolver(
    policy: *mut starttls_policy,
    resolver: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            Ok(p.resolver(Resolver::parse(text(resolver, "resolver")?)?))
        })
    )
}

/// Where to keep what was learnt of others: MTA-STS policies, and who proved its name over TLS before.
///
/// | cache               | where                                                                         |
/// |---------------------|-------------------------------------------------------------------------------|
/// | `directory:PATH`    | in this directory, which is made if its parent is there; also a PATH with a / |
/// | `directory`         | in the system's place for such things                                         |
/// | `memory`            | in this process                                                               |
/// | `redis://HOST:PORT` | in Redis or Valkey, for a fleet; also `unix:///PATH`                          |
///
/// A directory serves any number of processes at once, and the children of a fork; `memory` is copied by a fork, and
/// then each has its own. A cache that is away later is no error: mail goes on without it, and the outcome has a
/// note. Without a cache nothing is remembered: each policy is fetched anew, and a peer that does not offer TLS any
/// more is no surprise. `invalid` for other words, `io` if the directory cannot be made, `unsupported` if Redis
/// is not built in.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_cache(
    policy: *mut starttls_policy,
    cache: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| Ok(p.cache(cache::open(text(cache, "cache")?)?)))
    )
}

/// What the program knows of destinations and does not want to learn from DNS: a table, read now, or a STARTTLS
/// Everywhere list (JSON). A row replaces the policy's level and what goes with it, for that destination.
///
///     # destination           level        what goes with it
///     example.org             verify       name=mx.example.net
///     .example.org            encrypt      min-tls=1.3
///     [mail.example.com]:587  fingerprint  sha256=5b1f...
///     *                       may
///
/// What goes with it: `name=` (the certificate is for this name), `sha256=`, `ca=` (a PEM file), `min-tls=`.
/// `invalid` with the line and what to do about it.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_destinations(
    policy: *mut starttls_policy,
    file: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.destinations(path(file, "file")?)))
}

/// Tell the TLSRPT collector at this Unix socket (`tlsrpt-collectd`) how TLS went with each host, in each
/// `starttls_connect_domain` to a domain that asks for reports (RFC 8460). The socket need not be there yet; where
/// the collector cannot be told, mail goes on, and the outcome has a note. `invalid` if the path is too long.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_tlsrpt(
    policy: *mut starttls_policy,
    socket: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| p.tlsrpt(path(socket, "socket")?)))
}

/// Look up where a domain wants its TLS reports, so that outcomes give `starttls_outcome_tlsrpt_event`, for those
/// who fold and send their own. `starttls_policy_set_tlsrpt` does so by itself.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_ask_tlsrpt(
    policy: *mut starttls_policy,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, set(policy, |p| Ok(p.ask_tlsrpt())))
}

/// Forgets, in the policy's cache, that this host, or the hosts of this domain, did TLS before: for one that stops
/// doing so and means it. What is proven later is remembered again. `invalid` without a cache, `io` if it
/// cannot be written.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_forget(
    policy: *const starttls_policy,
    name: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, used(policy)?.forget(text(name, "name")?).map(|()| true))
}

pub(super) fn proof_of(word: &str) -> Option<Proof> {
    Some(match word {
        "secure" => Proof::Secure,
        "insecure" => Proof::Insecure,
        "bogus" => Proof::Bogus,
        "indeterminate" => Proof::Indeterminate,
        _ => return None,
    })
}

fn not_zero(port: u16) -> Result<u16> {
    Some(port)
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid("port 0 is none"))
}
