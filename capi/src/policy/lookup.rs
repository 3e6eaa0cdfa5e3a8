//! DNS answers from a function of the program's.
//!
//! No memory crosses the border: the function fills an answer of ours by calls, and what it does wrongly
//! makes the look-up fail, never succeed with less.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use starttls::{Error, Lookup, Proof, RawAnswer, Resolver, Result, Word};

use super::domain::proof_of;
use super::{set, starttls_policy, Userdata};
use crate::error::starttls_error;
use crate::event_loop::milliseconds;
use crate::handle::{bytes, c_string, free, get, give, invalid, text, visible, Opaque};

/// An answer that a look-up function fills. It belongs to the library, and is gone when the function returns.
pub struct starttls_answer {
    _opaque: [u8; 0],
}

impl Opaque for starttls_answer {
    type Inner = Mutex<Filled>;
    const NAME: &'static str = "starttls_answer";
    const MARK: u64 = 0x7374_746c_7361_6e73;
}

pub(crate) struct Filled {
    answer: RawAnswer,
    /// What the program says of a failure, or what it did wrongly.
    failure: Option<String>,
}

/// Answers a DNS question: the records of this name (A-labels, no dot at the end) and type (1 A, 15 MX, 16 TXT,
/// 28 AAAA, 33 SRV, 52 TLSA, 5 CNAME), CNAMEs followed. True with an answer, which has no records where there are
/// none; false where nobody knows now, which is `lookup-failed` and never "no records". It should not take longer
/// than so many milliseconds.
pub type starttls_lookup = Option<
    unsafe extern "C" fn(
        name: *const c_char,
        r#type: u16,
        milliseconds: c_int,
        answer: *mut starttls_answer,
        userdata: *mut c_void,
    ) -> bool,
>;

/// An answer has as many records as a DNS message can hold, and no more bytes.
const MAX_BYTES: usize = 65_535;

struct Callback {
    function: unsafe extern "C" fn(*const c_char, u16, c_int, *mut starttls_answer, *mut c_void) -> bool,
    userdata: Userdata,
}

impl Lookup for Callback {
    fn look_up(&self, name: &str, kind: u16, time_left: Duration) -> Result<RawAnswer> {
        let asked = c_string(name);
        let answer: *mut starttls_answer = give(Mutex::new(Filled {
            answer: RawAnswer {
                rdata: Vec::new(),
                proof: Proof::Indeterminate,
                ttl: Duration::ZERO,
                name: name.to_owned(),
                no_such_name: false,
            },
            failure: None,
        }));
        // SAFETY: the program's function, as its documentation wants it; the pointers are good until it returns,
        // and the answer is ours again then.
        let (known, filled) = unsafe {
            let time = milliseconds(time_left);
            let known = (self.function)(asked.as_ptr(), kind, time, answer, self.userdata.0);
            let filled =
                get(answer).map(|filled| filled.lock().map(|f| (f.answer.clone(), f.failure.clone())));
            free(answer);
            (known, filled)
        };
        let failed = |why: &str| {
            let message = format!("look up type {kind} of {name}: {why}");
            Err(Error::at_border(Word::LookupFailed, message))
        };
        match filled {
            Ok(Ok((answer, None))) if known => Ok(answer),
            Ok(Ok((_, Some(why)))) => failed(&why),
            _ => failed("the program's own resolver does not know now"),
        }
    }
}

/// Ask this function of the program's for all DNS records, in place of a resolver. The proof that it gives counts
/// as it is. It is called on the thread that connects, by several at once where several connect, in whichever
/// process that is; it must return (no longjmp, no exception), and may call this library, but not on the object that
/// is being worked on. `userdata` is handed to it, and must be good until this policy, all that was derived from it, and
/// their routes, negotiations, sessions and prepared SSLs are freed.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_lookup(
    policy: *mut starttls_policy,
    lookup: starttls_lookup,
    userdata: *mut c_void,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let function = lookup.ok_or_else(|| invalid("the look-up function is NULL"))?;
            let userdata = Userdata(userdata);
            Ok(p.resolver(Resolver::custom(Arc::new(Callback { function, userdata }))))
        })
    )
}

/// What goes wrong makes the look-up fail, also where the function does not look.
unsafe fn fill(
    answer: *mut starttls_answer,
    what: impl FnOnce(&mut RawAnswer) -> Result<()>,
) -> Result<bool> {
    // SAFETY: the caller's.
    let mut filled = unsafe { get(answer) }?
        .lock()
        .map_err(|_| Error::at_border(Word::Bug, "a fault in libstarttls has spoiled this answer"))?;
    match what(&mut filled.answer) {
        Ok(()) => Ok(true),
        Err(e) => {
            filled.failure.get_or_insert_with(|| e.message().to_owned());
            Err(e)
        }
    }
}

/// Adds the `n` bytes of one record's data (RDATA), as on the wire, names in it not compressed.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_add(
    answer: *mut starttls_answer,
    rdata: *const c_void,
    n: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        fill(answer, |a| {
            let rdata = bytes(rdata, n, "data of the record")?;
            let size = |rdata: &[u8]| rdata.len().saturating_add(11);
            let before: usize = a.rdata.iter().map(|r| size(r)).sum();
            if before.saturating_add(size(rdata)) > MAX_BYTES {
                return Err(invalid("the answer has more records than a DNS message can hold"));
            }
            a.rdata.push(rdata.to_vec());
            Ok(())
        })
    )
}

/// What DNSSEC says of the whole answer, the CNAMEs on the way and a denial included: `secure`, `insecure`, `bogus`
/// or `indeterminate`, which it is if it is not set.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_set_proof(
    answer: *mut starttls_answer,
    proof: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        fill(answer, |a| {
            a.proof = proof_of(text(proof, "proof")?)
                .ok_or_else(|| invalid("no such proof; it is one of: secure insecure bogus indeterminate"))?;
            Ok(())
        })
    )
}

/// For how many seconds the answer may be kept: the least TTL on the way, or of the denial. 0 if it is not set.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_set_ttl(
    answer: *mut starttls_answer,
    seconds: u32,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        fill(answer, |a| {
            a.ttl = Duration::from_secs(seconds.into());
            Ok(())
        })
    )
}

/// The name at which the records are, where CNAMEs lead to another than was asked for.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_set_name(
    answer: *mut starttls_answer,
    name: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        fill(answer, |a| {
            let name = text(name, "name")?;
            // A domain name has 255 octets at most; each may be written with four characters.
            if name.len() > 1020 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(invalid("the name of the answer is no domain name"));
            }
            name.clone_into(&mut a.name);
            Ok(())
        })
    )
}

/// There is no such name at all (NXDOMAIN), as opposed to no records of this type.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_set_no_such_name(
    answer: *mut starttls_answer,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        fill(answer, |a| {
            a.no_such_name = true;
            Ok(())
        })
    )
}

/// Why nobody knows now, for the error's message: the look-up fails, whatever the function returns.
#[no_mangle]
pub unsafe extern "C" fn starttls_answer_set_failure(
    answer: *mut starttls_answer,
    why: *const c_char,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let why = visible(text(why, "reason")?);
        let filled = get(answer)?.lock();
        let mut filled = filled.map_err(|_| invalid("this answer is spoiled"))?;
        filled.failure.get_or_insert(why);
        Ok(true)
    })
}
