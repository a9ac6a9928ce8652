use std::fmt;

use super::camera::CameraSlot;
use super::error::SensorError;
use super::proprio::ProprioSlot;
use super::{Clock, Sensors, Shared};
use crate::pool::{BufferSource, SharedSource};
use crate::sync::{Arc, Mutex};
use crate::{CameraConfig, ProprioConfig};

/// Declares [`Sensors`]; made by [`Sensors::builder`].
///
/// ```
/// use chiral_proto::{CameraConfig, ProprioConfig, sensors::Sensors};
///
/// let sensors = Sensors::builder()
///     .camera(CameraConfig::new("wrist_cam", [480, 640, 3]))
///     .camera(CameraConfig::new("top_cam", [720, 1280, 3]))
///     .proprio(ProprioConfig::new("joints", 7))
///     .clock(|| 12.5)
///     .build()?;
/// assert_eq!(sensors.cameras().len(), 2);
/// # Ok::<(), chiral_proto::sensors::SensorError>(())
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct SensorsBuilder {
    cameras: Vec<CameraConfig>,
    proprios: Vec<ProprioConfig>,
    clock: Option<Box<Clock>>,
    memory: Option<SharedSource>,
}

impl SensorsBuilder {
    /// One more camera.
    pub fn camera(mut self, camera: CameraConfig) -> Self {
        self.cameras.push(camera);
        self
    }

    /// More cameras.
    pub fn cameras(mut self, cameras: impl IntoIterator<Item = CameraConfig>) -> Self {
        self.cameras.extend(cameras);
        self
    }

    /// One more proprioception stream.
    pub fn proprio(mut self, proprio: ProprioConfig) -> Self {
        self.proprios.push(proprio);
        self
    }

    /// More proprioception streams.
    pub fn proprios(mut self, proprios: impl IntoIterator<Item = ProprioConfig>) -> Self {
        self.proprios.extend(proprios);
        self
    }

    /// The clock, monotonic seconds; see [`Sensors::with_clock`].
    pub fn clock(mut self, clock: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// Where the buffers of all sensors lie; the heap unless set. When the source has no memory
    /// left an update fails with [`SensorError::NoMemory`]. What is given as a `Vec` or an
    /// [`Array`](crate::Array) stays in the memory in which it is.
    pub fn memory(mut self, source: impl BufferSource) -> Self {
        self.memory = Some(SharedSource::from(Box::new(source) as Box<dyn BufferSource>));
        self
    }

    /// The sensors.
    ///
    /// # Errors
    /// When there is no memory for a declared buffer, or a camera has a
    /// [`max_age`](CameraConfig::max_age) and there is no clock to tell it by.
    pub fn build(self) -> Result<Sensors, SensorError> {
        let Self { cameras, proprios, clock, memory } = self;
        let aged = cameras.iter().find(|camera| camera.max_age.is_some());
        let start = match (aged, &clock) {
            (None, _) => None,
            (Some(_), Some(clock)) => Some(clock()),
            (Some(camera), None) => {
                return Err(SensorError::NoClockForAge { name: camera.name.clone() });
            }
        };
        let memory = memory.as_ref();
        let cameras = cameras.into_iter().map(|camera| CameraSlot::new(camera, memory));
        let proprios = proprios.into_iter().map(|proprio| ProprioSlot::new(proprio, memory));
        Ok(Sensors(Arc::new(Shared {
            cameras: cameras.collect::<Result<_, _>>()?,
            proprios: proprios.collect::<Result<_, _>>()?,
            clock,
            extra: Mutex::default(),
            start,
        })))
    }
}

/// Shows the names.
impl fmt::Debug for SensorsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cameras: Vec<_> = self.cameras.iter().map(|camera| &camera.name).collect();
        let proprios: Vec<_> = self.proprios.iter().map(|proprio| &proprio.name).collect();
        f.debug_struct("SensorsBuilder")
            .field("cameras", &cameras)
            .field("proprios", &proprios)
            .finish_non_exhaustive()
    }
}
