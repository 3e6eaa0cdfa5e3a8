//! The calls of libunbound, and all that is unsafe about them. A wrapper names the C functions that it stands for.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::raw::{c_char, c_int, c_void};

use super::Validator;
use crate::dns::message::Question;
use crate::dns::resolv_conf::all_loopback;
use crate::error::{Error, Result, Word};
use crate::rules::InterruptHook;
use crate::sys::{wait_any, Deadline};

/// `struct ub_result` of unbound.h; only libunbound makes one.
#[repr(C)]
struct UbResult {
    qname: *mut c_char,
    qtype: c_int,
    qclass: c_int,
    data: *mut *mut c_char,
    len: *mut c_int,
    canonname: *mut c_char,
    rcode: c_int,
    answer_packet: *mut c_void,
    answer_len: c_int,
    havedata: c_int,
    nxdomain: c_int,
    secure: c_int,
    bogus: c_int,
    why_bogus: *mut c_char,
}

enum UbCtx {}

type Callback = extern "C" fn(*mut c_void, c_int, *mut UbResult);

#[link(name = "unbound")]
extern "C" {
    fn ub_ctx_create() -> *mut UbCtx;
    fn ub_ctx_delete(ctx: *mut UbCtx);
    fn ub_ctx_set_option(ctx: *mut UbCtx, option: *const c_char, value: *const c_char) -> c_int;
    fn ub_ctx_set_fwd(ctx: *mut UbCtx, address: *const c_char) -> c_int;
    fn ub_ctx_add_ta_file(ctx: *mut UbCtx, file: *const c_char) -> c_int;
    fn ub_ctx_zone_add(ctx: *mut UbCtx, zone: *const c_char, kind: *const c_char) -> c_int;
    fn ub_ctx_debugout(ctx: *mut UbCtx, out: *mut c_void) -> c_int;
    fn ub_ctx_async(ctx: *mut UbCtx, thread: c_int) -> c_int;
    fn ub_fd(ctx: *mut UbCtx) -> c_int;
    fn ub_process(ctx: *mut UbCtx) -> c_int;
    fn ub_resolve_async(
        ctx: *mut UbCtx,
        name: *const c_char,
        kind: c_int,
        class: c_int,
        data: *mut c_void,
        callback: Callback,
        id: *mut c_int,
    ) -> c_int;
    fn ub_cancel(ctx: *mut UbCtx, id: c_int) -> c_int;
    fn ub_resolve_free(result: *mut UbResult);
    fn ub_strerror(error: c_int) -> *const c_char;
}

/// Of unbound.h: the settings cannot be put to use.
const UB_INITFAIL: c_int = -7;
/// Of unbound.h: no such question any more.
const UB_NOID: c_int = -10;

/// What a question came to, copied out of libunbound.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) error: c_int,
    pub(super) rcode: c_int,
    pub(super) packet: Vec<u8>,
    pub(super) secure: bool,
    pub(super) bogus: bool,
    /// Why it is bogus.
    pub(super) why: Vec<u8>,
}

type Slot = RefCell<Option<Heard>>;

/// `ub_ctx`, in the process that made it.
pub(super) struct Context {
    ctx: *mut UbCtx,
    process: u32,
    /// It holds no question that could still be answered.
    pub(super) reusable: bool,
}

// SAFETY: a context may be used by any thread (libunbound(3)); it is used by one at a time.
unsafe impl Send for Context {}

impl Context {
    /// One with its settings final, without its thread.
    pub(super) fn new(validator: &Validator) -> Result<Self> {
        // SAFETY: takes nothing; the result is owned by the new value.
        let ctx = unsafe { ub_ctx_create() };
        if ctx.is_null() {
            return Err(Error::new(Word::Io, "libunbound: no memory or no random numbers"));
        }
        let context = Self {
            ctx,
            process: crate::sys::process(),
            reusable: true,
        };
        // SAFETY: `ctx` is live. Without a stream it keeps silent: standard error may be a socket of the caller's.
        check("ub_ctx_debugout", unsafe {
            ub_ctx_debugout(ctx, std::ptr::null_mut())
        })?;
        let anchor = c_string(&validator.anchor.to_string_lossy())?;
        // SAFETY: `ctx` is live, the string ends in NUL and is copied.
        check("trust anchor", unsafe {
            ub_ctx_add_ta_file(ctx, anchor.as_ptr())
        })?;
        if validator.forward.iter().any(|server| all_loopback(&[*server])) {
            // SAFETY: as above.
            check("do-not-query-localhost", unsafe {
                ub_ctx_set_option(ctx, c"do-not-query-localhost:".as_ptr(), c"no".as_ptr())
            })?;
        }
        for server in &validator.forward {
            let address = c_string(&format!("{}@{}", server.ip(), server.port()))?;
            // SAFETY: as above.
            check("forwarder", unsafe { ub_ctx_set_fwd(ctx, address.as_ptr()) })?;
        }
        // SAFETY: `ctx` is live.
        check("ub_ctx_async", unsafe { ub_ctx_async(ctx, 1) })?;
        // What these servers know is theirs to say, "test." included (RFC 6761 §6.2). Last, as it makes the settings
        // final: now the anchor is read.
        let kind = match validator.forward.is_empty() {
            true => c"static",
            false => c"transparent",
        };
        // SAFETY: as above.
        match unsafe { ub_ctx_zone_add(ctx, c"test.".as_ptr(), kind.as_ptr()) } {
            UB_INITFAIL => Err(Error::invalid(format!(
                "trust anchor {}: libunbound cannot use it; give a file of DS or DNSKEY records",
                validator.anchor.display()
            ))),
            error => check("local zone", error),
        }?;
        Ok(context)
    }

    /// Made in this process.
    pub(super) fn is_ours(&self) -> bool {
        self.process == crate::sys::process()
    }

    /// Asks all the questions at once.
    ///
    /// # Errors
    /// `timeout`, what the hook says, or what libunbound cannot do.
    pub(super) fn ask(
        &mut self,
        questions: &[Question],
        deadline: Deadline,
        hook: Option<InterruptHook>,
    ) -> Result<Vec<Heard>> {
        let slots: Vec<Slot> = questions.iter().map(|_| Slot::default()).collect();
        // Declared after the slots, and so dropped before them: no callback finds them gone.
        let mut outstanding = Outstanding {
            context: self,
            ids: Vec::new(),
        };
        for (question, slot) in questions.iter().zip(&slots) {
            outstanding.send(question, slot)?;
        }
        while slots.iter().any(|slot| slot.borrow().is_none()) {
            outstanding.wait(deadline, hook)?;
        }
        drop(outstanding);
        Ok(slots.into_iter().filter_map(RefCell::into_inner).collect())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: made by ub_ctx_create in this process, and used by nobody else now.
            unsafe { ub_ctx_delete(self.ctx) };
        }
    }
}

/// Questions that libunbound may still answer; they are taken back when this is dropped.
struct Outstanding<'c> {
    context: &'c mut Context,
    ids: Vec<c_int>,
}

impl Outstanding<'_> {
    fn send(&mut self, question: &Question, slot: &Slot) -> Result<()> {
        let name = c_string(&question.name())?;
        let mut id = 0;
        let slot: *const Slot = slot;
        let unsignalled = Unsignalled::new();
        // SAFETY: the context is live, `name` is copied. The slot outlives the question: it is answered or taken back
        // before `ask` returns (see there and `drop` below).
        let error = unsafe {
            ub_resolve_async(
                self.context.ctx,
                name.as_ptr(),
                c_int::from(question.kind()),
                1,
                slot.cast_mut().cast(),
                heard,
                &raw mut id,
            )
        };
        drop(unsignalled);
        check("ub_resolve_async", error)?;
        self.ids.push(id);
        Ok(())
    }

    /// Until libunbound has something, which it then hands over.
    fn wait(&mut self, deadline: Deadline, hook: Option<InterruptHook>) -> Result<()> {
        // SAFETY: the context is live.
        let fd: RawFd = unsafe { ub_fd(self.context.ctx) };
        if fd < 0 {
            return Err(Error::new(
                Word::Io,
                "libunbound: it has no descriptor to wait for",
            ));
        }
        // SAFETY: open as long as the context, which outlives the wait.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        wait_any(&[(fd, libc::POLLIN)], deadline, hook).map_err(|e| match e.kind() {
            std::io::ErrorKind::TimedOut => Error::new(Word::Timeout, "no answer in time"),
            _ => Error::io("wait for DNS", &e),
        })?;
        // SAFETY: the context is live, and so are the slots that its callbacks write to.
        let error = unsafe { ub_process(self.context.ctx) };
        check("ub_process", error)
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            // SAFETY: the context is live; an id that is answered is not found.
            let error = unsafe { ub_cancel(self.context.ctx, id) };
            self.context.reusable &= error == 0 || error == UB_NOID;
        }
    }
}

/// Keeps signals from this thread while libunbound may start its own, which inherits that.
struct Unsignalled(libc::sigset_t);

impl Unsignalled {
    fn new() -> Self {
        // SAFETY: a set of signals is plain data, for which zeros are a value; both are live locals.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for Unsignalled {
    fn drop(&mut self) {
        // SAFETY: the set is what pthread_sigmask gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Called by ub_process, on our thread.
extern "C" fn heard(slot: *mut c_void, error: c_int, result: *mut UbResult) {
    let mut heard = Heard {
        error,
        ..Heard::default()
    };
    // SAFETY: null or a result that is ours to free.
    if let Some(result) = unsafe { result.as_ref() } {
        heard.rcode = result.rcode;
        heard.secure = result.secure != 0;
        heard.bogus = result.bogus != 0;
        let len = usize::try_from(result.answer_len).unwrap_or(0);
        if !result.answer_packet.is_null() {
            // SAFETY: the packet has this length, as long as the result lives.
            heard.packet = unsafe { std::slice::from_raw_parts(result.answer_packet.cast(), len) }.to_vec();
        }
        if !result.why_bogus.is_null() {
            // SAFETY: a string that ends in NUL, as long as the result lives.
            heard.why = unsafe { CStr::from_ptr(result.why_bogus) }.to_bytes().to_vec();
        }
    }
    // SAFETY: from the callback on it is ours to free; null is none.
    unsafe { ub_resolve_free(result) };
    // SAFETY: what was given to ub_resolve_async, which is alive (see `Outstanding::send`).
    let slot: &Slot = unsafe { &*slot.cast_const().cast::<Slot>() };
    if let Ok(mut slot) = slot.try_borrow_mut() {
        *slot = Some(heard);
    }
}

fn check(what: &str, error: c_int) -> Result<()> {
    match error {
        0 => Ok(()),
        error => Err(Error::new(
            Word::LookupFailed,
            format!("libunbound: {what}: {}", strerror(error)),
        )),
    }
}

/// libunbound's words for an error.
pub(super) fn strerror(error: c_int) -> String {
    // SAFETY: a static string that ends in NUL.
    let text = unsafe { CStr::from_ptr(ub_strerror(error)) };
    text.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("a name or path contains NUL"))
}
