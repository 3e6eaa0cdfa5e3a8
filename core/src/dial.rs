//! From a name to a connected socket: resolve, then staggered attempts (RFC 8305 §5), so that one
//! dead address costs a quarter of a second and not the whole deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{Error, Result, Word};
use crate::name::ServerName;
use crate::rules::InterruptHook;
use crate::sys::{wait_any, Deadline};

/// How long one attempt is alone before the next address is tried as well (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// No name has an honest use for more addresses than this.
const MAX_ADDRESSES: usize = 32;

/// All addresses of the host, in the order to try them; the known ones, if there are any.
pub(crate) fn resolve(host: &ServerName, known: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>> {
    let name = match host {
        _ if !known.is_empty() => {
            let known = known.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            return Ok(in_order(known));
        }
        ServerName::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
        ServerName::Dns(name) => name,
    };
    let hints = AddrInfoHints {
        socktype: libc::SOCK_STREAM,
        ..AddrInfoHints::default()
    };
    let failed = |why: String, temporary| {
        Error::new(Word::LookupFailed, format!("look up {name}: {why}")).temporary_if(temporary)
    };
    let found = dns_lookup::getaddrinfo(Some(name), None, Some(hints)).map_err(|e| {
        let permanent = matches!(e.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData);
        failed(io::Error::from(e).to_string(), !permanent)
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for mut address in found.filter_map(|info| info.ok()).map(|info| info.sockaddr) {
        address.set_port(port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(failed("it has no address".to_owned(), false));
    }
    Ok(in_order(addresses))
}

fn in_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = alternate_families(addresses);
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// getaddrinfo has sorted them; a broken address family must still not hold up the other
/// (RFC 8305 §4).
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut others = others.into_iter();
    let mut sorted = Vec::new();
    for address in preferred {
        sorted.push(address);
        sorted.extend(others.next());
    }
    sorted.extend(others);
    sorted
}

/// Connects to the first address that answers.
pub(crate) fn dial(
    addresses: &[SocketAddr],
    source: Option<SocketAddr>,
    deadline: Deadline,
    hook: Option<InterruptHook>,
) -> Result<(OwnedFd, SocketAddr)> {
    let mut untried = addresses.iter();
    let mut attempts: Vec<(Socket, SocketAddr)> = Vec::new();
    let mut last_error: Option<(SocketAddr, io::Error)> = None;
    loop {
        if let Some(address) = untried.next() {
            match begin(*address, source) {
                Ok(socket) => attempts.push((socket, *address)),
                Err(e) => {
                    last_error = Some((*address, e));
                    continue;
                }
            }
        } else if attempts.is_empty() {
            return Err(match last_error {
                Some((address, e)) => Error::io(&format!("connect to {address}"), &e),
                None => Error::new(Word::LookupFailed, "no address to connect to"),
            });
        }
        // Wait for one to answer; with addresses left, only for a while.
        loop {
            let more = untried.len() > 0;
            let until = if more {
                deadline.or_after(STAGGER)
            } else {
                deadline
            };
            let fds: Vec<_> = attempts.iter().map(|(s, _)| (s.as_fd(), libc::POLLOUT)).collect();
            let ready = match wait_any(&fds, until, hook) {
                Ok(ready) => ready,
                Err(e) if e.kind() == io::ErrorKind::TimedOut && more && !deadline.is_past() => break,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    let tried: Vec<String> = attempts.iter().map(|(_, a)| a.to_string()).collect();
                    return Err(Error::new(
                        Word::Timeout,
                        format!("connect to {}: no answer", tried.join(", ")),
                    ));
                }
                Err(e) => return Err(Error::io("connect", &e)),
            };
            let mut pending = Vec::new();
            for ((socket, address), ready) in attempts.drain(..).zip(ready) {
                if !ready {
                    pending.push((socket, address));
                    continue;
                }
                match finish(&socket) {
                    Ok(()) => return Ok((OwnedFd::from(socket), address)),
                    Err(e) => last_error = Some((address, e)),
                }
            }
            attempts = pending;
            // One was refused: no reason to wait for the others before the next is tried.
            if untried.len() > 0 || attempts.is_empty() {
                break;
            }
        }
    }
}

/// Starts to connect, without waiting; writable when it is done.
pub(crate) fn begin(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    // socket2 sets close-on-exec. It stays non-blocking: the transport never asks it to wait.
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => Ok(socket),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// What came of it.
pub(crate) fn finish(socket: &Socket) -> io::Result<()> {
    if let Some(e) = socket.take_error()? {
        return Err(e);
    }
    // Mail dialogs are short lines that wait for each other.
    socket.set_tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn soon() -> Deadline {
        Deadline::after(Some(Duration::from_secs(5)))
    }

    #[test]
    fn a_dead_address_does_not_hold_up_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        // A listener whose queue is full neither answers nor refuses: Linux drops its SYNs.
        let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        deaf.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0))))
            .unwrap();
        deaf.listen(0).unwrap();
        let deaf_at = deaf.local_addr().unwrap().as_socket().unwrap();
        let _queue: Vec<_> = (0..4).map(|_| begin(deaf_at, None)).collect();
        let start = Instant::now();
        let (_, reached) = dial(&[deaf_at, good], None, soon(), None).unwrap();
        assert_eq!(reached, good);
        assert!(start.elapsed() >= STAGGER);
    }

    #[test]
    fn a_refusal_leads_to_the_next_at_once_and_all_refusals_to_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(dial(&[closed, good], None, soon(), None).unwrap().1, good);
        let e = dial(&[closed], None, soon(), None).unwrap_err();
        assert_eq!(e.word(), Word::Io);
        assert!(e.temporary());
        assert!(e.message().contains(&closed.to_string()), "{e}");
    }

    #[test]
    fn from_an_address_of_ones_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source: SocketAddr = "127.0.0.3:0".parse().unwrap();
        let good = listener.local_addr().unwrap();
        let other_family = "[::1]:9".parse().unwrap();
        let _socket = dial(&[other_family, good], Some(source), soon(), None).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), source.ip());
        let e = dial(&[other_family], Some(source), soon(), None).unwrap_err();
        assert_eq!(e.word(), Word::Io);
    }

    #[test]
    fn families_alternate() {
        let a: Vec<SocketAddr> = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        let sorted: Vec<String> = alternate_families(a).iter().map(ToString::to_string).collect();
        assert_eq!(
            sorted,
            ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]
        );
    }
}
