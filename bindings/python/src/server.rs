//! The robot's server: sensors that Python writes, and a robot whose methods Python has.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
use chiral_blocking::proto::sensors::{CameraFrame, Sensors};
use chiral_blocking::proto::server::{ActionQueue, Config};
use chiral_blocking::proto::{CameraConfig, ProprioConfig};
use chiral_blocking::{
    FailureText, PolicyServer, ServerConfig, WaitForSensors as _, Watchdog, monotonic_seconds,
};
use numpy::{PyUntypedArray, PyUntypedArrayMethods as _};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array;
use crate::buffer::SensorFrame;
use crate::fork::OfProcess;
use crate::in_place::{InPlace, Part};
use crate::lock::PyLock;
use crate::memory::PythonMemory;
use crate::observation::to_python;
use crate::places::{Origin, Places};
use crate::robot::{Overridden, PythonRobot};
use crate::{accept, client, contract, error, log, security, stats, wait};

#[pyclass(frozen, module = "chiral._core")]
pub(crate) struct Server {
    sensors: Arc<InPlace>,
    serving: OfProcess<Mutex<Option<PolicyServer>>>,
    /// Whether a server that is shut down has not come to its end yet.
    is_ending: Arc<AtomicBool>,
}

/// A server that is being shut down, until this is dropped: also by a panic, or where no thread starts.
struct Ending(Arc<AtomicBool>);

impl Ending {
    fn begin(is_ending: &Arc<AtomicBool>) -> Self {
        is_ending.store(true, Ordering::Release);
        Self(Arc::clone(is_ending))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[pymethods]
impl Server {
    #[new]
    fn new(
        py: Python<'_>,
        cameras: Vec<Bound<'_, PyAny>>,
        proprios: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let cameras = cameras.iter().map(camera_config).collect::<PyResult<Vec<_>>>()?;
        let proprios = proprios.iter().map(proprio_config).collect::<PyResult<Vec<_>>>()?;
        let sensors = Sensors::builder()
            .cameras(cameras)
            .proprios(proprios)
            .clock(monotonic_seconds)
            .memory(PythonMemory)
            .build()
            .map_err(|error| error::of_sensor(py, &error))?;
        let sensors = Arc::new(InPlace::new(sensors));
        let serving = OfProcess::new(Mutex::new(None));
        Ok(Self { sensors, serving, is_ending: Arc::default() })
    }

    // ---- sensors ------------------------------------------------------------------------------

    #[pyo3(signature = (
        camera, image = None, depth = None, intrinsics = None, extrinsics = None, captured_at = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn publish(
        &self,
        py: Python<'_>,
        camera: usize,
        image: Option<Bound<'_, PyAny>>,
        depth: Option<Bound<'_, PyAny>>,
        intrinsics: Option<Bound<'_, PyAny>>,
        extrinsics: Option<Bound<'_, PyAny>>,
        captured_at: Option<f64>,
    ) -> PyResult<()> {
        let writer = self.sensors.writer(camera)?;
        let mut frame = CameraFrame::new();
        if let Some(seconds) = captured_at {
            frame = frame.captured_at(seconds);
        }
        if let Some(image) = &image {
            if self.sensors.taken(py, camera, Part::Image)?.is_some() {
                self.write_taken(py, camera, Part::Image, image)?;
                self.sensors.stamp(camera, captured_at)?;
            }
            let buffer = || writer.untyped_image_buffer();
            frame = frame.image(reading(py, image, buffer)?);
        }
        if let Some(depth) = &depth {
            if self.sensors.taken(py, camera, Part::Depth)?.is_some() {
                self.write_taken(py, camera, Part::Depth, depth)?;
            }
            let buffer = || writer.untyped_depth_buffer();
            frame = frame.depth(reading(py, depth, buffer)?);
        }
        if let Some(intrinsics) = &intrinsics {
            let elements = array::float64s::<9>(intrinsics, "intrinsics")?;
            if self.sensors.taken(py, camera, Part::Intrinsics)?.is_some() {
                self.write_taken(py, camera, Part::Intrinsics, intrinsics)?;
            }
            frame = frame.intrinsics(Matrix3::from_row_slice(&elements));
        }
        if let Some(extrinsics) = &extrinsics {
            let elements = array::float64s::<16>(extrinsics, "extrinsics")?;
            if self.sensors.taken(py, camera, Part::Extrinsics)?.is_some() {
                self.write_taken(py, camera, Part::Extrinsics, extrinsics)?;
            }
            frame = frame.extrinsics(Matrix4::from_row_slice(&elements));
        }
        writer.publish(frame).map_err(|error| error::of_sensor(py, &error))
    }

    fn update_proprio(
        &self,
        py: Python<'_>,
        proprio: usize,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(taken) = self.sensors.taken_proprio(py, proprio)? {
            py.import("numpy")?.call_method1("copyto", (taken, values))?;
        }
        let writer = self.sensors.proprio_writer(proprio)?;
        let values = reading(py, values, || writer.untyped_buffer())?;
        writer.update(values).map_err(|error| error::of_sensor(py, &error))
    }

    fn image_buffer<'py>(&self, py: Python<'py>, camera: usize) -> PyResult<Bound<'py, PyAny>> {
        let buffer = self.sensors.writer(camera)?.untyped_image_buffer();
        SensorFrame::array(py, buffer.map_err(|error| error::of_sensor(py, &error))?)
    }

    fn depth_buffer<'py>(&self, py: Python<'py>, camera: usize) -> PyResult<Bound<'py, PyAny>> {
        let buffer = self.sensors.writer(camera)?.untyped_depth_buffer();
        SensorFrame::array(py, buffer.map_err(|error| error::of_sensor(py, &error))?)
    }

    /// The array that is copied into each snapshot, for a program that writes to it in place.
    fn take<'py>(&self, py: Python<'py>, part: &str, sensor: usize) -> PyResult<Bound<'py, PyAny>> {
        let part = match part {
            "image" => Part::Image,
            "depth" => Part::Depth,
            "intrinsics" => Part::Intrinsics,
            "extrinsics" => Part::Extrinsics,
            _ => return self.sensors.take_proprio(py, sensor),
        };
        self.sensors.take(py, sensor, part)
    }

    fn lock(&self, camera: usize) -> PyResult<PyLock> {
        Ok(PyLock(self.sensors.lock_of(camera)?))
    }

    fn snapshot(&self, py: Python<'_>, timestamp: f64) -> PyResult<Py<PyAny>> {
        self.sensors.publish_from_python(py)?;
        let observation = self.sensors.sensors.snapshot(timestamp);
        let places = Places::of(&observation, Origin::Snapshot);
        to_python(py, Arc::new(observation), places)
    }

    fn set_extra(&self, extra: &Bound<'_, PyAny>) -> PyResult<()> {
        self.sensors.sensors.set_extra(crate::value::to_map(extra, "`extra`")?);
        Ok(())
    }

    /// Waits until every sensor has delivered.
    fn wait_ready(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let deadline = wait::deadline(timeout)?;
        let sensors = &self.sensors.sensors;
        let ready = wait::wait(py, deadline, |piece| sensors.wait_ready(piece).ok())?;
        if ready.is_some() {
            return Ok(());
        }
        let Err(mut missing) = sensors.wait_ready(Duration::ZERO) else { return Ok(()) };
        missing.waited = wait::duration(timeout, "a timeout")?.unwrap_or_default();
        Err(PyTimeoutError::new_err(missing.to_string()))
    }

    /// Waits for an image of a camera that is newer than that with a number, and gives its number.
    fn wait_next_frame(
        &self,
        py: Python<'_>,
        camera: &str,
        after: u64,
        timeout: Option<f64>,
    ) -> PyResult<Option<u64>> {
        let deadline = wait::deadline(timeout)?;
        let sensors = &self.sensors.sensors;
        let found = wait::wait(py, deadline, |piece| {
            sensors.wait_next_frame(camera, after, piece).transpose()
        })?;
        let found =
            found.transpose().map_err(|error| error::exception(py, "UnknownName", error))?;
        Ok(found.map(|frame| frame.number))
    }

    // ---- serving ------------------------------------------------------------------------------

    /// Listens, and serves the robot in threads of its own. Gives the URI for clients on this host.
    #[pyo3(signature = (robot, address, overridden, options))]
    fn start(
        &self,
        robot: Py<PyAny>,
        address: &str,
        overridden: Vec<String>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<String> {
        log::start();
        // Before the lock: it calls Python, where another thread may go on that wants it.
        let config = config(options)?;
        let mut serving =
            self.serving.check("server")?.lock().unwrap_or_else(PoisonError::into_inner);
        if serving.is_some() {
            return Err(PyRuntimeError::new_err("the server is serving already"));
        }
        let has = |name: &str| overridden.iter().any(|method| method == name);
        let robot = PythonRobot {
            server: robot,
            sensors: Arc::clone(&self.sensors),
            overridden: Overridden {
                get_obs: has("get_obs"),
                step: has("step"),
                on_connect: has("on_connect"),
                on_disconnect: has("on_disconnect"),
                on_watchdog: has("on_watchdog"),
                on_stop: has("on_stop"),
                on_actions_dropped: has("on_actions_dropped"),
            },
            was_clamped: AtomicBool::new(false),
        };
        let failed = |error: std::io::Error| {
            let text = error::in_python(&error.to_string());
            match (error.raw_os_error(), error.kind()) {
                (Some(code), _) => PyOSError::new_err((code, text)),
                (None, ErrorKind::InvalidInput) => PyValueError::new_err(text),
                (None, _) => PyOSError::new_err(text),
            }
        };
        let server = PolicyServer::bind_with(address, config).map_err(failed)?;
        let uri = server.uri().map_err(failed)?;
        server.spawn(robot).map_err(failed)?;
        *serving = Some(server);
        Ok(uri)
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let serving = self.serving.check("server")?.lock().unwrap_or_else(PoisonError::into_inner);
        let found = serving.as_ref().and_then(PolicyServer::stats);
        drop(serving);
        found.map(|found| stats::of_server(py, &found)).transpose()
    }

    /// Lets the actions of the policy that is connected move the robot; false if there is none.
    fn arm(&self) -> PyResult<bool> {
        let serving = self.serving.check("server")?.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(serving.as_ref().is_some_and(PolicyServer::arm))
    }

    /// Has the robot hold still until it is armed; false if no policy is connected.
    fn stop_motion(&self) -> PyResult<bool> {
        let serving = self.serving.check("server")?.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(serving.as_ref().is_some_and(PolicyServer::stop_motion))
    }

    /// Stops listening and tells the policy, without waiting: see `is_at_rest`.
    fn shutdown(&self, py: Python<'_>) {
        if !self.serving.is_usable() {
            return;
        }
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(server) = serving.take() else { return };
        let ending = Ending::begin(&self.is_ending);
        drop(serving);
        let end = move || {
            server.shutdown();
            drop(server);
            drop(ending);
        };
        // None of Python's threads: 3.12 starts no more of those when the interpreter ends.
        let thread = std::thread::Builder::new().name("chiral-end".to_owned());
        // Without a thread the server is dropped here, and waits for threads that may need the
        // interpreter's lock.
        let _ = py.detach(move || thread.spawn(end));
    }

    /// Whether nothing calls the robot: it is not served, or its end was waited for.
    fn is_at_rest(&self) -> bool {
        if !self.serving.is_usable() {
            return true;
        }
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.is_none() && !self.is_ending.load(Ordering::Acquire)
    }
}

impl Server {
    /// Writes to an array that was taken out, under the camera's lock.
    fn write_taken(
        &self,
        py: Python<'_>,
        camera: usize,
        part: Part,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(taken) = self.sensors.taken(py, camera, part)? {
            let held = self.sensors.hold(py, camera)?;
            let copied = py.import("numpy")?.call_method1("copyto", (taken, value));
            drop(held);
            copied?;
        }
        Ok(())
    }
}

impl Drop for Server {
    // Collected while it serves, as at the interpreter's end.
    fn drop(&mut self) {
        if !self.serving.is_usable() {
            return;
        }
        let server = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.stop();
            // The drop waits for threads that may wait for the interpreter's lock.
            let thread = std::thread::Builder::new().name("chiral-close".to_owned());
            let _ = thread.spawn(move || drop(server));
        }
    }
}

/// What is to be published: a frame that was filled in place, or a copy in a recycled one. What does
/// not have the dtype or the shape is converted as `np.copyto` does it.
fn reading(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    buffer: impl FnOnce() -> Result<
        chiral_blocking::proto::sensors::UntypedBuffer,
        chiral_blocking::proto::sensors::SensorError,
    >,
) -> PyResult<chiral_blocking::proto::Array> {
    let array = object.cast::<PyUntypedArray>().ok();
    if let Some(array) = array
        && let Some(filled) = SensorFrame::publish(array)?
    {
        return Ok(filled);
    }
    let mut buffer = buffer().map_err(|error| error::of_sensor(py, &error))?;
    if let Some(array) = array
        && array::is_plain(array, Some(buffer.dtype()))
        && *array.shape() == buffer.shape()[..]
    {
        array::copy_bytes(py, array::data_of(array), buffer.as_mut_ptr(), buffer.len());
        return Ok(buffer.into_array());
    }
    // Another dtype, or elements that do not lie in order: NumPy copies them once.
    let target = SensorFrame::array(py, buffer)?;
    py.import("numpy")?.call_method1("copyto", (&target, object))?;
    let filled = SensorFrame::publish(target.cast::<PyUntypedArray>()?)?;
    filled.ok_or_else(|| PyRuntimeError::new_err("the frame is not whole"))
}

fn camera_config(config: &Bound<'_, PyAny>) -> PyResult<CameraConfig> {
    let get = |name: &str| config.getattr(name);
    let size = |name: &str| get(name)?.extract::<usize>();
    let (height, width) = (size("height")?, size("width")?);
    let name: String = get("name")?.extract()?;
    let intrinsics = array::float64s::<9>(&get("intrinsics")?, "intrinsics")?;
    let extrinsics = array::float64s::<16>(&get("extrinsics")?, "extrinsics")?;
    let camera = CameraConfig::new(name, [height, width, size("channels")?])
        .image_dtype(array::dtype_from(&get("image_dtype")?)?)
        .intrinsics(Matrix3::from_row_slice(&intrinsics))
        .extrinsics(Matrix4::from_row_slice(&extrinsics));
    if get("has_depth")?.is_truthy()? {
        return Ok(camera.depth_of([height, width], array::dtype_from(&get("depth_dtype")?)?));
    }
    Ok(camera)
}

fn proprio_config(config: &Bound<'_, PyAny>) -> PyResult<ProprioConfig> {
    let name: String = config.getattr("name")?.extract()?;
    let len: usize = config.getattr("size")?.extract()?;
    Ok(ProprioConfig::new(name, len).dtype(array::dtype_from(&config.getattr("dtype")?)?))
}

fn config(options: &Bound<'_, PyDict>) -> PyResult<ServerConfig> {
    let get = |name: &str| options.as_any().get_item(name);
    let seconds = |name: &str| wait::duration(get(name)?.extract()?, name);
    let queue: String = get("action_queue")?.extract()?;
    let action_queue = match &*queue {
        "latest" => ActionQueue::Latest,
        "all" => ActionQueue::InOrder { capacity: 1024 },
        other => {
            return Err(PyValueError::new_err(format!(
                "found the action_queue {other:?}, expected \"latest\" or \"all\""
            )));
        }
    };
    let take_over = match &*get("on_second")?.extract::<String>()? {
        "refuse" => false,
        "replace" => true,
        other => {
            return Err(PyValueError::new_err(format!(
                "found on_second {other:?}, expected \"refuse\" or \"replace\""
            )));
        }
    };
    let failure_text = match &*get("failure_text")?.extract::<String>()? {
        "nothing" => FailureText::Nothing,
        "errors" => FailureText::Errors,
        "everything" => FailureText::Everything,
        other => {
            return Err(PyValueError::new_err(format!(
                "found the failure_text {other:?}, expected \"nothing\", \"errors\" or \"everything\""
            )));
        }
    };
    let mut machine =
        Config { action_queue, max_obs_age: seconds("max_obs_age")?, ..Config::default() };
    let spec = get("action_spec")?;
    if !spec.is_none() {
        machine.action_spec = contract::spec(&spec)?;
    }
    let shutdown_timeout = seconds("shutdown_timeout")?.unwrap_or(Duration::MAX);
    let config = ServerConfig {
        machine,
        watchdog: seconds("watchdog")?.map_or(Watchdog::Default, Watchdog::After),
        keepalive: client::keepalive_of(get("keepalive")?.extract()?)?,
        take_over,
        shutdown_timeout,
        failure_text,
        token: security::token(&get("token")?)?,
        tls: security::tls_server(&get("tls")?)?,
        ..ServerConfig::default()
    };
    let look = get("accept")?;
    Ok(if look.is_none() { config } else { config.accept(accept::hook(look.unbind())) })
}
