//! Actions: what `np.asarray(…, np.float32)` takes.

use chiral_blocking::proto::{Action, Array, Dtype, Shape};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::array::{self, Elements};

/// An action of the shape that was given.
pub(crate) fn action(object: &Bound<'_, PyAny>) -> PyResult<Action> {
    if object.is_none() {
        // NumPy would make NaN of it.
        return Err(PyTypeError::new_err("found None, expected an action: an array of numbers"));
    }
    let elements = Elements::of(object, Some(Dtype::F32))?;
    Ok(Action::new(elements.to_array(object.py())))
}

/// The actions of a chunk: one for each row, along the first axis.
pub(crate) fn rows(object: &Bound<'_, PyAny>) -> PyResult<Vec<Action>> {
    let chunk = Elements::of(object, Some(Dtype::F32))?;
    if chunk.shape.len() < 2 {
        return Err(PyValueError::new_err(format!(
            "found an array of shape {}, expected the actions of a chunk: [N, D], or a list of N arrays",
            chunk.shape
        )));
    }
    let array = chunk.to_array(object.py());
    let count = chunk.shape[0];
    let shape = Shape::new(&chunk.shape[1..]);
    let row_len = array.bytes().len() / count.max(1);
    let row = |index: usize| {
        let bytes = array.bytes().slice(index * row_len..(index + 1) * row_len);
        Action::new(Array::new(Dtype::F32, shape.clone(), bytes).expect("a row of the array"))
    };
    Ok((0..count).map(row).collect())
}

pub(crate) fn to_python<'py>(py: Python<'py>, action: &Action) -> PyResult<Bound<'py, PyAny>> {
    if action.values.dtype() == Dtype::F32 {
        return array::copy(py, &action.values);
    }
    let array = Array::from_vec(action.shape().clone(), action.to_f32().into_owned());
    array::copy(py, &array.expect("as many elements"))
}
