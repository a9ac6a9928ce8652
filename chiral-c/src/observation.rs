//! Observations: those that a policy gets, and those that a robot makes.

use std::ffi::c_char;
use std::sync::{Arc, OnceLock};

use chiral_blocking::proto::bytes::Bytes;
use chiral_blocking::proto::nalgebra::{Matrix3, Matrix4};
use chiral_blocking::proto::{Array, Camera, Dtype, Name, Observation, Proprio};

use crate::array::{aligned_copy, chiral_array, is_aligned, number_of};
use crate::error::{CHIRAL_NOTHING, CHIRAL_OK, Failure, chiral_status, guard, guard_or};
use crate::map::chiral_map;
use crate::memory;
use crate::sized::{self, sized};

/// What a robot senses at one moment: cameras and proprioception.
///
/// Its pixels are those that the socket received, or that the cameras' threads wrote: nothing is
/// copied. Everything that is read from it is valid until it is freed, and does not change. Any
/// number of threads may read it; only one may use it while it is being made or freed.
pub struct chiral_observation {
    pub(crate) shared: Arc<Observation>,
    /// The proprioception values that are not `float` in memory.
    floats: OnceLock<Box<[Vec<f32>]>>,
}

/// One camera of an observation.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_camera {
    /// `sizeof(chiral_camera)`.
    pub size: usize,
    /// Its name, in UTF-8, with no zero at the end.
    pub name: *const c_char,
    /// How many bytes the name has.
    pub name_len: usize,
    /// When the image was captured, in monotonic seconds of the robot's clock; 0 before the first.
    pub timestamp: f64,
    /// K, in pixels, row by row.
    pub intrinsics: [f64; 9],
    /// T, camera to world, in metres, row by row.
    pub extrinsics: [f64; 16],
    /// Whether it has a depth map.
    pub has_depth: bool,
}

/// One proprioception vector of an observation.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_proprio {
    /// `sizeof(chiral_proprio)`.
    pub size: usize,
    /// Its name, in UTF-8, with no zero at the end.
    pub name: *const c_char,
    /// How many bytes the name has.
    pub name_len: usize,
    /// Its values, whatever the robot's dtype is.
    pub values: *const f32,
    /// How many values there are.
    pub count: usize,
    /// The robot's dtype.
    pub dtype: i32,
}

sized!(chiral_camera, chiral_proprio);

impl From<Arc<Observation>> for chiral_observation {
    fn from(observation: Arc<Observation>) -> Self {
        let mut shared = observation;
        let is_readable = |camera: &Camera| {
            is_aligned(&camera.image) && camera.depth.as_ref().is_none_or(is_aligned)
        };
        // Small frames lie in memory as they came.
        if !shared.cameras.iter().all(is_readable) {
            let cameras = &mut Arc::make_mut(&mut shared).cameras;
            let arrays = cameras
                .iter_mut()
                .flat_map(|camera| std::iter::once(&mut camera.image).chain(&mut camera.depth));
            arrays.filter(|array| !is_aligned(array)).for_each(align);
        }
        Self { shared, floats: OnceLock::new() }
    }
}

impl From<Observation> for chiral_observation {
    fn from(observation: Observation) -> Self {
        Arc::new(observation).into()
    }
}

fn align(array: &mut Array) {
    let bytes = aligned_copy(array.bytes());
    *array = Array::new(array.dtype(), array.shape().clone(), bytes).expect("as long as before");
}

impl chiral_observation {
    /// The observation by itself.
    pub(crate) fn into_inner(self) -> Observation {
        Arc::unwrap_or_clone(self.shared)
    }

    /// The bytes of an array of this observation, if they are that.
    pub(crate) fn share(&self, bytes: &[u8]) -> Option<Bytes> {
        let images = self
            .shared
            .cameras
            .iter()
            .flat_map(|camera| std::iter::once(&camera.image).chain(&camera.depth));
        let mut found = images.filter(|array| std::ptr::eq(&raw const array.bytes()[..], bytes));
        found.next().map(|array| array.bytes().clone())
    }

    fn camera(&self, index: usize) -> Result<&Camera, Failure> {
        let cameras = &self.shared.cameras;
        cameras.get(index).ok_or_else(|| none_at("camera", index, cameras.len()))
    }

    fn floats(&self, index: usize) -> &[f32] {
        let proprios = &self.shared.proprios;
        let is_float = |array: &Array| array.dtype() == Dtype::F32 && is_aligned(array);
        if is_float(&proprios[index].values)
            && let Ok(floats) = bytemuck::try_cast_slice(proprios[index].values.bytes())
        {
            return floats;
        }
        let convert = |proprio: &Proprio| {
            if is_float(&proprio.values) {
                Vec::new()
            } else {
                proprio.values.to_f32().into_owned()
            }
        };
        &self.floats.get_or_init(|| proprios.iter().map(convert).collect())[index]
    }
}

fn none_at(what: &str, index: usize, count: usize) -> Failure {
    Failure::misuse(format_args!("there is no {what} {index}: the observation has {count}"))
}

/// A new observation without anything in it, for a robot that makes its own. `timestamp` is a time
/// of the robot's choice, in seconds.
#[unsafe(no_mangle)]
pub extern "C" fn chiral_observation_new(timestamp: f64) -> *mut chiral_observation {
    memory::give(Observation { timestamp, ..Observation::default() }.into())
}

/// Another handle to the same observation, which may be changed and freed by itself. Copies no
/// pixel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_share(
    observation: *const chiral_observation,
) -> *mut chiral_observation {
    guard_or(std::ptr::null_mut(), || {
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow(observation, "observation")? };
        Ok(memory::give(Arc::clone(&observation.shared).into()))
    })
}

/// Frees an observation. Does nothing to a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_free(observation: *mut chiral_observation) {
    // SAFETY: as the header asks of callers.
    unsafe { memory::free(observation) };
}

/// How many cameras there are; 0 of a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_cameras(
    observation: *const chiral_observation,
) -> usize {
    // SAFETY: as the header asks of callers.
    guard_or(0, || Ok(unsafe { memory::borrow(observation, "observation")? }.shared.cameras.len()))
}

/// How many proprioception vectors there are; 0 of a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_proprios(
    observation: *const chiral_observation,
) -> usize {
    // SAFETY: as the header asks of callers.
    guard_or(0, || Ok(unsafe { memory::borrow(observation, "observation")? }.shared.proprios.len()))
}

/// Its time, of the robot's choice, in seconds; 0 of a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_timestamp(
    observation: *const chiral_observation,
) -> f64 {
    // SAFETY: as the header asks of callers.
    guard_or(0.0, || Ok(unsafe { memory::borrow(observation, "observation")? }.shared.timestamp))
}

/// Camera `index`, counted from 0, in the order in which the robot declared them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_camera(
    observation: *const chiral_observation,
    index: usize,
    camera: *mut chiral_camera,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let found = unsafe { memory::borrow(observation, "observation")? }.camera(index)?;
        let value = chiral_camera {
            name: found.name.as_ptr().cast(),
            name_len: found.name.len(),
            timestamp: found.timestamp,
            intrinsics: row_major(|row, column| found.intrinsics[(row, column)]),
            extrinsics: row_major(|row, column| found.extrinsics[(row, column)]),
            has_depth: found.depth.is_some(),
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(camera, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// The image of camera `index`: `[height, width, channels]`, or `[height, width]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_image(
    observation: *const chiral_observation,
    index: usize,
    image: *mut chiral_array,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let found = unsafe { memory::borrow(observation, "observation")? }.camera(index)?;
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(image, &chiral_array::of(&found.image, observation))? };
        Ok(CHIRAL_OK)
    })
}

/// The depth map of camera `index`, `[height, width]`; `CHIRAL_NOTHING` when it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_depth(
    observation: *const chiral_observation,
    index: usize,
    depth: *mut chiral_array,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let found = unsafe { memory::borrow(observation, "observation")? }.camera(index)?;
        let Some(found) = &found.depth else { return Ok(CHIRAL_NOTHING) };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(depth, &chiral_array::of(found, observation))? };
        Ok(CHIRAL_OK)
    })
}

/// Proprioception vector `index`, counted from 0, in the order in which the robot declared them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_proprio(
    observation: *const chiral_observation,
    index: usize,
    proprio: *mut chiral_proprio,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow(observation, "observation")? };
        let proprios = &observation.shared.proprios;
        let found = proprios.get(index).ok_or_else(|| none_at("proprio", index, proprios.len()))?;
        let values = observation.floats(index);
        let value = chiral_proprio {
            name: found.name.as_ptr().cast(),
            name_len: found.name.len(),
            values: values.as_ptr(),
            count: values.len(),
            dtype: number_of(found.values.dtype()),
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(proprio, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// What else the robot says in an observation, as a map that is to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_extra(
    observation: *const chiral_observation,
) -> *mut chiral_map {
    guard_or(std::ptr::null_mut(), || {
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow(observation, "observation")? };
        Ok(memory::give(observation.shared.extra.clone().into()))
    })
}

/// Adds a camera to an observation, behind those that there are. `depth` is null where it has none,
/// whatever `camera` says of it. Pixels that belong to another observation are shared, others
/// copied. What was read from the observation before is not valid any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_add_camera(
    observation: *mut chiral_observation,
    camera: *const chiral_camera,
    image: *const chiral_array,
    depth: *const chiral_array,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let camera = unsafe { sized::read(camera)? };
        // SAFETY: as the header asks of callers.
        let image = unsafe { sized::read(image)? };
        // SAFETY: as the header asks of callers.
        let image = unsafe { image.to_array(Dtype::U8, "the image")? };
        let depth = if depth.is_null() {
            None
        } else {
            // SAFETY: as the header asks of callers.
            let depth = unsafe { sized::read(depth)? };
            // SAFETY: as the header asks of callers.
            Some(unsafe { depth.to_array(Dtype::F32, "the depth map")? })
        };
        let camera = Camera {
            // SAFETY: as the header asks of callers.
            name: unsafe { name(camera.name, camera.name_len)? },
            timestamp: camera.timestamp,
            intrinsics: Matrix3::from_row_slice(&camera.intrinsics),
            extrinsics: Matrix4::from_row_slice(&camera.extrinsics),
            image,
            depth,
        };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow_mut(observation, "observation")? };
        Arc::make_mut(&mut observation.shared).cameras.push(camera);
        Ok(CHIRAL_OK)
    })
}

/// Adds a proprioception vector to an observation, behind those that there are. The values are
/// copied. What was read from the observation before is not valid any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_add_proprio(
    observation: *mut chiral_observation,
    proprio: *const chiral_proprio,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let proprio = unsafe { sized::read(proprio)? };
        // SAFETY: as the header asks of callers.
        let values = unsafe { memory::slice(proprio.values, proprio.count, "values")? };
        let proprio = Proprio {
            // SAFETY: as the header asks of callers.
            name: unsafe { name(proprio.name, proprio.name_len)? },
            values: Array::vector(values.to_vec()),
        };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow_mut(observation, "observation")? };
        Arc::make_mut(&mut observation.shared).proprios.push(proprio);
        observation.floats = OnceLock::new();
        Ok(CHIRAL_OK)
    })
}

/// Has an observation say this as its `extra`. The map is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_observation_set_extra(
    observation: *mut chiral_observation,
    extra: *const chiral_map,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let extra = unsafe { memory::borrow(extra, "extra")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow_mut(observation, "observation")? };
        Arc::make_mut(&mut observation.shared).extra = extra.map.clone();
        Ok(CHIRAL_OK)
    })
}

/// # Safety
/// The pointer is null, or one to `len` bytes.
unsafe fn name(pointer: *const c_char, len: usize) -> Result<Name, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { memory::slice(pointer.cast::<u8>(), len, "name")? };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Failure::misuse(format_args!("a name is no UTF-8: {error}")))?;
    Ok(text.to_owned().into())
}

/// The elements of a square matrix, row by row.
pub(crate) fn row_major<const LEN: usize>(element: impl Fn(usize, usize) -> f64) -> [f64; LEN] {
    let side = LEN.isqrt();
    std::array::from_fn(|index| element(index / side, index % side))
}
