//! A policy that reaches for the ball, going by what its cameras show and its joints report.
//!
//! Look, then reach: the ball's hue is picked out of every image, the masked depth is
//! back-projected into the world, a ball is fitted to the points, and the views must agree. The
//! hand first goes to a point above the ball, and comes down on it once two cameras confirm it.
//! While no camera shows the ball, the arm looks around for it.
//!
//! The policy knows the arm it moves, and the size and colour of what it is looking for. It knows
//! nothing else about the world: if images, depth, K, T or joint positions are not what they
//! should be, or its commands do not arrive, it fails.

mod chunk;
mod color;
mod locate;

use nalgebra::{Point3, Vector3};

use self::chunk::ChunkPlanner;
use self::color::HueFilter;
use self::locate::{Consensus, Sighting, agree, look};
use crate::arm::{DOF, Joints, Posture, Reach, home, solve};
pub use crate::camera::View;
use crate::scene::{TARGET_COLOR, TARGET_RADIUS};

/// Plans after which a ball that was not seen again is forgotten: 2 s at 10 Hz.
const PATIENCE: u32 = 20;
/// Views that must agree before the hand comes down (or all, where there are fewer).
const CONFIRMING_VIEWS: usize = 2;
/// The hand waits this far above the ball, metres.
const HOVER: f64 = 0.1;
/// And may come down once it is so close to the vertical through the ball, metres.
const ALIGNED: f64 = 0.03;
/// A place of the search counts as visited when every joint is so close, radians.
const VISITED: f64 = 0.05;
/// Where a ball can be at all: distance from the arm's axis and height, metres.
const PLAUSIBLE_RADIUS: core::ops::Range<f64> = 0.15..0.85;
const PLAUSIBLE_HEIGHT: core::ops::Range<f64> = 0.0..0.6;

/// The form of the chunks that a [`Policy`] plans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyConfig {
    /// Commands in a chunk, at least 1. Plan once in every `chunk_len` dispatches.
    pub chunk_len: usize,
    /// Seconds between two commands.
    pub period: f64,
    /// Speed of the motion, as a share (above 0, at most 1) of each joint's greatest. Below 1 the
    /// arm can catch up when it is late.
    pub pace: f64,
}

impl Default for PolicyConfig {
    /// Five commands at 50 Hz, so plan at 10 Hz; two fifths of the greatest speed.
    fn default() -> Self {
        Self { chunk_len: 5, period: 0.02, pace: 0.4 }
    }
}

/// What [`Policy::plan`] decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Absolute joint targets in radians, to be sent one by one in this order. Empty if the
    /// measured joint positions are not finite numbers: then there is nothing to start from.
    pub chunk: Vec<[f32; DOF]>,
    /// Where the policy believes the ball's centre to be, in the world.
    pub target_estimate: Option<Point3<f64>>,
}

/// What the policy remembers of the ball.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Belief {
    center: Point3<f64>,
    /// Enough views agreed on this place.
    confirmed: bool,
    /// Plans since it was last seen.
    unseen: u32,
}

/// Reaches for the ball. Call [`plan`](Self::plan) at a steady rate; no other clock is involved.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    hue: HueFilter,
    planner: ChunkPlanner,
    belief: Option<Belief>,
    /// The place of the search that the arm is moving to, see [`lookout`].
    search_leg: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(PolicyConfig::default())
    }
}

impl Policy {
    /// A policy that has seen nothing yet.
    pub fn new(config: PolicyConfig) -> Self {
        Self {
            hue: HueFilter::new(TARGET_COLOR),
            planner: ChunkPlanner::new(config.chunk_len, config.period, config.pace),
            belief: None,
            search_leg: 0,
        }
    }

    /// Decides what to do next, given the newest frame of every camera and the joint positions
    /// (radians) measured with them. Any number of cameras will do; with one alone the policy
    /// takes its word. Images smaller than about 96x72 show too few pixels of a distant ball.
    pub fn plan(&mut self, views: &[View<'_>], joint_pos: &[f32; DOF]) -> Plan {
        self.perceive(views);
        let measured = Joints::from(joint_pos.map(f64::from));
        let chunk = if measured.iter().all(|angle| angle.is_finite()) {
            let goal = self.reach(&measured).unwrap_or_else(|| self.search(&measured));
            self.planner.plan(&measured, &goal)
        } else {
            Vec::new()
        };
        Plan { chunk, target_estimate: self.belief.map(|belief| belief.center) }
    }

    /// Brings the belief up to date with what the cameras show.
    fn perceive(&mut self, views: &[View<'_>]) {
        let sightings: Vec<Sighting> =
            views.iter().filter_map(|view| look(view, self.hue, TARGET_RADIUS)).collect();
        let seen = agree(&sightings).filter(|seen| plausible(&seen.center));
        self.belief = match (seen, self.belief) {
            (Some(seen), before) => Some(Belief::new(seen, views.len(), before)),
            (None, Some(belief)) if belief.unseen < PATIENCE => {
                Some(Belief { unseen: belief.unseen + 1, ..belief })
            }
            (None, _) => None,
        };
    }

    /// The posture to move to for the ball; `None` if there is no ball, or none within reach.
    fn reach(&self, measured: &Joints) -> Option<Joints> {
        let belief = self.belief?;
        let tip = Posture::at(measured).tip.translation.vector;
        let aligned = (tip - belief.center.coords).xy().norm() < ALIGNED;
        let lift = if belief.confirmed && aligned { 0.0 } else { HOVER };
        let point = belief.center + Vector3::z() * lift;
        let mut seed = home();
        seed[0] = point.y.atan2(point.x);
        let solution = solve(&Reach::from_above(point), &seed);
        solution.converged().then_some(solution.joints)
    }

    /// The posture from which to look for the ball next.
    fn search(&mut self, measured: &Joints) -> Joints {
        if (lookout(self.search_leg) - measured).amax() < VISITED {
            self.search_leg += 1;
        }
        lookout(self.search_leg)
    }
}

impl Belief {
    fn new(seen: Consensus, views: usize, before: Option<Self>) -> Self {
        let known = before.is_some_and(|before| {
            before.confirmed && (before.center - seen.center).norm() < TARGET_RADIUS
        });
        let confirmed = known || seen.views >= CONFIRMING_VIEWS.min(views);
        Self { center: seen.center, confirmed, unseen: 0 }
    }
}

fn plausible(center: &Point3<f64>) -> bool {
    PLAUSIBLE_RADIUS.contains(&center.xy().coords.norm()) && PLAUSIBLE_HEIGHT.contains(&center.z)
}

/// The postures of the search, over and over: the hand swings from side to side with its camera
/// on the table, once looking further out and once closer in.
fn lookout(leg: usize) -> Joints {
    const SWING: [f64; 4] = [0.0, 0.75, 0.0, -0.75];
    const TILT: [f64; 2] = [-0.35, 0.15];
    let mut posture = home();
    posture[0] = SWING[leg % SWING.len()];
    posture[5] += TILT[leg / SWING.len() % TILT.len()];
    posture
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Renderer;
    use crate::rig::Viewpoint;
    use crate::world::World;

    fn frames(world: &World) -> Vec<crate::camera::CameraFrame> {
        let (posture, bodies) = (world.posture(), world.bodies());
        let mut renderer = Renderer::new();
        Viewpoint::ALL
            .iter()
            .map(|viewpoint| renderer.frame(&viewpoint.camera(160, 120, &posture), &bodies))
            .collect()
    }

    #[test]
    fn the_policy_locates_the_ball() {
        for seed in 0..50 {
            let world = World::new(seed);
            let frames = frames(&world);
            let views: Vec<View<'_>> = frames.iter().map(|frame| frame.view().unwrap()).collect();
            let plan = Policy::default().plan(&views, &world.proprio().joint_pos);
            let error = plan.target_estimate.map(|center| (center - world.target()).norm());
            assert!(error.is_some_and(|error| error < 2e-3), "seed {seed}: {error:?}");
        }
    }

    /// No light, no angle and nothing else in the scene brings up the ball's colour.
    #[test]
    fn the_target_hue_is_unique_in_the_scene() {
        let hue = HueFilter::new(TARGET_COLOR);
        for seed in 0..50 {
            let world = World::new(seed);
            for frame in frames(&world) {
                let (view, inverse) =
                    (frame.view().unwrap(), frame.intrinsics.try_inverse().unwrap());
                for (index, pixel) in frame.rgb.as_chunks::<3>().0.iter().enumerate() {
                    let from_surface = view
                        .point(index, &inverse)
                        .map(|point| ((point - world.target()).norm() - TARGET_RADIUS).abs());
                    if hue.accepts(*pixel) {
                        assert!(from_surface.is_some_and(|distance| distance < 1e-4));
                    } else {
                        // The post's tip touches the ball.
                        assert!(from_surface.is_none_or(|distance| distance > 1e-5));
                    }
                }
            }
        }
    }

    #[test]
    fn an_occluded_target_is_remembered_for_a_while() {
        let world = World::new(5);
        let (mut policy, joints) = (Policy::default(), world.proprio().joint_pos);
        let frames = frames(&world);
        let views: Vec<View<'_>> = frames.iter().map(|frame| frame.view().unwrap()).collect();
        assert!(policy.plan(&views, &joints).target_estimate.is_some());
        for _ in 0..PATIENCE {
            assert!(policy.plan(&[], &joints).target_estimate.is_some());
        }
        assert_eq!(policy.plan(&[], &joints).target_estimate, None);
    }

    #[test]
    fn the_policy_searches_while_no_target_is_visible() {
        let mut policy = Policy::default();
        let mut joints: [f32; DOF] = home().map(|angle| angle as f32).into();
        let mut bearings = Vec::new();
        for _ in 0..200 {
            let plan = policy.plan(&[], &joints);
            joints = *plan.chunk.last().unwrap();
            bearings.push(joints[0]);
        }
        assert!(bearings.iter().any(|bearing| *bearing > 0.7));
        assert!(bearings.iter().any(|bearing| *bearing < -0.7));
    }

    #[test]
    fn without_joint_positions_there_are_no_commands() {
        let plan = Policy::default().plan(&[], &[f32::NAN; DOF]);
        assert!(plan.chunk.is_empty());
    }
}
