//! What a session says of its socket: kind and addresses.

use pyo3::prelude::*;
use socket2::{Domain, Protocol};

use super::Session;

#[pymethods]
impl Session {
    /// ``socket.AF_INET`` and the like.
    #[getter]
    fn family<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.callers_socket(py) {
            Some(sock) => sock.getattr("family"),
            None => py
                .import("socket")?
                .getattr("AddressFamily")?
                .call1((self.family,)),
        }
    }

    /// ``socket.SOCK_STREAM``.
    #[getter]
    fn r#type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.callers_socket(py) {
            Some(sock) => sock.getattr("type"),
            None => py.import("socket")?.getattr("SOCK_STREAM"),
        }
    }

    /// The number of the protocol within the family.
    #[getter]
    fn proto<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.callers_socket(py) {
            Some(sock) => sock.getattr("proto"),
            None => {
                let inet = [Domain::IPV4, Domain::IPV6].contains(&Domain::from(self.family));
                let proto = if inet { i32::from(Protocol::TCP) } else { 0 };
                Ok(proto.into_pyobject(py)?.into_any())
            }
        }
    }

    /// The peer's address, as ``socket.getpeername`` gives it.
    fn getpeername<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.io(py)?.peer_name(py)
    }

    /// Our own address, as ``socket.getsockname`` gives it.
    fn getsockname<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.io(py)?.own_name(py)
    }
}
