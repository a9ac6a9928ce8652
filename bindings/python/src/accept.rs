//! The program's function that looks at each request for a connection.

use chiral_blocking::Rejection;
use chiral_blocking::proto::ws::Request;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyList};

use crate::{log, robot, value};

/// What the server calls, on the thread of the connection that is asked for.
pub(crate) fn hook(
    function: Py<PyAny>,
) -> impl Fn(&Request) -> Result<(), Rejection> + Send + Sync + 'static {
    move |request| {
        Python::try_attach(|py| robot::as_handler(|| look(function.bind(py), request)))
            .unwrap_or_else(|| Err(Rejection::new(503, "the robot's program is ending")))
    }
}

/// Only a decision of the function's lets a policy in: neither an exception nor whatever else it
/// returns does.
fn look(function: &Bound<'_, PyAny>, request: &Request) -> Result<(), Rejection> {
    let decided = to_python(function.py(), request)
        .and_then(|request| function.call1((request,)))
        .and_then(|returned| decision(&returned));
    decided.unwrap_or_else(|error| {
        log::exception(function.py(), "chiral.server", "accept", &error);
        Err(Rejection::new(500, "the server failed to look at the request"))
    })
}

fn to_python<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyAny>> {
    let (path, query) = request.path().split_once('?').unwrap_or((request.path(), ""));
    let headers = PyList::empty(py);
    for (name, value) in request.headers() {
        headers.append((name, PyBytes::new(py, value)))?;
    }
    let class = py.import("chiral._types")?.getattr("HandshakeRequest")?;
    class.call_method1("_of", (path, query, headers))
}

fn decision(returned: &Bound<'_, PyAny>) -> PyResult<Result<(), Rejection>> {
    if let Ok(is_accepted) = returned.cast::<PyBool>() {
        let refused = || Rejection::new(403, "the robot's program refuses this policy");
        return Ok(is_accepted.is_true().then_some(()).ok_or_else(refused));
    }
    let class = returned.py().import("chiral._types")?.getattr("Rejection")?;
    if returned.is_instance(&class)? {
        let reason: String = returned.getattr("reason")?.extract()?;
        return Ok(Err(Rejection::new(returned.getattr("status")?.extract()?, reason)));
    }
    Err(PyTypeError::new_err(format!(
        "found a {} returned by `accept`, expected True, False or a chiral.Rejection",
        value::type_name(returned)
    )))
}
