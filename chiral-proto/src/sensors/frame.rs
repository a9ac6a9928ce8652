use nalgebra::{Matrix3, Matrix4};

use super::reading::Reading;

/// What a camera publishes *together*: any of image, depth, K and T, and the capture time.
///
/// A part that is left out keeps its latest value. No snapshot shows some parts of a frame and not
/// the others.
///
/// ```
/// use chiral_proto::{CameraConfig, sensors::{CameraFrame, Sensors}};
/// use nalgebra::{Matrix4, Vector3};
///
/// let wrist = CameraConfig::new("wrist_cam", [2, 2, 3]).depth([2, 2]);
/// let sensors = Sensors::new([wrist], [])?;
/// let pose = Matrix4::new_translation(&Vector3::new(0.1, 0.0, 0.5));
/// let frame = CameraFrame::new().image(&[128_u8; 12]).depth(vec![0.7_f32; 4]);
/// sensors.camera("wrist_cam")?.publish(frame.extrinsics(pose).captured_at(0.02))?;
///
/// let observation = sensors.snapshot(0.03);
/// assert_eq!(observation["wrist_cam"].extrinsics, pose);
/// # Ok::<(), chiral_proto::sensors::SensorError>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a frame does nothing until it is published"]
pub struct CameraFrame<'a> {
    pub(super) image: Option<Reading<'a>>,
    pub(super) depth: Option<Reading<'a>>,
    pub(super) intrinsics: Option<Matrix3<f64>>,
    pub(super) extrinsics: Option<Matrix4<f64>>,
    pub(super) captured_at: Option<f64>,
}

impl<'a> CameraFrame<'a> {
    /// A frame without any part.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frame with an image, `[H, W, C]` or `[H, W]`; see [`Reading`] for what is copied.
    pub fn image(mut self, image: impl Into<Reading<'a>>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// The frame with a depth map, `[H, W]`, usually `float32` metres.
    pub fn depth(mut self, depth: impl Into<Reading<'a>>) -> Self {
        self.depth = Some(depth.into());
        self
    }

    /// The frame with K, in pixels.
    pub fn intrinsics(mut self, intrinsics: Matrix3<f64>) -> Self {
        self.intrinsics = Some(intrinsics);
        self
    }

    /// The frame with T, camera to world, translation in metres.
    pub fn extrinsics(mut self, extrinsics: Matrix4<f64>) -> Self {
        self.extrinsics = Some(extrinsics);
        self
    }

    /// The frame with its capture time, in monotonic seconds. Without it a frame that has an
    /// image takes the time of the [clock](super::Sensors::with_clock), and a frame without an
    /// image leaves the camera's timestamp as it is.
    pub fn captured_at(mut self, seconds: f64) -> Self {
        self.captured_at = Some(seconds);
        self
    }
}
