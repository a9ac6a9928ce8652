//! Errors of the core as the exception classes of `chiral._errors`.

use chiral_blocking::proto::ConnectionError;
use chiral_blocking::proto::client::{Misuse, NotQueued, NotQueuedReason, RequestError};
use chiral_blocking::proto::sensors::SensorError;
use chiral_blocking::proto::ws::HandshakeError;
use chiral_blocking::{CallError, ConnectError, TlsError};
use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Settings that the core's texts name, and how Python calls them.
const SETTINGS: [(&str, &str); 6] = [
    ("`ServerConfig::token`", "`token=`"),
    ("`ServerConfig::tls`", "`tls=`"),
    ("`ServerConfig::accept`", "`accept=`"),
    ("`Config::queue_capacity`", "`queue_capacity=`"),
    ("`Starved::Repeat`", "`set_starved(\"repeat\")`"),
    ("`Starved::Hold`", "`set_starved(action)`"),
];

/// A text of the core in Python's words.
pub(crate) fn in_python(text: &str) -> String {
    let replace = |text: String, (rust, python): (&str, &str)| text.replace(rust, python);
    SETTINGS.into_iter().fold(text.to_owned(), replace)
}

/// An exception of a class of `chiral._errors`.
pub(crate) fn exception(py: Python<'_>, class: &str, text: impl ToString) -> PyErr {
    with_attributes(py, class, text, &PyDict::new(py))
}

/// An exception of a class of `chiral._errors` that has attributes.
fn with_attributes(
    py: Python<'_>,
    class: &str,
    text: impl ToString,
    attributes: &Bound<'_, PyDict>,
) -> PyErr {
    let text = in_python(&text.to_string());
    let made = py
        .import("chiral._errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| class.call((text,), Some(attributes)));
    made.map_or_else(|error| error, PyErr::from_value)
}

fn attribute<'py>(
    py: Python<'py>,
    name: &str,
    value: impl IntoPyObject<'py>,
) -> Bound<'py, PyDict> {
    let attributes = PyDict::new(py);
    // A new dictionary takes what has a text for a key.
    drop(attributes.set_item(name, value));
    attributes
}

fn interrupted(py: Python<'_>, text: impl ToString, sent: Option<bool>) -> PyErr {
    with_attributes(py, "ConnectionInterrupted", text, &attribute(py, "sent", sent))
}

pub(crate) fn closed(py: Python<'_>, text: impl ToString, error: &ConnectionError) -> PyErr {
    let (code, reason) = match error {
        ConnectionError::ClosedByPeer { code, reason } => (*code, reason.clone()),
        other => (other.is_ours().then(|| other.close_code()), other.to_string()),
    };
    let attributes = attribute(py, "code", code);
    drop(attributes.set_item("reason", reason));
    with_attributes(py, "ConnectionClosed", text, &attributes)
}

pub(crate) fn of_connect(py: Python<'_>, error: &ConnectError) -> PyErr {
    match error {
        ConnectError::NoServer { .. } => exception(py, "ConnectTimeout", error),
        ConnectError::Uri(_)
        | ConnectError::NotBuiltIn { .. }
        | ConnectError::Request(_)
        | ConnectError::WithoutTls { .. }
        | ConnectError::Tls { error: TlsError::Settings(_), .. } => {
            PyValueError::new_err(in_python(&error.to_string()))
        }
        ConnectError::Handshake { error: HandshakeError::Refused { status, .. }, .. } => {
            with_attributes(py, "ConnectRefused", error, &attribute(py, "status", status))
        }
        ConnectError::Tls { .. } => exception(py, "TlsFailed", error),
        ConnectError::Cancelled => PyKeyboardInterrupt::new_err(error.to_string()),
        _ => exception(py, "ConnectFailed", error),
    }
}

pub(crate) fn of_call(py: Python<'_>, error: &CallError) -> PyErr {
    match error {
        CallError::Misuse(misuse) => of_misuse(py, misuse),
        CallError::Unanswered(RequestError::Disconnected(reason)) => closed(py, error, reason),
        CallError::Unanswered(RequestError::Interrupted { sent, .. }) => {
            interrupted(py, error, Some(*sent))
        }
        CallError::Unanswered(RequestError::TimedOut { .. }) => {
            exception(py, "RequestTimeout", error)
        }
        _ => exception(py, "ChiralError", error),
    }
}

pub(crate) fn of_misuse(py: Python<'_>, error: &Misuse) -> PyErr {
    match error {
        Misuse::Disconnected(reason) => closed(py, error, reason),
        Misuse::Interrupted(_) => interrupted(py, error, None),
        Misuse::Unfit(_) | Misuse::Contract(_) | Misuse::TooFast { .. } => {
            exception(py, "ActionRejected", error)
        }
        _ => exception(py, "ChiralError", error),
    }
}

pub(crate) fn not_queued(py: Python<'_>, error: &NotQueued) -> PyErr {
    match &error.reason {
        NotQueuedReason::Disconnected(reason) => closed(py, error, reason),
        NotQueuedReason::Interrupted(_) => interrupted(py, error, None),
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
