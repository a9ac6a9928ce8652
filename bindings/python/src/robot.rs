//! The robot as the core calls it: methods of a Python object, called on the server's threads, or run
//! in the program's event loop where they are coroutines.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::server::{Answer, DropReason};
use chiral_blocking::proto::{
    Action, ConnectionError, Map, ResetResult, Shape, StepResult, StopReason,
};
use chiral_blocking::{Robot, RobotError};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::in_place::InPlace;
use crate::observation::from_python;
use crate::{action, log, value};

thread_local! {
    /// Whether this thread runs code of the program's.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a method of a robot, or another function of the program's, that a server calls:
/// in its thread nobody can wait for the server's end.
#[pyfunction]
pub(crate) fn in_handler() -> bool {
    IN_HANDLER.get()
}

/// Runs code of the program's on a thread of the server: see [`in_handler`].
pub(crate) fn as_handler<T>(run: impl FnOnce() -> T) -> T {
    IN_HANDLER.set(true);
    let done = run();
    IN_HANDLER.set(false);
    done
}

/// Which methods the program has written itself.
#[expect(clippy::struct_excessive_bools, reason = "each is a method")]
pub(crate) struct Overridden {
    pub(crate) get_obs: bool,
    pub(crate) step: bool,
    pub(crate) on_connect: bool,
    pub(crate) on_disconnect: bool,
    pub(crate) on_watchdog: bool,
    pub(crate) on_stop: bool,
    pub(crate) on_actions_dropped: bool,
}

pub(crate) struct PythonRobot {
    pub(crate) server: Py<PyAny>,
    pub(crate) sensors: Arc<InPlace>,
    pub(crate) overridden: Overridden,
    /// Whether the last action was clamped, as the program reads it.
    pub(crate) was_clamped: AtomicBool,
}

/// What a method of the robot has come to.
enum Called<T> {
    Done(T),
    /// Its coroutine runs in the event loop.
    Running(Arc<Shared>),
}

/// A coroutine's result, which a thread of the server waits for.
#[derive(Default)]
struct Shared {
    result: Mutex<Option<Result<Py<PyAny>, PyErr>>>,
    is_there: Condvar,
}

impl Shared {
    fn put(&self, result: Result<Py<PyAny>, PyErr>) {
        let mut slot = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(result);
        drop(slot);
        self.is_there.notify_all();
    }

    fn wait(&self) -> Result<Py<PyAny>, PyErr> {
        let slot = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_there.wait_while(slot, |result| result.is_none());
        let taken = waited.unwrap_or_else(PoisonError::into_inner).take();
        taken.expect("it was waited for")
    }
}

/// The right to give a coroutine's result. Dropped without one it says that there will be none.
#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct Reply(Arc<Shared>);

#[pymethods]
impl Reply {
    fn put(&self, result: Py<PyAny>) {
        self.0.put(Ok(result));
    }

    fn fail(&self, error: Bound<'_, PyAny>) {
        self.0.put(Err(PyErr::from_value(error)));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.0.put(Err(PyRuntimeError::new_err("the event loop ended before the method returned")));
    }
}

fn interpreter_ended() -> RobotError {
    "the robot's program is ending".into()
}

impl PythonRobot {
    /// The action; whether it was clamped is in an attribute, as arrays have no place for it.
    fn action_args(&self, py: Python<'_>, action: &Action) -> PyResult<Py<PyTuple>> {
        if self.was_clamped.swap(action.clamped, Ordering::Relaxed) != action.clamped {
            self.server.setattr(py, "action_clamped", action.clamped)?;
        }
        Ok(PyTuple::new(py, [action::to_python(py, action)?])?.unbind())
    }

    /// Calls a method of the robot, waits for its coroutine if it is one, and reads what it returns.
    fn call<T>(
        &self,
        name: &str,
        args: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>,
        read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T, RobotError> {
        let called = Python::try_attach(|py| -> PyResult<Called<T>> {
            let server = self.server.bind(py);
            let call = || args(py).and_then(|args| server.getattr(name)?.call1(args));
            let returned = as_handler(call)?;
            if !returned.hasattr("__await__")? {
                return read(&returned).map(Called::Done);
            }
            let shared = Arc::<Shared>::default();
            let reply = Bound::new(py, Reply(Arc::clone(&shared)))?;
            server.call_method1("_run_in_loop", (name, returned, reply))?;
            Ok(Called::Running(shared))
        });
        let result = match called.ok_or_else(interpreter_ended)? {
            Err(error) => Err(error),
            Ok(Called::Done(done)) => return Ok(done),
            Ok(Called::Running(shared)) => {
                let returned = shared.wait();
                let read = |py: Python<'_>| returned.and_then(|returned| read(returned.bind(py)));
                Python::try_attach(read).ok_or_else(interpreter_ended)?
            }
        };
        result.map_err(
            |error| {
                if is_cancelled(&error) { Cancelled.into() } else { report(name, &error) }
            },
        )
    }

    /// Calls a method that cannot fail for the driver: its failure ends the connection as a panic would.
    fn notify(&self, name: &str, args: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>) {
        if let Err(error) = self.call(name, args, |_| Ok(())) {
            // No panic hook prints this: the driver logs it, and tells the policy.
            std::panic::resume_unwind(Box::new(error.to_string()));
        }
    }
}

/// The coroutine was given up: its policy has gone, or the program ends. It is no fault of the robot's.
#[derive(Debug)]
struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the method was cancelled")
    }
}

impl std::error::Error for Cancelled {}

fn is_cancelled(error: &PyErr) -> bool {
    let is_cancelled = |py: Python<'_>| {
        let class = py.import("asyncio")?.getattr("CancelledError")?;
        error.value(py).is_instance(&class)
    };
    Python::try_attach(is_cancelled).is_none_or(|cancelled| cancelled.unwrap_or(false))
}

/// Logs an exception with its traceback, and gives its text for the policy.
fn report(name: &str, error: &PyErr) -> RobotError {
    let reported = Python::try_attach(|py| {
        log::exception(py, "chiral.server", name, error);
        let value = error.value(py).to_string();
        let class = value::type_name(error.value(py).as_any());
        if value.is_empty() { class } else { format!("{class}: {value}") }
    });
    reported.map_or_else(interpreter_ended, RobotError::from)
}

#[expect(clippy::unnecessary_wraps, reason = "other arguments may not convert")]
fn nothing(py: Python<'_>) -> PyResult<Py<PyTuple>> {
    Ok(PyTuple::empty(py).unbind())
}

/// `(observation, info)`.
fn reset_result(returned: &Bound<'_, PyAny>) -> PyResult<ResetResult> {
    let (observation, info) =
        returned.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>().map_err(|_| {
            PyTypeError::new_err(format!(
                "found a {} returned by `reset`, expected a tuple (observation, info)",
                value::type_name(returned)
            ))
        })?;
    Ok(ResetResult { observation: from_python(&observation)?, info: info_of(&info)? })
}

fn info_of(info: &Bound<'_, PyAny>) -> PyResult<Map> {
    if info.is_none() { Ok(Map::new()) } else { value::to_map(info, "`info`") }
}

fn step_result(returned: &Bound<'_, PyAny>) -> PyResult<StepResult> {
    type Returned<'py> = (Bound<'py, PyAny>, f64, bool, bool, Bound<'py, PyAny>);
    let (observation, reward, terminated, truncated, info) =
        returned.extract::<Returned<'_>>().map_err(|_| {
            PyTypeError::new_err(format!(
                "found a {} returned by `step`, expected a tuple (observation, reward, terminated, \
                 truncated, info)",
                value::type_name(returned)
            ))
        })?;
    let (observation, info) = (from_python(&observation)?, info_of(&info)?);
    Ok(StepResult { observation, reward, terminated, truncated, info })
}

impl Robot for PythonRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.call("apply_action", |py| self.action_args(py, &action), |_| Ok(()))
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        self.call("get_metadata", nothing, |map| value::to_map(map, "the metadata"))
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        self.call("reset", nothing, reset_result)
    }

    // Without a `get_obs` of the program's this needs no Python at all.
    fn observe(&self) -> Result<Answer, RobotError> {
        if self.overridden.get_obs {
            return match self.call("get_obs", nothing, from_python) {
                // Nobody waits for it any more.
                Err(error) if error.is::<Cancelled>() => Ok(Answer::from(&self.sensors.sensors)),
                observed => Ok(observed?.into()),
            };
        }
        self.sensors.publish()?;
        Ok(Answer::from(&self.sensors.sensors))
    }

    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        if self.overridden.step {
            return self.call("step", |py| self.action_args(py, &action), step_result);
        }
        for row in rows_of(action) {
            self.apply_action(row)?;
        }
        let observation = if self.overridden.get_obs {
            self.call("get_obs", nothing, from_python)?
        } else {
            self.sensors.publish()?;
            self.sensors.sensors.snapshot_now()
        };
        Ok(StepResult { observation, ..StepResult::default() })
    }

    fn on_connect(&self) {
        if self.overridden.on_connect {
            self.notify("on_connect", nothing);
        }
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        // A `get_obs` that waits for a frame waits for nobody now.
        let cancelled = Python::try_attach(|py| self.server.call_method0(py, "_cancel_waiting"));
        drop(cancelled);
        if self.overridden.on_disconnect {
            let reason = reason.to_string();
            let args = |py: Python<'_>| Ok(PyTuple::new(py, [&reason])?.unbind());
            // What goes wrong is in the log: no connection is left to end.
            let _ = self.call("on_disconnect", args, |_| Ok(()));
        }
    }

    fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        if self.overridden.on_actions_dropped {
            let reason = reason.to_string();
            let args = |py: Python<'_>| {
                let args =
                    [count.into_pyobject(py)?.into_any(), reason.into_pyobject(py)?.into_any()];
                Ok(PyTuple::new(py, args)?.unbind())
            };
            // Likewise: nothing moves that was to be stopped.
            let _ = self.call("on_actions_dropped", args, |_| Ok(()));
        }
    }

    fn on_watchdog(&self, silent_for: Duration) {
        if self.overridden.on_watchdog {
            let args = |py: Python<'_>| Ok(PyTuple::new(py, [silent_for.as_secs_f64()])?.unbind());
            self.notify("on_watchdog", args);
        }
    }

    fn on_stop(&self, reason: &StopReason) {
        if !self.overridden.on_stop {
            return self.on_watchdog(reason.silent_for());
        }
        let reason = reason.to_string();
        let args = |py: Python<'_>| Ok(PyTuple::new(py, [&reason])?.unbind());
        self.notify("on_stop", args);
    }
}

/// The rows of a legacy step's action, `[N, D]`; one of another shape is one action.
fn rows_of(action: Action) -> Vec<Action> {
    let [count, len] = action.shape()[..] else { return vec![action] };
    let values = action.to_f32();
    let row = |row: &[f32]| {
        let values = chiral_blocking::proto::Array::from_slice(Shape::new(&[len]), row);
        let values = values.expect("a row of the action");
        Action {
            values,
            obs_timestamps: action.obs_timestamps.clone(),
            sent: action.sent,
            clamped: action.clamped,
        }
    };
    if len == 0 { vec![] } else { values.chunks_exact(len).take(count).map(row).collect() }
}
