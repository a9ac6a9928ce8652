//! What a simulated robot may get wrong.

use chiral_sim::arm::{DOF, Proprio};
use clap::ValueEnum;
use nalgebra::{Matrix3, Matrix4};

/// One thing that the robot gets wrong, to show that no policy succeeds without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Red and blue are swapped.
    Images,
    /// Depth is in millimetres.
    Depth,
    /// K is the identity.
    Intrinsics,
    /// T is the identity.
    Extrinsics,
    /// Joint positions are velocities.
    Proprio,
    /// Actions are applied from the last joint to the first.
    Actions,
}

/// What a robot with a fault, or without one, makes of what is right.
pub(super) trait ApplyFault {
    fn apply_to_image(self, rgb: &mut [u8]);
    fn apply_to_depth(self, depth: &mut [f32]);
    fn apply_to_intrinsics(self, intrinsics: Matrix3<f64>) -> Matrix3<f64>;
    fn apply_to_extrinsics(self, extrinsics: Matrix4<f64>) -> Matrix4<f64>;
    fn apply_to_proprio(self, proprio: Proprio) -> Proprio;
    fn apply_to_action(self, action: [f32; DOF]) -> [f32; DOF];
}

impl ApplyFault for Option<Fault> {
    fn apply_to_image(self, rgb: &mut [u8]) {
        if self == Some(Fault::Images) {
            rgb.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
    }

    fn apply_to_depth(self, depth: &mut [f32]) {
        if self == Some(Fault::Depth) {
            depth.iter_mut().for_each(|metres| *metres *= 1000.0);
        }
    }

    fn apply_to_intrinsics(self, intrinsics: Matrix3<f64>) -> Matrix3<f64> {
        if self == Some(Fault::Intrinsics) { Matrix3::identity() } else { intrinsics }
    }

    fn apply_to_extrinsics(self, extrinsics: Matrix4<f64>) -> Matrix4<f64> {
        if self == Some(Fault::Extrinsics) { Matrix4::identity() } else { extrinsics }
    }

    fn apply_to_proprio(self, proprio: Proprio) -> Proprio {
        if self == Some(Fault::Proprio) {
            Proprio { joint_pos: proprio.joint_vel, ..proprio }
        } else {
            proprio
        }
    }

    fn apply_to_action(self, mut action: [f32; DOF]) -> [f32; DOF] {
        if self == Some(Fault::Actions) {
            action.reverse();
        }
        action
    }
}
