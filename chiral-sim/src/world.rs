//! The simulated world: an arm in a scene, a clock, and the rule that says when it is done.

use nalgebra::Point3;

use crate::arm::{Arm, DOF, Posture, Proprio, home};
use crate::scene::Scene;
use crate::solid::Body;

/// The tip must come this close to the target's centre, metres.
pub const TOLERANCE: f64 = 0.03;
/// And stay that close for so long, seconds.
pub const HOLD: f64 = 0.2;
/// An episode that is not solved by then is lost, seconds.
pub const TIME_LIMIT: f64 = 10.0;

/// How an episode stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Not decided yet.
    Running,
    /// The tip held at the target; decided at this time, in seconds.
    Solved {
        /// Seconds after the reset.
        at: f64,
    },
    /// [`TIME_LIMIT`] passed first.
    TimedOut,
}

/// One arm at one table. Time passes only in [`World::step`].
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    scene: Scene,
    arm: Arm,
    command: [f32; DOF],
    time: f64,
    held: f64,
    outcome: Outcome,
}

impl World {
    /// The world at the start of the episode of this seed.
    pub fn new(seed: u64) -> Self {
        let arm = Arm::new(&home());
        Self {
            scene: Scene::new(seed),
            command: arm.proprio().joint_pos,
            arm,
            time: 0.0,
            held: 0.0,
            outcome: Outcome::Running,
        }
    }

    /// Starts the episode of this seed: a new scene, the arm at home and at rest.
    pub fn reset(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    /// Sets the joint angles (radians) that the arm moves towards from now on.
    pub fn command(&mut self, joints: [f32; DOF]) {
        self.command = joints;
    }

    /// Lets `dt` seconds pass (more than zero), and returns how the episode then stands. The arm
    /// keeps following commands after the outcome is decided, but the outcome stays.
    pub fn step(&mut self, dt: f64) -> Outcome {
        self.time += dt;
        self.arm.step(dt, &self.command);
        self.held = if self.distance() <= TOLERANCE { self.held + dt } else { 0.0 };
        if self.outcome == Outcome::Running {
            // Sums of time steps are not exact: half a step decides.
            if self.held >= HOLD - 0.5 * dt {
                self.outcome = Outcome::Solved { at: self.time };
            } else if self.time >= TIME_LIMIT - 0.5 * dt {
                self.outcome = Outcome::TimedOut;
            }
        }
        self.outcome
    }

    /// Seconds since the reset.
    pub fn time(&self) -> f64 {
        self.time
    }

    /// How the episode stands.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The arm.
    pub fn arm(&self) -> &Arm {
        &self.arm
    }

    /// What the arm's own sensors read now.
    pub fn proprio(&self) -> Proprio {
        self.arm.proprio()
    }

    /// Where every part of the arm is now; cameras are placed by it.
    pub fn posture(&self) -> Posture {
        self.arm.posture()
    }

    /// Everything there is to see now, for a [`Renderer`](crate::render::Renderer).
    pub fn bodies(&self) -> Vec<Body> {
        self.scene.bodies(&self.posture())
    }

    /// The target's centre: the ground truth that a policy must not be shown.
    pub fn target(&self) -> Point3<f64> {
        self.scene.target()
    }

    /// How far the tip is from the target's centre, metres.
    pub fn distance(&self) -> f64 {
        (self.posture().tip.translation.vector - self.target().coords).norm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{Reach, solve};

    const DT: f64 = 0.01;

    fn at_the_target(world: &World) -> [f32; DOF] {
        let solution = solve(&Reach::from_above(world.target()), &home());
        solution.joints.map(|angle| angle as f32).into()
    }

    #[test]
    fn holding_at_the_target_solves_the_episode() {
        let mut world = World::new(3);
        world.command(at_the_target(&world));
        let mut near_since = None;
        while world.step(DT) == Outcome::Running {
            if world.distance() <= TOLERANCE {
                near_since.get_or_insert(world.time());
            }
        }
        let Outcome::Solved { at } = world.outcome() else { panic!("{:?}", world.outcome()) };
        let near_since = near_since.expect("the tip was near before the episode was solved");
        assert!((at - near_since - (HOLD - DT)).abs() < 1e-9);
    }

    #[test]
    fn passing_the_target_does_not_solve_the_episode() {
        let mut world = World::new(3);
        let (there, back) = (at_the_target(&world), world.proprio().joint_pos);
        loop {
            let near = world.distance() <= TOLERANCE;
            world.command(if near { back } else { there });
            if world.step(DT) != Outcome::Running {
                break;
            }
        }
        assert_eq!(world.outcome(), Outcome::TimedOut);
        assert!((world.time() - TIME_LIMIT).abs() < 1e-6);
    }

    #[test]
    fn a_reset_starts_over() {
        let mut world = World::new(3);
        world.command(at_the_target(&world));
        (0..200).for_each(|_| {
            world.step(DT);
        });
        assert_ne!(world.outcome(), Outcome::Running);
        world.reset(4);
        assert_eq!(world, World::new(4));
    }
}
