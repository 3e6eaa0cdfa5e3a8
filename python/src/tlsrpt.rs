//! `starttls.tlsrpt`: records, events and reports of TLSRPT (RFC 8460), as the core has them.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use starttls::tlsrpt;

use crate::buffer::readable;
use crate::error::{exception, wait};
use crate::policy::seconds_of;
use crate::session::Session;

/// A domain's record, by which it asks for reports: the TXT at ``_smtp._tls.DOMAIN``.
#[pyclass(frozen, eq, get_all, module = "starttls.tlsrpt", name = "Record")]
#[derive(PartialEq, Eq)]
pub(crate) struct Record {
    /// Where reports go, in the domain's order: ``mailto:…`` or ``https://…``. Never empty.
    rua: Vec<String>,
    /// The record as it was found.
    text: String,
}

#[pymethods]
impl Record {
    /// Reads one record. Raises ``malformed``.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &Bound<'_, PyAny>) -> PyResult<Self> {
        let record = tlsrpt::Record::parse(&bytes_of(text)?);
        record.map(Self::from).map_err(|e| exception(py, &e))
    }

    /// The record among all TXT records at the name, each with its strings joined; None if there is none, or if
    /// there are several, among which nobody can choose. Raises ``malformed``.
    #[staticmethod]
    fn find(py: Python<'_>, records: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let records = records.try_iter()?.map(|record| bytes_of(&record?));
        let record = tlsrpt::Record::find(&records.collect::<PyResult<Vec<_>>>()?);
        Ok(record.map_err(|e| exception(py, &e))?.map(Self::from))
    }

    fn __repr__(&self) -> String {
        format!("<starttls.tlsrpt.Record {}>", self.rua.join(", "))
    }
}

impl From<tlsrpt::Record> for Record {
    fn from(record: tlsrpt::Record) -> Self {
        Self {
            rua: record.rua.iter().map(ToString::to_string).collect(),
            text: record.text,
        }
    }
}

/// How each policy of a domain fared in one attempted session.
#[pyclass(frozen, eq, module = "starttls.tlsrpt", name = "Event")]
#[derive(PartialEq, Eq)]
pub(crate) struct Event(tlsrpt::Event);

#[pymethods]
impl Event {
    /// Reads what ``to_json`` gives. Raises ``invalid``.
    #[staticmethod]
    fn from_json(py: Python<'_>, line: &str) -> PyResult<Self> {
        tlsrpt::Event::from_json(line)
            .map(Self)
            .map_err(|e| exception(py, &e))
    }

    /// One line, for another process that folds.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// The domain that the mail is for, in A-labels.
    #[getter]
    fn domain(&self) -> &str {
        &self.0.domain
    }

    /// Whether every policy was met.
    #[getter]
    fn success(&self) -> bool {
        self.0.policies.iter().all(tlsrpt::PolicyResult::success)
    }

    fn __repr__(&self) -> String {
        let results = self.0.policies.iter().flat_map(|policy| &policy.failures);
        let words: Vec<&str> = results.map(|failure| failure.result_type.as_str()).collect();
        let what = if words.is_empty() {
            "success".to_owned()
        } else {
            words.join(", ")
        };
        format!("<starttls.tlsrpt.Event {}: {what}>", self.0.domain)
    }
}

/// What is to be reported of the attempts that made a session, as lines of JSON.
pub(crate) fn lines(events: &[tlsrpt::Event]) -> Vec<String> {
    events.iter().map(tlsrpt::Event::to_json).collect()
}

#[pymethods]
impl Session {
    /// For ``starttls.tlsrpt.events``.
    #[getter]
    fn _tlsrpt_events(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with_outcome(py, |outcome| lines(&outcome.tlsrpt_events()))
    }
}

/// The standard collector, ``tlsrpt-collectd``, at its Unix socket.
#[pyclass(frozen, module = "starttls.tlsrpt", name = "Collector")]
pub(crate) struct Collector(tlsrpt::Collector);

#[pymethods]
impl Collector {
    /// Raises ``invalid`` if the path is too long for a socket.
    #[new]
    fn new(py: Python<'_>, socket: PathBuf) -> PyResult<Self> {
        tlsrpt::Collector::new(socket)
            .map(Self)
            .map_err(|e| exception(py, &e))
    }

    /// Sends one event, without waiting. Raises ``io``; that is no reason to hold up mail.
    fn send(&self, py: Python<'_>, event: &Bound<'_, Event>) -> PyResult<()> {
        let event = &event.get().0;
        wait(py, || self.0.send(event))?.map_err(|e| exception(py, &e))
    }
}

/// Folds events to one report for each domain. Memory is bounded.
#[pyclass(frozen, module = "starttls.tlsrpt", name = "Reports")]
pub(crate) struct Reports(Mutex<tlsrpt::Reports>);

#[pymethods]
impl Reports {
    /// organization: for people. contact: a mail address, whose domain is told to be the one that reports. day:
    /// a time within the day (UTC) that the reports are about, in seconds as of ``time.time()``; None: today. unique_id:
    /// letters and digits that tell these reports from another machine's. limit: bytes that all may take.
    #[new]
    #[pyo3(signature = (organization, contact, *, day=None, unique_id=None, limit=None))]
    fn new(
        py: Python<'_>,
        organization: &str,
        contact: &str,
        day: Option<f64>,
        unique_id: Option<&str>,
        limit: Option<usize>,
    ) -> PyResult<Self> {
        let make = || {
            let time = match day {
                Some(seconds) => SystemTime::UNIX_EPOCH.checked_add(seconds_of(seconds)?),
                None => Some(SystemTime::now()),
            };
            // What no clock can show is out of every period, and said to be.
            let time = time.unwrap_or(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
            let mut reports = tlsrpt::Reports::new(organization, contact, tlsrpt::Period::day(time)?)?;
            if let Some(id) = unique_id {
                reports = reports.unique_id(id)?;
            }
            Ok(match limit {
                Some(bytes) => reports.limit(bytes),
                None => reports,
            })
        };
        let made: starttls::Result<_> = make();
        made.map(|reports| Self(Mutex::new(reports)))
            .map_err(|e| exception(py, &e))
    }

    /// Adds one session.
    fn add(&self, event: &Bound<'_, Event>) {
        self.lock().add(&event.get().0);
    }

    /// Adds what another has folded. Raises ``invalid`` if it is of another sender or day.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        // One after the other: it may be this one.
        let theirs = other.get().lock().clone();
        self.lock().merge(theirs).map_err(|e| exception(py, &e))
    }

    /// The reports as they are now, one for each domain.
    fn reports(&self) -> Vec<Report> {
        self.lock().iter().cloned().map(Report).collect()
    }

    /// How many sessions had no room and are in no report.
    #[getter]
    fn dropped(&self) -> u64 {
        self.lock().dropped()
    }
}

impl Reports {
    /// Held for no call that could want the GIL.
    fn lock(&self) -> MutexGuard<'_, tlsrpt::Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The report to one domain.
#[pyclass(frozen, module = "starttls.tlsrpt", name = "Report")]
pub(crate) struct Report(tlsrpt::Report);

#[pymethods]
impl Report {
    /// The domain that it is about and goes to.
    #[getter]
    fn domain(&self) -> &str {
        self.0.domain()
    }

    /// Where to send it. It goes there even if TLS fails. Raises ``malformed`` if the record is not valid.
    #[getter]
    fn record(&self, py: Python<'_>) -> PyResult<Record> {
        let record = self.0.record();
        record.map(Record::from).map_err(|e| exception(py, &e))
    }

    /// A name that no other report has.
    #[getter]
    fn id(&self) -> String {
        self.0.id()
    }

    /// As the mail's attachment has to be called (RFC 8460 §5.1): it is the compressed one's.
    #[getter]
    fn file_name(&self) -> String {
        self.0.file_name()
    }

    /// Header fields that the mail needs beside the usual ones (§5.3), name and value.
    #[getter]
    fn headers(&self) -> Vec<(&'static str, String)> {
        self.0.headers().into()
    }

    /// The report.
    fn to_json(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_json())
    }

    /// The report, compressed.
    fn gzip<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.0.gzip());
        PyBytes::new(py, &bytes)
    }

    fn __repr__(&self) -> String {
        format!("<starttls.tlsrpt.Report {}>", self.0.file_name())
    }
}

/// Text of a TXT record, which is bytes.
fn bytes_of(text: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match text.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.as_bytes().to_vec()),
        Err(_) => readable(text, |bytes| Ok(bytes.to_vec())),
    }
}
