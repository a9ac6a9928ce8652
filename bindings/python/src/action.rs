//! Actions: what `np.asarray(…, np.float32)` takes.

use chiral_blocking::proto::{Action, ActionKind, ActionSpec, Array, Dtype, DtypeKind, Shape};
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

/// The core's specification of the dataclass `ActionSpec`.
pub(crate) fn spec(object: &Bound<'_, PyAny>) -> PyResult<ActionSpec> {
    let size: Option<usize> = object.getattr("size")?.extract()?;
    let shape: Option<Vec<usize>> = object.getattr("shape")?.extract()?;
    let mut spec = match (size, shape) {
        (None, None) => ActionSpec::any(),
        (Some(size), None) => ActionSpec::vector(size),
        (None, Some(shape)) => ActionSpec::shape(shape),
        (Some(_), Some(_)) => {
            return Err(PyValueError::new_err(
                "found both `size` and `shape`, expected one of them",
            ));
        }
    };
    if object.getattr("allow_non_finite")?.is_truthy()? {
        spec = spec.allow_non_finite();
    }
    let dtypes: String = object.getattr("dtypes")?.extract()?;
    spec = spec.dtypes(match &*dtypes {
        "any" => DtypeKind::Any,
        "float" => DtypeKind::Float,
        "integer" => DtypeKind::Integer,
        "bool" => DtypeKind::Bool,
        other => {
            return Err(PyValueError::new_err(format!(
                "found dtypes {other:?}, expected \"any\", \"float\", \"integer\" or \"bool\""
            )));
        }
    });
    if let Some(kind) = object.getattr("kind")?.extract::<Option<String>>()? {
        spec = spec.kind(action_kind(&kind)?);
    }
    let hold = object.getattr("hold")?;
    if hold.is_none() { Ok(spec) } else { Ok(spec.hold(action(&hold)?)) }
}

pub(crate) fn action_kind(name: &str) -> PyResult<ActionKind> {
    match name {
        "absolute" => Ok(ActionKind::Absolute),
        "delta" => Ok(ActionKind::Delta),
        "velocity" => Ok(ActionKind::Velocity),
        other => Err(PyTypeError::new_err(format!(
            "found the kind {other:?}, expected \"absolute\", \"delta\" or \"velocity\""
        ))),
    }
}
