//! A cache in the memory of one process. What it learns is gone when the process ends, and a child of a fork
//! has a copy of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{check_size, Cache};

/// Keeps everything in this process, and forgets the expired and then the oldest when it gets full.
pub struct MemoryCache {
    most_entries: usize,
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// The keys in the order in which they were put.
    by_age: BTreeMap<u64, String>,
    by_end: BTreeSet<(SystemTime, u64)>,
    bytes: usize,
    next: u64,
}

struct Entry {
    value: Vec<u8>,
    expires: SystemTime,
    number: u64,
}

/// What an entry costs beside its key (which is there twice) and its value; about.
const OVERHEAD: usize = 200;

fn cost(key: &str, value: &[u8]) -> usize {
    key.len()
        .saturating_mul(2)
        .saturating_add(value.len())
        .saturating_add(OVERHEAD)
}

impl Kept {
    fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.by_age.remove(&old.number);
            self.by_end.remove(&(old.expires, old.number));
            self.bytes = self.bytes.saturating_sub(cost(key, &old.value));
        }
    }

    /// Which one has to go next.
    fn dispensable(&self, now: SystemTime) -> Option<String> {
        let expired = self.by_end.first().filter(|(end, _)| *end <= now);
        match expired {
            Some((_, number)) => self.by_age.get(number).cloned(),
            None => self.by_age.first_key_value().map(|(_, key)| key.clone()),
        }
    }
}

impl MemoryCache {
    /// One that keeps at most 10,000 entries and 16 MiB.
    pub fn new() -> Self {
        Self::with_bounds(10_000, 16 * 1024 * 1024)
    }

    /// One that keeps at most so many entries and so many bytes, keys and bookkeeping included.
    pub fn with_bounds(entries: usize, bytes: usize) -> Self {
        Self {
            most_entries: entries,
            most_bytes: bytes,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is locked but for want of memory, and then nothing is half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_at(&self, key: &str, value: &[u8], expires: SystemTime, now: SystemTime) -> io::Result<()> {
        check_size(value)?;
        let mut kept = self.kept();
        kept.remove(key);
        if expires <= now {
            return Ok(());
        }
        let number = kept.next;
        kept.next = number.wrapping_add(1);
        kept.bytes = kept.bytes.saturating_add(cost(key, value));
        kept.by_age.insert(number, key.into());
        kept.by_end.insert((expires, number));
        let entry = Entry {
            value: value.into(),
            expires,
            number,
        };
        kept.entries.insert(key.into(), entry);
        while kept.entries.len() > self.most_entries || kept.bytes > self.most_bytes {
            let Some(key) = kept.dispensable(now) else { break };
            kept.remove(&key);
        }
        Ok(())
    }

    fn get_at(&self, key: &str, now: SystemTime) -> Option<Vec<u8>> {
        let kept = self.kept();
        let entry = kept.entries.get(key).filter(|e| e.expires > now)?;
        Some(entry.value.clone())
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache for MemoryCache {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get_at(key, SystemTime::now()))
    }

    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        self.put_at(key, value, expires, SystemTime::now())
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        self.kept().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .unwrap()
    }

    /// The books are right.
    fn check(cache: &MemoryCache) {
        let kept = cache.kept();
        assert_eq!(kept.entries.len(), kept.by_age.len());
        assert_eq!(kept.entries.len(), kept.by_end.len());
        let bytes: usize = kept.entries.iter().map(|(k, e)| cost(k, &e.value)).sum();
        assert_eq!(kept.bytes, bytes);
    }

    #[test]
    fn keeps_replaces_and_removes() {
        let cache = MemoryCache::new();
        cache.put_at("a", b"1", at(10), at(0)).unwrap();
        cache.put_at("a", b"22", at(20), at(0)).unwrap();
        assert_eq!(cache.get_at("a", at(19)), Some(b"22".to_vec()));
        assert_eq!(cache.get_at("a", at(20)), None, "its time is over");
        check(&cache);
        cache.remove("a").unwrap();
        cache.remove("a").unwrap();
        assert_eq!(cache.get_at("a", at(0)), None);
        check(&cache);
        assert_eq!(cache.kept().bytes, 0);
    }

    #[test]
    fn the_expired_go_first_then_the_oldest() {
        let cache = MemoryCache::with_bounds(3, usize::MAX);
        cache.put_at("old", b"", at(100), at(0)).unwrap();
        cache.put_at("short", b"", at(5), at(0)).unwrap();
        cache.put_at("new", b"", at(100), at(0)).unwrap();
        cache.put_at("newer", b"", at(100), at(6)).unwrap();
        assert_eq!(cache.get_at("short", at(0)), None, "expired at 6");
        assert_eq!(cache.get_at("old", at(6)), Some(Vec::new()));
        cache.put_at("newest", b"", at(100), at(6)).unwrap();
        assert_eq!(cache.get_at("old", at(6)), None);
        assert_eq!(cache.get_at("new", at(6)), Some(Vec::new()));
        check(&cache);
    }

    #[test]
    fn bytes_are_bounded() {
        let cache = MemoryCache::with_bounds(usize::MAX, 10_000);
        for n in 0..1000 {
            cache.put_at(&n.to_string(), &[0; 500], at(100), at(0)).unwrap();
            assert!(cache.kept().bytes <= 10_000);
        }
        assert_eq!(cache.get_at("999", at(0)).map(|v| v.len()), Some(500));
        assert!(cache
            .put_at("x", &vec![0; super::super::MAX_VALUE + 1], at(100), at(0))
            .is_err());
        cache.put_at("x", &[0; 20_000], at(100), at(0)).unwrap();
        assert_eq!(cache.get_at("x", at(0)), None, "larger than all that there is");
        check(&cache);
    }
}
