//! `chiral._core`: chiral's client and server for Python. The package `chiral` puts its classes
//! around it; nobody else is to use it.
//!
//! What runs at a rate, or waits for the network, runs in Rust threads that need no interpreter. A
//! call of Python's waits in them without the interpreter's lock (`wait.rs`); they call Python only
//! for the robot's own methods (`robot.rs`) and for the log (`log.rs`).

mod accept;
mod action;
mod array;
mod buffer;
mod client;
mod connection_event;
mod contract;
mod error;
mod fork;
mod in_place;
mod lock;
mod log;
mod memory;
mod observation;
mod places;
mod robot;
mod security;
mod server;
mod stats;
mod value;
mod wait;

use pyo3::prelude::*;

// The classes may be shared between threads; the lock is kept for what Python code of this package
// takes for granted.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    array::load_numpy(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("has_zenoh", cfg!(feature = "zenoh"))?;
    module.add_function(wrap_pyfunction!(fork::note_fork, module)?)?;
    module.add_function(wrap_pyfunction!(robot::in_handler, module)?)?;
    module.add_function(wrap_pyfunction!(contract::check_action_spec, module)?)?;
    module.add_function(wrap_pyfunction!(contract::describe_action_spec, module)?)?;
    module.add_function(wrap_pyfunction!(security::fingerprint, module)?)?;
    module.add_function(wrap_pyfunction!(client::redacted, module)?)?;
    module.add_class::<security::PyToken>()?;
    module.add_class::<client::Connecting>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<lock::PyLock>()?;
    module.add_class::<robot::Reply>()?;
    module.add_class::<observation::Frame>()?;
    module.add_class::<buffer::SensorFrame>()?;
    Ok(())
}
