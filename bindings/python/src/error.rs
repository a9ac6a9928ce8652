//! Errors of the core as the exception classes of `chiral._errors`.

use chiral_blocking::proto::ConnectionError;
use chiral_blocking::proto::client::{Misuse, NotQueued, NotQueuedReason, RequestError};
use chiral_blocking::proto::sensors::SensorError;
use chiral_blocking::{CallError, ConnectError};
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An exception of a class of `chiral._errors`.
pub(crate) fn exception(py: Python<'_>, class: &str, text: impl ToString) -> PyErr {
    let made = py
        .import("chiral._errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call1((text.to_string(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}

pub(crate) fn closed(py: Python<'_>, text: impl ToString, error: &ConnectionError) -> PyErr {
    let (code, reason) = match error {
        ConnectionError::ClosedByPeer { code, reason } => (*code, reason.clone()),
        other => (other.is_ours().then(|| other.close_code()), other.to_string()),
    };
    let made = py.import("chiral._errors").and_then(|module| {
        let options = PyDict::new(py);
        options.set_item("code", code)?;
        options.set_item("reason", reason)?;
        module.getattr("ConnectionClosed")?.call((text.to_string(),), Some(&options))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

pub(crate) fn of_connect(py: Python<'_>, error: &ConnectError) -> PyErr {
    match error {
        ConnectError::NoServer { .. } => exception(py, "ConnectTimeout", error),
        ConnectError::Uri(_)
        | ConnectError::NotBuiltIn { .. }
        | ConnectError::Request(_)
        | ConnectError::WithoutTls { .. } => PyValueError::new_err(error.to_string()),
        ConnectError::Cancelled => PyKeyboardInterrupt::new_err(error.to_string()),
        _ => exception(py, "ConnectFailed", error),
    }
}

pub(crate) fn of_call(py: Python<'_>, error: &CallError) -> PyErr {
    match error {
        CallError::Misuse(misuse) => of_misuse(py, misuse),
        CallError::Unanswered(RequestError::Disconnected(reason)) => closed(py, error, reason),
        CallError::Unanswered(RequestError::TimedOut { .. }) => {
            exception(py, "RequestTimeout", error)
        }
        _ => exception(py, "ChiralError", error),
    }
}

pub(crate) fn of_misuse(py: Python<'_>, error: &Misuse) -> PyErr {
    match error {
        Misuse::Disconnected(reason) => closed(py, error, reason),
        Misuse::Unfit(_) | Misuse::Contract(_) | Misuse::TooFast { .. } => {
            exception(py, "ActionRejected", error)
        }
        _ => exception(py, "ChiralError", error),
    }
}

pub(crate) fn not_queued(py: Python<'_>, error: &NotQueued) -> PyErr {
    match &error.reason {
        NotQueuedReason::Disconnected(reason) => closed(py, error, reason),
        NotQueuedReason::Full { .. } | NotQueuedReason::Unsent { .. } => {
            exception(py, "QueueFull", error)
        }
        _ => exception(py, "ActionRejected", error),
    }
}

pub(crate) fn of_sensor(py: Python<'_>, error: &SensorError) -> PyErr {
    let class = match error {
        SensorError::UnknownName(_) => "UnknownName",
        _ => "SensorError",
    };
    exception(py, class, error)
}
