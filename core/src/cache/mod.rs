//! Where what was learnt of others is kept: MTA-STS policies, and who proved its name over TLS before.

mod directory;
mod memory;
mod store;
mod sweep;

use std::io;
use std::time::SystemTime;

pub use directory::DirectoryCache;
pub use memory::MemoryCache;
pub(crate) use store::Store;

/// No value is larger: an MTA-STS policy has 64 KiB at most (RFC 8461 §3.2).
const MAX_VALUE: usize = 128 * 1024;

/// A place to keep what was learnt, for one process or for a fleet. Values are opaque to it; what comes back
/// otherwise than it was put is found out and ignored.
///
/// Called on the thread that connects, several threads at once.
pub trait Cache: Send + Sync {
    /// What was put under this key; `None` if nothing is there or it has expired.
    ///
    /// # Errors
    /// That the place cannot be asked now. The connection goes on without, and its outcome says so.
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Keeps it, instead of what was there, and until then at the latest. Whoever reads at the same time gets the
    /// old or the new value, never a part.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()>;

    /// Takes it away.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn remove(&self, key: &str) -> io::Result<()>;
}

fn check_size(value: &[u8]) -> io::Result<()> {
    if value.len() > MAX_VALUE {
        let message = format!(
            "a value of {} bytes is more than a cache keeps ({MAX_VALUE})",
            value.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
