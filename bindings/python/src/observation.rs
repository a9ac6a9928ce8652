//! Observations: from the core's to Python's dataclasses without a copy, and back.

use std::sync::Arc;

use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
use chiral_blocking::proto::{Array, Camera, Map, Observation, Proprio};
use numpy::{PyUntypedArray, PyUntypedArrayMethods as _};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyType};

use crate::array::{self, Elements};
use crate::places::{self, Origin, Place, Places};
use crate::value;

/// Keeps an observation for the arrays over it; the base of each. It offers no buffer, so that NumPy
/// lets nobody make a read-only array over it writable.
#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct Frame {
    pub(crate) observation: Arc<Observation>,
    places: Places,
}

static OBSERVATION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CAMERA: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The dataclass `Observation` of an observation of ours. Image and depth arrays are views of it,
/// smaller ones are copied.
pub(crate) fn to_python(
    py: Python<'_>,
    observation: Arc<Observation>,
    places: Places,
) -> PyResult<Py<PyAny>> {
    let frame = Frame { observation: Arc::clone(&observation), places: places.clone() };
    let frame = Bound::new(py, frame)?;
    let mut places = places.iter();
    let mut to_array = |array: &Array| match places.next() {
        // The frame keeps the bytes. Of a received one nobody else reads them: the core is done with
        // them when the message is decoded, and what is sent of an observation is copied from its
        // arrays (`from_python`). Of a snapshot the array is read-only.
        Some(Place::Viewed(data, origin)) => {
            let writable = *origin == Origin::Received;
            array::view(array.dtype(), array.shape(), *data, writable, frame.as_any())
        }
        Some(Place::Copied) | None => array::copy(py, array),
    };
    let camera_class = CAMERA.import(py, "chiral._types", "CameraInfo")?;
    let cameras = PyList::empty(py);
    for camera in &observation.cameras {
        let image = to_array(&camera.image)?;
        let depth = camera.depth.as_ref().map(&mut to_array).transpose()?;
        // K and T are row-major in Python, and column-major in nalgebra.
        let intrinsics: [f64; 9] = camera.intrinsics.transpose().as_slice().try_into()?;
        let extrinsics: [f64; 16] = camera.extrinsics.transpose().as_slice().try_into()?;
        cameras.append(camera_class.call1((
            &*camera.name,
            array::matrix(py, [3, 3], intrinsics)?,
            array::matrix(py, [4, 4], extrinsics)?,
            image,
            depth,
            camera.timestamp,
        ))?)?;
    }
    let proprios = PyDict::new(py);
    for proprio in &observation.proprios {
        let values = to_array(&proprio.values)?;
        // Of two that bear one name a look-up finds the first.
        if !proprios.contains(&*proprio.name)? {
            proprios.set_item(&*proprio.name, values)?;
        }
    }
    let extra = value::to_dict(py, &observation.extra)?;
    let class = OBSERVATION.import(py, "chiral._types", "Observation")?;
    let made = class.call1((cameras, proprios, observation.timestamp, extra))?;
    made.setattr(intern!(py, "_frame"), frame)?;
    Ok(made.unbind())
}

/// The observation of ours behind a Python one that came from here.
pub(crate) fn frame_of<'py>(observation: &Bound<'py, PyAny>) -> Option<Bound<'py, Frame>> {
    let frame = observation.getattr(intern!(observation.py(), "_frame")).ok()?;
    frame.cast_into::<Frame>().ok()
}

/// What an action is bound to: the observation as it was received, or one of the same cameras'
/// timestamps where the program has made a new one.
pub(crate) fn basis(observation: &Bound<'_, PyAny>) -> PyResult<Arc<Observation>> {
    if let Some(frame) = frame_of(observation) {
        return Ok(Arc::clone(&frame.get().observation));
    }
    let cameras = observation.getattr("cameras").map_err(|_| not_an_observation(observation))?;
    let cameras = cameras.try_iter()?.map(|camera| {
        let camera = camera?;
        Ok(Camera {
            name: camera.getattr("name")?.extract::<String>()?.into(),
            timestamp: camera.getattr("timestamp")?.extract()?,
            intrinsics: Matrix3::identity(),
            extrinsics: Matrix4::identity(),
            image: Array::vector(Vec::<u8>::new()),
            depth: None,
        })
    });
    let cameras = cameras.collect::<PyResult<_>>()?;
    Ok(Arc::new(Observation { cameras, ..Observation::default() }))
}

fn not_an_observation(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "found an object of type {}, expected a chiral.Observation",
        value::type_name(object)
    ))
}

/// An observation that a handler returns. Arrays that a snapshot made, and that nobody can have
/// written to, go as they are; all others are copied.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Observation> {
    let cameras = object.getattr("cameras").map_err(|_| not_an_observation(object))?;
    let cameras = cameras.try_iter()?.map(|camera| camera_from(&camera?));
    let proprios = object.getattr("proprios")?;
    let proprios = proprios.cast::<PyMapping>().map_err(|_| {
        PyTypeError::new_err(format!(
            "found proprios of type {}, expected a dict from names to arrays",
            value::type_name(&proprios)
        ))
    })?;
    let proprios = proprios.items()?.iter().map(|item| {
        let (name, values): (String, Bound<'_, PyAny>) = item.extract()?;
        let values = array_from(&values)?;
        let values = Array::new(values.dtype(), values.len(), values.bytes().clone());
        Ok(Proprio { name: name.into(), values: values.expect("the same bytes") })
    });
    let extra = object.getattr("extra")?;
    Ok(Observation {
        timestamp: object.getattr("timestamp")?.extract()?,
        cameras: cameras.collect::<PyResult<_>>()?,
        proprios: proprios.collect::<PyResult<_>>()?,
        extra: if extra.is_none() { Map::new() } else { value::to_map(&extra, "`extra`")? },
        ..Observation::default()
    })
}

fn camera_from(camera: &Bound<'_, PyAny>) -> PyResult<Camera> {
    let depth = camera.getattr("depth")?;
    let intrinsics = array::float64s::<9>(&camera.getattr("intrinsics")?, "intrinsics")?;
    let extrinsics = array::float64s::<16>(&camera.getattr("extrinsics")?, "extrinsics")?;
    Ok(Camera {
        name: camera.getattr("name")?.cast::<PyString>()?.to_cow()?.into_owned().into(),
        timestamp: camera.getattr("timestamp")?.extract()?,
        intrinsics: Matrix3::from_row_slice(&intrinsics),
        extrinsics: Matrix4::from_row_slice(&extrinsics),
        image: array_from(&camera.getattr("image")?)?,
        depth: if depth.is_none() { None } else { Some(array_from(&depth)?) },
    })
}

fn array_from(object: &Bound<'_, PyAny>) -> PyResult<Array> {
    let elements = Elements::of(object, None)?;
    Ok(shared(&elements)?.unwrap_or_else(|| elements.to_array(object.py())))
}

/// The array of a snapshot of ours that this is a whole and unchanged view of.
fn shared(elements: &Elements<'_>) -> PyResult<Option<Array>> {
    let Some(base) = base_of(&elements.array)? else { return Ok(None) };
    let Ok(frame) = base.cast_into::<Frame>() else { return Ok(None) };
    let frame = frame.get();
    let arrays = places::arrays(&frame.observation).zip(frame.places.iter());
    for (array, place) in arrays {
        if let Place::Viewed(data, Origin::Snapshot) = place
            && data.as_ptr().cast_const() == elements.data()
            && array.bytes().len() == elements.len()
        {
            return Ok(Some(elements.array_of(array.bytes().clone())));
        }
    }
    Ok(None)
}

/// The object that keeps the memory of an array, behind views of views.
pub(crate) fn base_of<'py>(
    array: &Bound<'py, PyUntypedArray>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut base = array.as_any().getattr("base")?;
    while let Ok(array) = base.cast::<PyUntypedArray>() {
        if array.is_empty() {
            return Ok(None);
        }
        base = array.as_any().getattr("base")?;
    }
    Ok((!base.is_none()).then_some(base))
}
