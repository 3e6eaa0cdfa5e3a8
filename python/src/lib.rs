//! The compiled half of the Python package `starttls`: the module `starttls._core`.
//!
//! It wraps the crate `starttls` and adds no rule of its own. Every wait happens with the GIL
//! released ([`error::wait`]); the face of the package is in `python/starttls`.

mod buffer;
mod certificate;
mod connect;
mod demo;
mod domain;
mod error;
mod io;
mod negotiation;
mod policy;
mod session;
mod tlsrpt;

use pyo3::prelude::*;

/// The compiled half of `starttls`; use the package, not this module.
#[pymodule]
mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyModule;

    #[pymodule_export]
    use super::connect::{accept, adopt, connect, refuse, upgrade};
    #[pymodule_export]
    use super::demo::make_certificates;
    #[pymodule_export]
    use super::domain::{connect_domain, look_up_host, survey, Route, Routes};
    #[pymodule_export]
    use super::negotiation::Negotiation;
    #[pymodule_export]
    use super::policy::{policy_of, Policy};
    #[pymodule_export]
    use super::protocols;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::tlsrpt::{Collector, Event, Record, Report, Reports};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("version", env!("CARGO_PKG_VERSION"))
    }
}

/// A row of the table of protocols: word, port, word and port with TLS from the first byte, ALPN,
/// specification, what comes first on the new session.
type Row = (
    &'static str,
    u16,
    Option<&'static str>,
    Option<u16>,
    Option<&'static str>,
    &'static str,
    &'static str,
);

/// The table of protocols.
#[pyfunction]
fn protocols() -> Vec<Row> {
    starttls::protocol::PROTOCOLS
        .iter()
        .map(|row| {
            let (word, port) = row.implicit.unzip();
            (row.name, row.port, word, port, row.alpn, row.spec, row.afterwards)
        })
        .collect()
}
