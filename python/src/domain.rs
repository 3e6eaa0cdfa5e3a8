//! Mail to a domain instead of a host: `connect_domain`, its `Routes`, and the `survey` of what it publishes.

use std::sync::{Mutex, PoisonError, TryLockError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::connect::resolve_policy;
use crate::error::{exception, wait};
use crate::io::Io;
use crate::policy::{observed, policy_of, Policy};
use crate::session::Session;

/// Connects to a host that takes the mail of a domain, by what the domain asks of its senders.
///
/// The hosts of its MX records are tried in their order until one meets the policy: DANE (RFC 7672), MTA-STS
/// (RFC 8461), the policy's table of destinations. ``outcome.domain`` says what was found, ``outcome.attempts`` what
/// the hosts before had to say. domain: also an address literal such as ``[192.0.2.1]``. protocol: ``smtp``; another
/// one, such as ``submission`` or ``xmpp``, goes by the domain's SRV records. timeout: seconds for all of it.
///
/// Raises ``null-mx`` where the domain takes no mail, ``lookup-failed``, ``dns-bogus`` and so on; else, when no host
/// would do, the error of the last one that may do later, or of the last one. Otherwise as ``connect``.
#[pyfunction]
#[pyo3(signature = (domain, policy=None, *, protocol="smtp", timeout=None, _see=None),
       text_signature = "(domain, policy='strict', *, protocol='smtp', timeout=None, _see=None)")]
pub(crate) fn connect_domain(
    py: Python<'_>,
    domain: &str,
    policy: Option<&Bound<'_, PyAny>>,
    protocol: &str,
    timeout: Option<f64>,
    _see: Option<Py<PyAny>>,
) -> PyResult<Session> {
    let mut policy = resolve_policy(py, policy, timeout)?;
    if let Some(see) = _see {
        policy = observed(&policy, see);
    }
    let made = wait(py, || {
        starttls::Session::connect_service(protocol, domain, &policy)
    })?;
    let core = made.map_err(|e| exception(py, &e))?;
    Ok(Session::new(Io::owned(core), None, None, false))
}

/// What a domain publishes for those who send to it, as JSON: for ``starttls.survey``.
#[pyfunction]
#[pyo3(signature = (domain, policy=None, timeout=None))]
pub(crate) fn survey(
    py: Python<'_>,
    domain: &str,
    policy: Option<&Bound<'_, PyAny>>,
    timeout: Option<f64>,
) -> PyResult<String> {
    let policy = resolve_policy(py, policy, timeout)?;
    let survey = wait(py, || starttls::Survey::of(domain, &policy))?;
    Ok(survey.map_err(|e| exception(py, &e))?.to_json())
}

/// The hosts of a domain in the order to try them, as an iterator of ``Route``. Made by ``starttls.routes``.
///
/// Each host's look-ups are made when its turn comes. A host that cannot do, because its look-ups failed or because
/// nothing there could meet the policy, is left out; why is in ``skipped``.
#[pyclass(frozen, module = "starttls", name = "Routes")]
pub(crate) struct Routes {
    core: Mutex<starttls::Routes>,
    policy: Py<Policy>,
    skipped: Mutex<Vec<Py<PyAny>>>,
}

#[pymethods]
impl Routes {
    #[new]
    #[pyo3(signature = (domain, policy=None, *, protocol="smtp", timeout=None),
           text_signature = "(domain, policy='strict', *, protocol='smtp', timeout=None)")]
    fn new(
        py: Python<'_>,
        domain: &str,
        policy: Option<&Bound<'_, PyAny>>,
        protocol: &str,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let strict = pyo3::types::PyString::intern(py, "strict");
        let policy = policy_of(policy.unwrap_or(strict.as_any()))?;
        let core = resolve_policy(py, Some(policy.bind(py)), timeout)?;
        let found = wait(py, || starttls::Routes::find_service(protocol, domain, &core))?;
        Ok(Self {
            core: Mutex::new(found.map_err(|e| exception(py, &e))?),
            policy,
            skipped: Mutex::default(),
        })
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Route>> {
        loop {
            match self.step(py, None)? {
                None => return Ok(None),
                Some(Ok(route)) => return Ok(Some(route)),
                Some(Err(e)) => {
                    let e = e.into_value(py).into_any();
                    lock(&self.skipped).push(e);
                }
            }
        }
    }

    /// For ``starttls.aio``: the next host, and None after the last one. Raises why it is to be skipped. seconds: for
    /// its look-ups.
    fn _next(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<Route>> {
        self.step(py, Some(seconds))?.transpose()
    }

    /// How many hosts have not had their turn.
    fn __length_hint__(&self) -> usize {
        self.core.try_lock().map_or(0, |routes| routes.len())
    }

    /// Why hosts were left out so far: a list of ``starttls.Error``.
    #[getter]
    fn skipped<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let skipped = lock(&self.skipped);
        PyList::new(py, skipped.iter().map(|e| e.clone_ref(py)))
    }
}

impl Routes {
    /// The outer error is the end of all, the inner one is about this host.
    fn step(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<Option<PyResult<Route>>> {
        let time = seconds
            .map(crate::policy::seconds_of)
            .transpose()
            .map_err(|e| exception(py, &e))?;
        // As generators have it. A resolver of the caller's is called in here, and could come back.
        let mut routes = match self.core.try_lock() {
            Ok(routes) => routes,
            Err(TryLockError::Poisoned(routes)) => routes.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyValueError::new_err("these routes are being looked up already"))
            }
        };
        let routes = &mut *routes;
        let next = wait(py, || {
            if let Some(time) = time {
                routes.within(time);
            }
            Ok(routes.next())
        })?
        .map_err(|e| exception(py, &e))?;
        Ok(next.map(|route| {
            let route = route.map_err(|e| exception(py, &e))?;
            Route::new(py, route, self.policy.get())
        }))
    }
}

/// For ``starttls.aio``: a host that the caller names, with the look-ups done that ``connect`` makes. Waits.
#[pyfunction]
pub(crate) fn look_up_host(
    py: Python<'_>,
    protocol: &str,
    host: &str,
    port: u16,
    policy: &Bound<'_, Policy>,
) -> PyResult<Route> {
    let policy = policy.get();
    let route = wait(py, || {
        starttls::Route::to_host(protocol, host, port, &policy.core)
    })?;
    Route::new(py, route.map_err(|e| exception(py, &e))?, policy)
}

/// One host that takes the domain's mail, with the policy that holds there.
#[pyclass(frozen, get_all, module = "starttls", name = "Route")]
pub(crate) struct Route {
    /// The name to give to ``connect`` or ``upgrade``, in A-labels, or an address.
    host: String,
    /// The port to dial.
    port: u16,
    /// All that was looked up, best first.
    addresses: Vec<String>,
    /// What must hold there, with all look-ups done.
    policy: Py<Policy>,
}

impl Route {
    fn new(py: Python<'_>, route: starttls::Route, domains: &Policy) -> PyResult<Self> {
        Ok(Self {
            host: route.host,
            port: route.port,
            addresses: route.addresses.iter().map(ToString::to_string).collect(),
            policy: Py::new(py, domains.of_route(route.policy))?,
        })
    }
}

#[pymethods]
impl Route {
    fn __repr__(&self) -> String {
        let (host, port) = (&self.host, self.port);
        format!("<starttls.Route {host}:{port} at {}>", self.addresses.join(", "))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
