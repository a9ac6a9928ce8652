//! Free-form maps and Python's dictionaries.

use chiral_blocking::proto::{Map, Value};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple,
};

/// Deeper values are refused, by the peer too.
const MAX_DEPTH: usize = 64;

pub(crate) fn to_dict<'py>(py: Python<'py>, map: &Map) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in map.iter() {
        dict.set_item(key, to_object(py, &value)?)?;
    }
    Ok(dict)
}

pub(crate) fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Nil => py.None().into_bound(py),
        Value::Boolean(boolean) => PyBool::new(py, *boolean).to_owned().into_any(),
        Value::Integer(integer) => integer.into_pyobject(py)?.into_any(),
        Value::F32(number) => PyFloat::new(py, (*number).into()).into_any(),
        Value::F64(number) => PyFloat::new(py, *number).into_any(),
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Binary(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Array(elements) => {
            let list = PyList::empty(py);
            for element in elements {
                list.append(to_object(py, element)?)?;
            }
            list.into_any()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                let key = match to_object(py, key)? {
                    // A list or a map as a key cannot be one in Python.
                    key if key.hash().is_err() => key.repr()?.into_any(),
                    key => key,
                };
                dict.set_item(key, to_object(py, value)?)?;
            }
            dict.into_any()
        }
        Value::Ext(code, data) => {
            let class = py.import("chiral._types")?.getattr("ExtType")?;
            class.call1((*code, PyBytes::new(py, data)))?
        }
    })
}

pub(crate) fn to_map(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Map> {
    let mapping = object.cast::<PyMapping>().map_err(|_| {
        PyTypeError::new_err(format!("found {what} of type {}, expected a dict", type_name(object)))
    })?;
    let mut entries = Vec::new();
    for item in mapping.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let key = key.extract::<String>().map_err(|_| {
            PyTypeError::new_err(format!(
                "found a key of type {} in {what}, expected a str",
                type_name(&key)
            ))
        })?;
        let value = to_value(&value, what, 1)?;
        entries.push((key, value));
    }
    Ok(entries.into_iter().collect())
}

fn to_value(object: &Bound<'_, PyAny>, what: &str, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(PyValueError::new_err(format!(
            "found {what} that is nested more than {MAX_DEPTH} deep, expected less"
        )));
    }
    if object.is_none() {
        return Ok(Value::Nil);
    }
    if let Ok(boolean) = object.cast::<PyBool>() {
        return Ok(Value::Boolean(boolean.is_true()));
    }
    if object.is_instance_of::<PyInt>() {
        let integer = object.extract::<i128>().ok();
        let integer = integer
            .filter(|integer| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(integer));
        return integer.map(Value::Integer).ok_or_else(|| {
            PyValueError::new_err(format!(
                "found the integer {object} in {what}, expected one from -2**63 to 2**64 - 1"
            ))
        });
    }
    if object.is_instance_of::<PyFloat>() {
        return Ok(Value::F64(object.extract()?));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::Binary(bytes.as_bytes().to_vec()));
    }
    let class = object.get_type();
    let (name, module) = (class.name()?.to_string(), class.module()?.to_string());
    if matches!(&*name, "bytearray" | "memoryview") {
        return Ok(Value::Binary(
            object
                .call_method0("tobytes")
                .or_else(|_| object.py().get_type::<PyBytes>().call1((object,)))?
                .extract()?,
        ));
    }
    // Before tuples: it is one.
    if name == "ExtType" {
        let (code, data): (i8, Vec<u8>) = object.extract()?;
        return Ok(Value::Ext(code, data));
    }
    if let Ok(mapping) = object.cast::<PyMapping>() {
        let entries = mapping.items()?;
        let entries = entries.iter().map(|item| {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
            Ok((to_value(&key, what, depth + 1)?, to_value(&value, what, depth + 1)?))
        });
        return Ok(Value::Map(entries.collect::<PyResult<_>>()?));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let elements = object.cast::<PySequence>()?.try_iter()?;
        let elements = elements.map(|element| to_value(&element?, what, depth + 1));
        return Ok(Value::Array(elements.collect::<PyResult<_>>()?));
    }
    // NumPy's arrays and scalars, as the numbers that they are.
    if module.starts_with("numpy") && object.hasattr("tolist")? {
        return to_value(&object.call_method0("tolist")?, what, depth + 1);
    }
    Err(PyTypeError::new_err(format!(
        "found a value of type {} in {what}, expected None, bool, int, float, str, bytes, list, tuple, \
         dict or a NumPy array of numbers",
        type_name(object)
    )))
}

pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
