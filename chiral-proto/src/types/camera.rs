use std::time::Duration;

use nalgebra::{Matrix3, Matrix4};

use super::array::Array;
use super::dtype::Dtype;
use super::name::Name;
use super::shape::Shape;

/// A camera as declared to [`Sensors`](crate::sensors::Sensors): what its buffers look like and
/// where it is to begin with.
///
/// ```
/// use chiral_proto::{CameraConfig, Dtype};
/// use nalgebra::Matrix3;
///
/// let wrist = CameraConfig::new("wrist_cam", [480, 640, 3])
///     .depth([480, 640])
///     .intrinsics(Matrix3::new(600.0, 0.0, 320.0, 0.0, 600.0, 240.0, 0.0, 0.0, 1.0));
/// assert_eq!(wrist.image_dtype, Dtype::U8);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// The name by which a policy looks the camera up.
    pub name: Name,
    /// `[H, W, C]`, or `[H, W]` for a grayscale camera.
    pub image_shape: Shape,
    /// The image's element type; `uint8` unless set.
    pub image_dtype: Dtype,
    /// Shape and dtype of the depth map; `None` for a camera without depth.
    pub depth: Option<(Shape, Dtype)>,
    /// K, in pixels; the identity unless set.
    pub intrinsics: Matrix3<f64>,
    /// T, camera to world, in metres; the identity unless set.
    pub extrinsics: Matrix4<f64>,
    /// How old the latest image may be, and what becomes of an older one; `None`, unless set, for
    /// an image that is shown however old it is.
    pub max_age: Option<(Duration, WhenStale)>,
}

/// What a snapshot does with a camera whose latest image is older than
/// [`CameraConfig::max_age`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenStale {
    /// It shows the old image. [`CameraStats`](crate::sensors::CameraStats) count how often.
    Hold,
    /// It shows the old image and says so: the observation's `extra` has a map `stale_cameras`
    /// from the camera's name to the image's age in seconds.
    Flag,
    /// It leaves the camera out, as if the robot had none of that name.
    Omit,
    /// [`Sensors::try_snapshot`](crate::sensors::Sensors::try_snapshot) is an error that names the
    /// camera; a [server](crate::server::Server) that answers with a snapshot then ends the
    /// connection with these words. [`Sensors::snapshot`](crate::sensors::Sensors::snapshot),
    /// which cannot fail, does as for [`Flag`](Self::Flag).
    Fail,
}

impl CameraConfig {
    /// A camera without depth, with `uint8` images and identity matrices.
    pub fn new(name: impl Into<Name>, image_shape: impl Into<Shape>) -> Self {
        Self {
            name: name.into(),
            image_shape: image_shape.into(),
            image_dtype: Dtype::U8,
            depth: None,
            intrinsics: Matrix3::identity(),
            extrinsics: Matrix4::identity(),
            max_age: None,
        }
    }

    /// The camera whose image counts as stale when the next has not been published for so long, by
    /// the sensors' [clock](crate::sensors::Sensors::with_clock), which is needed for it. Until the
    /// first image the time counts from the making of the sensors.
    ///
    /// ```
    /// use std::time::Duration;
    /// use chiral_proto::{CameraConfig, WhenStale};
    ///
    /// // A policy that is shown an image of half a second ago is blind: better it is told.
    /// let wrist = CameraConfig::new("wrist_cam", [480, 640, 3])
    ///     .max_age(Duration::from_millis(500), WhenStale::Omit);
    /// ```
    #[must_use]
    pub fn max_age(mut self, max_age: Duration, when_stale: WhenStale) -> Self {
        self.max_age = Some((max_age, when_stale));
        self
    }

    /// The camera with another element type for its images.
    #[must_use]
    pub fn image_dtype(mut self, dtype: Dtype) -> Self {
        self.image_dtype = dtype;
        self
    }

    /// The camera with a `float32` depth map, in metres along the optical axis.
    #[must_use]
    pub fn depth(self, shape: impl Into<Shape>) -> Self {
        self.depth_of(shape, Dtype::F32)
    }

    /// The camera with a depth map of any element type.
    #[must_use]
    pub fn depth_of(mut self, shape: impl Into<Shape>, dtype: Dtype) -> Self {
        self.depth = Some((shape.into(), dtype));
        self
    }

    /// The camera with its initial K.
    #[must_use]
    pub fn intrinsics(mut self, intrinsics: Matrix3<f64>) -> Self {
        self.intrinsics = intrinsics;
        self
    }

    /// The camera with its initial T, camera to world.
    #[must_use]
    pub fn extrinsics(mut self, extrinsics: Matrix4<f64>) -> Self {
        self.extrinsics = extrinsics;
        self
    }
}

/// One camera of an [`Observation`](crate::Observation): image, depth, K and T of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// The camera's name.
    pub name: Name,
    /// When the image was captured, in monotonic seconds of the robot's clock; 0 until the first
    /// image, or where the peer says nothing.
    pub timestamp: f64,
    /// K: focal lengths and principal point, in pixels.
    pub intrinsics: Matrix3<f64>,
    /// T: the camera's pose, camera to world, translation in metres.
    pub extrinsics: Matrix4<f64>,
    /// The image, `[H, W, C]` or `[H, W]`, usually `uint8`.
    pub image: Array,
    /// The depth map, `[H, W]` and usually `float32` metres, if the camera has one. Its resolution
    /// may differ from the image's.
    pub depth: Option<Array>,
}
