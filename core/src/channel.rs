//! What an established session runs over, and one attempt at reading or writing it without waiting.

use std::io::{self, Read, Write};

use openssl::ssl::{ErrorCode, ShutdownState, SslStream};

use crate::error::{Error, Result, Word};
use crate::handshake::Handshake;
use crate::transport::Transport;

/// In clear or over TLS.
pub(crate) enum Channel {
    /// In clear; these bytes were read and belong to the caller.
    Plain(Transport, Vec<u8>),
    Tls(SslStream<Transport>),
    /// Over TLS, once the handshake is through.
    Handshake(Box<Handshake>),
}

impl Channel {
    pub(crate) fn transport(&self) -> &Transport {
        match self {
            Channel::Plain(transport, _) => transport,
            Channel::Tls(stream) => stream.get_ref(),
            Channel::Handshake(handshake) => handshake.transport(),
        }
    }

    fn transport_mut(&mut self) -> &mut Transport {
        match self {
            Channel::Plain(transport, _) => transport,
            Channel::Tls(stream) => stream.get_mut(),
            Channel::Handshake(handshake) => handshake.transport_mut(),
        }
    }

    /// For event loops, in which nobody waits here.
    pub(crate) fn never_wait_first(&mut self) {
        self.transport_mut().never_wait_first();
    }

    /// Reads what is there; `None` if nothing is, 0 if the peer has closed properly.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match self {
            Channel::Plain(transport, unread) => plain_read(transport, unread, buffer),
            Channel::Handshake(_) => Err(not_done()),
            Channel::Tls(stream) => {
                stream.get_mut().refill();
                match stream.ssl_read(buffer) {
                    Ok(n) => Ok(Some(n)),
                    Err(e) => match e.code() {
                        ErrorCode::WANT_READ => Ok(None),
                        ErrorCode::ZERO_RETURN => Ok(Some(0)),
                        _ => Err(tls_error("read", stream.get_ref(), &e)),
                    },
                }
            }
        }
    }

    /// Reads what came before the connection broke, if anything did.
    pub(crate) fn read_what_is_left(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.transport_mut().read_at_once();
        self.try_read(buffer).ok().flatten()
    }

    /// Writes some of it, perhaps into what is kept; `None` if OpenSSL must hear from the peer
    /// first.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        match self {
            Channel::Plain(transport, _) => transport.write(bytes).map(Some).map_err(|e| broken("write", &e)),
            Channel::Handshake(_) => Err(not_done()),
            Channel::Tls(stream) => {
                stream.get_mut().refill();
                match stream.ssl_write(bytes) {
                    Ok(n) => Ok(Some(n)),
                    Err(e) if e.code() == ErrorCode::WANT_READ => Ok(None),
                    Err(_) if stream.get_shutdown().contains(ShutdownState::SENT) => {
                        Err(Error::invalid("nothing can be written after close_notify"))
                    }
                    Err(e) => Err(tls_error("write", stream.get_ref(), &e)),
                }
            }
        }
    }

    /// Gives the kernel what is kept; true when nothing is left.
    pub(crate) fn push(&mut self) -> Result<bool> {
        self.transport_mut().push().map_err(|e| broken("write", &e))
    }

    /// What to wait for: these events, and room for the bytes that are kept.
    pub(crate) fn events(&self, events: libc::c_short) -> libc::c_short {
        if self.transport().keeps() {
            events | libc::POLLOUT
        } else {
            events
        }
    }

    /// Queues the close_notify. After a fatal error OpenSSL has nothing to say, and nor do we.
    pub(crate) fn say_goodbye(&mut self) {
        if let Channel::Tls(stream) = self {
            // Once it is said, a second call would listen for the peer's.
            if !stream.get_shutdown().contains(ShutdownState::SENT) {
                let _ = stream.shutdown();
            }
        }
    }

    /// Takes what has come over TLS, without waiting, and drops it. TLS 1.3 tickets that nobody has
    /// read would make close(2) reset the connection, and the peer lose our last bytes; taken, they
    /// serve for resumption.
    pub(crate) fn discard_unread(&mut self) {
        let mut unread = [0; 1024];
        if let Channel::Tls(stream) = self {
            stream.get_mut().read_at_once();
            // A peer that goes on sending gets its reset.
            for _ in 0..64 {
                if stream.ssl_read(&mut unread).is_err() {
                    return;
                }
            }
        }
    }

    /// Nothing is sent; but SSL_free without a shutdown would spoil the TLS session for
    /// resumption.
    pub(crate) fn abandon(&mut self) {
        if let Channel::Tls(stream) = self {
            stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        }
    }

    /// Bytes that a read gives without the peer's help.
    pub(crate) fn pending(&self) -> usize {
        match self {
            Channel::Plain(_, unread) => unread.len(),
            Channel::Tls(stream) => stream.ssl().pending(),
            Channel::Handshake(_) => 0,
        }
    }
}

fn not_done() -> Error {
    Error::invalid("the TLS handshake of this session is not done")
}

fn plain_read(transport: &mut Transport, unread: &mut Vec<u8>, buffer: &mut [u8]) -> Result<Option<usize>> {
    if !unread.is_empty() {
        let n = unread.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(unread.drain(..n)) {
            *to = from;
        }
        return Ok(Some(n));
    }
    match transport.read(buffer) {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(broken("read", &e)),
    }
}

/// Where the reasons begin that are alerts of the peer's (SSL_AD_REASON_OFFSET).
const ALERTS: libc::c_int = 1000;

fn tls_error(doing: &str, transport: &Transport, e: &openssl::ssl::Error) -> Error {
    if let Some(e) = transport.failure() {
        return broken(doing, &e);
    }
    if transport.eof() {
        return Error::cut_short();
    }
    let Some(stack) = e.ssl_error() else {
        let why = e.io_error().map_or_else(|| e.to_string(), ToString::to_string);
        return Error::new(Word::Io, format!("{doing} over TLS: {why}"));
    };
    let why = crate::tls::reason(stack);
    // A fatal alert is the peer's way of breaking off: with TLS 1.3 it is how a server says, after
    // the handshake, that it wants another client certificate. All else is a broken record.
    let alert = stack.errors().iter().any(|e| e.reason_code() >= ALERTS);
    let word = if alert { Word::Closed } else { Word::Malformed };
    Error::new(word, format!("{doing} over TLS: {why}"))
}

fn broken(doing: &str, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::new(
            Word::Closed,
            format!("{doing}: the peer broke the connection off: {e}"),
        ),
        _ => Error::io(doing, e),
    }
}
