//! DNSSEC validated in this process, by libunbound: for where no resolver is trusted. Its trust anchor decides, and it
//! says why an answer is bogus.
//!
//! libunbound then runs a thread of its own for each of the few contexts here: its other ways are a child process,
//! which a program that waits for children would trip over, and a call that knows no deadline. The thread takes no
//! signals. A context belongs to one process and serves one caller at a time: what comes through `fork` is left alone,
//! never freed, since its thread is not there. It is made at the first question, so that a policy made before `fork`
//! and used in the children costs nothing; who asks in the parent too should do so after it has forked.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::raw::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::message::{self, Question, Reply};
use super::resolv_conf::all_loopback;
use super::resolver::{Raw, RawAnswer};
use super::Proof;
use crate::error::{Error, Result, Word};
use crate::rules::InterruptHook;
use crate::sys::{wait_any, Deadline};
use crate::text::printable;

/// Where the root's key is on the systems that we know.
const ANCHORS: [&str; 5] = [
    "/var/lib/unbound/root.key",
    "/usr/share/dns/root.key",
    "/etc/unbound/root.key",
    "/var/unbound/root.key",
    "/usr/share/dnssec-root/trusted-key.key",
];
/// Contexts that are kept for the next caller, each with its cache and its thread.
const MAX_IDLE: usize = 4;

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

/// `UB_NOID` of unbound.h: no such question any more.
const UB_NOID: c_int = -7;

/// What to validate with; the contexts come and go.
pub(super) struct Validator {
    anchor: PathBuf,
    forward: Vec<SocketAddr>,
    idle: Mutex<Vec<Context>>,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unbound")
            .field("anchor", &self.anchor)
            .field("forward", &self.forward)
            .finish_non_exhaustive()
    }
}

impl Validator {
    /// Validates from this trust anchor (a file of DS or DNSKEY records), or the system's; asks these servers, or the
    /// Internet's from the root on.
    pub(super) fn new(anchor: Option<PathBuf>, forward: Vec<SocketAddr>) -> Result<Self> {
        let anchor = match anchor {
            Some(file) => {
                std::fs::File::open(&file)
                    .map_err(|e| Error::invalid(format!("trust anchor {}: {e}", file.display())))?;
                file
            }
            None => ANCHORS
                .into_iter()
                .map(PathBuf::from)
                .find(|file| file.is_file())
                .ok_or_else(|| {
                    Error::invalid(
                        "no trust anchor of the DNS root is in its usual places: give its file, \"unbound:FILE\"",
                    )
                })?,
        };
        Ok(Self {
            anchor,
            forward,
            idle: Mutex::default(),
        })
    }

    /// Asks all the questions at once.
    pub(super) fn ask(
        &self,
        questions: &[Question],
        deadline: Deadline,
        hook: Option<InterruptHook>,
    ) -> Result<Vec<Result<Raw>>> {
        let mut context = match self.idle().pop() {
            Some(context) => context,
            None => Context::new(self)?,
        };
        let answers = context.ask(questions, deadline, hook);
        let mut idle = self.idle();
        if context.reusable && idle.len() < MAX_IDLE {
            idle.push(context);
        }
        answers
    }

    /// This process's.
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Context>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Context::is_ours);
        idle
    }
}

/// What a question came to, copied out of libunbound.
#[derive(Default)]
struct Heard {
    error: c_int,
    rcode: c_int,
    packet: Vec<u8>,
    secure: bool,
    bogus: bool,
    why: Vec<u8>,
}

type Slot = RefCell<Option<Heard>>;

/// `ub_ctx`, in the process that made it.
struct Context {
    ctx: *mut UbCtx,
    process: u32,
    reusable: bool,
}

// SAFETY: a context may be used by any thread (libunbound(3)); it is used by one at a time.
unsafe impl Send for Context {}

impl Context {
    fn new(validator: &Validator) -> Result<Self> {
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
        if !validator.forward.is_empty() {
            // What these servers know is theirs to say, "test." included (RFC 6761 §6.2).
            // SAFETY: as above.
            check("local zone", unsafe {
                ub_ctx_zone_add(ctx, c"test.".as_ptr(), c"transparent".as_ptr())
            })?;
        }
        // SAFETY: `ctx` is live.
        check("ub_ctx_async", unsafe { ub_ctx_async(ctx, 1) })?;
        Ok(context)
    }

    fn is_ours(&self) -> bool {
        self.process == crate::sys::process()
    }

    fn ask(
        &mut self,
        questions: &[Question],
        deadline: Deadline,
        hook: Option<InterruptHook>,
    ) -> Result<Vec<Result<Raw>>> {
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
            outstanding.wait(deadline, hook).map_err(|e| {
                let of: Vec<String> = questions.iter().map(Question::to_string).collect();
                e.retold(format!("look up {}: {}", of.join(", "), e.message()))
            })?;
        }
        drop(outstanding);
        Ok(questions
            .iter()
            .zip(slots)
            .map(|(question, slot)| answer(question, slot.into_inner().unwrap_or_default()))
            .collect())
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

fn answer(question: &Question, heard: Heard) -> Result<Raw> {
    let failed = |word, why: String| Err(Error::new(word, format!("look up {question}: {why}")));
    if heard.error != 0 {
        return failed(
            Word::LookupFailed,
            format!("libunbound: {}", strerror(heard.error)),
        );
    }
    if heard.bogus {
        let why = printable(&heard.why);
        return failed(Word::DnsBogus, format!("DNSSEC validation failed: {why}"));
    }
    let id = heard.packet.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    match message::read(&heard.packet, id, question) {
        Some(Reply::Found(found)) => Ok(Raw {
            answer: RawAnswer {
                rdata: found.rdata,
                proof: if heard.secure {
                    Proof::Secure
                } else {
                    Proof::Insecure
                },
                ttl: found.ttl,
                name: found.name,
                no_such_name: found.no_such_name,
            },
            goes_on: found.goes_on,
        }),
        Some(Reply::Failed(failure)) => failed(Word::LookupFailed, format!("libunbound {}", failure.why)),
        _ => failed(
            Word::LookupFailed,
            format!("libunbound found no answer (rcode {})", heard.rcode),
        ),
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

fn strerror(error: c_int) -> String {
    // SAFETY: a static string that ends in NUL.
    let text = unsafe { CStr::from_ptr(ub_strerror(error)) };
    text.to_string_lossy().into_owned()
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("a name or path contains NUL"))
}
