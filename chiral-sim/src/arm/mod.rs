//! The simulated arm: seven joints that follow position commands at limited speed.

mod chain;
mod ik;

pub use chain::{
    Axis, DOF, JOINTS, Jacobian, Joint, Joints, Posture, TIP_RISE, clamp_to_limits, home,
    max_speeds,
};
pub use ik::{Reach, Solution, solve};

/// What the arm measures about itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Proprio {
    /// Joint angles, radians.
    pub joint_pos: [f32; DOF],
    /// Joint rates, radians per second.
    pub joint_vel: [f32; DOF],
    /// The tip in the world: x, y, z in metres, then the unit quaternion w, x, y, z.
    pub ee_pose: [f32; 7],
}

/// A 7-joint arm under joint position control.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    angles: Joints,
    rates: Joints,
}

impl Arm {
    /// An arm at rest at these angles (radians), brought inside the limits.
    pub fn new(angles: &Joints) -> Self {
        Self { angles: clamp_to_limits(angles), rates: Joints::zeros() }
    }

    /// Moves every joint towards its target for `dt` seconds, no faster than the joint can.
    ///
    /// `target` holds absolute angles in radians. Targets beyond a limit stop at the limit; a
    /// joint whose target is not a finite number stays where it is. `dt` must be positive.
    pub fn step(&mut self, dt: f64, target: &[f32; DOF]) {
        for (i, joint) in JOINTS.iter().enumerate() {
            let wanted = f64::from(target[i]).clamp(joint.lower, joint.upper);
            let furthest = joint.max_speed * dt;
            let moved = (wanted - self.angles[i]).clamp(-furthest, furthest);
            let moved = if moved.is_finite() { moved } else { 0.0 };
            self.angles[i] += moved;
            self.rates[i] = moved / dt;
        }
    }

    /// The joint angles, radians.
    pub fn angles(&self) -> &Joints {
        &self.angles
    }

    /// The joint rates over the latest step, radians per second.
    pub fn rates(&self) -> &Joints {
        &self.rates
    }

    /// Where every part of the arm is.
    pub fn posture(&self) -> Posture {
        Posture::at(&self.angles)
    }

    /// What the arm's own sensors read.
    pub fn proprio(&self) -> Proprio {
        let tip = self.posture().tip;
        let (p, q) = (tip.translation, tip.rotation);
        Proprio {
            joint_pos: self.angles.map(|angle| angle as f32).into(),
            joint_vel: self.rates.map(|rate| rate as f32).into(),
            ee_pose: [p.x, p.y, p.z, q.w, q.i, q.j, q.k].map(|number| number as f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DT: f64 = 1.0 / 150.0;

    proptest! {
        #[test]
        fn joints_respect_speed_and_position_limits(
            targets in prop::collection::vec(prop::array::uniform7(prop::num::f32::ANY), 1..40),
        ) {
            let mut arm = Arm::new(&home());
            for target in &targets {
                let before = *arm.angles();
                arm.step(DT, target);
                for (i, joint) in JOINTS.iter().enumerate() {
                    let speed = (arm.angles()[i] - before[i]).abs() / DT;
                    prop_assert!(speed <= joint.max_speed * (1.0 + 1e-9));
                    prop_assert!((joint.lower..=joint.upper).contains(&arm.angles()[i]));
                    prop_assert!((arm.rates()[i].abs() - speed).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn arrives_at_a_constant_target_and_stops() {
        let mut arm = Arm::new(&home());
        let target = [0.5, 0.4, -0.3, 1.2, 0.2, 0.7, -0.9];
        for _ in 0..150 {
            arm.step(DT, &target);
        }
        let proprio = arm.proprio();
        for (reached, wanted) in proprio.joint_pos.iter().zip(target) {
            assert!((reached - wanted).abs() < 1e-6);
        }
        assert!(arm.rates().amax() < 1e-9);
    }

    #[test]
    fn a_nan_target_holds_the_joint() {
        let mut arm = Arm::new(&home());
        let mut target: [f32; DOF] = arm.proprio().joint_pos;
        target[3] = f32::NAN;
        let before = arm.angles()[3];
        arm.step(DT, &target);
        assert_eq!(arm.angles()[3].to_bits(), before.to_bits());
    }

    #[test]
    fn end_effector_pose_is_the_tip_with_the_scalar_first() {
        let pose = Arm::new(&home()).proprio().ee_pose;
        let tip = Posture::at(&home()).tip;
        assert!((f64::from(pose[2]) - tip.translation.z).abs() < 1e-6);
        let norm: f32 = pose[3..].iter().map(|number| number * number).sum();
        assert!((norm - 1.0).abs() < 1e-6);
        // Half a turn about y points the hand down: the scalar part vanishes.
        assert!(pose[3].abs() < 1e-6 && (pose[5].abs() - 1.0).abs() < 1e-6);
    }
}
