//! One writer at a time: what `send` leaves to be taken by the kernel belongs to one caller.

use std::process;
use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use starttls::{Error, Result, Word};

use super::lock;
use crate::error::check_signals;

/// How often who waits for its turn looks for signals.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Turn {
    holder: Mutex<Option<(u32, ThreadId)>>,
    free: Condvar,
}

/// Gives the turn back when it is dropped.
pub(super) struct Writing<'a>(&'a Turn);

impl Turn {
    /// Waits until nobody else writes; without waiting it is a `timeout` if somebody does. Not to be
    /// called with the GIL held: who writes may need it for a signal handler.
    ///
    /// The session's own time-out bounds this wait, too: it ends whoever writes and moves nothing.
    pub(super) fn take(&self, waits: bool) -> Result<Writing<'_>> {
        let me = (process::id(), thread::current().id());
        let mut holder = lock(&self.holder);
        while let Some((process, thread)) = *holder {
            if process != me.0 {
                // Its thread is in the parent; the core refuses whatever is written here.
                break;
            }
            if thread == me.1 {
                // A signal handler within a write.
                let message = "this thread is writing to the session already";
                return Err(Error::at_border(Word::Invalid, message));
            }
            if !waits {
                return Err(Error::at_border(Word::Timeout, "another thread is writing"));
            }
            drop(self.free.wait_timeout(holder, LOOK));
            check_signals().map_err(|e| Error::at_border(Word::Io, e.to_string()))?;
            holder = lock(&self.holder);
        }
        *holder = Some(me);
        Ok(Writing(self))
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        *lock(&self.0.holder) = None;
        self.0.free.notify_one();
    }
}
