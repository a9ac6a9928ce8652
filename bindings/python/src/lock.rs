//! The lock of one camera, which Python may hold and Rust takes without the interpreter's lock.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::wait;

#[derive(Clone, Default)]
pub(crate) struct CameraLock(Arc<(Mutex<bool>, Condvar)>);

pub(crate) struct Held(CameraLock);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl CameraLock {
    fn try_acquire(&self, timeout: Duration) -> bool {
        let (taken, released) = &*self.0;
        let until = Instant::now().checked_add(timeout);
        let mut is_taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_taken {
            let left =
                until.map_or(timeout, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = released.wait_timeout(is_taken, left);
            is_taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *is_taken = true;
        true
    }

    /// Takes the lock, and waits for it. Not to be called with the interpreter's lock: who has this
    /// one may wait for that.
    pub(crate) fn hold(&self) -> Held {
        while !self.try_acquire(Duration::from_secs(1)) {}
        Held(self.clone())
    }

    /// As [`hold`](Self::hold), for a caller who has the interpreter's lock: it is let go meanwhile, and
    /// Ctrl-C ends the wait.
    pub(crate) fn hold_from_python(&self, py: Python<'_>) -> PyResult<Held> {
        if !self.try_acquire(Duration::ZERO) {
            wait::wait(py, None, |piece| self.try_acquire(piece).then_some(()))?;
        }
        Ok(Held(self.clone()))
    }

    fn release(&self) -> bool {
        let (taken, released) = &*self.0;
        let was_taken =
            std::mem::replace(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner), false);
        released.notify_one();
        was_taken
    }
}

/// As `threading.Lock`.
#[pyclass(frozen, module = "chiral._core", name = "Lock")]
pub(crate) struct PyLock(pub(crate) CameraLock);

#[pymethods]
impl PyLock {
    #[pyo3(signature = (blocking = true, timeout = -1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        // Without giving the interpreter's lock away, if it is free.
        if self.0.try_acquire(Duration::ZERO) {
            return Ok(true);
        }
        if !blocking {
            return Ok(false);
        }
        let deadline = wait::deadline((timeout >= 0.0).then_some(timeout))?;
        let taken = wait::wait(py, deadline, |piece| self.0.try_acquire(piece).then_some(()))?;
        Ok(taken.is_some())
    }

    fn release(&self) -> PyResult<()> {
        if self.0.release() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("the lock is not held: acquire it first"))
    }

    fn locked(&self) -> bool {
        *self.0.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, -1.0)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.release()
    }
}
