//! A cache that a fleet shares: Redis or Valkey.
//!
//! ```text
//! get     GETRANGE starttls:KEY 0 131072      (as GET, but never more than we want)
//! put     SET starttls:KEY VALUE PX MILLISECONDS
//! remove  DEL starttls:KEY
//! ```
//!
//! One connection for each process, made at first use. Mail must not wait for a cache: a second to connect, a
//! second for an answer, and after a failure five seconds in which nobody asks. The crate `redis` has the words; the
//! socket is our own, because the crate's writes to a Unix socket can end a C program by SIGPIPE, and because its
//! time-out counts anew for every byte.
//!
//! What goes over the connection is not encrypted: it belongs into one's own network, or behind a tunnel.

use std::io::{self, ErrorKind, Read};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ::redis::{cmd, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Parser, Value};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{check_size, Cache, MAX_VALUE};
use crate::dial::dial;
use crate::error::{Error, Result};
use crate::sys::{self, Deadline};

/// For connecting, and again for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure nobody asks for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// What an answer may have beside the value.
const FRAME: usize = 4096;

/// Keeps everything in a Redis or Valkey server.
pub struct RedisCache {
    info: ConnectionInfo,
    /// For messages: without user and password.
    place: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    /// Until when nobody asks, and why.
    away: Option<(Instant, String)>,
}

impl RedisCache {
    /// The server at `redis://[user:password@]host[:port][/db]` or `unix:///path[?db=…&user=…&pass=…]`. Nothing is
    /// connected yet: a server that is away is no error of ours, and the outcome of each connection says so.
    ///
    /// # Errors
    /// `invalid` if it is no such address; `unsupported` for `rediss://`.
    pub fn open(url: &str) -> Result<Self> {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        if matches!(scheme, "rediss" | "valkeys") {
            return Err(Error::new(
                crate::Word::Unsupported,
                "Redis over TLS is not built in: use a Unix socket, a tunnel, or redis:// in a network of your own",
            ));
        }
        // Not with the address: it may have a password in it.
        let invalid = |why: &str| {
            Error::invalid(format!(
                "the address of the Redis cache {why}: write redis://[user:password@]host[:port][/db] or unix:///path"
            ))
        };
        let info = url
            .into_connection_info()
            .map_err(|_| invalid("is not understood"))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => return Err(invalid("is of an unknown kind")),
        };
        Ok(Self {
            info,
            place,
            state: Mutex::default(),
        })
    }

    /// Asks, over the connection that there is or a new one.
    fn ask(&self, command: &Cmd) -> io::Result<Value> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, why)) = &state.away {
            if Instant::now() < *until {
                return Err(io::Error::other(why.clone()));
            }
        }
        state.away = None;
        // A link that came through fork belongs to another process. To drop it closes our copy and says nothing.
        let kept = state.link.take().filter(|link| link.process == sys::process());
        let answer = match kept.map(|link| link.ask(command)) {
            // The server was restarted, or it had waited long enough: that is found out only now.
            Some(Err(e)) if e.kind() != ErrorKind::TimedOut => {
                self.connect().and_then(|link| link.ask(command))
            }
            Some(answer) => answer,
            None => self.connect().and_then(|link| link.ask(command)),
        };
        match answer {
            Ok((Value::ServerError(e), _)) => {
                // Loading, read-only, out of memory, wrong password: the next call may find another server there.
                Err(io::Error::other(format!("Redis at {} says: {e}", self.place)))
            }
            Ok((value, link)) => {
                state.link = Some(link);
                Ok(value)
            }
            Err(e) => {
                let why = format!("Redis at {}: {e}", self.place);
                let until = Instant::now().checked_add(PAUSE);
                state.away = until.map(|until| (until, why.clone()));
                Err(io::Error::new(e.kind(), why))
            }
        }
    }

    fn connect(&self) -> io::Result<Link> {
        let deadline = Deadline::after(Some(PATIENCE));
        let fd = match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
                let (fd, _) = dial(&addresses, None, deadline, None).map_err(io::Error::other)?;
                let _ = socket2::SockRef::from(&fd).set_tcp_nodelay(true);
                fd
            }
            ConnectionAddr::Unix(path) => connect_unix(path)?,
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        let mut link = Link {
            process: sys::process(),
            fd,
            parser: Parser::new(),
        };
        let settings = self.info.redis_settings();
        let mut first = Vec::new();
        if let Some(password) = settings.password() {
            let mut auth = cmd("AUTH");
            if let Some(user) = settings.username() {
                auth.arg(user);
            }
            first.push(auth.arg(password).clone());
        }
        if settings.db() != 0 {
            first.push(cmd("SELECT").arg(settings.db()).clone());
        }
        for command in first {
            let (answer, again) = link.ask(&command)?;
            if let Value::ServerError(e) = answer {
                return Err(io::Error::other(e.to_string()));
            }
            link = again;
        }
        Ok(link)
    }
}

impl Cache for RedisCache {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        // Up to and with this byte: one more than there may be, to be found out.
        match self.ask(cmd("GETRANGE").arg(prefixed(key)).arg(0).arg(MAX_VALUE))? {
            Value::BulkString(value) => Ok(Some(value).filter(|v| !v.is_empty())),
            _ => Err(self.strange()),
        }
    }

    /// An empty value is as none.
    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        check_size(value)?;
        // As a span of time: the server's clock is not ours.
        let left = expires
            .duration_since(SystemTime::now())
            .map_or(0, |left| left.as_millis());
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
            return self.remove(key);
        };
        match self.ask(cmd("SET").arg(prefixed(key)).arg(value).arg("PX").arg(left))? {
            Value::Okay => Ok(()),
            _ => Err(self.strange()),
        }
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        match self.ask(cmd("DEL").arg(prefixed(key)))? {
            Value::Int(_) => Ok(()),
            _ => Err(self.strange()),
        }
    }
}

impl RedisCache {
    fn strange(&self) -> io::Error {
        io::Error::other(format!("what is at {} does not answer as Redis does", self.place))
    }
}

fn prefixed(key: &str) -> String {
    format!("starttls:{key}")
}

fn connect_unix(path: &PathBuf) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect_timeout(&SockAddr::unix(path)?, PATIENCE)?;
    Ok(socket.into())
}

/// A connection on which no answer is outstanding: one that fails is gone.
struct Link {
    process: u32,
    fd: OwnedFd,
    parser: Parser,
}

impl Link {
    fn ask(mut self, command: &Cmd) -> io::Result<(Value, Self)> {
        let deadline = Deadline::after(Some(PATIENCE));
        let packed = command.get_packed_command();
        let mut rest = packed.as_slice();
        while !rest.is_empty() {
            let sent = sys::send(self.fd.as_raw_fd(), rest)?;
            if sent == 0 {
                sys::wait_any(&[(self.fd.as_fd(), libc::POLLOUT)], deadline, None)?;
            }
            rest = rest.get(sent..).unwrap_or_default();
        }
        let most = u64::try_from(MAX_VALUE.saturating_add(FRAME)).unwrap_or(u64::MAX);
        let mut answer = Answer {
            fd: &self.fd,
            deadline,
            failed: None,
        };
        match self.parser.parse_value((&mut answer).take(most)) {
            Ok(value) => Ok((value, self)),
            // The crate would hide which error it was.
            Err(e) => Err(answer.failed.unwrap_or_else(|| io::Error::other(e.to_string()))),
        }
    }
}

/// What the server sends until the deadline.
struct Answer<'a> {
    fd: &'a OwnedFd,
    deadline: Deadline,
    failed: Option<io::Error>,
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer).map_err(|e| {
            let kind = e.kind();
            self.failed = Some(e);
            kind.into()
        })
    }
}

impl Answer<'_> {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match sys::recv(self.fd.as_raw_fd(), buffer, 0) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "it closed the connection",
                    ))
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    sys::wait_any(&[(self.fd.as_fd(), libc::POLLIN)], self.deadline, None)?;
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests;
