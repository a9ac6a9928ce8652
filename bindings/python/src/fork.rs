//! What was made before a `fork` is of no use in the child: its threads are not there.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How many times this process is a fork of the one that loaded the module.
static GENERATION: AtomicU32 = AtomicU32::new(0);

pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// To be called in the child after each fork.
#[pyfunction]
pub(crate) fn note_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// What must not be used in another process than the one that made it, nor dropped there: its drop
/// would wait for threads that do not exist.
pub(crate) struct OfProcess<T> {
    value: ManuallyDrop<T>,
    generation: u32,
}

impl<T> OfProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), generation: generation() }
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.generation == generation()
    }

    /// The value.
    ///
    /// # Errors
    /// In a child of the process that made it.
    pub(crate) fn check(&self, what: &str) -> PyResult<&T> {
        if self.is_usable() {
            return Ok(&self.value);
        }
        Err(PyRuntimeError::new_err(format!(
            "this {what} was made before the process was forked: make a new one in the child, or start \
             the child with the method \"spawn\""
        )))
    }
}

impl<T> Deref for OfProcess<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.is_usable() {
            // SAFETY: it is not used after this, the only drop.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
