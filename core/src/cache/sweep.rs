//! Keeps one subdirectory of a [`DirectoryCache`](super::DirectoryCache) within bounds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::ffi::CStr;
use rustix::fs::{flock, statat, unlinkat, AtFlags, Dir, FileType, FlockOperation, Stat};
use rustix::io::Errno;

/// How the names of files begin that are being written.
pub(super) const TEMPORARY: &str = "tmp-";
/// Nothing is kept for longer: a year, and what the clocks of two machines may differ by.
pub(super) const LONGEST: Duration = Duration::from_secs(367 * 86_400);
/// The writer of a temporary file that is older than this was killed. No write takes as long.
const LEFT_OVER: Duration = Duration::from_secs(600);
/// So many entries and bytes in one of 256 subdirectories: 65,536 and 256 MiB in all.
pub(super) const MOST_ENTRIES: usize = 256;
const MOST_BYTES: u64 = 1024 * 1024;
/// So many names are looked at; the others at another time.
const MOST_LOOKED_AT: usize = 2048;

/// Whether an entry with this end is still good. An end that is too far away comes from a wrong clock, ours now or
/// the writer's then.
pub(super) fn in_time(end: SystemTime, now: SystemTime) -> bool {
    end.duration_since(now)
        .is_ok_and(|left| !left.is_zero() && left <= LONGEST)
}

struct Found {
    name: std::ffi::CString,
    /// To know it again.
    identity: (u64, i128),
    end: SystemTime,
    bytes: u64,
}

/// Takes away what is expired or left over, and what is too much.
pub(super) fn sweep(directory: &OwnedFd, now: SystemTime) -> io::Result<()> {
    let doomed = look_through(directory, now)?;
    if doomed.is_empty() || flock(directory, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Somebody is writing, or sweeping, or there are no locks here: another time.
        return Ok(());
    }
    for found in &doomed {
        // Replaced meanwhile by a new one?
        if stat(directory, &found.name)?.is_some_and(|s| identity(&s) == found.identity) {
            let _ = unlinkat(directory, found.name.as_c_str(), AtFlags::empty());
        }
    }
    let _ = flock(directory, FlockOperation::Unlock);
    Ok(())
}

fn look_through(directory: &OwnedFd, now: SystemTime) -> io::Result<Vec<Found>> {
    let mut doomed = Vec::new();
    let mut kept = Vec::new();
    for entry in Dir::read_from(directory)?.take(MOST_LOOKED_AT) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        let temporary = name.starts_with(TEMPORARY);
        // What is not ours stays.
        if !(temporary || name.len() == 62 && name.bytes().all(|b| b.is_ascii_hexdigit())) {
            continue;
        }
        let Some(stat) = stat(directory, entry.file_name())? else {
            continue;
        };
        let found = Found {
            name: entry.file_name().into(),
            identity: identity(&stat),
            end: time(stat.st_mtime),
            bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        };
        if temporary {
            // Not by its mtime, which may be its end already.
            let written = time(stat.st_ctime);
            let age = now.duration_since(written).unwrap_or_else(|e| e.duration());
            if age > LEFT_OVER {
                doomed.push(found);
            }
        } else if found.end <= now {
            doomed.push(found);
        } else {
            kept.push(found);
        }
    }
    // The last first; those with an impossible end, which nobody reads, at the very end.
    kept.sort_by_key(|f| (!in_time(f.end, now), std::cmp::Reverse(f.end)));
    let mut bytes = 0_u64;
    for (n, found) in kept.into_iter().enumerate() {
        bytes = bytes.saturating_add(found.bytes);
        if n >= MOST_ENTRIES || bytes > MOST_BYTES {
            doomed.push(found);
        }
    }
    Ok(doomed)
}

/// `None` if it is gone, or no file.
fn stat(directory: &OwnedFd, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat).filter(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Inode and mtime in nanoseconds.
fn identity(stat: &Stat) -> (u64, i128) {
    let nanoseconds = i128::from(stat.st_mtime)
        .saturating_mul(1_000_000_000)
        .saturating_add(i128::from(stat.st_mtime_nsec));
    (stat.st_ino, nanoseconds)
}

/// Before 1970 is 1970.
fn time(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}
