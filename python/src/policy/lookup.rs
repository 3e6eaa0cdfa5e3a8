//! `resolver=`: servers to ask, or a callable that answers.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use starttls::{Error, Lookup, RawAnswer, Resolver, Word};

use super::cache::{told, Named};
use super::known::{or_raise, proof_of};
use super::nested::nested;
use crate::buffer::readable;
use crate::error::{check_signals, invalid};

/// Nobody waits for longer; a callable gets a number that it can add to a clock.
const LONGEST: Duration = Duration::from_secs(86_400);
/// No answer has more records than fit into a DNS message, each with its fixed part.
const MAX_RECORDS: usize = 65_535 / 11;

/// `answer(name, type, timeout)`, as the core asks it.
struct Callable(Py<PyAny>);

/// What an argument `resolver=` stands for.
pub(super) fn resolver(value: &Bound<'_, PyAny>) -> PyResult<Named<Resolver>> {
    if let Ok(spec) = value.cast::<PyString>() {
        let what = or_raise(value.py(), Resolver::parse(spec.to_str()?))?;
        let name = format!("'{}'", spec.to_str()?);
        return Ok(Named { what, name });
    }
    if !value.is_callable() {
        return Err(PyTypeError::new_err(
            "resolver: servers as '127.0.0.1:53', or a callable that takes name, type and time-out and returns a \
             starttls.Answer",
        ));
    }
    let name = format!("<{}>", value.get_type().name()?);
    let what = Resolver::custom(Arc::new(Callable(value.clone().unbind())));
    Ok(Named { what, name })
}

impl Lookup for Callable {
    fn look_up(&self, name: &str, kind: u16, time_left: Duration) -> starttls::Result<RawAnswer> {
        // What a signal handler or an earlier call has raised ends the whole: nobody need be asked.
        check_signals().map_err(|e| Error::at_border(Word::Io, e.to_string()))?;
        let ask = |py: Python<'_>| -> PyResult<RawAnswer> {
            let seconds = time_left.min(LONGEST).as_secs_f64();
            let answer = self.0.bind(py).call1((name, word_of(kind), seconds))?;
            read(&answer, name)
        };
        let answer = nested("resolver", || {
            let answer = Python::try_attach(|py| told(py, ask));
            answer.unwrap_or_else(|| Err("the interpreter is shutting down".to_owned()))
        });
        answer.map_err(|why| {
            let message = format!("look up {} {name}: {why}", word_of(kind));
            Error::at_border(Word::LookupFailed, message)
        })
    }
}

/// As zone files have it; RFC 3597 §5 for the rest.
fn word_of(kind: u16) -> String {
    let words = [
        (1, "A"),
        (15, "MX"),
        (16, "TXT"),
        (28, "AAAA"),
        (33, "SRV"),
        (52, "TLSA"),
    ];
    match words.iter().find(|(number, _)| *number == kind) {
        Some((_, word)) => (*word).to_owned(),
        None => format!("TYPE{kind}"),
    }
}

/// A `starttls.Answer`, or whatever has its attributes.
fn read(answer: &Bound<'_, PyAny>, asked: &str) -> PyResult<RawAnswer> {
    let py = answer.py();
    let records = answer.getattr("records")?;
    if records.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("records: a sequence of bytes, not a string"));
    }
    let mut rdata = Vec::new();
    for record in records.try_iter()? {
        if rdata.len() >= MAX_RECORDS {
            return Err(PyTypeError::new_err("records: too many of them"));
        }
        rdata.push(readable(&record?, |bytes| Ok(bytes.to_vec()))?);
    }
    let proof: String = answer.getattr("proof")?.extract()?;
    let ttl: f64 = answer.getattr("ttl")?.extract()?;
    let ttl = Duration::try_from_secs_f64(ttl)
        .map_err(|e| invalid(py, &format!("ttl: seconds from 0, not {ttl}: {e}")))?;
    let name: Option<String> = answer.getattr("name")?.extract()?;
    Ok(RawAnswer {
        rdata,
        proof: proof_of(py, "proof", &proof)?,
        ttl,
        name: name.unwrap_or_else(|| asked.to_owned()),
        no_such_name: answer.getattr("no_such_name")?.is_truthy()?,
    })
}
