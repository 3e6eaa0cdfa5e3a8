//! Where what was learnt of others is kept: MTA-STS policies, and who proved its name over TLS before.

mod directory;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod store;
mod sweep;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::text::printable;

pub use directory::DirectoryCache;
pub use memory::MemoryCache;
#[cfg(feature = "redis")]
pub use redis::RedisCache;
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

/// The cache that a text names, as C, Python and the command take it:
///
/// - `memory`: in this process,
/// - `directory`: in the directory of [`DirectoryCache::default_place`],
/// - `directory:PATH`, or a path with a `/` in it: in that directory,
/// - `redis://[user:password@]host[:port][/db]`, `unix:///path`: in Redis or Valkey, if that is built in.
///
/// # Errors
/// `invalid` if it is none of these, `unsupported` if it is not built in, and what [`DirectoryCache::open`] says.
pub fn open(text: &str) -> Result<Arc<dyn Cache>> {
    let in_directory = |path: &Path| Ok(Arc::new(DirectoryCache::open(path)?) as Arc<dyn Cache>);
    match text.split_once(':') {
        None if text == "memory" => Ok(Arc::new(MemoryCache::new())),
        None if text == "directory" => in_directory(&DirectoryCache::default_place()?),
        Some(("directory", path)) if !path.is_empty() => in_directory(Path::new(path)),
        Some((_, rest)) if rest.starts_with("//") => open_redis(text),
        _ if text.contains('/') => in_directory(Path::new(text)),
        _ => Err(Error::invalid(format!(
            "no cache is called \"{}\": write memory, directory, directory:PATH or redis://HOST:PORT/DB",
            printable(text.as_bytes())
        ))),
    }
}

#[cfg(feature = "redis")]
fn open_redis(url: &str) -> Result<Arc<dyn Cache>> {
    Ok(Arc::new(RedisCache::open(url)?))
}

#[cfg(not(feature = "redis"))]
fn open_redis(_: &str) -> Result<Arc<dyn Cache>> {
    Err(Error::new(
        crate::Word::Unsupported,
        "a cache in Redis is not built in: build starttls with the cargo feature \"redis\"",
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Word;

    #[test]
    fn texts_that_name_a_cache() {
        let place = std::env::temp_dir().join(format!("starttls-open-{}", std::process::id()));
        for text in [
            "memory".to_string(),
            format!("directory:{}", place.display()),
            place.display().to_string(),
        ] {
            let cache = open(&text).unwrap();
            let expires = SystemTime::now() + std::time::Duration::from_secs(60);
            cache.put("k", b"v", expires).unwrap();
            assert_eq!(cache.get("k").unwrap(), Some(b"v".to_vec()), "{text}");
        }
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn texts_that_name_none() {
        for text in ["", "memroy", "memory:", "directory:", "redis:", "localhost:6379"] {
            let e = open(text).err().unwrap();
            assert_eq!(e.word(), Word::Invalid, "{text}");
            assert!(e.message().contains("write memory, directory"), "{e}");
        }
    }

    #[cfg(not(feature = "redis"))]
    #[test]
    fn redis_that_is_not_built_in() {
        let e = open("redis://user:secret@localhost").err().unwrap();
        assert_eq!(e.word(), Word::Unsupported);
        assert!(e.message().contains("feature \"redis\""), "{e}");
    }
}
