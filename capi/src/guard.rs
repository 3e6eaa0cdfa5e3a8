//! The border that no panic crosses. Every exported function is one `guard!`; a test looks.
//!
//! Rust's panic hook would write to stderr, which in a daemon may be a client's socket. So the hook
//! is chained once: silent for panics inside a guard, as before for all others in the process.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe};
use std::sync::Once;

use starttls::{Error, Result, Word};

use crate::error::starttls_error;

/// `guard!(error, body)`: the body is a `Result`. `guard!(body)`: it cannot fail, only panic.
macro_rules! guard {
    ($error:ident, $body:expr) => {
        $crate::guard::run($error, || {
            // Some bodies have nothing unsafe in them.
            #[allow(unused_unsafe)]
            // SAFETY: pointers come from the C caller, who keeps to the rules in the header; what
            // can be checked about them, handle.rs checks.
            let result = unsafe { $body };
            result
        })
    };
    ($body:expr) => {{
        let error = std::ptr::null_mut();
        guard!(error, Ok($body))
    }};
}

/// What a function answers when it cannot do its work.
pub(crate) trait Nothing {
    fn nothing() -> Self;
}

impl Nothing for () {
    fn nothing() {}
}

impl Nothing for bool {
    fn nothing() -> Self {
        false
    }
}

impl Nothing for u32 {
    fn nothing() -> Self {
        0
    }
}

impl Nothing for u16 {
    fn nothing() -> Self {
        0
    }
}

impl Nothing for u64 {
    fn nothing() -> Self {
        0
    }
}

impl Nothing for usize {
    fn nothing() -> Self {
        0
    }
}

/// A descriptor.
impl Nothing for c_int {
    fn nothing() -> Self {
        -1
    }
}

impl<T> Nothing for *const T {
    fn nothing() -> Self {
        std::ptr::null()
    }
}

impl<T> Nothing for *mut T {
    fn nothing() -> Self {
        std::ptr::null_mut()
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where the panic was, for the message.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn quiet_inside() {
    static ONCE: Once = Once::new();
    // A thread that panics cannot change the hook.
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                return before(panic);
            }
            let place = panic.location().map(|l| format!(" ({}:{})", l.file(), l.line()));
            let _ = PLACE.try_with(|p| p.replace(place.unwrap_or_default()));
        }));
    });
}

/// Runs the body of an exported function.
pub(crate) fn run<T: Nothing>(error: *mut *mut starttls_error, body: impl FnOnce() -> Result<T>) -> T {
    // SAFETY: `error` is NULL or points to a pointer that the caller has set.
    if unsafe { error.as_ref() }.is_some_and(|e| !e.is_null()) {
        return T::nothing();
    }
    quiet_inside();
    let outer = GUARDED.replace(true);
    // Nothing that a panic may have left half-done is used again: a policy is spoiled by its
    // poisoned lock, and all else is the core's, which keeps its own.
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    let e = match result {
        Ok(Ok(value)) => return value,
        Ok(Err(e)) => e,
        Err(panic) => bug(panic.as_ref()),
    };
    if !error.is_null() {
        // SAFETY: as above, and it points to NULL.
        unsafe { error.write(crate::error::new(e)) };
    }
    T::nothing()
}

fn bug(panic: &(dyn Any + Send)) -> Error {
    let what = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a panic without a message",
    };
    let place = PLACE.try_with(RefCell::take).unwrap_or_default();
    Error::at_border(Word::Bug, format!("a fault in libstarttls{place}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    /// An exported function that fails as it is told.
    fn exported(error: *mut *mut starttls_error, body: impl FnOnce() -> Result<bool>) -> bool {
        guard!(error, body())
    }

    fn take(error: *mut starttls_error) -> Error {
        // SAFETY: made by `run` and freed once.
        unsafe {
            let e = crate::error::copied(error).unwrap();
            crate::error::starttls_error_free(error);
            e
        }
    }

    #[test]
    fn a_panic_is_the_error_bug_and_says_where() {
        let mut error = null_mut();
        assert!(!exported(&raw mut error, || panic!("number {}", 7)));
        let e = take(error);
        assert_eq!(e.word(), Word::Bug);
        assert!(e.message().ends_with(": number 7"), "{e}");
        assert!(e.message().contains("guard.rs:"), "{e}");
        // And nobody needs to ask for it.
        assert!(!exported(null_mut(), || panic!("unheard")));
    }

    #[test]
    fn nothing_is_done_after_an_error() {
        let mut error = null_mut();
        assert!(!exported(&raw mut error, || Err(crate::handle::invalid("first"))));
        let first = error;
        assert!(!exported(&raw mut error, || unreachable!("done after an error")));
        assert_eq!(first, error);
        assert_eq!(take(error).message(), "first");
        assert!(exported(null_mut(), || Ok(true)));
    }

    /// Plays itself in a second process and reads what that writes.
    #[test]
    fn only_panics_inside_are_silent() {
        const INSIDE: &str = "STARTTLS_TEST_PANICS";
        if std::env::var_os(INSIDE).is_some() {
            exported(null_mut(), || panic!("kept quiet"));
            let _ = catch_unwind(|| panic!("said aloud"));
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "guard::tests::only_panics_inside_are_silent",
                "--nocapture",
            ])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        assert!(child.status.success());
        let stderr = String::from_utf8_lossy(&child.stderr).into_owned();
        assert!(stderr.contains("said aloud"), "{stderr}");
        assert!(!stderr.contains("kept quiet"), "{stderr}");
    }
}
