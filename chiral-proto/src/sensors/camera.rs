use std::fmt;

use bytemuck::Pod;
use bytes::Bytes;
use nalgebra::{Matrix3, Matrix4};

use super::Shared;
use super::channel::Channel;
use super::error::{Part, SensorError};
use super::frame::CameraFrame;
use super::reading::{Reading, SensorBuffer};
use crate::sync::{Arc, Mutex, lock};
use crate::{Camera, CameraConfig, Element};

/// One declared camera and its latest frame.
pub(super) struct CameraSlot {
    pub(super) config: CameraConfig,
    image: Channel,
    depth: Option<Channel>,
    latest: Mutex<Latest>,
}

/// What belongs together. Cloning it counts two references up and copies two matrices: that, or
/// an exchange of the same fields, is all that ever happens under the lock.
#[derive(Clone)]
struct Latest {
    timestamp: f64,
    intrinsics: Matrix3<f64>,
    extrinsics: Matrix4<f64>,
    image: Bytes,
    depth: Option<Bytes>,
    sequence: u64,
}

impl CameraSlot {
    pub(super) fn new(config: CameraConfig) -> Result<Self, SensorError> {
        let name = &config.name;
        let image = Channel::new(Part::Image, name, config.image_dtype, &config.image_shape)?;
        let depth = config.depth.as_ref();
        let depth = depth
            .map(|(shape, dtype)| Channel::new(Part::Depth, name, *dtype, shape))
            .transpose()?;
        let latest = Mutex::new(Latest {
            timestamp: 0.0,
            intrinsics: config.intrinsics,
            extrinsics: config.extrinsics,
            image: image.zeros()?,
            depth: depth.as_ref().map(Channel::zeros).transpose()?,
            sequence: 0,
        });
        Ok(Self { config, image, depth, latest })
    }

    pub(super) fn snapshot(&self) -> Camera {
        let latest = lock(&self.latest).clone();
        Camera {
            name: self.config.name.clone(),
            timestamp: latest.timestamp,
            intrinsics: latest.intrinsics,
            extrinsics: latest.extrinsics,
            image: self.image.array(latest.image),
            depth: self.depth.as_ref().zip(latest.depth).map(|(depth, bytes)| depth.array(bytes)),
        }
    }

    pub(super) fn publish(
        &self,
        frame: CameraFrame<'_>,
        clock: Option<&dyn Fn() -> f64>,
    ) -> Result<(), SensorError> {
        // The clock first: what comes after takes time. All that can fail or take long, before
        // the lock.
        let timestamp = match (frame.captured_at, &frame.image, clock) {
            (Some(given), _, _) => Some(given),
            (None, None, _) => None,
            (None, Some(_), Some(clock)) => Some(clock()),
            (None, Some(_), None) => {
                return Err(SensorError::NoClock { name: self.config.name.clone() });
            }
        };
        let image = frame.image.map(|image| self.image.accept(image)).transpose()?;
        let depth = frame.depth.map(|depth| self.depth_channel()?.accept(depth)).transpose()?;

        let mut latest = lock(&self.latest);
        latest.timestamp = timestamp.unwrap_or(latest.timestamp);
        latest.intrinsics = frame.intrinsics.unwrap_or(latest.intrinsics);
        latest.extrinsics = frame.extrinsics.unwrap_or(latest.extrinsics);
        latest.sequence += u64::from(image.is_some());
        let old_image = image.map(|image| std::mem::replace(&mut latest.image, image));
        let old_depth = depth.map(|depth| latest.depth.replace(depth));
        drop(latest);
        // Only now: the last handle to a buffer gives its memory back.
        drop((old_image, old_depth));
        Ok(())
    }

    fn depth_channel(&self) -> Result<&Channel, SensorError> {
        self.depth.as_ref().ok_or_else(|| SensorError::NoDepth { name: self.config.name.clone() })
    }
}

/// The handle with which a sensor thread writes one camera.
///
/// Cloning it is cheap; it may be sent to and shared between threads. A write waits for no other
/// camera, and for a snapshot or another writer of the same camera only while they exchange
/// references, nanoseconds at any resolution. Of two writers the one that comes later counts,
/// whatever their capture times.
#[derive(Clone)]
pub struct CameraWriter {
    shared: Arc<Shared>,
    index: usize,
}

impl CameraWriter {
    pub(super) fn new(shared: &Arc<Shared>, index: usize) -> Self {
        Self { shared: shared.clone(), index }
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
        lock(&self.slot().latest).intrinsics = intrinsics;
    }

    /// Publishes T, camera to world, translation in metres.
    pub fn update_extrinsics(&self, extrinsics: Matrix4<f64>) {
        lock(&self.slot().latest).extrinsics = extrinsics;
    }

    /// Publishes the parts of a frame together: a snapshot shows all of them or none.
    ///
    /// # Errors
    /// When image or depth are not of the declared dtype, length or shape, there is a depth map
    /// and the camera has none, or there is an image without a capture time and the sensors have
    /// no clock. Then nothing of the frame is published.
    pub fn publish(&self, frame: CameraFrame<'_>) -> Result<(), SensorError> {
        self.slot().publish(frame, self.shared.clock())
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

    /// How many images were published; 0 while the camera shows the zeros it began with.
    pub fn sequence(&self) -> u64 {
        lock(&self.slot().latest).sequence
    }
}

impl fmt::Debug for CameraWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CameraWriter({:?})", self.config().name)
    }
}
