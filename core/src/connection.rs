//! The descriptor of a connection, owned or borrowed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A descriptor that a session owns, or that stays its caller's.
#[derive(Debug)]
pub enum Connection<'fd> {
    /// Closed when the session is dropped.
    Owned(OwnedFd),
    /// Never closed by the session.
    Borrowed(BorrowedFd<'fd>),
}

impl AsFd for Connection<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Connection::Owned(fd) => fd.as_fd(),
            Connection::Borrowed(fd) => fd.as_fd(),
        }
    }
}

impl<'fd> From<BorrowedFd<'fd>> for Connection<'fd> {
    fn from(fd: BorrowedFd<'fd>) -> Self {
        Connection::Borrowed(fd)
    }
}

impl<'fd, T: AsFd> From<&'fd T> for Connection<'fd> {
    fn from(stream: &'fd T) -> Self {
        Connection::Borrowed(stream.as_fd())
    }
}

impl From<OwnedFd> for Connection<'_> {
    fn from(fd: OwnedFd) -> Self {
        Connection::Owned(fd)
    }
}

impl From<std::net::TcpStream> for Connection<'_> {
    fn from(stream: std::net::TcpStream) -> Self {
        Connection::Owned(stream.into())
    }
}
