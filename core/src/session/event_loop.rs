//! The same without ever waiting, for event loops: each call does what can be done now and says what
//! to wait for.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{lock, Session};
use crate::attempt::Attempt;
use crate::channel::Channel;
use crate::dialog::Stage;
use crate::error::{Error, Result};
use crate::handshake::Progress;
use crate::negotiation::Negotiation;
use crate::sys::{process, shut_down};
use crate::transport::Transport;

/// How often one call goes on reading a peer that sends records which hold nothing for us. An
/// edge-triggered loop is not told again of bytes that were left in the socket.
const MAX_TURNS: usize = 16;

/// What a call has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready<T> {
    /// It is done.
    Done(T),
    /// Call again when the descriptor is readable; and when it is writable, if
    /// [`Session::wants_write`] says so.
    WantRead,
    /// Call again when the descriptor is writable.
    WantWrite,
}

impl Session<'_> {
    /// Goes on with the handshake of a session made by [`negotiated`](Session::negotiated). When it is
    /// done the policy is met; before, reading and writing are `invalid`. On other sessions it is done.
    ///
    /// # Errors
    /// As [`upgrade`](Session::upgrade); `timeout` when the policy's time-out has passed, which counts
    /// from the beginning of the negotiation.
    pub fn try_handshake(&self) -> Result<Ready<()>> {
        let mut channel = self.unclosed()?;
        let Channel::Handshake(handshake) = &mut *channel else {
            return Ok(Ready::Done(()));
        };
        for _ in 0..MAX_TURNS {
            match handshake.step()? {
                Progress::Done => {
                    // Only for the moment: a channel that nobody can use.
                    let nothing = Channel::Plain(Transport::new(-1), Vec::new());
                    if let Channel::Handshake(over) = std::mem::replace(&mut *channel, nothing) {
                        let (stream, attempt) = over.into_parts();
                        *channel = Channel::Tls(stream);
                        // Nobody else can have set it: the channel is locked.
                        let _ = self.judged.set(Box::new(attempt.outcome));
                    }
                    return Ok(Ready::Done(()));
                }
                Progress::Wait(events) if events == libc::POLLOUT => return Ok(Ready::WantWrite),
                Progress::Wait(_) if handshake.transport().has_more() => {}
                Progress::Wait(_) => return Ok(Ready::WantRead),
            }
        }
        Ok(Ready::WantRead)
    }

    /// Reads what is there; 0 bytes mean that the peer closed properly.
    ///
    /// # Errors
    /// As [`read`](Session::read).
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<Ready<usize>> {
        let mut channel = self.usable()?;
        channel.never_wait_first();
        let mut pushed = Ok(true);
        for _ in 0..MAX_TURNS {
            if let Some(n) = channel.try_read(buffer)? {
                return Ok(Ready::Done(n));
            }
            // What the peer has made us answer. If it takes no more, what it has said is still read.
            pushed = channel.push();
            if !channel.transport().has_more() {
                break;
            }
        }
        pushed.map(|_| Ready::WantRead)
    }

    /// Hands over the beginning of these bytes, at most one TLS record of 16 KiB, and says how many it
    /// took. They may not have left yet: [`try_flush`](Session::try_flush).
    ///
    /// # Errors
    /// As [`write_all`](Session::write_all).
    pub fn try_write(&self, bytes: &[u8]) -> Result<Ready<usize>> {
        let mut channel = self.usable()?;
        channel.never_wait_first();
        if !channel.push()? {
            // What is kept goes first, or memory would not be bounded.
            return Ok(Ready::WantWrite);
        }
        let (record, _) = bytes.split_at(bytes.len().min(super::io::RECORD));
        if record.is_empty() {
            return Ok(Ready::Done(0));
        }
        Ok(match channel.try_write(record)? {
            Some(n) => Ready::Done(n),
            None => Ready::WantRead,
        })
    }

    /// Gives the kernel what it has not taken yet.
    ///
    /// # Errors
    /// As [`write_all`](Session::write_all).
    pub fn try_flush(&self) -> Result<Ready<()>> {
        Ok(if self.usable()?.push()? {
            Ready::Done(())
        } else {
            Ready::WantWrite
        })
    }

    /// Says that nothing more will be written, as [`finish`](Session::finish); reading goes on. Call it
    /// until it is done.
    ///
    /// # Errors
    /// If the close_notify cannot be sent.
    pub fn try_finish(&self) -> Result<Ready<()>> {
        let mut channel = self.usable()?;
        channel.say_goodbye();
        Ok(if channel.push()? {
            Ready::Done(())
        } else {
            Ready::WantWrite
        })
    }

    /// After [`try_handshake`](Session::try_handshake) has failed with this error, on a connection that the
    /// caller has dialled for this: the negotiation for a second connection in clear, where
    /// [`connect`](Session::connect) would dial again; `None` where it would not. What is left of the time-out goes
    /// with it.
    pub fn redial(&self, error: &Error) -> Option<Negotiation> {
        let channel = lock(&self.channel);
        let Channel::Handshake(handshake) = &*channel else {
            return None;
        };
        let attempt = &handshake.attempt;
        let (service, host) = (attempt.service?, attempt.outcome.peer.name.as_deref()?);
        let again = Attempt::in_clear_after(error, service, host, &attempt.policy, attempt.deadline)?;
        Negotiation::client(again, Stage::Greeting, None).ok()
    }

    /// Ends the session: close_notify over TLS, as [`close`](Session::close). Call it until it is done;
    /// nothing else can be done with the session any more.
    ///
    /// # Errors
    /// If the close_notify cannot be sent; the session is closed all the same.
    pub fn try_close(&self) -> Result<Ready<()>> {
        self.same_process()?;
        self.end_handshake();
        let mut channel = lock(&self.channel);
        if !self.closed.swap(true, Ordering::SeqCst) {
            channel.say_goodbye();
        }
        if !channel.push()? {
            return Ok(Ready::WantWrite);
        }
        channel.discard_unread();
        Ok(Ready::Done(()))
    }

    /// A handshake that is given up leaves a connection on which nobody may go on in clear.
    pub(super) fn end_handshake(&self) {
        let begun = matches!(&*lock(&self.channel), Channel::Handshake(_));
        if begun && process() == self.process {
            shut_down(self.connection.as_fd().as_raw_fd());
        }
    }

    /// Whether bytes wait for the kernel: then the descriptor should be watched for being writable,
    /// too.
    pub fn wants_write(&self) -> bool {
        process() == self.process && lock(&self.channel).transport().keeps()
    }

    /// Whether the outcome is final: false until the handshake of a
    /// [negotiated](Session::negotiated) session is done.
    pub fn is_established(&self) -> bool {
        !matches!(&*lock(&self.channel), Channel::Handshake(_))
    }

    /// How much of the policy's time-out is left for the handshake; `None` when it is through.
    pub fn time_left(&self) -> Option<Duration> {
        match &*lock(&self.channel) {
            Channel::Handshake(handshake) => handshake.attempt.deadline.left(),
            Channel::Plain(..) | Channel::Tls(_) => None,
        }
    }
}
