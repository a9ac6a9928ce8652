//! The robot's sensors: threads write their latest frames, snapshots read them all.
//!
//! A robot declares its cameras and proprioception streams up front. Each then has a slot that
//! holds its latest frame; it exists from the start, filled with zeros, with the declared K and T
//! and timestamp 0. Each sensor's thread writes at its own rate through a handle of its own, and
//! [`Sensors::snapshot`] puts the latest of all into one [`Observation`].
//!
//! ```
//! use std::time::Instant;
//!
//! use chiral_proto::{CameraConfig, ProprioConfig, sensors::{CameraFrame, Sensors}};
//!
//! // The core reads no clock. This robot stamps with the monotonic seconds since it started.
//! let start = Instant::now();
//! let sensors = Sensors::with_clock(
//!     [CameraConfig::new("wrist_cam", [480, 640, 3]).depth([480, 640])],
//!     [ProprioConfig::new("joints", 7)],
//!     move || start.elapsed().as_secs_f64(),
//! )?;
//!
//! let wrist = sensors.camera("wrist_cam")?;
//! let camera_thread = std::thread::spawn(move || {
//!     for brightness in 0..3 {
//!         // Render or decode straight into recycled memory, then publish both at once.
//!         let mut image = wrist.image_buffer::<u8>()?;
//!         let mut depth = wrist.depth_buffer::<f32>()?;
//!         image.fill(brightness);
//!         depth.fill(0.8);
//!         wrist.publish(CameraFrame::new().image(image).depth(depth))?;
//!     }
//!     Ok::<_, chiral_proto::sensors::SensorError>(())
//! });
//! sensors.update_proprio("joints", &[0.1_f32; 7])?;
//! camera_thread.join().expect("the camera thread does not panic")?;
//!
//! let observation = sensors.snapshot(start.elapsed().as_secs_f64());
//! let wrist = &observation["wrist_cam"];
//! assert!(wrist.image.bytes().iter().all(|&pixel| pixel == 2));
//! assert!(wrist.timestamp > 0.0 && wrist.timestamp <= observation.timestamp);
//! assert_eq!(*observation.proprio("joints")?.values.as_slice::<f32>()?, [0.1; 7]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What costs what
//! A snapshot clones reference counts and copies no pixel: its cost does not depend on the
//! resolution. The pixels of a snapshot never change afterwards, because every update goes to
//! other memory: a buffer that no snapshot holds any more, so that in the steady state no pixel
//! memory is allocated. An update from a slice copies the pixels once, before it takes the slot's
//! lock; a `Vec`, an [`Array`] or a filled [`SensorBuffer`] is published without a
//! copy. The lock of a slot is held for the exchange of a few references and numbers, no more, and
//! each slot has its own.
//!
//! # Capture times
//! A camera's timestamp is the moment at which its image was captured, in monotonic seconds of
//! one clock of the robot. A camera driver that knows it says it: [`CameraWriter::update_image_at`],
//! [`CameraFrame::captured_at`]. Where nobody knows better, [`CameraWriter::update_image`] stamps
//! with the clock that was given to [`Sensors::with_clock`]; both must then count from the same
//! start. Sensors without a clock refuse such a call with [`SensorError::NoClock`], which says what
//! to do: stamping with nothing would look like a camera that never delivered. It is an error and
//! no type parameter, so that `Sensors` stays one type for every robot and adapter; and as it
//! depends on no data, the first image of the first run shows it.
//!
//! # Waiting for a fresh frame
//! [`Sensors::ready`] waits until every sensor has delivered, [`Sensors::next_frame`] for a camera's
//! frame that is newer than a given one. Both are futures that need no runtime; the adapters'
//! `WaitForSensors` has them with a timeout for threads. A robot that answers only with frames it
//! has not sent before keeps the number of the last one, waits for the next, and then takes a
//! snapshot, which is at least that new.
//!
//! # What an observation says beside its sensors
//! [`Sensors::set_extra`] gives what every snapshot from then on has as its
//! [`extra`](Observation::extra).

mod builder;
mod camera;
mod channel;
mod deliveries;
mod error;
mod frame;
#[cfg(all(test, loom))]
mod loom_model;
mod proprio;
mod reading;
mod stats;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::Duration;

use nalgebra::{Matrix3, Matrix4};

pub use builder::SensorsBuilder;
pub use camera::CameraWriter;
pub use deliveries::{LatestFrame, NextFrame, Ready};
pub use error::{Part, SensorError, StaleCamera};
pub use frame::CameraFrame;
pub use proprio::ProprioWriter;
pub use reading::{Reading, SensorBuffer, UntypedBuffer};
pub use stats::{CameraState, CameraStats};

use crate::sync::{Arc, Mutex, lock};
use crate::timeline::Stamp;

use crate::{
    Array, Camera, CameraConfig, Map, Name, Observation, ProprioConfig, Timestamps, UnknownName,
    Value, WhenStale,
};
use camera::{CameraSlot, Stale, Times};
use proprio::ProprioSlot;

/// The latest frames of all cameras and proprioception streams of a robot. See the
/// [module](self) for the whole picture.
///
/// Cloning it is cheap and gives another handle to the same sensors; it may be sent to and shared
/// between threads.
#[derive(Clone)]
pub struct Sensors(Arc<Shared>);

struct Shared {
    cameras: Box<[CameraSlot]>,
    proprios: Box<[ProprioSlot]>,
    clock: Option<Box<Clock>>,
    extra: Mutex<Map>,
    /// When the sensors were made, if a camera has a maximal age.
    start: Option<f64>,
}

type Clock = dyn Fn() -> f64 + Send + Sync;

impl Shared {
    fn clock(&self) -> Option<&dyn Fn() -> f64> {
        self.clock.as_deref().map(|clock| clock as _)
    }

    /// What it takes to tell whether a camera is stale, if any camera can be.
    fn times(&self) -> Option<Times> {
        let (start, clock) = self.start.zip(self.clock())?;
        Some(Times { start, now: clock() })
    }
}

impl Sensors {
    /// The declared sensors, without a clock: every image comes with its capture time.
    ///
    /// Two cameras, or two streams, may bear one name; a look-up finds the first.
    ///
    /// # Errors
    /// When there is no memory for a declared buffer.
    pub fn new(
        cameras: impl IntoIterator<Item = CameraConfig>,
        proprios: impl IntoIterator<Item = ProprioConfig>,
    ) -> Result<Self, SensorError> {
        Self::builder().cameras(cameras).proprios(proprios).build()
    }

    /// Sensors to be declared one after the other, with a clock or memory of one's own.
    pub fn builder() -> SensorsBuilder {
        SensorsBuilder::default()
    }

    /// The declared sensors, and the clock that stamps the images that come without a capture
    /// time: monotonic seconds.
    ///
    /// The clock is called by the threads that publish, never under a lock.
    ///
    /// # Errors
    /// When there is no memory for a declared buffer.
    pub fn with_clock(
        cameras: impl IntoIterator<Item = CameraConfig>,
        proprios: impl IntoIterator<Item = ProprioConfig>,
        clock: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Result<Self, SensorError> {
        Self::builder().cameras(cameras).proprios(proprios).clock(clock).build()
    }

    /// The time of the sensors' clock, in seconds; `None` without a clock.
    pub fn now(&self) -> Option<f64> {
        self.0.clock().map(|clock| clock())
    }

    /// How old the observation of these camera timestamps is, by the sensors' clock: the age of
    /// the newest frame among them.
    ///
    /// It is the time since that camera's latest image was published, and the time between the
    /// captures of both images. So it needs the clock only for the former, and the capture times
    /// may be those of another clock, a camera's own, as long as they are in seconds. A timestamp
    /// that is ahead of the camera's latest image counts as that image's.
    ///
    /// `None` when nothing can be said: the sensors have no clock, or no timestamp is that of a
    /// declared camera that has published an image. The timestamp 0 says nothing either: it is
    /// that of a camera that had not delivered.
    pub fn observation_age(&self, timestamps: &Timestamps) -> Option<Duration> {
        let now = self.now()?;
        let ages = timestamps.iter().filter_map(|(name, time)| self.age_of(name, time, now));
        let newest = ages.min_by(f64::total_cmp)?;
        Some(Duration::try_from_secs_f64(newest).unwrap_or(Duration::MAX))
    }

    /// How old the images of these cameras are, in their order, each as
    /// [`observation_age`](Self::observation_age) has it.
    pub(crate) fn ages_of(&self, cameras: &[Camera]) -> Vec<Option<Duration>> {
        let Some(now) = self.now() else { return Vec::new() };
        let age = |camera: &Camera| {
            let age = self.age_of(&camera.name, camera.timestamp, now)?;
            Some(Duration::try_from_secs_f64(age).unwrap_or(Duration::MAX))
        };
        cameras.iter().map(age).collect()
    }

    /// The age of a camera's image with this timestamp, in seconds, if it can be told.
    fn age_of(&self, name: &Name, timestamp: f64, now: f64) -> Option<f64> {
        let has_delivered = timestamp != 0.0;
        let slot = self.0.cameras.iter().find(|slot| has_delivered && slot.config.name == *name)?;
        slot.age_of(timestamp, now)
    }

    /// The latest of all sensors, in declaration order: cameras, then proprioception streams.
    ///
    /// `timestamp` is the observation's own, in seconds, the application's choice. Image, depth,
    /// K, T and capture time of a camera are those of one moment; different cameras are read one
    /// after the other. No pixel is copied.
    ///
    /// A camera over its [`max_age`](CameraConfig::max_age) is treated as it says; where that is to
    /// fail, which this cannot, it is flagged.
    pub fn snapshot(&self, timestamp: f64) -> Observation {
        let mut observation = Observation::default();
        self.snapshot_into(timestamp, &mut observation);
        observation
    }

    /// A [`snapshot`](Self::snapshot) whose timestamp is the clock's, or 0 without a clock.
    pub fn snapshot_now(&self) -> Observation {
        self.snapshot(self.now().unwrap_or(0.0))
    }

    /// A [`snapshot`](Self::snapshot) in the place of an earlier observation. Where that was of
    /// the same sensors, no camera is flagged, and no shape has more than four dimensions, nothing
    /// is allocated.
    ///
    /// What the earlier observation held is let go first, so that its buffers can be used again.
    pub fn snapshot_into(&self, timestamp: f64, observation: &mut Observation) {
        // A camera that is to fail is flagged.
        drop(self.fill(timestamp, observation));
    }

    /// As [`snapshot`](Self::snapshot), or an error when a camera that is to
    /// [fail](WhenStale::Fail) is over its [`max_age`](CameraConfig::max_age).
    ///
    /// # Errors
    /// The first such camera.
    pub fn try_snapshot(&self, timestamp: f64) -> Result<Observation, StaleCamera> {
        let mut observation = Observation::default();
        self.fill(timestamp, &mut observation)?;
        Ok(observation)
    }

    /// A [`try_snapshot`](Self::try_snapshot) whose timestamp is the clock's, or 0 without a clock.
    ///
    /// # Errors
    /// As there.
    pub fn try_snapshot_now(&self) -> Result<Observation, StaleCamera> {
        self.try_snapshot(self.now().unwrap_or(0.0))
    }

    fn fill(&self, timestamp: f64, observation: &mut Observation) -> Result<(), StaleCamera> {
        let times = self.0.times();
        let Observation { timestamp: time, cameras, proprios, extra, arrival, stamp } = observation;
        *time = timestamp;
        *arrival = None;
        *stamp = Stamp::default();
        *extra = lock(&self.0.extra).clone();
        cameras.clear();
        proprios.clear();
        cameras.reserve(self.0.cameras.len());
        let mut flagged: Vec<(Value, Value)> = Vec::new();
        let mut failed = None;
        for slot in &self.0.cameras {
            let (camera, stale) = slot.snapshot(times);
            match stale {
                None | Some(Stale { action: WhenStale::Hold, .. }) => {}
                Some(Stale { action: WhenStale::Omit, .. }) => continue,
                Some(Stale { action, camera: stale }) => {
                    let (name, age) = (&*stale.name, stale.age.as_secs_f64());
                    flagged.push((name.into(), age.into()));
                    if action == WhenStale::Fail {
                        failed.get_or_insert(stale);
                    }
                }
            }
            cameras.push(camera);
        }
        proprios.extend(self.0.proprios.iter().map(ProprioSlot::snapshot));
        if !flagged.is_empty() {
            extra.insert("stale_cameras", Value::Map(flagged));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Has every snapshot from now on say this as its [`extra`](Observation::extra), in the place
    /// of what was set before. Where a camera is flagged as too old, `stale_cameras` comes to it.
    ///
    /// ```
    /// use chiral_proto::{map, sensors::Sensors};
    ///
    /// let sensors = Sensors::new([], [])?;
    /// sensors.set_extra(map! { "gripper" => map! { "holds" => true } });
    /// let observation = sensors.snapshot(0.0);
    /// assert_eq!(observation.extra.get("gripper").expect("it was set")["holds"], true.into());
    /// # Ok::<(), chiral_proto::sensors::SensorError>(())
    /// ```
    pub fn set_extra(&self, extra: Map) {
        let old = std::mem::replace(&mut *lock(&self.0.extra), extra);
        drop(old);
    }

    /// The cameras over their [`max_age`](CameraConfig::max_age), and how old the image of each is;
    /// of one that has never delivered, how long it has been waited for.
    pub(crate) fn stale_cameras(&self) -> impl Iterator<Item = StaleCamera> {
        let times = self.0.times();
        // Without times no camera can be stale.
        let cameras = self.0.cameras.iter().filter(move |_| times.is_some());
        cameras.filter_map(move |slot| slot.stale(times))
    }

    /// What is known of every camera, in declaration order: how old its latest image is, and
    /// whether more are to be expected.
    pub fn camera_stats(&self) -> Vec<CameraStats> {
        let (times, now) = (self.0.times(), self.now());
        self.0.cameras.iter().map(|slot| slot.stats(times, now)).collect()
    }

    /// The writer of a camera; where two bear the name, of the first.
    ///
    /// # Errors
    /// When no camera bears it; the error lists the names that exist.
    pub fn camera(&self, name: &str) -> Result<CameraWriter, UnknownName> {
        Ok(CameraWriter::new(&self.0, self.index_of_camera(name)?))
    }

    fn index_of_camera(&self, name: &str) -> Result<usize, UnknownName> {
        let names = self.0.cameras.iter().map(|slot| &slot.config.name);
        let index = names.clone().position(|known| *known == *name);
        index.ok_or_else(|| UnknownName::new("camera", name, names))
    }

    /// The writer of the camera declared at `index`, from 0; `None` when there are not so many.
    pub fn camera_at(&self, index: usize) -> Option<CameraWriter> {
        (index < self.0.cameras.len()).then(|| CameraWriter::new(&self.0, index))
    }

    /// The writers of all cameras, in declaration order.
    pub fn cameras(&self) -> impl ExactSizeIterator<Item = CameraWriter> {
        (0..self.0.cameras.len()).map(|index| CameraWriter::new(&self.0, index))
    }

    /// The writer of a proprioception stream; where two bear the name, of the first.
    ///
    /// # Errors
    /// When no stream bears it; the error lists the names that exist.
    pub fn proprio(&self, name: &str) -> Result<ProprioWriter, UnknownName> {
        let names = self.0.proprios.iter().map(|slot| &slot.config.name);
        match names.clone().position(|known| *known == *name) {
            Some(index) => Ok(ProprioWriter::new(&self.0, index)),
            None => Err(UnknownName::new("proprio", name, names)),
        }
    }

    /// The writer of the stream declared at `index`, from 0; `None` when there are not so many.
    pub fn proprio_at(&self, index: usize) -> Option<ProprioWriter> {
        (index < self.0.proprios.len()).then(|| ProprioWriter::new(&self.0, index))
    }

    /// The latest values of a proprioception stream; `None` when it has delivered none, or no stream
    /// bears the name.
    pub(crate) fn latest_proprio(&self, name: &str) -> Option<Array> {
        let slot = self.0.proprios.iter().find(|slot| *slot.config.name == *name)?;
        let has_delivered = slot.deliveries(|updates| updates.count()) > 0;
        has_delivered.then(|| slot.snapshot().values)
    }

    /// The writers of all proprioception streams, in declaration order.
    pub fn proprios(&self) -> impl ExactSizeIterator<Item = ProprioWriter> {
        (0..self.0.proprios.len()).map(|index| ProprioWriter::new(&self.0, index))
    }
}

/// Updates by name, each the same as the call on the sensor's writer. A thread that updates often
/// keeps the writer and saves the look-up.
impl Sensors {
    /// Publishes a camera's image, captured now by the clock. See [`CameraWriter::update_image`].
    ///
    /// # Errors
    /// As there, and when no camera bears the name.
    pub fn update_image<'a>(
        &self,
        camera: &str,
        image: impl Into<Reading<'a>>,
    ) -> Result<(), SensorError> {
        self.publish(camera, CameraFrame::new().image(image))
    }

    /// Publishes a camera's image with its capture time, in monotonic seconds. See
    /// [`CameraWriter::update_image_at`].
    ///
    /// # Errors
    /// As there, and when no camera bears the name.
    pub fn update_image_at<'a>(
        &self,
        camera: &str,
        image: impl Into<Reading<'a>>,
        captured_at: f64,
    ) -> Result<(), SensorError> {
        self.publish(camera, CameraFrame::new().image(image).captured_at(captured_at))
    }

    /// Publishes a camera's depth map. See [`CameraWriter::update_depth`].
    ///
    /// # Errors
    /// As there, and when no camera bears the name.
    pub fn update_depth<'a>(
        &self,
        camera: &str,
        depth: impl Into<Reading<'a>>,
    ) -> Result<(), SensorError> {
        self.publish(camera, CameraFrame::new().depth(depth))
    }

    /// Publishes a camera's K, in pixels.
    ///
    /// # Errors
    /// When no camera bears the name.
    pub fn update_intrinsics(
        &self,
        camera: &str,
        intrinsics: Matrix3<f64>,
    ) -> Result<(), SensorError> {
        self.0.cameras[self.index_of_camera(camera)?].update_intrinsics(intrinsics);
        Ok(())
    }

    /// Publishes a camera's T, camera to world, translation in metres.
    ///
    /// # Errors
    /// When no camera bears the name.
    pub fn update_extrinsics(
        &self,
        camera: &str,
        extrinsics: Matrix4<f64>,
    ) -> Result<(), SensorError> {
        self.0.cameras[self.index_of_camera(camera)?].update_extrinsics(extrinsics);
        Ok(())
    }

    /// Publishes several parts of a camera together. See [`CameraWriter::publish`].
    ///
    /// # Errors
    /// As there, and when no camera bears the name.
    pub fn publish(&self, camera: &str, frame: CameraFrame<'_>) -> Result<(), SensorError> {
        self.0.cameras[self.index_of_camera(camera)?].publish(frame, self.0.clock())
    }

    /// Publishes the values of a proprioception stream. See [`ProprioWriter::update`].
    ///
    /// # Errors
    /// As there, and when no stream bears the name.
    pub fn update_proprio<'a>(
        &self,
        proprio: &str,
        values: impl Into<Reading<'a>>,
    ) -> Result<(), SensorError> {
        self.proprio(proprio)?.update(values)
    }
}

/// Shows the names, not the frames.
impl fmt::Debug for Sensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cameras: Vec<_> = self.0.cameras.iter().map(|slot| &slot.config.name).collect();
        let proprios: Vec<_> = self.0.proprios.iter().map(|slot| &slot.config.name).collect();
        f.debug_struct("Sensors")
            .field("cameras", &cameras)
            .field("proprios", &proprios)
            .finish_non_exhaustive()
    }
}
