//! Pinhole cameras and what they see.
//!
//! The convention is `OpenCV`'s: x to the right of the image, y down, z out of the lens. Pixel
//! `(u, v)` = (column, row) has its centre at whole numbers, and depth is measured along z, so the
//! point seen in a pixel is `depth * K⁻¹ [u, v, 1]` in the camera and `T` times that in the world.

use nalgebra::{Isometry3, Matrix3, Matrix4, Point3, Rotation3, UnitQuaternion, Vector3};
use thiserror::Error;

/// A pinhole camera without distortion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Columns of the image.
    pub width: usize,
    /// Rows of the image.
    pub height: usize,
    /// Focal length in pixels, the same in both directions.
    pub focal: f64,
    /// Where the camera is in the world (camera-to-world).
    pub pose: Isometry3<f64>,
}

impl Camera {
    /// A camera whose image spans the angle `field_of_view` (radians) from left to right.
    pub fn new(width: usize, height: usize, field_of_view: f64, pose: Isometry3<f64>) -> Self {
        let focal = 0.5 * width as f64 / (0.5 * field_of_view).tan();
        Self { width, height, focal, pose }
    }

    /// The pixel on the optical axis: the middle of the image.
    pub fn principal_point(&self) -> (f64, f64) {
        (0.5 * (self.width as f64 - 1.0), 0.5 * (self.height as f64 - 1.0))
    }

    /// The intrinsic matrix K: from the camera's axes to homogeneous pixel coordinates.
    pub fn intrinsics(&self) -> Matrix3<f64> {
        let (cx, cy) = self.principal_point();
        Matrix3::new(self.focal, 0.0, cx, 0.0, self.focal, cy, 0.0, 0.0, 1.0)
    }

    /// The extrinsic matrix T: from the camera's axes to the world's.
    pub fn camera_to_world(&self) -> Matrix4<f64> {
        self.pose.to_homogeneous()
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }
}

/// The pose of a camera at `eye` that looks at `at`, with world z upwards in its image.
///
/// `at` must not be straight above or below `eye`.
pub fn look_at(eye: Point3<f64>, at: Point3<f64>) -> Isometry3<f64> {
    let forward = (at - eye).normalize();
    let right = forward.cross(&Vector3::z()).normalize();
    let down = forward.cross(&right);
    let axes = Matrix3::from_columns(&[right, down, forward]);
    let rotation = UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(axes));
    Isometry3::from_parts(eye.coords.into(), rotation)
}

/// One image with depth, and where it was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraFrame {
    /// Columns of the image.
    pub width: usize,
    /// Rows of the image.
    pub height: usize,
    /// Red, green and blue of every pixel, row by row: `height * width * 3` bytes.
    pub rgb: Vec<u8>,
    /// Depth of every pixel along the optical axis, row by row: `height * width` metres; 0.0
    /// where nothing was hit.
    pub depth: Vec<f32>,
    /// The intrinsic matrix K, see [`Camera::intrinsics`].
    pub intrinsics: Matrix3<f64>,
    /// The extrinsic matrix T, see [`Camera::camera_to_world`].
    pub camera_to_world: Matrix4<f64>,
}

impl CameraFrame {
    /// A black frame without depth, taken by `camera`.
    pub fn blank(camera: &Camera) -> Self {
        Self {
            width: camera.width,
            height: camera.height,
            rgb: vec![0; camera.pixels() * 3],
            depth: vec![0.0; camera.pixels()],
            intrinsics: camera.intrinsics(),
            camera_to_world: camera.camera_to_world(),
        }
    }

    /// This frame as the policy takes it.
    ///
    /// # Errors
    /// If the buffers no longer have the sizes that `width` and `height` call for.
    pub fn view(&self) -> Result<View<'_>, ViewError> {
        View::new(
            self.width,
            self.height,
            &self.rgb,
            &self.depth,
            self.intrinsics,
            self.camera_to_world,
        )
    }
}

/// Why buffers do not make a [`View`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ViewError {
    /// The image has the wrong size.
    #[error("image has {found} bytes, {expected} expected for {width}x{height} RGB")]
    Image {
        /// Columns of the image.
        width: usize,
        /// Rows of the image.
        height: usize,
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The depth map has the wrong size.
    #[error(
        "depth map has {found} values, {expected} expected: one for each of {width}x{height} pixels"
    )]
    Depth {
        /// Columns of the image.
        width: usize,
        /// Rows of the image.
        height: usize,
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
}

/// A borrowed camera frame; the same data as in [`CameraFrame`], with sizes that were checked.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) width: usize,
    pub(crate) rgb: &'a [u8],
    pub(crate) depth: &'a [f32],
    pub(crate) intrinsics: Matrix3<f64>,
    pub(crate) camera_to_world: Matrix4<f64>,
}

impl<'a> View<'a> {
    /// A view of an RGB image (`height * width * 3` bytes) and its depth map (`height * width`
    /// metres, 0.0 where unknown), with K and the camera-to-world T.
    ///
    /// # Errors
    /// If a buffer does not have the size that `width` and `height` call for.
    pub fn new(
        width: usize,
        height: usize,
        rgb: &'a [u8],
        depth: &'a [f32],
        intrinsics: Matrix3<f64>,
        camera_to_world: Matrix4<f64>,
    ) -> Result<Self, ViewError> {
        let pixels = width.saturating_mul(height);
        let bytes = pixels.saturating_mul(3);
        if rgb.len() != bytes {
            return Err(ViewError::Image { width, height, found: rgb.len(), expected: bytes });
        }
        if depth.len() != pixels {
            return Err(ViewError::Depth { width, height, found: depth.len(), expected: pixels });
        }
        Ok(Self { width, rgb, depth, intrinsics, camera_to_world })
    }

    /// The world point seen in pixel number `index` (row by row), which must be in the image.
    /// `inverse` is K⁻¹. `None` where there is no finite depth in front of the lens.
    pub(crate) fn point(&self, index: usize, inverse: &Matrix3<f64>) -> Option<Point3<f64>> {
        let depth = f64::from(self.depth[index]);
        if !(depth > 0.0 && depth.is_finite()) {
            return None;
        }
        let pixel = Vector3::new((index % self.width) as f64, (index / self.width) as f64, 1.0);
        let in_camera = inverse * pixel * depth;
        Some(Point3::from((self.camera_to_world * in_camera.push(1.0)).xyz()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_at_centres_the_object_with_up_at_the_top() {
        let pose = look_at(Point3::new(1.0, 2.0, 3.0), Point3::new(0.0, 0.0, 1.0));
        let seen = pose.inverse_transform_point(&Point3::new(0.0, 0.0, 1.0));
        assert!((seen - Point3::new(0.0, 0.0, 3.0)).norm() < 1e-12);
        assert!(pose.inverse_transform_vector(&Vector3::z()).y < 0.0);
        assert!((pose.rotation.to_rotation_matrix().matrix().determinant() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_field_of_view_reaches_the_image_edges() {
        let camera = Camera::new(100, 50, 90_f64.to_radians(), Isometry3::identity());
        let edge = camera.intrinsics() * Vector3::new(1.0, 0.0, 1.0);
        assert!((edge.x - 99.5).abs() < 1e-9 && (edge.y - 24.5).abs() < 1e-9);
    }

    #[test]
    fn a_wrong_buffer_size_error_names_the_buffer() {
        let view = |rgb: &[u8], depth: &[f32]| {
            View::new(2, 2, rgb, depth, Matrix3::identity(), Matrix4::identity()).map(|_| ())
        };
        assert_eq!(view(&[0; 12], &[0.0; 4]), Ok(()));
        let image = view(&[0; 11], &[0.0; 4]).unwrap_err();
        assert_eq!(image.to_string(), "image has 11 bytes, 12 expected for 2x2 RGB");
        assert!(matches!(view(&[0; 12], &[0.0; 5]), Err(ViewError::Depth { found: 5, .. })));
    }
}
