use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytemuck::Pod;
use bytes::Bytes;
use nalgebra::{Matrix3, Matrix4};

use super::Shared;
use super::channel::Channel;
use super::deliveries::{Deliveries, LatestFrame, Woken};
use super::error::{Part, SensorError, StaleCamera};
use super::frame::CameraFrame;
use super::reading::{Reading, SensorBuffer, UntypedBuffer};
use super::stats::{CameraState, CameraStats};
use crate::pool::SharedSource;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::{Camera, CameraConfig, Element, WhenStale};

/// One declared camera and its latest frame.
pub(super) struct CameraSlot {
    pub(super) config: CameraConfig,
    image: Channel,
    depth: Option<Channel>,
    latest: Mutex<Latest>,
}

/// What belongs together. Counting two references up and copying two matrices, or exchanging the
/// same fields, is all that ever happens under the lock.
struct Latest {
    timestamp: f64,
    /// When the image was published, by the sensors' clock.
    published_at: Option<f64>,
    intrinsics: Matrix3<f64>,
    extrinsics: Matrix4<f64>,
    image: Bytes,
    depth: Option<Bytes>,
    /// Of images.
    deliveries: Deliveries,
    /// Writers that have published an image.
    writers: usize,
    /// The last of them was dropped, and nobody has published since.
    is_stopped: bool,
    /// The image that a snapshot showed last.
    shown: Option<u64>,
    repeated: u64,
    stale: u64,
}

/// A camera whose image is over its maximal age, and what to do about it.
pub(super) struct Stale {
    pub(super) camera: StaleCamera,
    pub(super) action: WhenStale,
}

impl CameraSlot {
    pub(super) fn new(
        config: CameraConfig,
        source: Option<&SharedSource>,
    ) -> Result<Self, SensorError> {
        let CameraConfig { name, image_dtype, image_shape, .. } = &config;
        let image = Channel::new(Part::Image, name, *image_dtype, image_shape, source)?;
        let depth = config.depth.as_ref();
        let depth = depth
            .map(|(shape, dtype)| Channel::new(Part::Depth, name, *dtype, shape, source))
            .transpose()?;
        let latest = Mutex::new(Latest {
            timestamp: 0.0,
            published_at: None,
            intrinsics: config.intrinsics,
            extrinsics: config.extrinsics,
            image: image.zeros()?,
            depth: depth.as_ref().map(Channel::zeros).transpose()?,
            deliveries: Deliveries::default(),
            writers: 0,
            is_stopped: false,
            shown: None,
            repeated: 0,
            stale: 0,
        });
        Ok(Self { config, image, depth, latest })
    }

    /// The camera as it is now. `times` are those of the making of the sensors and of now, by their
    /// clock; without them nothing is stale.
    pub(super) fn snapshot(&self, times: Option<Times>) -> (Camera, Option<Stale>) {
        let mut latest = lock(&self.latest);
        let stale = self.find_stale(&latest, times);
        latest.stale += u64::from(stale.is_some());
        let number = latest.deliveries.count();
        let is_omitted = stale.as_ref().is_some_and(|stale| stale.action == WhenStale::Omit);
        if !is_omitted {
            let is_repeated = latest.shown.replace(number) == Some(number);
            latest.repeated += u64::from(is_repeated);
        }
        (self.read(latest), stale)
    }

    /// The camera as it is now, if more than `after` images were published; else the next one
    /// wakes the task.
    pub(super) fn poll_frame(
        &self,
        after: u64,
        key: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<LatestFrame> {
        let mut latest = lock(&self.latest);
        ready!(latest.deliveries.poll(after, key, cx));
        let number = latest.deliveries.count();
        Poll::Ready(LatestFrame { number, camera: self.read(latest) })
    }

    pub(super) fn deliveries<T>(&self, with: impl FnOnce(&mut Deliveries) -> T) -> T {
        with(&mut lock(&self.latest).deliveries)
    }

    fn read(&self, latest: MutexGuard<'_, Latest>) -> Camera {
        let (image, depth) = (latest.image.clone(), latest.depth.clone());
        let (timestamp, intrinsics, extrinsics) =
            (latest.timestamp, latest.intrinsics, latest.extrinsics);
        drop(latest);
        Camera {
            name: self.config.name.clone(),
            timestamp,
            intrinsics,
            extrinsics,
            image: self.image.array(image),
            depth: self.depth.as_ref().zip(depth).map(|(depth, bytes)| depth.array(bytes)),
        }
    }

    fn find_stale(&self, latest: &Latest, times: Option<Times>) -> Option<Stale> {
        let ((max_age, action), Times { start, now }) = self.config.max_age.zip(times)?;
        let age = seconds(now - latest.published_at.unwrap_or(start));
        let name = || self.config.name.clone();
        (age > max_age)
            .then(|| Stale { camera: StaleCamera { name: name(), age, max_age }, action })
    }

    /// The camera as one that is over its maximal age, if it is.
    pub(super) fn stale(&self, times: Option<Times>) -> Option<StaleCamera> {
        self.find_stale(&lock(&self.latest), times).map(|stale| stale.camera)
    }

    pub(super) fn stats(&self, times: Option<Times>, now: Option<f64>) -> CameraStats {
        let latest = lock(&self.latest);
        let state = if latest.is_stopped {
            CameraState::Stopped
        } else if self.find_stale(&latest, times).is_some() {
            CameraState::Stale
        } else if latest.deliveries.count() == 0 {
            CameraState::Waiting
        } else {
            CameraState::Live
        };
        CameraStats {
            name: self.config.name.clone(),
            state,
            images: latest.deliveries.count(),
            age: latest
                .published_at
                .zip(now)
                .map(|(published_at, now)| seconds(now - published_at)),
            repeated: latest.repeated,
            stale: latest.stale,
        }
    }

    /// Counts a writer that has published its first image.
    fn add_writer(&self) {
        lock(&self.latest).writers += 1;
    }

    fn remove_writer(&self) {
        let mut latest = lock(&self.latest);
        latest.writers -= 1;
        latest.is_stopped = latest.writers == 0;
    }

    pub(super) fn update_intrinsics(&self, intrinsics: Matrix3<f64>) {
        lock(&self.latest).intrinsics = intrinsics;
    }

    pub(super) fn update_extrinsics(&self, extrinsics: Matrix4<f64>) {
        lock(&self.latest).extrinsics = extrinsics;
    }

    pub(super) fn publish(
        &self,
        frame: CameraFrame<'_>,
        clock: Option<&dyn Fn() -> f64>,
    ) -> Result<(), SensorError> {
        // The clock first: what comes after takes time. All that can fail or take long, before
        // the lock.
        let published_at = frame.image.as_ref().and(clock).map(|clock| clock());
        let timestamp = frame.captured_at.or(published_at);
        if frame.image.is_some() && timestamp.is_none() {
            return Err(SensorError::NoClock { name: self.config.name.clone() });
        }
        let image = frame.image.map(|image| self.image.accept(image)).transpose()?;
        let depth = frame.depth.map(|depth| self.depth_channel()?.accept(depth)).transpose()?;

        let mut latest = lock(&self.latest);
        latest.timestamp = timestamp.unwrap_or(latest.timestamp);
        latest.intrinsics = frame.intrinsics.unwrap_or(latest.intrinsics);
        latest.extrinsics = frame.extrinsics.unwrap_or(latest.extrinsics);
        latest.published_at = published_at.or(latest.published_at);
        let woken = match image {
            Some(_) => latest.deliveries.add(),
            None => Woken::default(),
        };
        latest.is_stopped &= image.is_none();
        let old_image = image.map(|image| std::mem::replace(&mut latest.image, image));
        let old_depth = depth.map(|depth| latest.depth.replace(depth));
        drop(latest);
        // Only now: the last handle to a buffer gives its memory back.
        drop((old_image, old_depth));
        woken.wake();
        Ok(())
    }

    /// How long ago, in seconds, the frame of a capture time was the newest, by the clock's `now`:
    /// the time since the latest image was published, and the time between the two captures. `None`
    /// before the first image.
    pub(super) fn age_of(&self, timestamp: f64, now: f64) -> Option<f64> {
        let latest = lock(&self.latest);
        let (published_at, newest) = (latest.published_at?, latest.timestamp);
        drop(latest);
        let age = (now - published_at).max(0.0) + (newest - timestamp).max(0.0);
        age.is_finite().then_some(age)
    }

    fn depth_channel(&self) -> Result<&Channel, SensorError> {
        self.depth.as_ref().ok_or_else(|| SensorError::NoDepth { name: self.config.name.clone() })
    }
}

/// Two times by the sensors' clock, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// When the sensors were made.
    pub(super) start: f64,
    pub(super) now: f64,
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// The handle with which a sensor thread writes one camera.
///
/// When the last writer that has published an image is dropped, as at the end of the camera's
/// thread, the camera counts as [stopped](CameraState::Stopped) until somebody publishes again.
///
/// Cloning it is cheap; it may be sent to and shared between threads. A write waits for no other
/// camera, and for a snapshot or another writer of the same camera only while they exchange
/// references, nanoseconds at any resolution. Of two writers the one that comes later counts,
/// whatever their capture times.
pub struct CameraWriter {
    shared: Arc<Shared>,
    index: usize,
    has_published: AtomicBool,
}

impl Clone for CameraWriter {
    fn clone(&self) -> Self {
        Self::new(&self.shared, self.index)
    }
}

impl Drop for CameraWriter {
    fn drop(&mut self) {
        if *self.has_published.get_mut() {
            self.slot().remove_writer();
        }
    }
}

impl CameraWriter {
    pub(super) fn new(shared: &Arc<Shared>, index: usize) -> Self {
        Self { shared: shared.clone(), index, has_published: AtomicBool::new(false) }
    }

    fn slot(&self) -> &CameraSlot {
        &self.shared.cameras[self.index]
    }

    /// The camera as it was declared.
    pub fn config(&self) -> &CameraConfig {
        &self.slot().config
    }

    /// Publishes an image captured now, by the [clock](super::Sensors::with_clock), which is read
    /// as the call begins.
    ///
    /// See [`Reading`] for what is copied and what is taken over.
    ///
    /// # Errors
    /// When dtype, length or shape are not the declared ones, or when the sensors have no clock;
    /// the old frame stays.
    pub fn update_image<'a>(&self, image: impl Into<Reading<'a>>) -> Result<(), SensorError> {
        self.publish(CameraFrame::new().image(image))
    }

    /// Publishes an image with its capture time, in monotonic seconds.
    ///
    /// # Errors
    /// When dtype, length or shape are not the declared ones; the old frame stays.
    pub fn update_image_at<'a>(
        &self,
        image: impl Into<Reading<'a>>,
        captured_at: f64,
    ) -> Result<(), SensorError> {
        self.publish(CameraFrame::new().image(image).captured_at(captured_at))
    }

    /// Publishes a depth map. The camera's timestamp, that of the image, stays.
    ///
    /// # Errors
    /// When dtype, length or shape are not the declared ones, or the camera has no depth; the old
    /// depth map stays.
    pub fn update_depth<'a>(&self, depth: impl Into<Reading<'a>>) -> Result<(), SensorError> {
        self.publish(CameraFrame::new().depth(depth))
    }

    /// Publishes K, in pixels.
    pub fn update_intrinsics(&self, intrinsics: Matrix3<f64>) {
        self.slot().update_intrinsics(intrinsics);
    }

    /// Publishes T, camera to world, translation in metres.
    pub fn update_extrinsics(&self, extrinsics: Matrix4<f64>) {
        self.slot().update_extrinsics(extrinsics);
    }

    /// Publishes the parts of a frame together: a snapshot shows all of them or none.
    ///
    /// # Errors
    /// When image or depth are not of the declared dtype, length or shape, there is a depth map
    /// and the camera has none, or there is an image without a capture time and the sensors have
    /// no clock. Then nothing of the frame is published.
    pub fn publish(&self, frame: CameraFrame<'_>) -> Result<(), SensorError> {
        let has_image = frame.image.is_some();
        self.slot().publish(frame, self.shared.clock())?;
        if has_image && !self.has_published.swap(true, Ordering::Relaxed) {
            self.slot().add_writer();
        }
        Ok(())
    }

    /// A recycled buffer for the next image, to be filled in place and then published.
    ///
    /// # Errors
    /// When `T` is not the element of the image's dtype.
    pub fn image_buffer<T: Element + Pod>(&self) -> Result<SensorBuffer<T>, SensorError> {
        self.slot().image.buffer()
    }

    /// A recycled buffer for the next depth map, to be filled in place and then published.
    ///
    /// # Errors
    /// When `T` is not the element of the depth map's dtype, or the camera has no depth.
    pub fn depth_buffer<T: Element + Pod>(&self) -> Result<SensorBuffer<T>, SensorError> {
        self.slot().depth_channel()?.buffer()
    }

    /// As [`image_buffer`](Self::image_buffer), whatever the element type is.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn untyped_image_buffer(&self) -> Result<UntypedBuffer, SensorError> {
        self.slot().image.untyped_buffer()
    }

    /// As [`depth_buffer`](Self::depth_buffer), whatever the element type is.
    ///
    /// # Errors
    /// When the camera has no depth, or there is no memory for it.
    pub fn untyped_depth_buffer(&self) -> Result<UntypedBuffer, SensorError> {
        self.slot().depth_channel()?.untyped_buffer()
    }

    /// How many images were published; 0 while the camera shows the zeros it began with.
    pub fn sequence(&self) -> u64 {
        self.slot().deliveries(|images| images.count())
    }
}

impl fmt::Debug for CameraWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CameraWriter({:?})", self.config().name)
    }
}
