//! Frames that Python fills in place: the arrays of `image_buffer` and `depth_buffer`.

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use chiral_blocking::proto::Array;
use chiral_blocking::proto::sensors::UntypedBuffer;
use numpy::{PyUntypedArray, PyUntypedArrayMethods as _};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::array;
use crate::memory;

/// Keeps the memory of one frame for the array over it.
///
/// ```text
///   Filling ── publish ──► Published: the array becomes read-only
/// ```
#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct SensorFrame(Mutex<State>);

enum State {
    /// The array is the only way to the memory.
    Filling(UntypedBuffer),
    /// Snapshots have it too, so that the array is read-only. A view of the array that was made
    /// before, and is written to afterwards, changes what is being sent, as with any array that
    /// another thread reads; the memory stays where it is as long as this does.
    Published(#[expect(dead_code, reason = "it keeps the memory")] Array),
    /// Between the two.
    Taken,
}

impl SensorFrame {
    /// A writable array over a buffer.
    pub(crate) fn array(py: Python<'_>, buffer: UntypedBuffer) -> PyResult<Bound<'_, PyAny>> {
        let (dtype, shape) = (buffer.dtype(), buffer.shape().clone());
        // The sensors' memory is `PythonMemory`. An empty frame has none.
        let data = memory::writable(&buffer).unwrap_or(NonNull::dangling());
        let owner = Bound::new(py, Self(Mutex::new(State::Filling(buffer))))?;
        array::view(dtype, &shape, data, true, owner.as_any())
    }

    /// The frame of an array that one of these keeps, and that is the whole of it, for publishing.
    pub(crate) fn publish(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<Array>> {
        let base = array.as_any().getattr("base")?;
        let Ok(frame) = base.cast_into::<Self>() else { return Ok(None) };
        let mut state = frame.get().0.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = match std::mem::replace(&mut *state, State::Taken) {
            State::Filling(buffer) => buffer,
            published => {
                *state = published;
                return Err(PyRuntimeError::new_err(
                    "this buffer was published already: ask for another one for the next frame",
                ));
            }
        };
        if buffer.shape()[..] != *array.shape() || !array.is_c_contiguous() {
            // A part, or another shape of it: copied as any other array.
            *state = State::Filling(buffer);
            return Ok(None);
        }
        let locked =
            array.as_any().getattr("flags").and_then(|flags| flags.setattr("writeable", false));
        if let Err(error) = locked {
            // The program can still write to it.
            *state = State::Filling(buffer);
            return Err(error);
        }
        let published = buffer.into_array();
        *state = State::Published(published.clone());
        Ok(Some(published))
    }
}
