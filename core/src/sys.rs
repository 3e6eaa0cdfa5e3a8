//! The system calls on a descriptor that the standard library lacks: `recv` and `send` that neither
//! wait nor signal, `poll` with a deadline. No flag of the descriptor is ever changed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::rules::InterruptHook;

/// How long a wait goes on without asking the hook of a caller that has one.
const HOOK_MS: libc::c_int = 1000;

/// A point in time that a wait must not pass; `None` waits for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(time: Option<Duration>) -> Self {
        Self(time.and_then(|t| Instant::now().checked_add(t)))
    }

    pub(crate) fn is_past(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// How much time is left; `None` for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// When half of the time that is left will have passed.
    pub(crate) fn halfway(self) -> Self {
        match self.left() {
            Some(left) => self.or_after(left.checked_div(2).unwrap_or(left)),
            None => self,
        }
    }

    /// The earlier of this and so long from now.
    pub(crate) fn or_after(self, time: Duration) -> Self {
        let soon = Instant::now().checked_add(time);
        match (self.0, soon) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// For poll: milliseconds rounded up, so that it never spins; -1 for ever.
    fn poll_ms(self) -> libc::c_int {
        match self.0 {
            None => -1,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                let ms = left.as_micros().div_ceil(1000);
                libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
            }
        }
    }
}

/// Waits until one of the descriptors is ready and says which are; an empty answer never comes.
///
/// # Errors
/// `TimedOut` when the deadline passes, and what the hook says when a signal interrupts.
pub(crate) fn wait_any(
    fds: &[(BorrowedFd<'_>, libc::c_short)],
    deadline: Deadline,
    hook: Option<InterruptHook>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, events)| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: *events,
            revents: 0,
        })
        .collect();
    poll(&mut polled, deadline, hook)?;
    Ok(polled.iter().map(|p| p.revents != 0).collect())
}

fn poll(polled: &mut [libc::pollfd], deadline: Deadline, hook: Option<InterruptHook>) -> io::Result<()> {
    loop {
        let n = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
        let left = deadline.poll_ms();
        // A signal that comes just before poll interrupts nothing: its hook is asked once a second.
        let slice = match hook {
            Some(_) if !(0..=HOOK_MS).contains(&left) => HOOK_MS,
            _ => left,
        };
        // SAFETY: the pointer and the length are those of one slice that outlives the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), n, slice) };
        if ready > 0 {
            return Ok(());
        }
        if ready < 0 {
            let e = io::Error::last_os_error();
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        if deadline.is_past() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(hook) = hook {
            ask(hook)?;
        }
    }
}

/// Asks the caller whether to go on. Its error is marked as such: it ends the call, also where another failure
/// would only lead to the next thing to try.
pub(crate) fn ask(hook: InterruptHook) -> io::Result<()> {
    hook().map_err(|e| io::Error::new(e.kind(), Stopped(e)))
}

/// What the caller's hook said.
#[derive(Debug)]
pub(crate) struct Stopped(io::Error);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stopped {}

/// recv with MSG_DONTWAIT: `WouldBlock` if nothing is there, 0 at end of file.
pub(crate) fn recv(fd: RawFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    loop {
        // SAFETY: the pointer and the length are those of one live slice.
        let n = unsafe {
            libc::recv(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags | libc::MSG_DONTWAIT,
            )
        };
        if let Ok(n) = usize::try_from(n) {
            return Ok(n);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// send with MSG_DONTWAIT and MSG_NOSIGNAL: how much the kernel takes now; 0 if nothing.
pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the pointer and the length are those of one live slice.
        let n = unsafe {
            libc::send(
                fd,
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if let Ok(n) = usize::try_from(n) {
            return Ok(n);
        }
        let e = io::Error::last_os_error();
        match e.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return Ok(0),
            _ => return Err(e),
        }
    }
}

/// The number of a network interface, given as such or by name.
pub(crate) fn scope(interface: &str) -> Option<u32> {
    if let Ok(number) = interface.parse() {
        return Some(number);
    }
    let name = std::ffi::CString::new(interface).ok()?;
    // SAFETY: a string that ends in NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        number => Some(number),
    }
}

/// Whether the descriptor is an open stream socket; the error says what else it is.
pub(crate) fn check_socket(fd: RawFd) -> io::Result<()> {
    let mut kind: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: both pointers are to live locals, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if kind != libc::SOCK_STREAM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a stream socket",
        ));
    }
    Ok(())
}

/// The address at the other end of a descriptor that may be none, or no socket.
pub(crate) fn peer_of(fd: RawFd) -> Option<std::net::SocketAddr> {
    if fd < 0 || check_socket(fd).is_err() {
        return None;
    }
    // SAFETY: it is open now (getsockopt answered), and the borrow ends here.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    socket2::SockRef::from(&fd).peer_addr().ok()?.as_socket()
}

/// Borrows a descriptor given as a number, as C and Python have it.
///
/// # Errors
/// If it is no open stream socket.
///
/// # Safety
/// The descriptor must stay open as long as what is made of it is in use.
pub unsafe fn borrow_fd<'fd>(fd: RawFd) -> io::Result<BorrowedFd<'fd>> {
    check_socket(fd)?;
    // SAFETY: it is open now (getsockopt answered), hence not -1; the caller keeps it so.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Shuts both directions down, so that no careless caller goes on in clear; never closes.
pub(crate) fn shut_down(fd: RawFd) {
    // SAFETY: shutdown has no memory arguments; on a bad descriptor it only fails.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// The process id, to know a session that came through fork: asked for at every read and write, so
/// it is remembered, in memory that the kernel wipes in the child of a fork.
pub(crate) fn process() -> u32 {
    static REMEMBERED: OnceCell<Option<&'static AtomicU32>> = OnceCell::new();
    let Some(remembered) = REMEMBERED.get_or_init(wiped_on_fork) else {
        return std::process::id();
    };
    match remembered.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            remembered.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// A number that is 0 at first and again in every child of a fork; `None` where the kernel has no
/// MADV_WIPEONFORK (Linux before 4.14, other systems).
fn wiped_on_fork() -> Option<&'static AtomicU32> {
    #[cfg(target_os = "linux")]
    // SAFETY: a new private page, of which nobody else knows and which is never unmapped; it is
    // zeroed, aligned and larger than the number that is made of it.
    unsafe {
        let size = 4096;
        let page = libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, size, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, size);
            return None;
        }
        Some(&*page.cast::<AtomicU32>())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn waits_end_at_their_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let deadline = Deadline::after(Some(Duration::from_millis(20)));
        let e = wait_any(&[(ours.as_fd(), libc::POLLIN)], deadline, None).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut);
        let now = Deadline::after(Some(Duration::ZERO));
        assert!(wait_any(&[(ours.as_fd(), libc::POLLIN)], now, None).is_err());
    }
}
