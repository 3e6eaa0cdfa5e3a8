//! Caches that lie, lose and fail, and what is made of what they say.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;

/// A map without any manners: it keeps what it is given, for ever.
#[derive(Default)]
struct Map(Mutex<HashMap<String, Vec<u8>>>);

impl Cache for Map {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }
    fn put(&self, key: &str, value: &[u8], _: SystemTime) -> io::Result<()> {
        self.0.lock().unwrap().insert(key.into(), value.into());
        Ok(())
    }
    fn remove(&self, key: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

/// One that always does the same.
struct Bad(fn() -> io::Result<()>);

impl Cache for Bad {
    fn get(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        (self.0)().map(|()| None)
    }
    fn put(&self, _: &str, _: &[u8], _: SystemTime) -> io::Result<()> {
        (self.0)()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        (self.0)()
    }
}

const KEY: &str = "sts/example.org";

fn in_seconds(n: u64) -> SystemTime {
    SystemTime::now().checked_add(Duration::from_secs(n)).unwrap()
}

fn entry() -> Vec<u8> {
    seal(KEY, &vec![1_u32, 2], in_seconds(100)).unwrap()
}

/// What is made of these bytes under [`KEY`].
fn reading(bytes: Vec<u8>) -> (Option<Vec<u32>>, Vec<String>) {
    let map = Arc::new(Map::default());
    map.put(KEY, &bytes, in_seconds(1)).unwrap();
    let mut notes = Vec::new();
    let value = Store::new(map).get(KEY, &mut notes);
    (value, notes)
}

#[test]
fn what_was_put_comes_back_until_its_time_is_over() {
    let store = Store::new(Arc::new(Map::default()));
    let mut notes = Vec::new();
    assert_eq!(store.get::<Vec<String>>(KEY, &mut notes), None);
    let value = vec!["mx.example.org".to_string(), "ü\u{0}\"".to_string()];
    store.put(KEY, &value, in_seconds(100), &mut notes);
    assert_eq!(store.get(KEY, &mut notes), Some(value.clone()));
    assert_eq!(store.get_at(KEY, in_seconds(98), &mut notes), Some(value));
    assert_eq!(
        store.get_at::<Vec<String>>(KEY, in_seconds(101), &mut notes),
        None
    );
    store.remove(KEY, &mut notes);
    assert_eq!(store.get::<Vec<String>>(KEY, &mut notes), None);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_part_of_an_entry_is_never_believed() {
    let whole = entry();
    assert_eq!(reading(whole.clone()).0, Some(vec![1, 2]));
    for n in 0..whole.len() {
        let (value, notes) = reading(whole[..n].to_vec());
        assert_eq!(value, None, "the first {n} bytes");
        assert_eq!(notes.len(), 1, "the first {n} bytes");
    }
    let note = "cache: the entry sts/example.org is damaged and was ignored";
    assert_eq!(reading(whole[..whole.len() - 1].to_vec()).1, [note]);
}

#[test]
fn a_changed_byte_is_never_believed() {
    let whole = entry();
    for n in 0..whole.len() {
        for bit in [1, 0x20, 0x80] {
            let mut changed = whole.clone();
            changed[n] ^= bit;
            let (value, notes) = reading(changed);
            assert_eq!((value, notes.len()), (None, 1), "byte {n}, bit {bit}");
        }
    }
}

#[test]
fn what_is_foreign_is_said() {
    let cases = [
        (
            seal("sts/example.net", &vec![1_u32], in_seconds(9)).unwrap(),
            "belongs to another key",
        ),
        (seal(KEY, &"text", in_seconds(9)).unwrap(), "is not understood"),
        (
            seal(KEY, &vec![1_u32], in_seconds(400 * 86_400)).unwrap(),
            "ends in more than a year",
        ),
        (b"starttls-cache 2\n".to_vec(), "is of another format"),
        (b"starttls-cache 10\n".to_vec(), "is of another format"),
        (Vec::new(), "is of another format"),
        (vec![0xff; MAX_VALUE + 1], "is too large"),
    ];
    for (bytes, why) in cases {
        let (value, notes) = reading(bytes);
        assert_eq!(value, None);
        assert_eq!(
            notes,
            [format!("cache: the entry sts/example.org {why} and was ignored")]
        );
    }
}

#[test]
fn a_deep_value_does_not_exhaust_the_stack() {
    let body = format!(
        r#"{{"key":"{KEY}","expires":{},"value":{}1"#,
        seconds(in_seconds(9)),
        "[".repeat(60_000)
    );
    let sum = hex(&sha256(body.as_bytes()));
    let (value, notes) = reading(format!("{FORMAT}\n{sum}\n{body}").into_bytes());
    assert_eq!((value, notes.len()), (None, 1));
}

#[test]
fn a_clock_that_was_ahead_makes_nothing_eternal() {
    let store = Store::new(Arc::new(Map::default()));
    let mut notes = Vec::new();
    let in_30_years = in_seconds(30 * 366 * 86_400);
    let soon_after = in_30_years + Duration::from_secs(60);
    store.put_at(KEY, &1, soon_after, in_30_years, &mut notes);
    assert_eq!(store.get_at(KEY, in_30_years, &mut notes), Some(1));
    assert_eq!(store.get::<i32>(KEY, &mut notes), None);
    assert_eq!(
        notes,
        ["cache: the entry sts/example.org ends in more than a year and was ignored"]
    );
}

#[test]
fn nothing_is_kept_for_more_than_a_year() {
    let store = Store::new(Arc::new(Map::default()));
    let mut notes = Vec::new();
    store.put(KEY, &1, in_seconds(1000 * 366 * 86_400), &mut notes);
    assert_eq!(store.get(KEY, &mut notes), Some(1));
    assert_eq!(
        store.get_at::<i32>(KEY, in_seconds(367 * 86_400), &mut notes),
        None
    );
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn what_is_too_large_is_not_kept_and_said() {
    let store = Store::new(Arc::new(Map::default()));
    let mut notes = Vec::new();
    store.put(KEY, &"x".repeat(MAX_VALUE), in_seconds(9), &mut notes);
    assert_eq!(store.get::<String>(KEY, &mut notes), None);
    assert_eq!(notes, ["cache: sts/example.org is too large to be kept"]);
}

#[test]
fn a_cache_that_fails_or_panics_is_said_once() {
    type Fails = fn() -> io::Result<()>;
    let cases: [(Fails, &str); 3] = [
        (
            || Err(io::Error::other("Redis is away\r\n")),
            "Redis is away\\x0d\\x0a",
        ),
        (|| panic!("a caller's mistake"), "it panicked"),
        (|| Err(io::ErrorKind::StorageFull.into()), "no storage space"),
    ];
    for (what, why) in cases {
        let store = Store::new(Arc::new(Bad(what)));
        let mut notes = vec!["another note".to_string()];
        assert_eq!(store.get::<i32>(KEY, &mut notes), None);
        store.put(KEY, &1, in_seconds(9), &mut notes);
        store.remove(KEY, &mut notes);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(
            notes[1],
            format!("cache: it cannot be used now, and all goes on without it: {why}")
        );
    }
}
