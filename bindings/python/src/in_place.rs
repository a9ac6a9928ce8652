//! Sensors' arrays that a program has taken out of `images`, `depths`, `intrinsics`, `extrinsics` or
//! `proprios`, and writes to whenever it likes. Each snapshot copies them, under the camera's lock.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chiral_blocking::monotonic_seconds;
use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
use chiral_blocking::proto::sensors::{
    CameraFrame, CameraWriter, ProprioWriter, SensorError, Sensors, UntypedBuffer,
};
use chiral_blocking::proto::{Array, Dtype};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::array;
use crate::error;
use crate::lock::{CameraLock, Held};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Image,
    Depth,
    Intrinsics,
    Extrinsics,
}

/// An array of the program's, which is never let go, so that its memory stays.
struct Taken {
    array: Py<PyAny>,
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the pointer is that of an array which this keeps, and which NumPy does not move while there
// are other references to it, unless a program resizes it with `refcheck=False`.
unsafe impl Send for Taken {}

impl Taken {
    /// Copies the elements.
    fn copy_to(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "the array was made for this");
        // SAFETY: the array has so many bytes and is kept; `to` is a buffer of ours. The program may
        // write to the array meanwhile if it does not hold the camera's lock, and a frame is then
        // half of one and half of the other image, as in any program that does so: the bytes are
        // only copied, and any is a valid element.
        unsafe { std::ptr::copy_nonoverlapping(self.data.as_ptr(), to.as_mut_ptr(), self.len) };
    }

    fn float64s<const LEN: usize>(&self) -> [f64; LEN] {
        let mut found = [0; 128];
        self.copy_to(&mut found[..LEN * 8]);
        std::array::from_fn(|index| {
            let bytes = found[index * 8..index * 8 + 8].try_into();
            f64::from_le_bytes(bytes.expect("eight bytes"))
        })
    }
}

#[derive(Default)]
struct CameraParts {
    image: Option<Taken>,
    depth: Option<Taken>,
    intrinsics: Option<Taken>,
    extrinsics: Option<Taken>,
    /// When the image was updated last.
    timestamp: f64,
}

impl CameraParts {
    fn slot(&mut self, part: Part) -> &mut Option<Taken> {
        match part {
            Part::Image => &mut self.image,
            Part::Depth => &mut self.depth,
            Part::Intrinsics => &mut self.intrinsics,
            Part::Extrinsics => &mut self.extrinsics,
        }
    }
}

/// The sensors of a server, with a writer for each that lasts as long as the server: one that is
/// dropped counts as a camera that has stopped.
pub(crate) struct InPlace {
    pub(crate) sensors: Sensors,
    cameras: Vec<CameraSlot>,
    proprios: Vec<ProprioSlot>,
    /// Whether anything was taken out at all.
    is_used: AtomicBool,
}

struct CameraSlot {
    writer: CameraWriter,
    lock: CameraLock,
    parts: Mutex<CameraParts>,
}

struct ProprioSlot {
    writer: ProprioWriter,
    taken: Mutex<Option<Taken>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InPlace {
    pub(crate) fn new(sensors: Sensors) -> Self {
        let camera =
            |writer| CameraSlot { writer, lock: CameraLock::default(), parts: Mutex::default() };
        let proprio = |writer| ProprioSlot { writer, taken: Mutex::default() };
        Self {
            cameras: sensors.cameras().map(camera).collect(),
            proprios: sensors.proprios().map(proprio).collect(),
            is_used: AtomicBool::new(false),
            sensors,
        }
    }

    fn camera(&self, index: usize) -> PyResult<&CameraSlot> {
        self.cameras.get(index).ok_or_else(no_such_sensor)
    }

    fn proprio(&self, index: usize) -> PyResult<&ProprioSlot> {
        self.proprios.get(index).ok_or_else(no_such_sensor)
    }

    pub(crate) fn writer(&self, camera: usize) -> PyResult<&CameraWriter> {
        Ok(&self.camera(camera)?.writer)
    }

    pub(crate) fn proprio_writer(&self, proprio: usize) -> PyResult<&ProprioWriter> {
        Ok(&self.proprio(proprio)?.writer)
    }

    pub(crate) fn lock_of(&self, camera: usize) -> PyResult<CameraLock> {
        Ok(self.camera(camera)?.lock.clone())
    }

    /// Holds a camera's lock; the interpreter's is not held while it waits, which Ctrl-C ends.
    pub(crate) fn hold(&self, py: Python<'_>, camera: usize) -> PyResult<Held> {
        self.camera(camera)?.lock.hold_from_python(py)
    }

    /// The array of a camera's part, if it was taken out.
    pub(crate) fn taken<'py>(
        &self,
        py: Python<'py>,
        camera: usize,
        part: Part,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut parts = lock(&self.camera(camera)?.parts);
        Ok(parts.slot(part).as_ref().map(|taken| taken.array.bind(py).clone()))
    }

    pub(crate) fn taken_proprio<'py>(
        &self,
        py: Python<'py>,
        proprio: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let taken = lock(&self.proprio(proprio)?.taken);
        Ok(taken.as_ref().map(|taken| taken.array.bind(py).clone()))
    }

    /// Takes a part of a camera out: an array with what it shows now.
    pub(crate) fn take<'py>(
        &self,
        py: Python<'py>,
        camera: usize,
        part: Part,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(array) = self.taken(py, camera, part)? {
            return Ok(array);
        }
        let observation = self.sensors.snapshot(0.0);
        let now = observation.cameras.get(camera).ok_or_else(no_such_sensor)?;
        let (k, t) = (now.intrinsics.transpose(), now.extrinsics.transpose());
        let taken = match (part, &now.depth) {
            (Part::Image, _) => of_array(py, &now.image)?,
            (Part::Depth, Some(depth)) => of_array(py, depth)?,
            (Part::Depth, None) => return Err(no_such_sensor()),
            (Part::Intrinsics, _) => new_array(py, Dtype::F64, &[3, 3], &to_bytes(k.as_slice()))?,
            (Part::Extrinsics, _) => new_array(py, Dtype::F64, &[4, 4], &to_bytes(t.as_slice()))?,
        };
        let array = taken.array.bind(py).clone();
        let mut parts = lock(&self.camera(camera)?.parts);
        parts.timestamp = parts.timestamp.max(now.timestamp);
        *parts.slot(part) = Some(taken);
        self.is_used.store(true, Ordering::Release);
        Ok(array)
    }

    pub(crate) fn take_proprio<'py>(
        &self,
        py: Python<'py>,
        proprio: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(array) = self.taken_proprio(py, proprio)? {
            return Ok(array);
        }
        let observation = self.sensors.snapshot(0.0);
        let now = observation.proprios.get(proprio).ok_or_else(no_such_sensor)?;
        let taken = of_array(py, &now.values)?;
        let array = taken.array.bind(py).clone();
        *lock(&self.proprio(proprio)?.taken) = Some(taken);
        self.is_used.store(true, Ordering::Release);
        Ok(array)
    }

    /// Notes that the image of a camera was updated.
    pub(crate) fn stamp(&self, camera: usize, captured_at: Option<f64>) -> PyResult<()> {
        let mut parts = lock(&self.camera(camera)?.parts);
        parts.timestamp = captured_at.unwrap_or_else(monotonic_seconds);
        Ok(())
    }

    /// Publishes what the program has written in place. Not to be called with the interpreter's lock:
    /// it takes the cameras' locks.
    pub(crate) fn publish(&self) -> Result<(), SensorError> {
        if !self.is_used.load(Ordering::Acquire) {
            return Ok(());
        }
        self.cameras.iter().try_for_each(|camera| camera.publish(camera.lock.hold()))?;
        self.proprios.iter().try_for_each(ProprioSlot::publish)
    }

    /// As [`publish`](Self::publish), for a caller who has the interpreter's lock: Ctrl-C ends the wait
    /// for a camera's.
    pub(crate) fn publish_from_python(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_used.load(Ordering::Acquire) {
            return Ok(());
        }
        let of_sensor = |error| error::of_sensor(py, &error);
        for camera in &self.cameras {
            let held = camera.lock.hold_from_python(py)?;
            py.detach(|| camera.publish(held)).map_err(of_sensor)?;
        }
        let published = py.detach(|| self.proprios.iter().try_for_each(ProprioSlot::publish));
        published.map_err(of_sensor)
    }
}

impl CameraSlot {
    fn publish(&self, held: Held) -> Result<(), SensorError> {
        let (writer, parts) = (&self.writer, lock(&self.parts));
        let mut frame = CameraFrame::new();
        if let Some(image) = &parts.image {
            let image = filled(writer.untyped_image_buffer()?, image);
            frame = frame.image(image).captured_at(parts.timestamp);
        }
        if let Some(depth) = &parts.depth {
            frame = frame.depth(filled(writer.untyped_depth_buffer()?, depth));
        }
        if let Some(intrinsics) = &parts.intrinsics {
            frame = frame.intrinsics(Matrix3::from_row_slice(&intrinsics.float64s::<9>()));
        }
        if let Some(extrinsics) = &parts.extrinsics {
            frame = frame.extrinsics(Matrix4::from_row_slice(&extrinsics.float64s::<16>()));
        }
        drop((parts, held));
        writer.publish(frame)
    }
}

impl ProprioSlot {
    fn publish(&self) -> Result<(), SensorError> {
        match &*lock(&self.taken) {
            Some(taken) => self.writer.update(filled(self.writer.untyped_buffer()?, taken)),
            None => Ok(()),
        }
    }
}

fn of_array(py: Python<'_>, now: &Array) -> PyResult<Taken> {
    new_array(py, now.dtype(), now.shape(), now.bytes())
}

fn filled(mut buffer: UntypedBuffer, from: &Taken) -> UntypedBuffer {
    from.copy_to(&mut buffer);
    buffer
}

fn new_array(py: Python<'_>, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> PyResult<Taken> {
    let (array, data, len) = array::zeros(py, dtype, shape)?;
    assert_eq!(len, bytes.len(), "as long as the shape says");
    // SAFETY: a new array of so many bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.as_ptr(), len) };
    Ok(Taken { array: array.unbind(), data, len })
}

fn to_bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn no_such_sensor() -> PyErr {
    PyIndexError::new_err("no such sensor was declared")
}
