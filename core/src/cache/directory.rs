//! A cache in a directory: one file an entry, for all processes of one user on one machine.
//!
//! ```text
//! DIRECTORY/salt               32 random bytes, made once
//! DIRECTORY/3f/9a0c…           an entry: the value; its mtime is when it expires
//! DIRECTORY/3f/tmp-81c2…       one that is being written, or whose writer was killed
//! ```
//!
//! The name is the SHA-256 of salt and key. An entry is written beside its place and renamed into it: whoever reads
//! gets the old or the new one, and a writer killed at any instant leaves at most a file `tmp-…`. Nothing is synced:
//! what a power failure cuts short is found out by its checksum and ignored.
//!
//! It cannot grow without bound: about one put in 16 looks through the one of the 256 subdirectories that it writes
//! to, takes away what is expired or left over, and then what expires soonest until the rest is within bounds. The
//! salt is why nobody outside can choose names that fall into one subdirectory and push others out.
//!
//! Nothing is kept open between calls: a daemon that closes all descriptors may do so.

use std::fs::{DirBuilder, File, FileTimes};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;
use rustix::fs::{
    fchown, flock, fstat, linkat, mkdirat, openat, renameat, unlinkat, AtFlags, FlockOperation, Mode, OFlags,
    Stat, CWD,
};
use rustix::io::Errno;
use rustix::process::{geteuid, Gid, Uid};

use super::{check_size, sweep, Cache, MAX_VALUE};
use crate::error::{Error, Result};
use crate::text::hex;

/// A writer waits for one that sweeps, but not for ever: that one may be stopped.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Keeps each entry in a file of a directory, to which nobody but its owner may write.
///
/// Any number of processes may use it at the same time, and be killed while they do.
#[derive(Debug)]
pub struct DirectoryCache {
    path: PathBuf,
    salt: [u8; 32],
}

impl DirectoryCache {
    /// The cache in this directory, which is made if it is missing (only its owner may read and write it).
    ///
    /// # Errors
    /// `invalid` if others than its owner may write to it, or if it is another user's or not to be entered; `io` if it
    /// cannot be made or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        // A daemon changes its directory later.
        let path = std::path::absolute(path.as_ref())
            .map_err(|e| Error::invalid(format!("cache directory {}: {e}", path.as_ref().display())))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|e| Error::io(&format!("make the cache directory {}", path.display()), &e))?;
        let mut cache = Self { path, salt: [0; 32] };
        let directory = cache.directory().map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied if e.raw_os_error().is_none() => Error::invalid(e.to_string()),
            _ => Error::io("open the cache", &e),
        })?;
        cache.salt = salt(&directory)
            .map_err(|e| Error::io(&format!("make the cache in {}", cache.path.display()), &e))?;
        Ok(cache)
    }

    /// Where the cache is by default: `/var/cache/starttls` for root, else `starttls` in `$XDG_CACHE_HOME` or in
    /// `~/.cache`.
    ///
    /// # Errors
    /// `invalid` where there is no home directory, and for a program that runs with raised privileges, which must
    /// not believe its environment.
    pub fn default_place() -> Result<PathBuf> {
        place(
            geteuid().is_root(),
            crate::tls::ffi::set_id(),
            std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
            std::env::home_dir(),
        )
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, looked at anew each time: it may have been replaced or opened to others.
    fn directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, &self.path, flags, Mode::empty()).map_err(|e| self.said("open", e.into()))?;
        let stat = fstat(&fd).map_err(|e| self.said("look at", e.into()))?;
        match unsafe_for(&stat, geteuid().as_raw()) {
            Some(why) => Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("the cache directory {} {why}", self.path.display()),
            )),
            None => Ok(fd),
        }
    }

    /// The subdirectory, made if it is missing; never through a symbolic link.
    fn subdirectory(&self, name: &str, make: bool) -> io::Result<OwnedFd> {
        let directory = self.directory()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&directory, name, flags, Mode::empty());
        match open() {
            Err(Errno::NOENT) if make => match mkdirat(&directory, name, Mode::RWXU) {
                Ok(()) => {
                    let made = open()?;
                    give_to_owner_of(&directory, &made)?;
                    Ok(made)
                }
                // Another process was faster.
                Err(Errno::EXIST) => Ok(open()?),
                Err(e) => Err(e.into()),
            },
            other => Ok(other?),
        }
    }

    /// Subdirectory and file.
    fn names(&self, key: &str) -> (String, String) {
        let mut hash = Sha256::new();
        hash.update(&self.salt);
        hash.update(key.as_bytes());
        let mut name = hex(&hash.finish());
        let rest = name.split_off(2);
        (name, rest)
    }

    fn said(&self, doing: &str, e: io::Error) -> io::Error {
        let whose = match e.kind() {
            ErrorKind::PermissionDenied => format!(" (as user {})", geteuid().as_raw()),
            _ => String::new(),
        };
        io::Error::new(
            e.kind(),
            format!("{doing} the cache directory {}: {e}{whose}", self.path.display()),
        )
    }

    fn read(&self, key: &str, now: SystemTime) -> io::Result<Option<Vec<u8>>> {
        let (sub, name) = self.names(key);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(self.subdirectory(&sub, false)?, &name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) => return Err(e.into()),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other(format!("{sub}/{name} is no file")));
        }
        if !sweep::in_time(meta.modified()?, now) {
            return Ok(None);
        }
        let mut value = Vec::new();
        // One byte more than there may be, to be found out.
        let most = u64::try_from(MAX_VALUE).unwrap_or(u64::MAX).saturating_add(1);
        (&file).take(most).read_to_end(&mut value)?;
        Ok(Some(value))
    }

    fn write(&self, key: &str, value: &[u8], expires: SystemTime, now: SystemTime) -> io::Result<()> {
        let (sub, name) = self.names(key);
        let directory = self.subdirectory(&sub, true)?;
        let expires = now
            .checked_add(sweep::LONGEST)
            .map_or(expires, |last| expires.min(last));
        let random = random()?;
        let temporary = format!("{}{}", sweep::TEMPORARY, hex(&random));
        let written = write_new(&directory, &temporary, value, expires).and_then(|_| {
            lock(&directory);
            let renamed = renameat(&directory, &temporary, &directory, &name);
            let _ = flock(&directory, FlockOperation::Unlock);
            Ok(renamed?)
        });
        if let Err(e) = written {
            let _ = unlinkat(&directory, &temporary, AtFlags::empty());
            if e.kind() == ErrorKind::StorageFull {
                sweep::sweep(&directory, now)?;
            }
            return Err(e);
        }
        if random.first().is_some_and(|b| b.is_multiple_of(16)) {
            sweep::sweep(&directory, now)?;
        }
        Ok(())
    }
}

impl Cache for DirectoryCache {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match self.read(key, SystemTime::now()) {
            // Said by `directory` where it is the directory itself that is missing.
            Err(e) if e.kind() == ErrorKind::NotFound && e.raw_os_error().is_some() => Ok(None),
            Err(e) if e.raw_os_error().is_some() => Err(self.said("read", e)),
            other => other,
        }
    }

    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        check_size(value)?;
        self.write(key, value, expires, SystemTime::now())
            .map_err(|e| match e.raw_os_error() {
                Some(_) => self.said("write to", e),
                None => e,
            })
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        let (sub, name) = self.names(key);
        let gone = self
            .subdirectory(&sub, false)
            .and_then(|directory| Ok(unlinkat(&directory, &name, AtFlags::empty())?));
        match gone {
            Err(e) if e.kind() == ErrorKind::NotFound && e.raw_os_error().is_some() => Ok(()),
            Err(e) if e.raw_os_error().is_some() => Err(self.said("write to", e)),
            other => other,
        }
    }
}

/// Why a directory cannot be relied on; `None` if it can.
fn unsafe_for(stat: &Stat, user: u32) -> Option<String> {
    // Also with the sticky bit (/tmp): there others could put entries of theirs before ours.
    if stat.st_mode & 0o022 != 0 {
        let mode = stat.st_mode & 0o7777;
        return Some(format!(
            "may be written by others than its owner (mode {mode:o}), who could put lies in it: \
             take one that only its owner may write to, or `chmod go-w` it"
        ));
    }
    // Root can prepare it for the user that it becomes, and is to be trusted by all.
    if stat.st_uid != user && stat.st_uid != 0 && user != 0 {
        let owner = stat.st_uid;
        return Some(format!(
            "belongs to user {owner}, and this program runs as user {user}"
        ));
    }
    None
}

fn place(root: bool, set_id: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    if root {
        return Ok("/var/cache/starttls".into());
    }
    if !set_id {
        // The XDG Base Directory Specification: a relative path is to be ignored.
        let xdg = xdg.filter(|p| p.is_absolute());
        let home = home.filter(|p| p.is_absolute()).map(|p| p.join(".cache"));
        if let Some(place) = xdg.or(home) {
            return Ok(place.join("starttls"));
        }
    }
    Err(Error::invalid(
        "there is no default place for a cache here (no home directory, or raised privileges): name a directory",
    ))
}

/// The salt of a directory, made by whoever comes first.
fn salt(directory: &OwnedFd) -> io::Result<[u8; 32]> {
    const NAME: &str = "salt";
    let read = || -> io::Result<[u8; 32]> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut salt = [0; 32];
        File::from(openat(directory, NAME, flags, Mode::empty())?).read_exact(&mut salt)?;
        Ok(salt)
    };
    match read() {
        // Too short (`UnexpectedEof`): the power failed long ago. It is made anew, and the entries expire.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            let mut new = [0; 32];
            openssl::rand::rand_bytes(&mut new)?;
            let temporary = format!("{}{}", sweep::TEMPORARY, hex(&random()?));
            let made = write_new(directory, &temporary, &new, SystemTime::now())
                .and_then(|file| file.sync_all())
                .and_then(|()| match e.kind() {
                    // Fails if another process was faster.
                    ErrorKind::NotFound => {
                        Ok(linkat(directory, &temporary, directory, NAME, AtFlags::empty())?)
                    }
                    _ => Ok(renameat(directory, &temporary, directory, NAME)?),
                });
            let _ = unlinkat(directory, &temporary, AtFlags::empty());
            match made {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
                _ => read(),
            }
        }
        other => other,
    }
}

fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(bytes)
}

/// A file that was not there before, whole, with its end for its mtime.
fn write_new(directory: &OwnedFd, name: &str, bytes: &[u8], expires: SystemTime) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    give_to_owner_of(directory, &file)?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(expires))?;
    Ok(file)
}

/// Keeps whoever sweeps from taking away what is just being replaced. Where the file system has no locks, or the
/// other one is stopped, we do without: what can be lost then is one entry of a cache.
fn lock(directory: &OwnedFd) {
    for _ in 0..LOCK_TRIES {
        match flock(directory, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            _ => break,
        }
    }
}

/// What root makes in another user's directory is that user's: a daemon reads its configuration as root.
fn give_to_owner_of(directory: &OwnedFd, made: &impl AsFd) -> io::Result<()> {
    if geteuid().is_root() {
        let stat = fstat(directory)?;
        let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(made, Some(user), Some(group))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
