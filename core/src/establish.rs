//! From a negotiation and a connected socket to a channel, waiting as long as it takes: the dialog,
//! the look for injected plaintext, the handshake.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::attempt::{lost, Attempt};
use crate::channel::Channel;
use crate::engine::Want;
use crate::error::{Error, Result, Word};
use crate::handshake::{Handshake, Progress};
use crate::negotiation::Negotiation;
use crate::outcome::{self, Because, Role};
use crate::sys::{ask, shut_down, wait_any};
use crate::transport::Transport;

/// Plays the dialog and, unless it stays in clear, does the handshake. What is left of the attempt
/// has the outcome.
pub(crate) fn establish(
    mut negotiation: Negotiation,
    fd: BorrowedFd<'_>,
    pending: &[u8],
) -> Result<(Channel, Attempt)> {
    negotiation.attempt.note_peer(fd);
    let mut transport = Transport::new(fd.as_raw_fd());
    let in_clear = negotiation.is_in_clear();
    match drive(&mut negotiation, fd, &mut transport, pending) {
        Ok(Want::Plain(because)) => Ok(stay_plain(negotiation.into_attempt(), transport, because)),
        Ok(_) => {
            let mut handshake = Handshake::begin(negotiation.into_attempt(), transport)?;
            while let Progress::Wait(events) = handshake.step()? {
                if let Err(e) = wait(&handshake.attempt, fd, events, "the TLS handshake") {
                    return Err(handshake.fail(e));
                }
            }
            let (stream, attempt) = handshake.into_parts();
            Ok((Channel::Tls(stream), attempt))
        }
        Err(e) => {
            // Before the go-ahead the connection is still fit for a good-bye.
            let fit = in_clear && e.word() != Word::Injected;
            if !fit && e.word() != Word::Invalid {
                shut_down(fd.as_raw_fd());
            }
            Err(negotiation.fail(e))
        }
    }
}

/// The channel of a session that stays in clear.
pub(crate) fn stay_plain(mut attempt: Attempt, transport: Transport, because: Because) -> (Channel, Attempt) {
    attempt.outcome.channel = Some(outcome::Channel::Plain);
    attempt.outcome.because = Some(if attempt.stay_plain {
        Because::HandshakeFailed
    } else {
        because
    });
    attempt.suspect();
    let unread = std::mem::take(&mut attempt.unread);
    (Channel::Plain(transport, unread), attempt)
}

/// Plays the dialog to its end: `Handshake` or `Plain`.
fn drive(
    negotiation: &mut Negotiation,
    fd: BorrowedFd<'_>,
    transport: &mut Transport,
    pending: &[u8],
) -> Result<Want> {
    let mut buffer = [0u8; 2048];
    negotiation.hear(pending)?;
    loop {
        match negotiation.want() {
            Want::Read => match transport.read(&mut buffer) {
                Ok(0) => return Err(negotiation.end()),
                Ok(n) => negotiation.hear(buffer.get(..n).unwrap_or_default())?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // What the kernel has not taken yet goes out first.
                    let awaits = negotiation.awaits();
                    transport.push().map_err(|e| lost(awaits, &e))?;
                    let events = if transport.keeps() {
                        libc::POLLIN | libc::POLLOUT
                    } else {
                        libc::POLLIN
                    };
                    wait(&negotiation.attempt, fd, events, awaits)?;
                }
                Err(e) => return Err(lost(negotiation.awaits(), &e)),
            },
            Want::Write => {
                look(transport, negotiation)?;
                // What it has heard may have changed what is to be said.
                if negotiation.want() != Want::Write {
                    continue;
                }
                let output = negotiation.output().to_vec();
                let written = if negotiation.goes_with_hello() {
                    // One segment with the ClientHello.
                    transport.keep(&output)
                } else {
                    transport.write(&output)
                };
                negotiation.sent(written.map_err(|e| lost(negotiation.awaits(), &e))?);
            }
            end @ Want::Handshake => return Ok(end),
            end @ Want::Plain(_) => {
                if negotiation.attempt.outcome.role == Role::Client {
                    look(transport, negotiation)?;
                }
                while !transport.push().map_err(|e| lost(negotiation.awaits(), &e))? {
                    wait(&negotiation.attempt, fd, libc::POLLOUT, negotiation.awaits())?;
                }
                return Ok(end);
            }
        }
    }
}

/// Before we say anything: has the peer already said what it should not have yet? Whether it
/// came in the same segment as the last message must make no difference.
pub(crate) fn look(transport: &mut Transport, negotiation: &mut Negotiation) -> Result<()> {
    if !negotiation.is_in_clear() {
        return Ok(());
    }
    match transport.peek() {
        Ok(Some(bytes)) if !bytes.is_empty() => {
            let mut taken = vec![0u8; bytes.len()];
            transport.read_at_once();
            let n = transport
                .read(&mut taken)
                .map_err(|e| lost(negotiation.awaits(), &e))?;
            negotiation.hear(taken.get(..n).unwrap_or_default())
        }
        Ok(_) => Ok(()),
        Err(e) => Err(lost(negotiation.awaits(), &e)),
    }
}

/// Waits until the peer says or takes something.
fn wait(attempt: &Attempt, fd: BorrowedFd<'_>, events: libc::c_short, awaits: &str) -> Result<()> {
    let rules = &attempt.policy.rules;
    let hook = rules.interrupt_hook;
    if attempt.deadline.is_past() {
        // poll would not say so of a peer that always has something to say.
        return Err(attempt.too_late(awaits));
    }
    // A signal that came while an observer ran interrupts no wait of ours any more.
    let before = match (&rules.observer, hook) {
        (Some(_), Some(hook)) => ask(hook),
        _ => Ok(()),
    };
    match before.and_then(|()| wait_any(&[(fd, events)], attempt.deadline, hook)) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(attempt.too_late(awaits)),
        Err(e) => Err(Error::io(&format!("wait for {awaits}"), &e)),
    }
}
