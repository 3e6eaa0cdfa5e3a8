//! Bytes on a file descriptor: what OpenSSL reads and writes through.
//!
//! [`Transport`] never lets OpenSSL see "cannot write now": a KeyUpdate in the other direction would
//! then kill the connection. What the kernel does not take at once is kept (64 KiB at most) and
//! reported as written; the session pushes it before it goes on. It also looks at the first bytes
//! where TLS must begin, so that plaintext never reaches OpenSSL.

use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use crate::sys::{recv, send};

/// What is kept of the bytes that the kernel did not take.
const MAX_KEPT: usize = 64 * 1024;

/// What OpenSSL may read in one call. It stays in SSL_read or SSL_connect for as long as a peer feeds
/// it records that hold nothing for us (HelloRequest, KeyUpdate, tickets); deadlines, hooks and
/// other threads must have their turn.
const BUDGET: usize = 64 * 1024;

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
    /// Bytes of TLS that were read before it began.
    read: Vec<u8>,
    guard: Guard,
    first: Vec<u8>,
    eof: bool,
    wrote: bool,
    /// How much more OpenSSL may read before it must come back to us.
    budget: usize,
    ran_out: bool,
    /// The next read would come too early: something was written, and nobody has waited since.
    too_early: bool,
    /// Whether somebody waits for the peer between a write and the next read.
    waits_first: bool,
    flights: u32,
    moved: u64,
    failed: Option<i32>,
}

impl Transport {
    pub(crate) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            kept: Vec::new(),
            read: Vec::new(),
            guard: Guard::Open,
            first: Vec::new(),
            eof: false,
            wrote: false,
            budget: BUDGET,
            ran_out: false,
            too_early: true,
            waits_first: true,
            flights: 0,
            moved: 0,
            failed: None,
        }
    }

    /// From here on the peer must speak TLS: what does not begin like a TLS record never reaches
    /// OpenSSL. These bytes of it were read already.
    pub(crate) fn expect_tls(&mut self, read: Vec<u8>) {
        self.guard = Guard::FirstRecord(0);
        self.read = read;
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    /// The bytes that came where TLS was expected.
    pub(crate) fn clear_bytes(&self) -> Option<&[u8]> {
        (self.guard == Guard::Clear).then_some(&self.first)
    }

    /// A new call into OpenSSL begins.
    pub(crate) fn refill(&mut self) {
        self.budget = BUDGET;
        self.ran_out = false;
        self.failed = None;
    }

    /// The next read asks the kernel, whatever was written before.
    pub(crate) fn read_at_once(&mut self) {
        self.too_early = false;
    }

    /// For event loops: every read asks the kernel, as nobody waits here.
    pub(crate) fn never_wait_first(&mut self) {
        self.waits_first = false;
        self.too_early = false;
    }

    /// Whether the last read ended for want of budget and not of bytes.
    pub(crate) fn has_more(&self) -> bool {
        self.ran_out
    }

    /// Keeps these bytes, to be sent with the next.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wrote = true;
        self.too_early = self.waits_first;
        if self.kept.len().saturating_add(bytes.len()) > MAX_KEPT {
            // Only a peer that makes us answer and never reads gets here.
            return Err(io::Error::other("the peer does not read what it asks for"));
        }
        self.kept.extend_from_slice(bytes);
        Ok(bytes.len())
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
        match recv(self.fd, &mut buffer, libc::MSG_PEEK) {
            Ok(n) => Ok(Some(buffer.get(..n).unwrap_or_default().to_vec())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends what is kept, as far as the kernel takes it; true when nothing is left.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        if self.kept.is_empty() {
            return Ok(true);
        }
        let n = match send(self.fd, &self.kept) {
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

    /// Counts bytes that came, and looks at them where TLS must begin.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count(bytes.len());
        if self.wrote {
            self.wrote = false;
            self.flights = self.flights.saturating_add(1);
        }
        if let Guard::FirstRecord(seen) = self.guard {
            self.inspect(seen, bytes)?;
        }
        Ok(bytes.len())
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
                if let Ok(n) = recv(self.fd, &mut more, 0) {
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
        if !self.read.is_empty() {
            let n = self.read.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.read.drain(..n)) {
                *to = from;
            }
            return self.take(buffer.get(..n).unwrap_or_default());
        }
        if std::mem::take(&mut self.too_early) {
            // The answer cannot be here yet, and asking for it is a system call: wait first.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.budget == 0 {
            self.budget = BUDGET;
            self.ran_out = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = match recv(self.fd, buffer, 0) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
            Err(e) => return Err(self.fails(e)),
        };
        if n == 0 && !buffer.is_empty() {
            self.eof = true;
            return Ok(0);
        }
        self.budget = self.budget.saturating_sub(n);
        self.take(buffer.get(..n).unwrap_or_default())
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.kept.is_empty() {
            match send(self.fd, bytes) {
                Ok(n) => n,
                Err(e) => return Err(self.fails(e)),
            }
        } else {
            0
        };
        self.count(taken);
        self.keep(bytes.get(taken..).unwrap_or_default())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
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
        assert_eq!(transport.write(b"last").unwrap(), 4);
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
                transport.expect_tls(Vec::new());
                transport.read_at_once();
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
}
