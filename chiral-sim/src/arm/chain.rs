//! Geometry of the arm: where its joints and its tip are, and how they move.

use nalgebra::{Isometry3, SMatrix, SVector, Translation3, UnitQuaternion, Vector3};

/// Number of joints of the arm.
pub const DOF: usize = 7;

/// One angle (radians) or angular rate (radians per second) for each joint, base to tip.
pub type Joints = SVector<f64, DOF>;

/// Maps joint rates to the twist of the tip in world axes: linear (m/s) above angular (rad/s).
pub type Jacobian = SMatrix<f64, 6, DOF>;

/// The direction about which a joint turns, in its own frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// About z, along the link: the joint twists the arm.
    Roll,
    /// About y, across the link: the joint bends the arm.
    Pitch,
}

impl Axis {
    /// The axis as a unit vector of the joint's frame.
    pub fn unit(self) -> Vector3<f64> {
        match self {
            Self::Roll => Vector3::z(),
            Self::Pitch => Vector3::y(),
        }
    }
}

/// A revolute joint and the rigid link that carries it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Joint {
    /// Distance from the previous joint along its z axis, metres.
    pub rise: f64,
    /// The axis of rotation.
    pub axis: Axis,
    /// Smallest reachable angle, radians.
    pub lower: f64,
    /// Largest reachable angle, radians.
    pub upper: f64,
    /// Largest speed in either direction, radians per second.
    pub max_speed: f64,
}

const fn joint(rise: f64, axis: Axis, lower: f64, upper: f64, max_speed: f64) -> Joint {
    Joint { rise, axis, lower, upper, max_speed }
}

/// The seven joints, base to tip. With every angle at zero the arm stands straight up along
/// world z; positive pitch angles bend it towards world x.
pub const JOINTS: [Joint; DOF] = [
    joint(0.16, Axis::Roll, -2.8, 2.8, 2.0),
    joint(0.18, Axis::Pitch, -1.9, 1.9, 2.0),
    joint(0.21, Axis::Roll, -2.8, 2.8, 2.4),
    joint(0.21, Axis::Pitch, 0.1, 2.6, 2.4),
    joint(0.19, Axis::Roll, -2.8, 2.8, 3.0),
    joint(0.19, Axis::Pitch, -0.6, 2.4, 3.0),
    joint(0.09, Axis::Roll, -3.0, 3.0, 3.6),
];

/// Distance from the last joint to the end-effector tip, the point between the fingertips.
pub const TIP_RISE: f64 = 0.15;

/// The resting posture: the hand hovers over the middle of the table and points straight down.
pub fn home() -> Joints {
    Joints::from([0.0, 0.1, 0.0, 1.7, 0.0, core::f64::consts::PI - 1.8, 0.0])
}

/// The greatest speed of each joint, radians per second.
pub fn max_speeds() -> Joints {
    Joints::from(JOINTS.map(|joint| joint.max_speed))
}

/// `joints` with every angle brought inside its joint's limits.
pub fn clamp_to_limits(joints: &Joints) -> Joints {
    Joints::from_fn(|i, _| joints[i].clamp(JOINTS[i].lower, JOINTS[i].upper))
}

/// Where every part of the arm is, for one set of joint angles. All poses are in the world,
/// whose origin is the middle of the arm's foot, z up.
#[derive(Debug, Clone, PartialEq)]
pub struct Posture {
    /// The frame of each joint; the link that the joint moves is fixed to it.
    pub joints: [Isometry3<f64>; DOF],
    /// The end-effector tip. Its z axis is the direction in which the hand reaches.
    pub tip: Isometry3<f64>,
}

impl Posture {
    /// Forward kinematics: the posture at these joint angles (radians; limits are not applied).
    pub fn at(angles: &Joints) -> Self {
        let mut frame = Isometry3::identity();
        let joints = core::array::from_fn(|i| {
            let Joint { rise, axis, .. } = JOINTS[i];
            frame *= Translation3::new(0.0, 0.0, rise);
            frame *= UnitQuaternion::new(axis.unit() * angles[i]);
            frame
        });
        Self { joints, tip: frame * Translation3::new(0.0, 0.0, TIP_RISE) }
    }

    /// The geometric Jacobian of the tip.
    pub fn jacobian(&self) -> Jacobian {
        let tip = self.tip.translation.vector;
        let mut jacobian = Jacobian::zeros();
        for (i, frame) in self.joints.iter().enumerate() {
            let axis = frame * JOINTS[i].axis.unit();
            let lever = tip - frame.translation.vector;
            jacobian.fixed_view_mut::<3, 1>(0, i).copy_from(&axis.cross(&lever));
            jacobian.fixed_view_mut::<3, 1>(3, i).copy_from(&axis);
        }
        jacobian
    }

    /// The direction in which the hand reaches: the tip's z axis, a unit vector.
    pub fn approach(&self) -> Vector3<f64> {
        self.tip * Vector3::z()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any angles inside the limits.
    pub(crate) fn reachable() -> impl Strategy<Value = Joints> {
        JOINTS.map(|joint| joint.lower..joint.upper).prop_map(Joints::from)
    }

    #[test]
    fn the_zero_pose_is_straight_up() {
        let posture = Posture::at(&Joints::zeros());
        let height: f64 = JOINTS.iter().map(|joint| joint.rise).sum::<f64>() + TIP_RISE;
        assert!((posture.tip.translation.vector - Vector3::z() * height).norm() < 1e-12);
        assert!((posture.approach() - Vector3::z()).norm() < 1e-12);
    }

    #[test]
    fn home_is_within_limits_and_points_down() {
        assert_eq!(clamp_to_limits(&home()), home());
        assert!((Posture::at(&home()).approach() + Vector3::z()).norm() < 1e-12);
    }

    proptest! {
        #[test]
        fn jacobian_is_the_derivative_of_forward_kinematics(angles in reachable()) {
            const H: f64 = 1e-6;
            let jacobian = Posture::at(&angles).jacobian();
            for i in 0..DOF {
                let nudged = |by: f64| {
                    let mut angles = angles;
                    angles[i] += by;
                    Posture::at(&angles).tip
                };
                let (before, after) = (nudged(-H), nudged(H));
                let linear =
                    (after.translation.vector - before.translation.vector) / (2.0 * H);
                let angular =
                    (after.rotation * before.rotation.inverse()).scaled_axis() / (2.0 * H);
                prop_assert!((linear - jacobian.fixed_view::<3, 1>(0, i)).norm() < 1e-7);
                prop_assert!((angular - jacobian.fixed_view::<3, 1>(3, i)).norm() < 1e-7);
            }
        }
    }
}
