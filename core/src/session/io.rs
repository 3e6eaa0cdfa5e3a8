//! Reading, writing and closing a session, each as one wait at a time.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::MutexGuard;
use std::time::Duration;

use super::{lock, Session};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::sys::{process, shut_down, wait_any, Deadline};

/// Bytes given to one SSL_write: one TLS record.
pub(super) const RECORD: usize = 16 * 1024;
/// Bytes of TLS that count as progress in a read that gives the caller none: more than one record.
const NOTHING_FOR_US: u64 = 64 * 1024;
/// How long `close` waits for the kernel to take the close_notify.
const CLOSING: Duration = Duration::from_secs(5);
/// What `close` reads of a peer that is to end.
const LAST_WORDS: usize = 64 * 1024;

impl Session<'_> {
    /// Reads what has come, waiting for the first byte; 0 means that the peer closed properly.
    ///
    /// # Errors
    /// `closed` where the peer's end came without close_notify: what was read may be cut short.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let _busy = Busy::begin(&self.busy);
        let mut wait = self.waiting();
        let mut came = 0;
        loop {
            let events = {
                let mut channel = self.usable()?;
                // Records that hold nothing for the caller are progress only up to here.
                if came <= NOTHING_FOR_US {
                    came = wait.note(&channel);
                } else if wait.deadline.is_past() {
                    return Err(Error::io("read", &io::ErrorKind::TimedOut.into()));
                }
                if let Some(n) = channel.try_read(buffer)? {
                    return Ok(n);
                }
                if let Err(e) = channel.push() {
                    // The peer takes no more from us; what it has said is still the caller's.
                    return channel.read_what_is_left(buffer).ok_or(e);
                }
                channel.events(libc::POLLIN)
            };
            wait.wait(events)?;
        }
    }

    /// Writes everything, or fails.
    ///
    /// # Errors
    /// `closed`, `io`, `timeout`; how much has reached the peer is then not known.
    pub fn write_all(&self, bytes: &[u8]) -> Result<()> {
        let _busy = Busy::begin(&self.busy);
        let mut wait = self.waiting();
        let mut left = bytes;
        while !left.is_empty() {
            let n = self.write_record(left, &mut wait)?;
            left = left.get(n..).unwrap_or_default();
        }
        self.push_all(&mut wait)
    }

    /// Hands over the beginning of these bytes, 16 KiB at most, and says how many. What the kernel
    /// does not take at once is kept; [`flush`](Session::flush) waits until it has.
    ///
    /// For callers that must know after a `timeout` what was taken: nothing was.
    ///
    /// # Errors
    /// As [`write_all`](Session::write_all).
    pub fn write_some(&self, bytes: &[u8]) -> Result<usize> {
        let _busy = Busy::begin(&self.busy);
        self.write_record(bytes, &mut self.waiting())
    }

    /// Waits until the kernel has taken all that was written.
    ///
    /// # Errors
    /// `closed`, `io`, `timeout`; after `timeout` it can be called again.
    pub fn flush(&self) -> Result<()> {
        let _busy = Busy::begin(&self.busy);
        self.push_all(&mut self.waiting())
    }

    fn write_record(&self, bytes: &[u8], wait: &mut Waiting<'_>) -> Result<usize> {
        let (record, _) = bytes.split_at(bytes.len().min(RECORD));
        loop {
            let events = {
                let mut channel = self.usable()?;
                let sent = channel.push()?;
                wait.note(&channel);
                if !sent {
                    // What is kept goes first, or memory would not be bounded.
                    channel.events(0)
                } else if record.is_empty() {
                    return Ok(0);
                } else {
                    match channel.try_write(record)? {
                        Some(n) => return Ok(n),
                        None => channel.events(libc::POLLIN),
                    }
                }
            };
            wait.wait(events)?;
        }
    }

    fn push_all(&self, wait: &mut Waiting<'_>) -> Result<()> {
        loop {
            let events = {
                let mut channel = self.usable()?;
                let sent = channel.push()?;
                wait.note(&channel);
                if sent {
                    return Ok(());
                }
                channel.events(0)
            };
            wait.wait(events)?;
        }
    }

    /// Ends the session: close_notify over TLS, and no more. It does not wait for the peer's: what the peer
    /// still sends meets a closed socket, and the system may then drop what the peer has not read yet. Read the
    /// answer to the last command first.
    ///
    /// A thread that waits in `read` or a write is woken by `shutdown(2)`; a peer that takes nothing
    /// is given 5 s for the close_notify. The caller of `upgrade` closes its own descriptor.
    ///
    /// # Errors
    /// If the close_notify cannot be sent; the session is closed all the same.
    pub fn close(&self) -> Result<()> {
        self.same_process()?;
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.end_handshake();
        let sent = self.say_goodbye();
        if self.for_data && sent.is_ok() {
            self.hear_out();
        }
        lock(&self.channel).discard_unread();
        if self.busy.load(Ordering::SeqCst) > 0 {
            shut_down(self.connection.as_fd().as_raw_fd());
        }
        sent
    }

    /// Says that nothing more will be written: close_notify over TLS. Reading goes on.
    ///
    /// # Errors
    /// If the close_notify cannot be sent.
    pub fn finish(&self) -> Result<()> {
        drop(self.usable()?);
        self.say_goodbye()
    }

    /// Waits for the peer's end. What it still says to one who has closed (the tickets of TLS 1.3, its
    /// close_notify) is answered by a reset, with which it loses what it has not read yet: the end of
    /// an upload. One who goes on sending gets the reset.
    fn hear_out(&self) {
        let _ = socket2::SockRef::from(&self.connection).shutdown(std::net::Shutdown::Write);
        let mut wait = self.waiting();
        wait.deadline = Deadline::after(Some(wait.time_limit.map_or(CLOSING, |t| t.min(CLOSING))));
        let mut buffer = [0; 4096];
        let mut heard = 0;
        while heard < LAST_WORDS {
            let n = lock(&self.channel).try_read(&mut buffer);
            match n {
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(n)) => heard = n.saturating_add(heard),
                Ok(None) if wait.wait(libc::POLLIN).is_err() => return,
                Ok(None) => {}
            }
        }
    }

    fn say_goodbye(&self) -> Result<()> {
        let mut wait = self.waiting();
        wait.time_limit = Some(wait.time_limit.map_or(CLOSING, |t| t.min(CLOSING)));
        let mut said = false;
        loop {
            let events = {
                let mut channel = lock(&self.channel);
                wait.note(&channel);
                if !std::mem::replace(&mut said, true) {
                    channel.say_goodbye();
                }
                if channel.push()? {
                    return Ok(());
                }
                channel.events(0)
            };
            wait.wait(events)?;
        }
    }

    pub(super) fn same_process(&self) -> Result<()> {
        if process() == self.process {
            return Ok(());
        }
        Err(Error::invalid(
            "this session belongs to the process before fork; here it may only be freed",
        ))
    }

    pub(super) fn usable(&self) -> Result<MutexGuard<'_, Channel>> {
        let channel = self.unclosed()?;
        if matches!(*channel, Channel::Handshake(_)) {
            return Err(Error::invalid("the TLS handshake of this session is not done"));
        }
        Ok(channel)
    }

    pub(super) fn unclosed(&self) -> Result<MutexGuard<'_, Channel>> {
        self.same_process()?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::invalid("this session is closed"));
        }
        Ok(lock(&self.channel))
    }

    fn waiting(&self) -> Waiting<'_> {
        let time_limit = *lock(&self.time_limit);
        Waiting {
            fd: self.connection.as_fd(),
            policy: &self.policy,
            time_limit,
            deadline: Deadline::after(time_limit),
            first: None,
            moved: None,
        }
    }
}

/// A wait whose deadline counts from the last byte moved.
struct Waiting<'a> {
    fd: BorrowedFd<'a>,
    policy: &'a Policy,
    time_limit: Option<Duration>,
    deadline: Deadline,
    first: Option<u64>,
    moved: Option<u64>,
}

impl Waiting<'_> {
    /// Bytes that moved since the last call give the wait its whole time again. How many have moved
    /// since the first call.
    fn note(&mut self, channel: &Channel) -> u64 {
        let moved = channel.transport().moved();
        let first = *self.first.get_or_insert(moved);
        if self.moved.replace(moved) != Some(moved) {
            self.deadline = Deadline::after(self.time_limit);
        }
        moved.saturating_sub(first)
    }

    fn wait(&self, events: libc::c_short) -> Result<()> {
        let hook = self.policy.rules.interrupt_hook;
        wait_any(&[(self.fd, events)], self.deadline, hook)
            .map(drop)
            .map_err(|e| Error::io("wait for the peer", &e))
    }
}

/// Counts a thread that reads or writes for as long as it lives.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn begin(busy: &'a AtomicUsize) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Read for &Session<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(Session::read(self, buffer)?)
    }
}

impl Write for &Session<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Session::write_all(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Session<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(Session::read(self, buffer)?)
    }
}

impl Write for Session<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
