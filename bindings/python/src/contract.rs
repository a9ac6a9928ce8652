//! A robot's contract: the dataclasses `ActionSpec` and `ContractStatus`.

use chiral_blocking::proto::{
    ActionKind, ActionSpec, Arming, ContractStatus, DtypeKind, OnViolation, PerDimension, Rate,
    Value,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::Elements;
use crate::{action, value};

/// The core's specification of a dataclass `ActionSpec`.
pub(crate) fn spec(object: &Bound<'_, PyAny>) -> PyResult<ActionSpec> {
    let get = |name: &str| object.getattr(name);
    let bad = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
    let mut spec = match (get("size")?.extract()?, get("shape")?.extract::<Option<Vec<usize>>>()?) {
        (None, None) => ActionSpec::any(),
        (Some(size), None) => ActionSpec::vector(size),
        (None, Some(shape)) => ActionSpec::shape(shape),
        (Some(_), Some(_)) => {
            return Err(PyValueError::new_err(
                "found both `size` and `shape`, expected one of them",
            ));
        }
    };
    spec = spec.dtypes(dtype_kind(&get("dtypes")?.extract::<String>()?)?);
    if get("allow_empty")?.is_truthy()? {
        spec = spec.allow_empty();
    }
    if get("allow_non_finite")?.is_truthy()? {
        spec = spec.allow_non_finite();
    }
    if let Some(kind) = get("kind")?.extract::<Option<String>>()? {
        spec = spec.kind(action_kind(&kind)?);
    }
    let hold = get("hold")?;
    if !hold.is_none() {
        spec = spec.hold(action::action(&hold)?);
    }
    spec = match (per_dimension(&get("low")?)?, per_dimension(&get("high")?)?) {
        (None, None) => spec,
        (Some(low), Some(high)) => spec.try_bounds(low, high).map_err(|error| bad(&error))?,
        _ => {
            return Err(PyValueError::new_err(
                "found one of `low` and `high`, expected both: the bounds of each dimension",
            ));
        }
    };
    if let Some(max_step) = per_dimension(&get("max_step")?)? {
        spec = spec.try_max_step(max_step).map_err(|error| bad(&error))?;
    }
    if let Some(stream) = get("measured_by")?.extract::<Option<String>>()? {
        spec = spec.measured_by(stream);
    }
    if let Some(hz) = get("rate_hz")?.extract::<Option<f64>>()? {
        spec = spec.rate(Rate::hz(hz).map_err(|error| bad(&error))?);
        // 0 is for never.
        spec = spec.hold_after(get("hold_after")?.extract::<Option<u32>>()?.unwrap_or(0));
    }
    if let Some(periods) = get("stop_after")?.extract::<Option<u32>>()? {
        if spec.declaration().rate.is_none() {
            return Err(PyValueError::new_err(
                "found `stop_after` without `rate_hz`, expected both: it counts missed periods",
            ));
        }
        spec = spec.stop_after(periods);
    }
    let on_violation: String = get("on_violation")?.extract()?;
    let arming: String = get("arming")?.extract()?;
    Ok(spec.on_violation(violation(&on_violation)?).arming(arming_of(&arming)?))
}

/// One number for all dimensions, or one for each.
fn per_dimension(object: &Bound<'_, PyAny>) -> PyResult<Option<PerDimension>> {
    if object.is_none() {
        return Ok(None);
    }
    let numbers = Elements::of(object, Some(chiral_blocking::proto::Dtype::F32))?;
    let numbers = numbers.to_array(object.py());
    Ok(Some(PerDimension::from(&*numbers.to_f32())))
}

fn unknown(what: &str, found: &str, expected: &str) -> PyErr {
    PyValueError::new_err(format!("found {what} {found:?}, expected {expected}"))
}

fn dtype_kind(name: &str) -> PyResult<DtypeKind> {
    match name {
        "any" => Ok(DtypeKind::Any),
        "float" => Ok(DtypeKind::Float),
        "integer" => Ok(DtypeKind::Integer),
        "bool" => Ok(DtypeKind::Bool),
        _ => Err(unknown("dtypes", name, "\"any\", \"float\", \"integer\" or \"bool\"")),
    }
}

pub(crate) fn action_kind(name: &str) -> PyResult<ActionKind> {
    match name {
        "absolute" => Ok(ActionKind::Absolute),
        "delta" => Ok(ActionKind::Delta),
        "velocity" => Ok(ActionKind::Velocity),
        _ => Err(unknown("the kind", name, "\"absolute\", \"delta\" or \"velocity\"")),
    }
}

fn violation(name: &str) -> PyResult<OnViolation> {
    match name {
        "refuse" => Ok(OnViolation::Refuse),
        "clamp" => Ok(OnViolation::Clamp),
        _ => Err(unknown("on_violation", name, "\"refuse\" or \"clamp\"")),
    }
}

fn arming_of(name: &str) -> PyResult<Arming> {
    match name {
        "connect" => Ok(Arming::OnConnect),
        "reset" => Ok(Arming::OnReset),
        "manual" => Ok(Arming::Manual),
        _ => Err(unknown("arming", name, "\"connect\", \"reset\" or \"manual\"")),
    }
}

/// Checks a specification when it is made, so that the error stands where the fault is.
#[pyfunction]
pub(crate) fn check_action_spec(spec: &Bound<'_, PyAny>) -> PyResult<()> {
    self::spec(spec).map(drop)
}

/// A specification in words.
#[pyfunction]
pub(crate) fn describe_action_spec(spec: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(self::spec(spec)?.to_string())
}

/// A robot's specification, as far as it was told, as a dataclass `ActionSpec`.
pub(crate) fn to_python(py: Python<'_>, spec: &ActionSpec) -> PyResult<Py<PyAny>> {
    let told = spec.to_metadata();
    let action = told.get("chiral").map(|chiral| chiral["action"].clone());
    let fields = PyDict::new(py);
    if let Some(Value::Map(entries)) = action {
        for (key, told) in &entries {
            fields.set_item(value::to_object(py, key)?, value::to_object(py, told)?)?;
        }
    }
    let class = py.import("chiral._types")?.getattr("ActionSpec")?;
    Ok(class.call_method1("_told", (fields, spec.to_string()))?.unbind())
}

pub(crate) fn status_to_python(py: Python<'_>, status: &ContractStatus) -> PyResult<Py<PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("state", status.state.name())?;
    fields.set_item("on_time", status.on_time)?;
    fields.set_item("periods", status.periods)?;
    fields.set_item("missed", status.missed)?;
    fields.set_item("refused", status.refused)?;
    fields.set_item("clamped", status.clamped)?;
    fields.set_item("not_armed", status.not_armed)?;
    fields.set_item("stops", status.stops)?;
    fields.set_item("text", status.to_string())?;
    let class = py.import("chiral._types")?.getattr("ContractStatus")?;
    Ok(class.call((), Some(&fields))?.unbind())
}
