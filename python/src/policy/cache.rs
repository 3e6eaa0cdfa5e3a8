//! `cache=`: a place that the core knows, a mapping, or an object with `get`, `put` and `remove`.
//!
//! Called on the thread that connects, with the GIL. What it raises makes a note in the outcome, and the mail
//! goes on; but Ctrl-C is Ctrl-C.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyException, PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use starttls::Cache;

use super::known::or_raise;
use super::nested::nested;
use crate::buffer::readable;
use crate::error::{raise_later, wait};

/// With how it stands in a `repr`.
#[derive(Clone)]
pub(super) struct Named<T> {
    pub(super) what: T,
    pub(super) name: String,
}

/// A mapping from strings to bytes. When an entry ends stands in its value.
struct Mapping(Py<PyAny>);

/// An object with the core's own three methods.
struct Object(Py<PyAny>);

/// What an argument `cache=` stands for.
pub(super) fn cache(value: &Bound<'_, PyAny>) -> PyResult<Named<Arc<dyn Cache>>> {
    let py = value.py();
    let spec = match value.cast::<PyString>() {
        Ok(text) => Some(text.to_str()?.to_owned()),
        Err(_) if value.hasattr("__fspath__")? => {
            let path: PathBuf = value.extract()?;
            Some(format!("directory:{}", path.display()))
        }
        Err(_) => None,
    };
    if let Some(spec) = spec {
        let name = format!("'{spec}'");
        let what = or_raise(py, wait(py, || starttls::cache::open(&spec))?)?;
        return Ok(Named { what, name });
    }
    let has = |names: [&str; 3]| -> PyResult<bool> {
        for name in names {
            if !value.hasattr(name)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let object = value.clone().unbind();
    let what: Arc<dyn Cache> = if has(["get", "put", "remove"])? {
        Arc::new(Object(object))
    } else if has(["__getitem__", "__setitem__", "__delitem__"])? {
        Arc::new(Mapping(object))
    } else {
        return Err(PyTypeError::new_err(
            "cache: a place ('memory', 'directory', 'redis://…'), a path, a mapping from str to bytes, or an \
             object with get, put and remove",
        ));
    };
    let name = format!("<{}>", value.get_type().name()?);
    Ok(Named { what, name })
}

impl Cache for Mapping {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        with_gil(|py| match self.0.bind(py).get_item(key) {
            Ok(value) => bytes_of(&value).map(Some),
            Err(e) if e.is_instance_of::<PyKeyError>(py) => Ok(None),
            Err(e) => Err(e),
        })
    }

    fn put(&self, key: &str, value: &[u8], _expires: SystemTime) -> io::Result<()> {
        with_gil(|py| self.0.bind(py).set_item(key, PyBytes::new(py, value)))
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        with_gil(|py| match self.0.bind(py).del_item(key) {
            Err(e) if e.is_instance_of::<PyKeyError>(py) => Ok(()),
            done => done,
        })
    }
}

impl Cache for Object {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        with_gil(|py| {
            let value = self.0.bind(py).call_method1("get", (key,))?;
            (!value.is_none()).then(|| bytes_of(&value)).transpose()
        })
    }

    fn put(&self, key: &str, value: &[u8], expires: SystemTime) -> io::Result<()> {
        let expires = expires
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        with_gil(|py| {
            let arguments = (key, PyBytes::new(py, value), expires);
            self.0.bind(py).call_method1("put", arguments).map(drop)
        })
    }

    fn remove(&self, key: &str) -> io::Result<()> {
        with_gil(|py| self.0.bind(py).call_method1("remove", (key,)).map(drop))
    }
}

fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    readable(value, |bytes| Ok(bytes.to_vec()))
}

/// What a caller's own code raises is its text, for a note or a message.
pub(super) fn told<'py, T>(
    py: Python<'py>,
    work: impl FnOnce(Python<'py>) -> PyResult<T>,
) -> Result<T, String> {
    work(py).map_err(|e| {
        let text = e.to_string();
        if !e.is_instance_of::<PyException>(py) {
            // KeyboardInterrupt, SystemExit: nothing is wrong with the caller's code.
            raise_later(e);
        }
        text
    })
}

fn with_gil<T>(work: impl for<'py> FnOnce(Python<'py>) -> PyResult<T>) -> io::Result<T> {
    let done = nested("cache", || {
        let done = Python::try_attach(|py| told(py, work));
        done.unwrap_or_else(|| Err("the interpreter is shutting down".to_owned()))
    });
    done.map_err(io::Error::other)
}
