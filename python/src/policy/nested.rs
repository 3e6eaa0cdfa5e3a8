//! The caller's resolver or cache that comes back by the very policy which asked it.
//!
//! Such a one would go on until the thread's stack is full, and no exception tells of that. What nests in good faith,
//! as a resolver whose own servers have names, is done after a few steps.

use std::cell::Cell;

/// How deep calls may stand in each other.
const MOST: u8 = 8;

thread_local! {
    static DEPTH: Cell<u8> = const { Cell::new(0) };
}

/// Also where the work unwinds.
struct Leave(u8);

impl Drop for Leave {
    fn drop(&mut self) {
        DEPTH.set(self.0);
    }
}

/// Calls what is the caller's, or says why not.
pub(super) fn nested<T>(what: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let before = DEPTH.get();
    if before >= MOST {
        return Err(format!(
            "the {what} was called from within itself more than {MOST} times: it must not use a policy that asks it"
        ));
    }
    DEPTH.set(before.saturating_add(1));
    let _leave = Leave(before);
    work()
}
