//! Bytes on a file descriptor, with a deadline.
//!
//! `recv` and `send` with `MSG_DONTWAIT | MSG_NOSIGNAL`, then `poll`: no SIGPIPE, no changed flags on
//! the caller's descriptor, blocking and non-blocking descriptors alike. OpenSSL reads and writes
//! through [`Transport`], which never lets it see "cannot write now": a KeyUpdate in the other
//! direction would then kill the connection. What the kernel does not take at once is kept (64 KiB
//! at most) and reported as written; the session pushes it before it goes on.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use crate::policy::InterruptHook;

/// What is kept of the bytes that the kernel did not take.
const MAX_KEPT: usize = 64 * 1024;

/// A point in time that a wait must not pass; `None` waits for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(time: Option<Duration>) -> Self {
        Self(time.and_then(|t| Instant::now().checked_add(t)))
    }

    pub(crate) fn is_past(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The earlier of this and so long from now.
    pub(crate) fn or_after(self, time: Duration) -> Self {
        let soon = Instant::now().checked_add(time);
        match (self.0, soon) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// For poll: milliseconds rounded up, so that it never spins; -1 for ever.
    fn poll_ms(self) -> libc::c_int {
        match self.0 {
            None => -1,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                let ms = left.as_micros().div_ceil(1000);
                libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
            }
        }
    }
}

/// Waits until one of the descriptors is ready and says which are; an empty answer never comes.
///
/// # Errors
/// `TimedOut` when the deadline passes, and what the hook says when a signal interrupts.
pub(crate) fn wait_any(
    fds: &[(BorrowedFd<'_>, libc::c_short)],
    deadline: Deadline,
    hook: Option<InterruptHook>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, events)| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: *events,
            revents: 0,
        })
        .collect();
    poll(&mut polled, deadline, hook)?;
    Ok(polled.iter().map(|p| p.revents != 0).collect())
}

fn poll(polled: &mut [libc::pollfd], deadline: Deadline, hook: Option<InterruptHook>) -> io::Result<()> {
    loop {
        let n = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
        // SAFETY: the pointer and the length are those of one slice that outlives the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), n, deadline.poll_ms()) };
        if ready > 0 {
            return Ok(());
        }
        if ready < 0 {
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
            if let Some(hook) = hook {
                hook()?;
            }
        }
        if deadline.is_past() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Whether the descriptor is an open stream socket; the error says what else it is.
pub(crate) fn check_socket(fd: RawFd) -> io::Result<()> {
    let mut kind: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: both pointers are to live locals, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if kind != libc::SOCK_STREAM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a stream socket",
        ));
    }
    Ok(())
}

/// Borrows a descriptor given as a number, as C and Python have it.
///
/// # Errors
/// If it is no open stream socket.
///
/// # Safety
/// The descriptor must stay open as long as what is made of it is in use.
pub unsafe fn borrow_fd<'fd>(fd: RawFd) -> io::Result<BorrowedFd<'fd>> {
    check_socket(fd)?;
    // SAFETY: it is open now (getsockopt answered), hence not -1; the caller keeps it so.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Shuts both directions down, so that no careless caller goes on in clear; never closes.
pub(crate) fn shut_down(fd: RawFd) {
    // SAFETY: shutdown has no memory arguments; on a bad descriptor it only fails.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// The process id, to know a session that came through fork.
pub(crate) fn process() -> u32 {
    std::process::id()
}

/// What the first bytes from the server are allowed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Plain session, or the beginning was seen to be TLS.
    Open,
    /// So many bytes of the first record were seen.
    FirstRecord(usize),
    /// It did not begin like TLS: these are the first bytes.
    Clear,
}

/// One connected socket, borrowed: the session owns or borrows the descriptor itself.
pub(crate) struct Transport {
    fd: RawFd,
    kept: Vec<u8>,
    guard: Guard,
    first: Vec<u8>,
    eof: bool,
    wrote: bool,
    flights: u32,
    moved: u64,
    failed: Option<i32>,
}

impl Transport {
    pub(crate) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            kept: Vec::new(),
            guard: Guard::Open,
            first: Vec::new(),
            eof: false,
            wrote: false,
            flights: 0,
            moved: 0,
            failed: None,
        }
    }

    /// From here on the peer must speak TLS: what does not begin like a TLS record never reaches
    /// OpenSSL.
    pub(crate) fn expect_tls(&mut self) {
        self.guard = Guard::FirstRecord(0);
    }

    /// The bytes that came where TLS was expected.
    pub(crate) fn clear_bytes(&self) -> Option<&[u8]> {
        (self.guard == Guard::Clear).then_some(&self.first)
    }

    /// Whether the peer closed its side.
    pub(crate) fn eof(&self) -> bool {
        self.eof
    }

    /// How often we wrote and then heard something.
    pub(crate) fn flights(&self) -> u32 {
        self.flights
    }

    /// Counts bytes moved, to see progress.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// The last system error other than "not now".
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.failed.map(io::Error::from_raw_os_error)
    }

    /// Whether bytes wait for the kernel to take them.
    pub(crate) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// What is waiting in the socket, without taking it; empty at end of file. `None`: nothing yet.
    pub(crate) fn peek(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0u8; 512];
        match self.recv(&mut buffer, libc::MSG_PEEK) {
            Ok(n) => Ok(Some(buffer.get(..n).unwrap_or_default().to_vec())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn recv(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
        loop {
            // SAFETY: the pointer and the length are those of one live slice.
            let n = unsafe {
                libc::recv(
                    self.fd,
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    flags | libc::MSG_DONTWAIT,
                )
            };
            if let Ok(n) = usize::try_from(n) {
                return Ok(n);
            }
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
    }

    /// How much of this the kernel takes now; 0 if it takes nothing.
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // SAFETY: the pointer and the length are those of one live slice.
            let n = unsafe {
                libc::send(
                    self.fd,
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            if let Ok(n) = usize::try_from(n) {
                return Ok(n);
            }
            let e = io::Error::last_os_error();
            match e.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(0),
                _ => return Err(e),
            }
        }
    }

    /// Sends what is kept, as far as the kernel takes it; true when nothing is left.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        if self.kept.is_empty() {
            return Ok(true);
        }
        let n = match self.send(&self.kept) {
            Ok(n) => n,
            Err(e) => return Err(self.fails(e)),
        };
        self.count(n);
        self.kept.drain(..n.min(self.kept.len()));
        if self.kept.is_empty() {
            // An idle session should not hold the memory of its busiest moment.
            self.kept = Vec::new();
        }
        Ok(self.kept.is_empty())
    }

    fn fails(&mut self, e: io::Error) -> io::Error {
        self.failed = e.raw_os_error();
        e
    }

    fn count(&mut self, n: usize) {
        self.moved = self.moved.wrapping_add(u64::try_from(n).unwrap_or(0));
    }

    /// Looks at the beginning of what the server says; an error once it is not TLS.
    fn inspect(&mut self, seen: usize, bytes: &[u8]) -> io::Result<()> {
        for (i, b) in bytes.iter().enumerate() {
            let like_tls = match seen.saturating_add(i) {
                0 => matches!(b, 0x15 | 0x16),
                1 => *b == 0x03,
                _ => {
                    self.guard = Guard::Open;
                    self.first = Vec::new();
                    return Ok(());
                }
            };
            if !like_tls {
                self.guard = Guard::Clear;
                self.first.extend_from_slice(bytes);
                let mut more = [0u8; 512];
                if let Ok(n) = self.recv(&mut more, 0) {
                    self.first.extend_from_slice(more.get(..n).unwrap_or_default());
                }
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        self.first.extend_from_slice(bytes);
        self.guard = Guard::FirstRecord(seen.saturating_add(bytes.len()));
        Ok(())
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.guard == Guard::Clear {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let n = match self.recv(buffer, 0) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
            Err(e) => return Err(self.fails(e)),
        };
        if n == 0 && !buffer.is_empty() {
            self.eof = true;
            return Ok(0);
        }
        self.count(n);
        if self.wrote {
            self.wrote = false;
            self.flights = self.flights.saturating_add(1);
        }
        if let Guard::FirstRecord(seen) = self.guard {
            self.inspect(seen, buffer.get(..n).unwrap_or_default())?;
        }
        Ok(n)
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wrote = true;
        let taken = if self.kept.is_empty() {
            match self.send(bytes) {
                Ok(n) => n,
                Err(e) => return Err(self.fails(e)),
            }
        } else {
            0
        };
        self.count(taken);
        let rest = bytes.get(taken..).unwrap_or_default();
        if self.kept.len().saturating_add(rest.len()) > MAX_KEPT {
            // Only a peer that makes us answer and never reads gets here.
            return Err(io::Error::other("the peer does not read what it asks for"));
        }
        self.kept.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_the_kernel_does_not_take_is_kept_and_pushed_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(ours.as_raw_fd());
        let mut sent = Vec::new();
        while !transport.keeps() {
            let block = vec![(sent.len() / 4096) as u8; 4096];
            assert_eq!(transport.write(&block).unwrap(), 4096);
            sent.extend(block);
        }
        transport.write(b"last").unwrap();
        sent.extend(b"last");
        assert!(!transport.push().unwrap());
        let mut got = vec![0; sent.len()];
        let mut n = 0;
        while n < got.len() {
            n += theirs.read(&mut got[n..]).unwrap();
            transport.push().unwrap();
        }
        assert_eq!(got, sent);
        assert!(transport.push().unwrap());
    }

    #[test]
    fn a_peer_that_never_reads_costs_bounded_memory() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut transport = Transport::new(ours.as_raw_fd());
        let failed = (0..10_000).any(|_| transport.write(&[0; 4096]).is_err());
        assert!(failed);
        assert!(transport.kept.len() <= MAX_KEPT);
    }

    #[test]
    fn writing_to_a_closed_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut transport = Transport::new(ours.as_raw_fd());
        assert_eq!(
            transport.write(b"x").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn clear_bytes_never_pass_where_tls_is_expected() {
        for (bytes, pass) in [
            (&b"\x16\x03\x03\x00\x05"[..], true),
            (b"\x15\x03\x01", true),
            (b"220 hello\r\n", false),
            (b"\x16\x04", false),
            (b"X\x16\x03\x03", false),
        ] {
            for chunk in [1, 2, bytes.len()] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                let mut transport = Transport::new(ours.as_raw_fd());
                transport.expect_tls();
                let mut result = Ok(0);
                for part in bytes.chunks(chunk) {
                    theirs.write_all(part).unwrap();
                    result = transport.read(&mut [0; 5]);
                    if result.is_err() {
                        break;
                    }
                }
                assert_eq!(result.is_ok(), pass, "{bytes:?} by {chunk}");
                assert_eq!(transport.clear_bytes().is_none(), pass);
            }
        }
    }

    #[test]
    fn waits_end_at_their_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let deadline = Deadline::after(Some(Duration::from_millis(20)));
        let e = wait_any(&[(ours.as_fd(), libc::POLLIN)], deadline, None).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        let now = Deadline::after(Some(Duration::ZERO));
        assert!(wait_any(&[(ours.as_fd(), libc::POLLIN)], now, None).is_err());
    }
}
