//! What happens to a client's connection, as Python is told of it.

use std::sync::mpsc::{Receiver, channel};

use chiral_blocking::ConnectionEvent;
use chiral_blocking::proto::ConnectionError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::{contract, log};

/// The functions of the program.
pub(crate) struct Callbacks {
    pub(crate) on_disconnect: Option<Py<PyAny>>,
    pub(crate) on_reconnect: Option<Py<PyAny>>,
}

/// What the connection's thread calls. It never waits for Python: a thread of its own does, which
/// ends with the connection.
pub(crate) fn hook(callbacks: Callbacks) -> std::io::Result<impl Fn(&ConnectionEvent)> {
    let (sender, events) = channel();
    let thread = std::thread::Builder::new().name("chiral-events".to_owned());
    thread.spawn(move || hand_on(&events, callbacks))?;
    // Nobody receives any more when the interpreter has ended.
    Ok(move |event: &ConnectionEvent| drop(sender.send(event.clone())))
}

fn hand_on(events: &Receiver<ConnectionEvent>, callbacks: Callbacks) {
    while let Ok(event) = events.recv() {
        if Python::try_attach(|py| callbacks.call(py, &event)).is_none() {
            break;
        }
    }
    let mut callbacks = Some(callbacks);
    if Python::try_attach(|_| drop(callbacks.take())).is_none() {
        // Without an interpreter they cannot be let go.
        std::mem::forget(callbacks);
    }
}

impl Callbacks {
    fn call(&self, py: Python<'_>, event: &ConnectionEvent) {
        let (name, function, args) = match event {
            // The program has closed it.
            ConnectionEvent::Ended { error: ConnectionError::ClosedLocally, .. } => return,
            ConnectionEvent::Disconnected { error, .. } | ConnectionEvent::Ended { error, .. } => {
                ("on_disconnect", &self.on_disconnect, PyTuple::new(py, [error.to_string()]))
            }
            ConnectionEvent::Reconnected { down_for, .. } => {
                let seconds = [down_for.as_secs_f64()];
                ("on_reconnect", &self.on_reconnect, PyTuple::new(py, seconds))
            }
            _ => return,
        };
        let Some(function) = function else { return };
        if let Err(error) = args.and_then(|args| function.bind(py).call1(args)) {
            log::exception(py, "chiral.client", name, &error);
        }
    }
}

/// An event as a dataclass of `chiral._types`; `None` for one that has none.
pub(crate) fn to_python(py: Python<'_>, event: &ConnectionEvent) -> PyResult<Option<Py<PyAny>>> {
    let fields = PyDict::new(py);
    let class = match event {
        ConnectionEvent::Disconnected { error, .. } => {
            fields.set_item("reason", error.to_string())?;
            "Disconnected"
        }
        ConnectionEvent::Reconnected { attempts, down_for, .. } => {
            fields.set_item("attempts", attempts)?;
            fields.set_item("down_for", down_for.as_secs_f64())?;
            "Reconnected"
        }
        ConnectionEvent::ContractChanged { before, after, .. } => {
            fields.set_item("before", contract::to_python(py, before)?)?;
            fields.set_item("after", contract::to_python(py, after)?)?;
            "ContractChanged"
        }
        ConnectionEvent::Ended { error, .. } => {
            fields.set_item("reason", error.to_string())?;
            "Ended"
        }
        _ => return Ok(None),
    };
    fields.set_item("text", event.to_string())?;
    let class = py.import("chiral._types")?.getattr(class)?;
    Ok(Some(class.call((), Some(&fields))?.unbind()))
}
