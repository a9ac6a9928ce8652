//! The three cameras of the robot.

use nalgebra::{Isometry3, Point3, Rotation3, UnitQuaternion, Vector3};

use crate::arm::Posture;
use crate::camera::{Camera, look_at};

/// Where one of the robot's cameras sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Viewpoint {
    /// On the hand, looking over the fingers at what they reach for.
    Wrist,
    /// Across the table, facing the arm.
    Front,
    /// At the arm's right hand.
    Side,
}

impl Viewpoint {
    /// All three, in the order in which they are declared to a client.
    pub const ALL: [Self; 3] = [Self::Wrist, Self::Front, Self::Side];

    /// The camera's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrist => "wrist_cam",
            Self::Front => "front_cam",
            Self::Side => "side_cam",
        }
    }

    /// The camera with an image of `width` by `height` pixels, placed for this posture of the arm.
    pub fn camera(self, width: usize, height: usize, posture: &Posture) -> Camera {
        let (field_of_view, pose) = match self {
            Self::Wrist => (78.0_f64, posture.tip * wrist_mount()),
            Self::Front => {
                (48.0, look_at(Point3::new(1.75, 0.6, 0.9), Point3::new(0.24, 0.0, 0.31)))
            }
            Self::Side => {
                (47.0, look_at(Point3::new(0.65, -1.7, 0.85), Point3::new(0.28, 0.0, 0.28)))
            }
        };
        Camera::new(width, height, field_of_view.to_radians(), pose)
    }
}

/// The wrist camera in the frame of the tip: beside the hand, tilted so that the fingertips are
/// in the lower half of its image.
pub(crate) fn wrist_mount() -> Isometry3<f64> {
    const TILT: f64 = 0.2;
    // The image's right, down and forward are the hand's -y, x and z.
    let upright = Rotation3::from_basis_unchecked(&[-Vector3::y(), Vector3::x(), Vector3::z()]);
    let tilt = UnitQuaternion::from_axis_angle(&Vector3::x_axis(), -TILT);
    let rotation = UnitQuaternion::from_rotation_matrix(&upright) * tilt;
    Isometry3::from_parts(Vector3::new(-0.075, 0.0, -0.115).into(), rotation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{Joints, home};

    #[test]
    fn the_wrist_camera_moves_with_the_hand_and_sees_the_tip() {
        for angles in [home(), home() + Joints::repeat(0.2)] {
            let posture = Posture::at(&angles);
            let camera = Viewpoint::Wrist.camera(160, 120, &posture);
            let tip = Point3::from(posture.tip.translation.vector);
            let seen = camera.pose.inverse_transform_point(&tip);
            assert!(seen.z > 0.1 && seen.x.abs() < 1e-9);
            let pixel = camera.intrinsics() * seen.coords / seen.z;
            assert!((60.0..110.0).contains(&pixel.y), "tip in row {}", pixel.y);
        }
    }

    #[test]
    fn the_fixed_cameras_ignore_the_arm() {
        for viewpoint in [Viewpoint::Front, Viewpoint::Side] {
            let camera = |angles| viewpoint.camera(160, 120, &Posture::at(&angles));
            assert_eq!(camera(home()), camera(Joints::zeros()));
        }
    }
}
