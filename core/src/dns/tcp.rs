//! DNS over TCP (RFC 7766): one question, one connection, each message behind its length. For what does not fit
//! into a packet.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::Socket;

use super::patience::{Patience, Trouble};
use crate::dial;
use crate::sys;

/// Asks, and returns the whole answer.
pub(super) fn exchange(
    server: SocketAddr,
    query: &[u8],
    patience: Patience,
) -> std::result::Result<Vec<u8>, Trouble> {
    let failed = |e: io::Error| Trouble::Server(format!("over TCP: {e}"));
    let socket = dial::begin(server, None).map_err(failed)?;
    patience.wait(&socket, libc::POLLOUT)?;
    dial::finish(&socket).map_err(failed)?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    // In one piece (RFC 7766 §8).
    let framed = [&length.to_be_bytes(), query].concat();
    send(&socket, &framed, patience)?;
    let mut length = [0; 2];
    receive(&socket, &mut length, patience)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    receive(&socket, &mut message, patience)?;
    Ok(message)
}

fn send(socket: &Socket, mut rest: &[u8], patience: Patience) -> std::result::Result<(), Trouble> {
    while !rest.is_empty() {
        patience.wait(socket, libc::POLLOUT)?;
        let n = sys::send(socket.as_raw_fd(), rest).map_err(|e| Trouble::Server(format!("over TCP: {e}")))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    Ok(())
}

fn receive(socket: &Socket, mut rest: &mut [u8], patience: Patience) -> std::result::Result<(), Trouble> {
    while !rest.is_empty() {
        patience.wait(socket, libc::POLLIN)?;
        match sys::recv(socket.as_raw_fd(), rest, 0) {
            Ok(0) => return Err(Trouble::Server("closed the TCP connection".to_owned())),
            Ok(n) => rest = rest.get_mut(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(Trouble::Server(format!("over TCP: {e}"))),
        }
    }
    Ok(())
}
