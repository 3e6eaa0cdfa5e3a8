//! The caches as processes use them that are killed at any instant.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use conformance::cache_entries::{check, key, value, KEYS};
use conformance::random::Random;
use starttls::cache::Cache;

/// A directory that is gone when the test ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("starttls-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn in_an_hour() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn worker(cache: &str, seed: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_cache_worker"))
        .args([cache, &seed.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills it; it must have been at work until then.
fn kill(mut worker: Child) {
    let ended = worker.try_wait().unwrap();
    worker.kill().unwrap();
    let output = worker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ended.is_none(), "it ended by itself: {said}");
}

/// Eight processes, one of which is killed every few milliseconds; then every entry is there and whole.
fn eight_killed_at_any_instant(text: &str, time: Duration) -> usize {
    let cache = starttls::cache::open(text).unwrap();
    for n in 0..KEYS {
        let key = key(n);
        cache.put(&key, &value(&key, 100), in_an_hour()).unwrap();
    }
    let mut random = Random(1);
    let mut workers: Vec<Child> = (0..8).map(|n| worker(text, n)).collect();
    let mut kills = 0;
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::thread::sleep(Duration::from_micros(random.number() % 20_000));
        let seed = random.number();
        let victim = &mut workers[random.below(8)];
        kill(std::mem::replace(victim, worker(text, seed)));
        kills += 1;
    }
    workers.into_iter().for_each(kill);

    for n in 0..KEYS {
        let key = key(n);
        match cache.get(&key).unwrap() {
            Some(found) => check(&key, &found).unwrap_or_else(|why| panic!("{key}: {why}")),
            // Every fourth is put for a second only.
            None => assert_eq!(n % 4, 3, "{key} is lost"),
        }
    }
    kills
}

#[test]
fn a_directory_that_eight_killed_processes_share() {
    let place = Place::new("killed");
    let kills = eight_killed_at_any_instant(
        &place.0.join("cache").display().to_string(),
        Duration::from_secs(5),
    );
    assert!(kills > 50, "only {kills} were killed");
}

#[test]
fn the_test_finds_what_is_damaged() {
    let whole = value("a", 100);
    assert!(check("a", &whole).is_ok());
    assert!(check("b", &whole).is_err());
    assert!(check("a", &whole[..131]).is_err());
    assert!(check("a", &[]).is_err());
}

/// A file system of 1 MiB of its own; `None` where nobody may mount one.
struct Small(Place);

impl Small {
    fn mount() -> Option<Self> {
        let place = Place::new("full");
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
            .arg(&place.0);
        match command.stderr(Stdio::null()).status() {
            Ok(status) if status.success() => Some(Self(place)),
            _ => None,
        }
    }
    fn path(&self) -> &Path {
        &self.0 .0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_and_one_that_cannot_be_written() {
    let Some(small) = Small::mount() else {
        eprintln!("left out: nobody may mount a file system here");
        return;
    };
    let cache = starttls::cache::open(&small.path().join("cache").display().to_string()).unwrap();
    cache.put("first", &value("first", 100), in_an_hour()).unwrap();
    let full = (0..100).find_map(|n| {
        cache
            .put(&format!("large {n}"), &[b'x'; 100_000], in_an_hour())
            .err()
    });
    let e = full.expect("100 times 100 kB do not fit in 1 MiB");
    assert_eq!(e.kind(), std::io::ErrorKind::StorageFull);
    assert!(e.to_string().contains("write to the cache directory /"), "{e}");
    let first = cache.get("first").unwrap().unwrap();
    check("first", &first).unwrap();
    // What could not be written is not half there, and takes no room.
    let files = |part: &str| {
        let all = Command::new("find")
            .arg(small.path())
            .args(["-name", part])
            .output()
            .unwrap();
        String::from_utf8(all.stdout).unwrap().lines().count()
    };
    assert_eq!(files("tmp-*"), 0);
    assert!(files("*") > 5, "something was written");

    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(small.path())
        .status()
        .unwrap();
    assert!(status.success());
    let e = cache.put("second", b"x", in_an_hour()).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(e.to_string().contains("write to the cache directory /"), "{e}");
    assert!(cache.get("first").unwrap().is_some());
    let again = starttls::cache::open(&small.path().join("cache").display().to_string()).unwrap();
    assert!(
        again.get("first").unwrap().is_some(),
        "what is there can still be read"
    );
}

#[test]
fn a_policy_made_before_fork_serves_the_children() {
    // The same cache object in parent and children, as a daemon has it.
    let place = Place::new("fork");
    let cache: Arc<dyn Cache> = starttls::cache::open(&place.0.join("c").display().to_string()).unwrap();
    cache.put("k", &value("k", 1), in_an_hour()).unwrap();
    let mut children = Vec::new();
    for n in 0..4_usize {
        // SAFETY: the child calls nothing but the cache, which takes no lock of another thread's, and leaves.
        match unsafe { libc::fork() } {
            0 => {
                let ok = cache
                    .get("k")
                    .is_ok_and(|v| v.is_some_and(|v| check("k", &v).is_ok()))
                    && cache.put(&key(n), &value(&key(n), 9), in_an_hour()).is_ok();
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(i32::from(!ok)) }
            }
            child => children.push(child),
        }
    }
    for child in children {
        let mut status = 0;
        // SAFETY: our own child, and a live local.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
    }
    for n in 0..4 {
        check(&key(n), &cache.get(&key(n)).unwrap().unwrap()).unwrap();
    }
}
