//! How long to wait for a server, and for all of them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::Socket;

use crate::error::{Error, Word};
use crate::rules::InterruptHook;
use crate::sys::{wait_any, Deadline};

/// How long a call may wait, and who may end it.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// The caller's.
    deadline: Deadline,
    /// For the server that is being asked; never later.
    until: Deadline,
    hook: Option<InterruptHook>,
}

impl Patience {
    pub(super) fn new(deadline: Deadline, hook: Option<InterruptHook>) -> Self {
        Self {
            deadline,
            until: deadline,
            hook,
        }
    }

    /// For one server: so long from now, if the caller waits that long.
    pub(super) fn for_server(self, time: Duration) -> Self {
        Self {
            until: self.deadline.or_after(time),
            ..self
        }
    }

    /// Waits for the socket.
    pub(super) fn wait(self, socket: &Socket, events: libc::c_short) -> std::result::Result<(), Trouble> {
        // Whoever floods us keeps the socket ready: the clock is looked at all the same.
        if self.until.is_past() {
            return Err(self.late());
        }
        match wait_any(&[(socket.as_fd(), events)], self.until, self.hook) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(self.late()),
            Err(e) => Err(Trouble::Stop(Error::io("wait for DNS", &e))),
        }
    }

    fn late(self) -> Trouble {
        if self.deadline.is_past() {
            Trouble::Stop(Error::new(Word::Timeout, "no answer in time"))
        } else {
            Trouble::Server("no answer".to_owned())
        }
    }
}

/// Why there are no more answers from a server.
pub(super) enum Trouble {
    /// It does not answer, or not well: the next one may.
    Server(String),
    /// The caller's time is up, or its hook says to end.
    Stop(Error),
}
