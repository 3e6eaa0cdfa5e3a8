//! In directories below the system's temporary one.

use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};

use super::*;

/// A directory that is gone when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("starttls-cache-{}", hex(&random().unwrap())));
        DirBuilder::new().mode(0o755).create(&path).unwrap();
        Self(path)
    }
    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn mode(&self, mode: u32) {
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn in_seconds(n: u64) -> SystemTime {
    SystemTime::now().checked_add(Duration::from_secs(n)).unwrap()
}

fn file_of(cache: &DirectoryCache, key: &str) -> PathBuf {
    let (sub, name) = cache.names(key);
    cache.path.join(sub).join(name)
}

#[test]
fn keeps_replaces_and_removes() {
    let place = Place::new();
    let cache = DirectoryCache::open(place.join("a/b")).unwrap();
    assert_eq!(cache.get("k").unwrap(), None);
    cache.remove("k").unwrap();
    cache.put("k", b"1", in_seconds(100)).unwrap();
    cache.put("k", b"\0\n22", in_seconds(100)).unwrap();
    cache
        .put("other/../../etc/passwd", b"3", in_seconds(100))
        .unwrap();
    assert_eq!(cache.get("k").unwrap(), Some(b"\0\n22".to_vec()));
    // As another process sees it.
    let again = DirectoryCache::open(place.join("a/b")).unwrap();
    assert_eq!(again.get("k").unwrap(), Some(b"\0\n22".to_vec()));
    again.remove("k").unwrap();
    assert_eq!(cache.get("k").unwrap(), None);
    assert!(cache.put("k", &vec![0; MAX_VALUE + 1], in_seconds(9)).is_err());
}

#[test]
fn only_its_owner_reads_it() {
    let place = Place::new();
    let cache = DirectoryCache::open(place.join("a")).unwrap();
    cache.put("k", b"1", in_seconds(100)).unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().mode() & 0o7777;
    let file = file_of(&cache, "k");
    assert_eq!(mode(&cache.path), 0o700);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn what_has_expired_or_never_would_is_not_given_out() {
    let place = Place::new();
    let cache = DirectoryCache::open(&place.0).unwrap();
    let now = SystemTime::now();
    cache.write("k", b"1", in_seconds(10), now).unwrap();
    assert_eq!(cache.read("k", in_seconds(8)).unwrap(), Some(b"1".to_vec()));
    assert_eq!(cache.read("k", in_seconds(11)).unwrap(), None);
    // Written by a clock that was 30 years ahead.
    let ahead = in_seconds(30 * 366 * 86_400);
    cache
        .write("k", b"1", ahead + Duration::from_secs(10), ahead)
        .unwrap();
    assert_eq!(cache.read("k", ahead).unwrap(), Some(b"1".to_vec()));
    assert_eq!(cache.get("k").unwrap(), None);
    // And one that wants to stay for ever.
    cache.write("k", b"1", ahead, now).unwrap();
    assert_eq!(cache.get("k").unwrap(), Some(b"1".to_vec()));
    assert_eq!(cache.read("k", in_seconds(368 * 86_400)).unwrap(), None);
}

#[test]
fn a_directory_that_others_write_to_is_refused() {
    let place = Place::new();
    for (mode, ok) in [
        (0o755, true),
        (0o700, true),
        (0o775, false),
        (0o757, false),
        (0o1777, false),
    ] {
        place.mode(mode);
        let opened = DirectoryCache::open(&place.0);
        assert_eq!(opened.is_ok(), ok, "{mode:o}");
        if let Err(e) = opened {
            assert_eq!(e.word(), crate::Word::Invalid);
            assert!(e.message().contains("may be written by others"), "{e}");
        }
    }
    // Also when that comes later.
    place.mode(0o700);
    let cache = DirectoryCache::open(&place.0).unwrap();
    cache.put("k", b"1", in_seconds(100)).unwrap();
    place.mode(0o777);
    assert!(cache.get("k").is_err());
    assert!(cache.put("k", b"1", in_seconds(100)).is_err());
    assert!(cache.remove("k").is_err());
}

#[test]
fn whose_directory_it_may_be() {
    let mut stat = fstat(File::open("/").unwrap()).unwrap();
    stat.st_mode = 0o40_700;
    for (owner, user, ok) in [(7, 7, true), (0, 7, true), (8, 7, false), (8, 0, true)] {
        stat.st_uid = owner;
        assert_eq!(unsafe_for(&stat, user).is_none(), ok, "{owner} {user}");
    }
}

#[test]
fn no_symbolic_link_is_followed() {
    let place = Place::new();
    let cache = DirectoryCache::open(place.join("cache")).unwrap();
    let target = place.join("target");
    std::fs::write(&target, "precious").unwrap();
    let file = file_of(&cache, "k");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    symlink(&target, &file).unwrap();
    assert!(cache.get("k").is_err(), "read through a link");
    cache.put("k", b"1", in_seconds(100)).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    assert_eq!(
        cache.get("k").unwrap(),
        Some(b"1".to_vec()),
        "the link was replaced"
    );
    // A subdirectory that is a link.
    let elsewhere = place.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let sub = file_of(&cache, "other").parent().unwrap().to_path_buf();
    let _ = std::fs::remove_dir_all(&sub);
    symlink(&elsewhere, &sub).unwrap();
    assert!(cache.put("other", b"1", in_seconds(100)).is_err());
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_does_not_block() {
    let place = Place::new();
    let cache = DirectoryCache::open(&place.0).unwrap();
    let file = file_of(&cache, "k");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    rustix::fs::mknodat(CWD, &file, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let e = cache.get("k").unwrap_err();
    assert!(e.to_string().contains("is no file"), "{e}");
}

#[test]
fn errors_say_what_where_and_why() {
    let place = Place::new();
    std::fs::write(place.join("file"), "").unwrap();
    let e = DirectoryCache::open(place.join("file")).unwrap_err();
    assert!(e.message().contains("make the cache directory /"), "{e}");
    let e = DirectoryCache::open("/proc/starttls").unwrap_err();
    assert!(e.message().contains("/proc/starttls"), "{e}");
    let cache = DirectoryCache::open(place.join("gone")).unwrap();
    std::fs::remove_dir_all(place.join("gone")).unwrap();
    let e = cache.get("k").unwrap_err();
    assert!(e.to_string().starts_with("open the cache directory /"), "{e}");
    assert!(cache.put("k", b"", in_seconds(9)).is_err());
    assert!(cache.remove("k").is_err());
}

#[test]
fn a_salt_is_made_once_and_a_broken_one_anew() {
    let place = Place::new();
    let first = DirectoryCache::open(&place.0).unwrap();
    assert_eq!(DirectoryCache::open(&place.0).unwrap().salt, first.salt);
    assert_ne!(first.salt, [0; 32]);
    std::fs::write(place.join("salt"), "short").unwrap();
    let second = DirectoryCache::open(&place.0).unwrap();
    assert_ne!(second.salt, first.salt);
    assert_eq!(DirectoryCache::open(&place.0).unwrap().salt, second.salt);
    let names: Vec<_> = std::fs::read_dir(&place.0)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(names, ["salt"]);
    // All who open it at once get the same.
    std::fs::remove_file(place.join("salt")).unwrap();
    let salts: Vec<_> = std::thread::scope(|s| {
        let all: Vec<_> = (0..8)
            .map(|_| s.spawn(|| DirectoryCache::open(&place.0).unwrap().salt))
            .collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(salts.iter().all(|s| *s == salts[0]));
}

#[test]
fn sweeping_takes_the_expired_and_the_left_over_and_nothing_else() {
    let place = Place::new();
    let cache = DirectoryCache::open(&place.0).unwrap();
    let sub = cache.subdirectory("00", true).unwrap();
    let put = |name: &str, end| drop(write_new(&sub, name, b"x", end).unwrap());
    let name = |n: u32| format!("{n:062x}");
    put(&name(1), in_seconds(100));
    put(&name(2), in_seconds(5000));
    put("tmp-1", in_seconds(5000));
    put("README", in_seconds(1));
    sweep::sweep(&sub, in_seconds(1000)).unwrap();
    let left = |n: &str| place.join("00").join(n).exists();
    assert_eq!((left(&name(1)), left(&name(2))), (false, true));
    assert!(!left("tmp-1"), "it was begun 1000 s ago");
    assert!(left("README"), "it is not ours");
    put("tmp-2", in_seconds(1));
    sweep::sweep(&sub, in_seconds(60)).unwrap();
    assert!(left("tmp-2"), "it may still be written");
}

#[test]
fn growth_is_bounded_and_what_lasts_longest_stays() {
    let place = Place::new();
    let cache = DirectoryCache::open(&place.0).unwrap();
    let sub = cache.subdirectory("00", true).unwrap();
    let most = u32::try_from(sweep::MOST_ENTRIES).unwrap();
    let name = |n: u32| format!("{n:062x}");
    for n in 0..most + 50 {
        drop(write_new(&sub, &name(n), b"x", in_seconds(100 + u64::from(n))).unwrap());
    }
    sweep::sweep(&sub, SystemTime::now()).unwrap();
    let left: Vec<bool> = (0..most + 50)
        .map(|n| place.join("00").join(name(n)).exists())
        .collect();
    assert_eq!(left.iter().filter(|l| **l).count(), sweep::MOST_ENTRIES);
    assert!(
        left[50..].iter().all(|l| *l),
        "the first to expire are the first to go"
    );
    // Bytes: each may be of 128 KiB.
    let large = cache.subdirectory("01", true).unwrap();
    for n in 0..12 {
        drop(
            write_new(
                &large,
                &name(n),
                &vec![b'x'; MAX_VALUE],
                in_seconds(100 + u64::from(n)),
            )
            .unwrap(),
        );
    }
    sweep::sweep(&large, SystemTime::now()).unwrap();
    let count = std::fs::read_dir(place.join("01")).unwrap().count();
    assert!((7..=8).contains(&count), "{count} of 128 KiB each within 1 MiB");
}

#[test]
fn puts_sweep_now_and_then() {
    let place = Place::new();
    let cache = DirectoryCache::open(&place.0).unwrap();
    let (sub, _) = cache.names("k");
    let directory = cache.subdirectory(&sub, true).unwrap();
    let expired = format!("{:062x}", 1);
    drop(write_new(&directory, &expired, b"x", SystemTime::now()).unwrap());
    // The chance that 500 puts never sweep is 1 in 10^14.
    for _ in 0..500 {
        cache.put("k", b"1", in_seconds(100)).unwrap();
    }
    assert!(!place.join(&sub).join(&expired).exists());
}

#[test]
fn the_default_place() {
    let path = |s: &str| Some(PathBuf::from(s));
    let of = |root, set_id, xdg, home| place(root, set_id, xdg, home).ok();
    assert_eq!(
        of(true, false, path("/x"), path("/h")),
        path("/var/cache/starttls")
    );
    assert_eq!(of(false, false, path("/x"), path("/h")), path("/x/starttls"));
    assert_eq!(
        of(false, false, path("x"), path("/h")),
        path("/h/.cache/starttls")
    );
    assert_eq!(of(false, false, None, path("/h")), path("/h/.cache/starttls"));
    assert_eq!(of(false, false, None, path("")), None);
    assert_eq!(of(false, true, path("/x"), path("/h")), None);
    assert_eq!(
        of(true, true, path("/x"), path("/h")),
        path("/var/cache/starttls")
    );
}
