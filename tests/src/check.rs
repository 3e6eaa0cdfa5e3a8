//! How a client's result is compared with what a dialog says, and many at once.

use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use starttls::{Channel, Level, Outcome, Policy, Result, Session};

use crate::certs::ca_file;
use crate::script::Play;

/// A policy that trusts the CA of the tests and dials 127.0.0.1 whatever the host is called.
///
/// # Panics
/// If the level is none.
pub fn policy(level: &str) -> Policy {
    Policy::new(Level::from_word(level).unwrap())
        .ca_file(ca_file())
        .unwrap()
        .address(Ipv4Addr::LOCALHOST.into())
        .timeout(Duration::from_secs(10))
        .unwrap()
}

/// The policy for a play.
pub fn policy_for(play: &Play) -> Policy {
    policy(&play.level)
        .timeout(Duration::from_secs_f64(play.timeout))
        .unwrap()
}

/// The verdict as a dialog's file writes it.
pub fn verdict(result: &Result<Session<'_>>) -> String {
    match result {
        Ok(session) => match (session.outcome().channel, session.outcome().because) {
            (Some(Channel::Tls), None) => "tls".to_owned(),
            (Some(Channel::Plain), Some(because)) => format!("plain {}", because.as_str()),
            other => format!("{other:?}"),
        },
        Err(e) => {
            let kind = if e.temporary() { "temporary" } else { "permanent" };
            format!("error {} {kind}", e.word())
        }
    }
}

/// The outcome, whichever way it ended.
///
/// # Errors
/// If there is none.
pub fn outcome<'a>(result: &'a Result<Session<'_>>) -> std::result::Result<&'a Outcome, String> {
    match result {
        Ok(session) => Ok(session.outcome()),
        Err(e) => e
            .outcome()
            .ok_or_else(|| format!("no outcome comes with the error: {e}")),
    }
}

/// Both ends hear each other; what the peer has said before comes first.
///
/// # Errors
/// If they do not.
pub fn usable(session: &Session<'_>) -> std::result::Result<(), String> {
    let io = |e: starttls::Error| format!("the session cannot be used: {e}");
    session.write_all(b"ping\r\n").map_err(io)?;
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.ends_with(b"ping\r\n") {
        match session.read(&mut buffer).map_err(io)? {
            0 => return Err(format!("closed after \"{}\"", heard.escape_ascii())),
            n => heard.extend_from_slice(&buffer[..n]),
        }
    }
    let encrypted = session.outcome().channel == Some(Channel::Tls);
    if encrypted && heard != b"ping\r\n" {
        return Err(format!("heard over TLS: \"{}\"", heard.escape_ascii()));
    }
    Ok(())
}

/// Whether somebody has called shutdown(2) for both directions, or the connection was reset.
pub fn is_shut_down(fd: RawFd) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: the pointer is to one live pollfd.
    unsafe { libc::poll(&raw mut polled, 1, 0) };
    polled.revents & libc::POLLHUP != 0
}

/// The flags of a descriptor.
pub fn flags(stream: &TcpStream) -> i32 {
    // SAFETY: F_GETFL has no memory arguments.
    unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_GETFL) }
}

/// Does all jobs, several at once, and fails with everything that went wrong.
///
/// # Panics
/// If a job fails.
pub fn all<J: Sync>(jobs: &[J], work: impl Fn(&J) -> std::result::Result<(), String> + Sync) {
    side_by_side(8, jobs, work);
}

/// The same, so many at once.
///
/// # Panics
/// If a job fails.
pub fn side_by_side<J: Sync>(
    threads: usize,
    jobs: &[J],
    work: impl Fn(&J) -> std::result::Result<(), String> + Sync,
) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = work(job) {
                        failures.lock().unwrap().push(e);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(!jobs.is_empty(), "there is nothing to do");
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        jobs.len(),
        failures.join("\n")
    );
}
