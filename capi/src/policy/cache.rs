//! A cache that is the program's own.

use std::ffi::{c_char, c_void};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use starttls::Cache;

use super::{set, starttls_policy, Userdata};
use crate::error::starttls_error;
use crate::handle::{bytes, c_string, free, get, give, invalid, Opaque};

/// Where a get function puts what it finds. It belongs to the library, and is gone when the function returns.
pub struct starttls_value {
    _opaque: [u8; 0],
}

impl Opaque for starttls_value {
    type Inner = Mutex<Option<Vec<u8>>>;
    const NAME: &'static str = "starttls_value";
    const MARK: u64 = 0x7374_746c_7376_616c;
}

/// Finds what was put under this key, and hands it over by `starttls_value_set`; without that call nothing is there, or it
/// has expired. False where the cache cannot be asked now.
pub type starttls_cache_get = Option<
    unsafe extern "C" fn(key: *const c_char, value: *mut starttls_value, userdata: *mut c_void) -> bool,
>;

/// Keeps these `n` bytes (128 KiB at most) under this key, in place of what was there, until this time (seconds
/// since 1970) at the latest: who reads at the same time gets the old or the new value, whole. False where it
/// cannot be kept now.
pub type starttls_cache_put = Option<
    unsafe extern "C" fn(
        key: *const c_char,
        value: *const c_void,
        n: usize,
        expires: i64,
        userdata: *mut c_void,
    ) -> bool,
>;

/// Takes away what is under this key; that nothing is there is no failure. False where it cannot be done now.
pub type starttls_cache_remove =
    Option<unsafe extern "C" fn(key: *const c_char, userdata: *mut c_void) -> bool>;

/// No value that was put is larger.
const MAX_VALUE: usize = 128 * 1024;

struct Callbacks {
    get: unsafe extern "C" fn(*const c_char, *mut starttls_value, *mut c_void) -> bool,
    put: unsafe extern "C" fn(*const c_char, *const c_void, usize, i64, *mut c_void) -> bool,
    remove: unsafe extern "C" fn(*const c_char, *mut c_void) -> bool,
    userdata: Userdata,
}

impl Cache for Callbacks {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let key = c_string(key);
        let value: *mut starttls_value = give(Mutex::new(None));
        // SAFETY: the program's function, as its documentation wants it; the pointers are good until it returns,
        // and the value is ours again then.
        unsafe {
            let asked = (self.get)(key.as_ptr(), value, self.userdata.0);
            let found = get(value).ok().and_then(|v| v.lock().ok()?.take());
            free(value);
            done(asked, "get").map(|()| found)
        }
    }

    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        let key = c_string(key);
        let since = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let (data, n) = (value.as_ptr().cast(), value.len());
        // SAFETY: as above.
        done(
            unsafe { (self.put)(key.as_ptr(), data, n, expires, self.userdata.0) },
            "put",
        )
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        let key = c_string(key);
        // SAFETY: as above.
        done(unsafe { (self.remove)(key.as_ptr(), self.userdata.0) }, "remove")
    }
}

fn done(done: bool, what: &str) -> io::Result<()> {
    match done {
        true => Ok(()),
        false => Err(io::Error::other(format!("the program's own {what} fails"))),
    }
}

/// Keep what was learnt in a cache of the program's own, in place of `starttls_policy_set_cache`. Keys are words of
/// printable ASCII, with `/` and spaces in them, 600 bytes at most; values are opaque, and one that comes back otherwise
/// than it was put, or after its time, is found out and ignored. Where a function returns false mail goes on, and the
/// outcome has a note.
///
/// The functions are called on the thread that connects, by several at once where several connect, in whichever process
/// that is; they must return (no longjmp, no exception), and not call this library on the object that is being worked
/// on. `userdata` is handed to them, and must be good until this policy, all that was derived from it, and their routes,
/// negotiations, sessions and prepared SSLs are freed. `invalid` if one is NULL.
#[no_mangle]
pub unsafe extern "C" fn starttls_policy_set_cache_callbacks(
    policy: *mut starttls_policy,
    get: starttls_cache_get,
    put: starttls_cache_put,
    remove: starttls_cache_remove,
    userdata: *mut c_void,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(
        error,
        set(policy, |p| {
            let (Some(get), Some(put), Some(remove)) = (get, put, remove) else {
                return Err(invalid("a cache wants all of its functions: get, put and remove"));
            };
            Ok(p.cache(Arc::new(Callbacks {
                get,
                put,
                remove,
                userdata: Userdata(userdata),
            })))
        })
    )
}

/// Hands over the `n` bytes that were found; they are copied. Called again, the last ones count. `invalid` for more
/// than 128 KiB, which nobody has put there.
#[no_mangle]
pub unsafe extern "C" fn starttls_value_set(
    value: *mut starttls_value,
    data: *const c_void,
    n: usize,
    error: *mut *mut starttls_error,
) -> bool {
    guard!(error, {
        let value = get(value)?.lock();
        let mut value = value.map_err(|_| invalid("this value is spoiled"))?;
        *value = None;
        if n > MAX_VALUE {
            return Err(invalid("no value of a cache has more than 128 KiB"));
        }
        *value = Some(bytes(data, n, "value")?.to_vec());
        Ok(true)
    })
}
