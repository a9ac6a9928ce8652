//! Runs whole episodes in one process: robot, policy, and what lies between them.

use std::collections::VecDeque;

use nalgebra::Point3;

use crate::arm::{DOF, Proprio};
use crate::camera::{CameraFrame, View};
use crate::policy::{Policy, PolicyConfig};
use crate::render::Renderer;
use crate::rig::Viewpoint;
use crate::world::{Outcome, World};

/// Observations per second.
pub const OBSERVATION_HZ: u32 = 30;
/// Plans, and so action chunks, per second.
pub const PLAN_HZ: u32 = 10;
/// Actions per second.
pub const DISPATCH_HZ: u32 = 50;
/// Steps of the simulation per second: the least rate that the others divide.
pub const TICK_HZ: u32 = 150;

/// Everything the robot reports at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Seconds since the reset.
    pub time: f64,
    /// One frame for each of [`Viewpoint::ALL`].
    pub frames: Vec<CameraFrame>,
    /// The arm's own sensors.
    pub proprio: Proprio,
}

/// What lies between robot and policy, and may change what passes through. Methods that are not
/// overridden pass everything on at once.
pub trait Link {
    /// An observation on its way to the policy, 30 times a second.
    fn observation(&mut self, observation: &mut Observation) {
        let _ = observation;
    }

    /// An action on its way to the robot, up to 50 times a second; `None` loses it.
    fn action(&mut self, action: [f32; DOF]) -> Option<[f32; DOF]> {
        Some(action)
    }
}

/// The perfect link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Link for Direct {}

/// How an episode went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Solved or not.
    pub outcome: Outcome,
    /// The last distance between tip and target, metres.
    pub distance: f64,
    /// The policy's last belief about the target.
    pub target_estimate: Option<Point3<f64>>,
}

impl Report {
    /// Whether the episode was solved.
    pub fn solved(&self) -> bool {
        matches!(self.outcome, Outcome::Solved { .. })
    }
}

/// Runs the episode of `seed` to its end, with images of `width` by `height` pixels, through
/// `link`: 30 Hz observations, chunks at 10 Hz, actions at 50 Hz. The newest chunk replaces what
/// is left of the one before.
pub fn run(seed: u64, (width, height): (usize, usize), link: &mut impl Link) -> Report {
    let mut world = World::new(seed);
    let mut policy = Policy::new(PolicyConfig {
        chunk_len: (DISPATCH_HZ / PLAN_HZ) as usize,
        period: 1.0 / f64::from(DISPATCH_HZ),
        ..PolicyConfig::default()
    });
    let mut renderer = Renderer::new();
    let mut latest = observe(&world, (width, height), &mut renderer);
    let mut actions = VecDeque::new();
    let mut target_estimate = None;
    for tick in 0_u32.. {
        if tick.is_multiple_of(TICK_HZ / OBSERVATION_HZ) {
            latest = observe(&world, (width, height), &mut renderer);
            link.observation(&mut latest);
        }
        if tick.is_multiple_of(TICK_HZ / PLAN_HZ) {
            let views: Vec<View<'_>> =
                latest.frames.iter().filter_map(|frame| frame.view().ok()).collect();
            let plan = policy.plan(&views, &latest.proprio.joint_pos);
            target_estimate = plan.target_estimate;
            actions = plan.chunk.into();
        }
        if tick.is_multiple_of(TICK_HZ / DISPATCH_HZ)
            && let Some(action) = actions.pop_front().and_then(|action| link.action(action))
        {
            world.command(action);
        }
        if world.step(1.0 / f64::from(TICK_HZ)) != Outcome::Running {
            break;
        }
    }
    Report { outcome: world.outcome(), distance: world.distance(), target_estimate }
}

/// What the robot reports now, with images of the given width and height.
pub fn observe(
    world: &World,
    (width, height): (usize, usize),
    renderer: &mut Renderer,
) -> Observation {
    let (posture, bodies) = (world.posture(), world.bodies());
    let frame =
        |viewpoint: Viewpoint| renderer.frame(&viewpoint.camera(width, height, &posture), &bodies);
    Observation {
        time: world.time(),
        frames: Viewpoint::ALL.map(frame).into(),
        proprio: world.proprio(),
    }
}
