//! A robot's sensors.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
use chiral_blocking::proto::sensors::{CameraFrame, CameraWriter, ProprioWriter, Sensors};
use chiral_blocking::proto::{CameraConfig, Dtype, ProprioConfig, Shape, WhenStale};
use chiral_blocking::{WaitForSensors as _, monotonic_seconds};

use crate::array::{chiral_dtype, dtype_of, reading};
use crate::client::seconds;
use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, Failure, chiral_status, guard};
use crate::map::chiral_map;
use crate::memory;
use crate::observation::chiral_observation;
use crate::sized::{self, sized};

/// The latest of a robot's cameras and proprioception, which many threads write, each at its own
/// rate. Any thread may call any function but `chiral_sensors_free` at any time; none waits for
/// another camera, nor for the network.
pub struct chiral_sensors {
    pub(crate) sensors: Sensors,
    cameras: Vec<CameraWriter>,
    proprios: Vec<ProprioWriter>,
}

/// An old image is shown.
pub const CHIRAL_STALE_HOLD: i32 = 0;
/// An old image is shown, and named in the observation's `extra`.
pub const CHIRAL_STALE_FLAG: i32 = 1;
/// A camera whose image is old is left out.
pub const CHIRAL_STALE_OMIT: i32 = 2;
/// An old image ends the connection with an error.
pub const CHIRAL_STALE_FAIL: i32 = 3;

/// A camera as it is declared. What is zero is as if it were not there.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_camera_config {
    /// `sizeof(chiral_camera_config)`.
    pub size: usize,
    /// Its name.
    pub name: *const c_char,
    /// The height of image and depth map, in pixels.
    pub height: usize,
    /// The width of image and depth map, in pixels.
    pub width: usize,
    /// The image's channels; 0 for one of `[height, width]`.
    pub channels: usize,
    /// The image's elements. Zero: `CHIRAL_UINT8`.
    pub image_dtype: chiral_dtype,
    /// Whether it has a depth map.
    pub has_depth: bool,
    /// The depth map's elements. Zero: `CHIRAL_FLOAT32`, in metres.
    pub depth_dtype: chiral_dtype,
    /// The height of the depth map, where it is another one.
    pub depth_height: usize,
    /// The width of the depth map, where it is another one.
    pub depth_width: usize,
    /// K at first, row by row; null for the identity.
    pub intrinsics: *const f64,
    /// T at first, camera to world, row by row; null for the identity.
    pub extrinsics: *const f64,
    /// How old the image may become, in seconds. Zero: as old as it likes.
    pub max_age: f64,
    /// What becomes of an older one: one of `CHIRAL_STALE_…`.
    pub when_stale: i32,
}

/// A proprioception vector as it is declared.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_proprio_config {
    /// `sizeof(chiral_proprio_config)`.
    pub size: usize,
    /// Its name.
    pub name: *const c_char,
    /// How many values it has, which are `float`.
    pub count: usize,
}

/// What a camera publishes together. A part that is null stays as it was; no observation shows some
/// parts of a frame and not the others.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_frame {
    /// `sizeof(chiral_frame)`.
    pub size: usize,
    /// The image, row-major; copied.
    pub image: *const c_void,
    /// How many bytes it has.
    pub image_len: usize,
    /// The depth map, row-major; copied.
    pub depth: *const c_void,
    /// How many bytes it has.
    pub depth_len: usize,
    /// K, row by row.
    pub intrinsics: *const f64,
    /// T, camera to world, row by row.
    pub extrinsics: *const f64,
    /// When it was captured, in seconds as `chiral_now` gives them. Zero: when the function is called.
    pub captured_at: f64,
}

sized!(chiral_camera_config, chiral_proprio_config, chiral_frame);

/// Declares a robot's sensors. Their buffers exist from then on, filled with zeros. To be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_new(
    cameras: *const chiral_camera_config,
    camera_count: usize,
    proprios: *const chiral_proprio_config,
    proprio_count: usize,
    sensors: *mut *mut chiral_sensors,
) -> chiral_status {
    let declare = || {
        // SAFETY: as the header asks of callers.
        let cameras = unsafe { sized::read_all(cameras, camera_count)? };
        // SAFETY: as the header asks of callers.
        let cameras = cameras.iter().map(|camera| unsafe { camera.declare() });
        let cameras: Vec<_> = cameras.collect::<Result<_, _>>()?;
        // SAFETY: as the header asks of callers.
        let proprios = unsafe { sized::read_all(proprios, proprio_count)? };
        // SAFETY: as the header asks of callers.
        let proprios = proprios.iter().map(|proprio| unsafe { proprio.declare() });
        let proprios: Vec<_> = proprios.collect::<Result<_, _>>()?;
        let sensors = Sensors::with_clock(cameras, proprios, monotonic_seconds);
        let sensors = sensors.map_err(Failure::sensor)?;
        let (cameras, proprios) = (sensors.cameras().collect(), sensors.proprios().collect());
        Ok(chiral_sensors { sensors, cameras, proprios })
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(sensors, "sensors", declare) }
}

/// Frees sensors. A server that uses them goes on with what was written last. Does nothing to a null
/// pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_free(sensors: *mut chiral_sensors) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(sensors) };
}

impl chiral_camera_config {
    /// # Safety
    /// Its pointers are valid.
    unsafe fn declare(&self) -> Result<CameraConfig, Failure> {
        // SAFETY: the caller's promise.
        let name = unsafe { memory::text(self.name, "a camera's name")? };
        let mut shape = vec![self.height, self.width];
        shape.extend((self.channels > 0).then_some(self.channels));
        let mut camera = CameraConfig::new(name.to_owned(), shape);
        if let Some(dtype) = dtype_of(self.image_dtype)? {
            camera = camera.image_dtype(dtype);
        }
        if self.has_depth {
            let or = |own: usize, image| if own > 0 { own } else { image };
            let shape = [or(self.depth_height, self.height), or(self.depth_width, self.width)];
            camera = camera.depth_of(shape, dtype_of(self.depth_dtype)?.unwrap_or(Dtype::F32));
        }
        // SAFETY: the caller's promise.
        if let Some(matrix) = unsafe { intrinsics(self.intrinsics)? } {
            camera = camera.intrinsics(matrix);
        }
        // SAFETY: the caller's promise.
        if let Some(matrix) = unsafe { extrinsics(self.extrinsics)? } {
            camera = camera.extrinsics(matrix);
        }
        let when_stale = match self.when_stale {
            CHIRAL_STALE_HOLD => WhenStale::Hold,
            CHIRAL_STALE_FLAG => WhenStale::Flag,
            CHIRAL_STALE_OMIT => WhenStale::Omit,
            CHIRAL_STALE_FAIL => WhenStale::Fail,
            other => {
                let text = format_args!("{other} is no way with stale images");
                return Err(Failure::misuse(text));
            }
        };
        if let Some(max_age) = seconds(self.max_age, "max_age")? {
            camera = camera.max_age(max_age, when_stale);
        }
        Ok(camera)
    }
}

impl chiral_proprio_config {
    /// # Safety
    /// Its pointers are valid.
    unsafe fn declare(&self) -> Result<ProprioConfig, Failure> {
        // SAFETY: the caller's promise.
        let name = unsafe { memory::text(self.name, "a proprio's name")? };
        Ok(ProprioConfig::new(name.to_owned(), self.count))
    }
}

/// # Safety
/// The pointer is null, or one to nine numbers.
unsafe fn intrinsics(elements: *const f64) -> Result<Option<Matrix3<f64>>, Failure> {
    if elements.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    Ok(Some(Matrix3::from_row_slice(unsafe { memory::slice(elements, 9, "intrinsics")? })))
}

/// # Safety
/// The pointer is null, or one to sixteen numbers.
unsafe fn extrinsics(elements: *const f64) -> Result<Option<Matrix4<f64>>, Failure> {
    if elements.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    Ok(Some(Matrix4::from_row_slice(unsafe { memory::slice(elements, 16, "extrinsics")? })))
}

impl chiral_sensors {
    fn camera(&self, index: usize) -> Result<&CameraWriter, Failure> {
        self.cameras.get(index).ok_or_else(|| {
            let declared = self.cameras.len();
            Failure::misuse(format_args!("there is no camera {index}: {declared} are declared"))
        })
    }
}

/// Publishes several parts of camera `index`, counted from 0, together. When a length does not fit,
/// nothing of the frame is published.
///
/// Any thread; never waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_publish(
    sensors: *const chiral_sensors,
    index: usize,
    frame: *const chiral_frame,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let camera = unsafe { memory::borrow(sensors, "sensors")? }.camera(index)?;
        // SAFETY: as the header asks of callers.
        let parts = unsafe { sized::read(frame)? };
        let mut frame = CameraFrame::new();
        let config = camera.config();
        if !parts.image.is_null() {
            // SAFETY: as the header asks of callers.
            let bytes = unsafe { memory::slice(parts.image.cast(), parts.image_len, "image")? };
            frame = frame.image(reading(config.image_dtype, &config.image_shape, bytes)?);
        }
        if !parts.depth.is_null() {
            // SAFETY: as the header asks of callers.
            let bytes = unsafe { memory::slice(parts.depth.cast(), parts.depth_len, "depth")? };
            // A camera without depth says so itself.
            let usual = (Shape::from(bytes.len()), Dtype::U8);
            let (shape, dtype) = config.depth.as_ref().unwrap_or(&usual);
            frame = frame.depth(reading(*dtype, shape, bytes)?);
        }
        // SAFETY: as the header asks of callers.
        if let Some(matrix) = unsafe { intrinsics(parts.intrinsics)? } {
            frame = frame.intrinsics(matrix);
        }
        // SAFETY: as the header asks of callers.
        if let Some(matrix) = unsafe { extrinsics(parts.extrinsics)? } {
            frame = frame.extrinsics(matrix);
        }
        if parts.captured_at != 0.0 {
            frame = frame.captured_at(parts.captured_at);
        }
        camera.publish(frame).map_err(Failure::sensor)?;
        Ok(CHIRAL_OK)
    })
}

/// Publishes the values of proprioception vector `index`, counted from 0.
///
/// Any thread; never waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_update_proprio(
    sensors: *const chiral_sensors,
    index: usize,
    values: *const f32,
    count: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? };
        // SAFETY: as the header asks of callers.
        let values = unsafe { memory::slice(values, count, "values")? };
        let proprio = sensors.proprios.get(index).ok_or_else(|| {
            let declared = sensors.proprios.len();
            Failure::misuse(format_args!("there is no proprio {index}: {declared} are declared"))
        })?;
        proprio.update(values).map_err(Failure::sensor)?;
        Ok(CHIRAL_OK)
    })
}

/// The latest of all sensors as an observation, to be freed. Copies no pixel. `timestamp` is a time
/// of the robot's choice, in seconds.
///
/// Any thread; never waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_snapshot(
    sensors: *const chiral_sensors,
    timestamp: f64,
    observation: *mut *mut chiral_observation,
) -> chiral_status {
    let take = || {
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? };
        let snapshot = sensors.sensors.try_snapshot(timestamp).map_err(Failure::sensor)?;
        Ok(chiral_observation::from(snapshot))
    };
    // SAFETY: as the header asks of callers.
    unsafe { memory::give_out(observation, "observation", take) }
}

/// Has every snapshot from now on say this as its `extra`. The map is copied.
///
/// Any thread; never waits for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_set_extra(
    sensors: *const chiral_sensors,
    extra: *const chiral_map,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? };
        // SAFETY: as the header asks of callers.
        sensors.sensors.set_extra(unsafe { memory::borrow(extra, "extra")? }.map.clone());
        Ok(CHIRAL_OK)
    })
}

/// Waits until every camera has published an image and every proprioception vector its values; fails
/// when some have not in so many seconds, and names them.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_wait_ready(
    sensors: *const chiral_sensors,
    seconds: f64,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? };
        let timeout = wait(seconds)?;
        let ready = sensors.sensors.wait_ready(timeout);
        ready.map_err(|error| Failure::new(crate::error::CHIRAL_TIMED_OUT, error))?;
        Ok(CHIRAL_OK)
    })
}

/// Waits, for so many seconds, until camera `index` has published an image after the one that
/// `*number` numbers, and sets `*number` to the newest one's; 0 waits for the first.
/// `CHIRAL_NOTHING` when none has come by then.
///
/// Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_sensors_wait_image(
    sensors: *const chiral_sensors,
    index: usize,
    seconds: f64,
    number: *mut u64,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let sensors = unsafe { memory::borrow(sensors, "sensors")? };
        // SAFETY: as the header asks of callers.
        let number = unsafe { memory::borrow_mut(number, "number")? };
        let name = &sensors.camera(index)?.config().name;
        let frame = sensors.sensors.wait_next_frame(name, *number, wait(seconds)?);
        let Some(frame) = frame.map_err(Failure::sensor)? else { return Ok(CHIRAL_NOTHING) };
        *number = frame.number;
        Ok(CHIRAL_OK)
    })
}

fn wait(seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::misuse(format_args!("the wait is {seconds}, expected seconds, zero or more"))
    })
}
