//! /etc/resolv.conf (resolv.conf(5)), read as glibc reads it: a line that is broken, or that nobody here knows,
//! does not make the others useless; without a server the one on this machine is asked.
//!
//! `options trust-ad` says that the way to the servers, and they themselves, may be trusted to have validated what
//! they mark with AD. Without it that is believed of servers on this machine only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

use super::stub::Stub;
use crate::error::{Error, Result};

/// Where it is, unless $STARTTLS_RESOLV_CONF says otherwise.
const FILE: &str = "/etc/resolv.conf";
/// More is no resolv.conf.
const MAX_FILE: u64 = 1 << 20;
/// The port of DNS.
pub(super) const PORT: u16 = 53;
// glibc's limits (resolv.h): MAXNS, RES_MAXRETRANS, RES_MAXRETRY.
const MAX_SERVERS: usize = 3;
const MAX_TIMEOUT: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;

/// Where the file is.
pub(super) fn place() -> PathBuf {
    let named = std::env::var_os("STARTTLS_RESOLV_CONF").filter(|_| !crate::tls::ffi::set_id());
    named.map_or_else(|| PathBuf::from(FILE), PathBuf::from)
}

/// Reads the system's file. No file is as an empty one.
pub(super) fn system() -> Result<Stub> {
    let file = place();
    match read(&file) {
        Ok(text) => Ok(parse(&text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(parse(b"")),
        Err(e) => Err(Error::io(&format!("read {}", file.display()), &e)),
    }
}

fn read(file: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(file)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(text)
}

/// What the text says; what it does not say, or says wrongly, is as without it.
pub(super) fn parse(text: &[u8]) -> Stub {
    let (config, _ignored) = Config::parse_with_errors(text);
    let mut servers: Vec<SocketAddr> = config
        .nameservers
        .iter()
        .filter_map(server)
        .take(MAX_SERVERS)
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    Stub {
        timeout: Duration::from_secs(u64::from(config.timeout.clamp(1, MAX_TIMEOUT))),
        attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
        rotate: config.rotate,
        only_tcp: config.use_vc,
        trusted: config.trust_ad || all_loopback(&servers),
        servers,
    }
}

/// Whether all of them are on this machine.
pub(super) fn all_loopback(servers: &[SocketAddr]) -> bool {
    servers.iter().all(|s| s.ip().to_canonical().is_loopback())
}

/// A link-local address has a scope, by name or by number; with one that does not exist it is no server.
fn server(address: &ScopedIp) -> Option<SocketAddr> {
    Some(match address {
        ScopedIp::V4(ip) => SocketAddr::new(IpAddr::V4(*ip), PORT),
        ScopedIp::V6(ip, None) => SocketAddr::new(IpAddr::V6(*ip), PORT),
        ScopedIp::V6(ip, Some(scope)) => SocketAddrV6::new(*ip, PORT, 0, crate::sys::scope(scope)?).into(),
    })
}
