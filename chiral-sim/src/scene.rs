//! What stands in the room: the table, the arm, the ball to reach and some things that are not it.

use core::f64::consts::TAU;

use nalgebra::{Isometry3, Point3, UnitQuaternion, Vector3};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::arm::{Axis, DOF, JOINTS, Posture};
use crate::rig::wrist_mount;
use crate::solid::{Body, Paint, Rgb, Solid};

/// The ball's colour: an orange that nothing else in the scene has.
pub const TARGET_COLOR: Rgb = [255, 78, 10];
/// The ball's radius, metres.
pub const TARGET_RADIUS: f64 = 0.03;

const DISTRACTOR_COLORS: [Rgb; 4] = [[38, 110, 220], [40, 165, 80], [235, 205, 45], [150, 70, 200]];
const TABLE: [Rgb; 2] = [[224, 218, 208], [217, 210, 199]];
const TABLE_LEG: Rgb = [92, 92, 98];
const FLOOR: [Rgb; 2] = [[122, 126, 132], [134, 138, 144]];
const SHELL: Rgb = [244, 244, 246];
const HOUSING: Rgb = [70, 78, 92];
const FINGER: Rgb = [52, 54, 60];
const POST: Rgb = [120, 122, 126];

/// Half of the table top's extent along x and y, and where its middle is along x, metres.
const TABLE_HALF: [f64; 2] = [0.65, 0.7];
const TABLE_CENTER_X: f64 = 0.35;
const FLOOR_Z: f64 = -0.72;

/// Where objects are put: distance from the arm's foot, and angle to either side of x.
const PLACING_RADIUS: core::ops::Range<f64> = 0.34..0.60;
const PLACING_ANGLE: core::ops::Range<f64> = -1.0..1.0;
/// How high the ball's centre may be above the table.
const TARGET_HEIGHT: core::ops::Range<f64> = TARGET_RADIUS..0.22;
/// Objects keep at least this far from each other, centre to centre.
const SPACING: f64 = 0.14;

/// A table with a ball somewhere on or over it, and other solids around. Equal seeds make equal
/// scenes.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    target: Point3<f64>,
    fixed: Vec<Body>,
}

impl Scene {
    /// The scene of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut places: Vec<Point3<f64>> = vec![place(&mut rng)];
        let target = places[0] + Vector3::z() * rng.random_range(TARGET_HEIGHT);
        let mut fixed = furniture();
        fixed.extend(ball(target));
        let mut colors = DISTRACTOR_COLORS.to_vec();
        for _ in 0..rng.random_range(2..=4) {
            let color = colors.swap_remove(rng.random_range(0..colors.len()));
            let free = loop {
                let candidate = place(&mut rng);
                if places.iter().all(|taken| (candidate - taken).norm() > SPACING) {
                    break candidate;
                }
            };
            places.push(free);
            fixed.push(Body::plain(distractor(&mut rng, free), color));
        }
        Self { target, fixed }
    }

    /// The ball's centre in the world: the ground truth that a policy must not be shown.
    pub fn target(&self) -> Point3<f64> {
        self.target
    }

    /// Everything there is to see while the arm is in this posture.
    pub fn bodies(&self, posture: &Posture) -> Vec<Body> {
        let mut bodies = self.fixed.clone();
        bodies.extend(arm_bodies(posture));
        bodies
    }
}

/// A random place on the table top in front of the arm.
fn place(rng: &mut Pcg64Mcg) -> Point3<f64> {
    let (radius, angle) = (rng.random_range(PLACING_RADIUS), rng.random_range(PLACING_ANGLE));
    Point3::new(radius * angle.cos(), radius * angle.sin(), 0.0)
}

/// The ball, and a post under it where it does not lie on the table.
fn ball(center: Point3<f64>) -> impl Iterator<Item = Body> {
    const POST_RADIUS: f64 = 0.008;
    let foot = Point3::new(center.x, center.y, 0.0);
    let top = center - Vector3::z() * TARGET_RADIUS;
    let post = (top.z > 2.0 * POST_RADIUS)
        .then(|| Body::plain(Solid::Capsule { from: foot, to: top, radius: POST_RADIUS }, POST));
    let ball = Solid::Sphere { center, radius: TARGET_RADIUS };
    post.into_iter().chain([Body::plain(ball, TARGET_COLOR)])
}

/// A random solid standing at `foot`.
fn distractor(rng: &mut Pcg64Mcg, foot: Point3<f64>) -> Solid {
    let radius = rng.random_range(0.025..0.04);
    let up = Vector3::z();
    match rng.random_range(0..3) {
        0 => Solid::Sphere { center: foot + up * radius, radius },
        1 => {
            let height = rng.random_range(0.03..0.08);
            Solid::Capsule { from: foot + up * radius, to: foot + up * (radius + height), radius }
        }
        _ => {
            let half = Vector3::new(radius, radius, rng.random_range(0.025..0.06));
            let turn = UnitQuaternion::from_scaled_axis(up * rng.random_range(0.0..TAU));
            let center = foot + up * half.z;
            Solid::Cuboid { pose: Isometry3::from_parts(center.into(), turn), half }
        }
    }
}

fn block(center: [f64; 3], half: [f64; 3]) -> Solid {
    Solid::Cuboid {
        pose: Isometry3::translation(center[0], center[1], center[2]),
        half: half.into(),
    }
}

fn furniture() -> Vec<Body> {
    const TOP: f64 = 0.02;
    let [half_x, half_y] = TABLE_HALF;
    let floor = Solid::Plane { point: Point3::new(0.0, 0.0, FLOOR_Z), normal: Vector3::z_axis() };
    let top = block([TABLE_CENTER_X, 0.0, -TOP], [half_x, half_y, TOP]);
    let leg_half = -0.5 * (FLOOR_Z + 2.0 * TOP);
    let legs = [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)].map(|(x, y)| {
        let center =
            [TABLE_CENTER_X + x * (half_x - 0.05), y * (half_y - 0.05), FLOOR_Z + leg_half];
        Body::plain(block(center, [0.025, 0.025, leg_half]), TABLE_LEG)
    });
    let mut bodies = vec![
        Body { solid: floor, paint: Paint::Checker { colors: FLOOR, side: 0.25 } },
        Body { solid: top, paint: Paint::Checker { colors: TABLE, side: 0.1 } },
    ];
    bodies.extend(legs);
    bodies
}

/// The arm: white links, dark joint housings, and a hand with two fingers and a camera.
fn arm_bodies(posture: &Posture) -> Vec<Body> {
    const LINK_RADII: [f64; DOF] = [0.066, 0.060, 0.055, 0.050, 0.046, 0.042, 0.036];
    let origin = |i: usize| Point3::from(posture.joints[i].translation.vector);
    let foot = block([0.0, 0.0, 0.015], [0.1, 0.1, 0.015]);
    let mut bodies = vec![Body::plain(foot, HOUSING)];
    let mut from = Point3::new(0.0, 0.0, 0.03);
    for i in 0..DOF {
        let link = Solid::Capsule { from, to: origin(i), radius: LINK_RADII[i] };
        bodies.push(Body::plain(link, SHELL));
        if JOINTS[i].axis == Axis::Pitch {
            let reach = Vector3::y() * (LINK_RADII[i] * 0.8);
            let [from, to] = [-reach, reach].map(|side| posture.joints[i] * Point3::from(side));
            let housing = Solid::Capsule { from, to, radius: LINK_RADII[i] * 1.08 };
            bodies.push(Body::plain(housing, HOUSING));
        }
        from = origin(i);
    }
    bodies.extend(hand_bodies(posture));
    bodies
}

/// The hand, in the frame of the tip: the fingers straddle it, z points along them.
fn hand_bodies(posture: &Posture) -> impl Iterator<Item = Body> {
    let finger = |y: f64| block([0.0, y, -0.035], [0.011, 0.006, 0.047]);
    let camera = Solid::Cuboid {
        // The lens is at the mount's origin; the housing stays behind it.
        pose: posture.tip * wrist_mount() * Isometry3::translation(0.0, 0.0, -0.016),
        half: Vector3::new(0.024, 0.012, 0.012),
    };
    let palm = block([0.0, 0.0, -0.095], [0.032, 0.06, 0.018]);
    let bracket = block([-0.055, 0.0, -0.125], [0.03, 0.008, 0.006]);
    let on_hand = |solid| match solid {
        Solid::Cuboid { pose, half } => Solid::Cuboid { pose: posture.tip * pose, half },
        other => other,
    };
    [
        Body::plain(on_hand(palm), HOUSING),
        Body::plain(on_hand(bracket), HOUSING),
        Body::plain(on_hand(finger(-0.045)), FINGER),
        Body::plain(on_hand(finger(0.045)), FINGER),
        Body::plain(camera, FINGER),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{Reach, home, solve};

    #[test]
    fn equal_seeds_make_equal_scenes() {
        assert_eq!(Scene::new(7), Scene::new(7));
        assert_ne!(Scene::new(7).target(), Scene::new(8).target());
    }

    #[test]
    fn every_target_is_reachable_and_not_where_the_arm_already_is() {
        let resting = Posture::at(&home()).tip.translation.vector;
        for seed in 0..500 {
            let target = Scene::new(seed).target();
            assert!(solve(&Reach::from_above(target), &home()).converged(), "seed {seed}");
            assert!((target.coords - resting).norm() > 0.1, "seed {seed}");
        }
    }

    #[test]
    fn the_target_touches_only_its_support() {
        for seed in 0..500 {
            let scene = Scene::new(seed);
            let distractors = scene.fixed.iter().filter(
                |body| matches!(body.paint, Paint::Plain(color) if DISTRACTOR_COLORS.contains(&color)),
            );
            let clearances: Vec<f64> =
                distractors.map(|body| body.solid.signed_distance(&scene.target)).collect();
            assert!((2..=4).contains(&clearances.len()));
            assert!(clearances.iter().all(|clearance| *clearance > TARGET_RADIUS));
        }
    }
}
