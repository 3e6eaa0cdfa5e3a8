//! A session of the core's with the descriptor it runs on.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use socket2::{SockAddr, SockRef};

/// The core's session, and for one on a caller's socket our own descriptor of it, which must go
/// after the session: fields are dropped in this order.
pub(crate) struct Io {
    pub(crate) core: starttls::Session<'static>,
    _fd: Option<OwnedFd>,
}

impl Io {
    pub(crate) fn owned(core: starttls::Session<'static>) -> Self {
        Self { core, _fd: None }
    }

    /// Makes a session that borrows this descriptor and keeps both together.
    pub(crate) fn borrowing(
        fd: OwnedFd,
        make: impl FnOnce(BorrowedFd<'static>) -> starttls::Result<starttls::Session<'static>>,
    ) -> starttls::Result<Self> {
        // SAFETY: the descriptor stays open until `_fd` is dropped, after the session that borrows it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        Ok(Self {
            core: make(borrowed)?,
            _fd: Some(fd),
        })
    }

    /// Another descriptor for the connection that this number stands for now.
    pub(crate) fn duplicate(fd: i32) -> std::io::Result<OwnedFd> {
        // SAFETY: it is borrowed for this call alone, under the GIL.
        unsafe { starttls::borrow_fd(fd) }?.try_clone_to_owned()
    }

    /// The peer's address and our own, as `socket` gives them.
    pub(crate) fn peer_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let address = SockRef::from(&self.core).peer_addr().map_err(os_error)?;
        address_of(py, &address)
    }

    pub(crate) fn own_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let address = SockRef::from(&self.core).local_addr().map_err(os_error)?;
        address_of(py, &address)
    }

    /// The address family, as a number.
    pub(crate) fn family(&self) -> i32 {
        let address = SockRef::from(&self.core).local_addr();
        address.map_or(0, |a| i32::from(a.family()))
    }

    /// `shutdown(2)`.
    pub(crate) fn shut_down(&self, how: Shutdown) -> PyResult<()> {
        SockRef::from(&self.core).shutdown(how).map_err(os_error)
    }

    /// A `socket.socket` with a descriptor of its own for this connection.
    pub(crate) fn plain_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fd = self.core.as_fd().try_clone_to_owned().map_err(os_error)?;
        let fileno = PyDict::new(py);
        fileno.set_item("fileno", fd.into_raw_fd())?;
        py.import("socket")?.getattr("socket")?.call((), Some(&fileno))
    }
}

fn os_error(e: std::io::Error) -> PyErr {
    // With both arguments Python chooses the subclass and sets errno.
    match e.raw_os_error() {
        Some(number) => {
            let text = e.to_string();
            let suffix = format!(" (os error {number})");
            PyOSError::new_err((number, text.trim_end_matches(&suffix).to_owned()))
        }
        None => PyOSError::new_err(e.to_string()),
    }
}

fn address_of<'py>(py: Python<'py>, address: &SockAddr) -> PyResult<Bound<'py, PyAny>> {
    match address.as_socket() {
        Some(SocketAddr::V4(v4)) => Ok((v4.ip().to_string(), v4.port()).into_pyobject(py)?.into_any()),
        Some(SocketAddr::V6(v6)) => Ok((v6.ip().to_string(), v6.port(), v6.flowinfo(), v6.scope_id())
            .into_pyobject(py)?
            .into_any()),
        None => {
            let path = address.as_pathname().map(|p| p.display().to_string());
            Ok(path.unwrap_or_default().into_pyobject(py)?.into_any())
        }
    }
}
