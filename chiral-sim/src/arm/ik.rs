//! Inverse kinematics by damped least squares.

use nalgebra::{Matrix3, Matrix6, Point3, SMatrix, Unit, Vector3, Vector6};

use super::chain::{DOF, Jacobian, Joints, Posture, clamp_to_limits};

/// Where the tip should be and from where it should come. How far the hand is turned about
/// its own reaching direction is left free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// The wanted position of the tip in the world, metres.
    pub position: Point3<f64>,
    /// The wanted reaching direction (the tip's z axis) in the world.
    pub approach: Unit<Vector3<f64>>,
}

impl Reach {
    /// Reaches `position` from straight above.
    pub fn from_above(position: Point3<f64>) -> Self {
        Self { position, approach: -Vector3::z_axis() }
    }
}

/// What [`solve`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solution {
    /// Joint angles within the limits, radians.
    pub joints: Joints,
    /// How far the tip then is from the wanted position, metres.
    pub position_error: f64,
    /// The angle between the reaching direction and the wanted one, radians.
    pub approach_error: f64,
}

impl Solution {
    /// Whether the tip is within 1 mm and 10 mrad of what was asked.
    pub fn converged(&self) -> bool {
        self.position_error < 1e-3 && self.approach_error < 1e-2
    }
}

const MAX_ITERATIONS: usize = 120;
/// Keeps steps finite near singular postures; larger is calmer and slower.
const DAMPING: f64 = 0.03;
/// What one radian of approach error weighs, in metres.
const METRES_PER_RADIAN: f64 = 0.3;
/// Share of the way back to the seed that the redundant motion takes in each step.
const SEED_PULL: f64 = 0.05;
/// The most any joint moves in one iteration, radians.
const MAX_STEP: f64 = 0.3;

/// Finds joint angles that reach for `goal`, starting from `seed` (radians) and, as far as the
/// arm's redundancy allows, staying near it.
///
/// Always returns the best angles it came across, inside the joint limits; ask
/// [`Solution::converged`] whether they are good enough. The same input gives the same output.
pub fn solve(goal: &Reach, seed: &Joints) -> Solution {
    let seed = clamp_to_limits(seed);
    let mut angles = seed;
    let mut least = f64::INFINITY;
    let mut best = Solution { joints: seed, position_error: least, approach_error: least };
    for _ in 0..MAX_ITERATIONS {
        let posture = Posture::at(&angles);
        let error = task_error(goal, &posture);
        if error.norm() < least {
            least = error.norm();
            best = Solution {
                joints: angles,
                position_error: error.fixed_rows::<3>(0).norm(),
                approach_error: error.fixed_rows::<3>(3).norm() / METRES_PER_RADIAN,
            };
        }
        if least < 1e-5 {
            break;
        }
        let Some(step) = step(&posture, &error, &(seed - angles)) else { break };
        angles = clamp_to_limits(&(angles + step));
    }
    best
}

/// Position error above weighted approach error, both in metres.
fn task_error(goal: &Reach, posture: &Posture) -> Vector6<f64> {
    let offset = goal.position.coords - posture.tip.translation.vector;
    let axis = posture.approach().cross(&goal.approach);
    let angle = posture.approach().angle(&goal.approach);
    let turn = axis.try_normalize(1e-12).unwrap_or_else(Vector3::zeros) * angle;
    let mut error = Vector6::zeros();
    error.fixed_rows_mut::<3>(0).copy_from(&offset);
    error.fixed_rows_mut::<3>(3).copy_from(&(turn * METRES_PER_RADIAN));
    error
}

/// One damped step: towards the goal, and within what that leaves free, towards the seed. `None`
/// if something is not a finite number.
fn step(posture: &Posture, error: &Vector6<f64>, to_seed: &Joints) -> Option<Joints> {
    let task = task_jacobian(posture);
    // The damping makes this positive definite, in singular postures too.
    let normal: Matrix6<f64> = task * task.transpose() + Matrix6::identity() * DAMPING.powi(2);
    let solver = normal.cholesky()?;
    let towards_goal: Joints = task.transpose() * solver.solve(error);
    let redundant: SMatrix<f64, DOF, DOF> =
        SMatrix::identity() - task.transpose() * solver.solve(&task);
    let step = towards_goal + redundant * to_seed * SEED_PULL;
    let largest = step.amax();
    largest.is_finite().then(|| step * (MAX_STEP / largest).min(1.0))
}

/// The Jacobian of [`task_error`]: the tip's, without rotation about the reaching direction.
fn task_jacobian(posture: &Posture) -> Jacobian {
    let mut jacobian = posture.jacobian();
    let approach = posture.approach();
    let across = Matrix3::identity() - approach * approach.transpose();
    let angular = across * jacobian.fixed_rows::<3>(3) * METRES_PER_RADIAN;
    jacobian.fixed_rows_mut::<3>(3).copy_from(&angular);
    jacobian
}

#[cfg(test)]
mod tests {
    use super::super::chain::home;
    use super::*;
    use proptest::prelude::*;

    /// Points over the table that the hand can reach from straight above.
    fn workspace() -> impl Strategy<Value = Point3<f64>> {
        (0.32..0.62_f64, -1.2..1.2_f64, 0.02..0.35_f64).prop_map(|(radius, angle, z)| {
            Point3::new(radius * angle.cos(), radius * angle.sin(), z)
        })
    }

    proptest! {
        #[test]
        fn converges_over_the_whole_workspace(position in workspace()) {
            let goal = Reach::from_above(position);
            let solution = solve(&goal, &home());
            prop_assert!(solution.converged(), "{solution:?}");
            // The claim is checked against forward kinematics, not against the solver's own sums.
            let posture = Posture::at(&solution.joints);
            prop_assert!((posture.tip.translation.vector - position.coords).norm() < 1e-3);
            prop_assert!(posture.approach().angle(&goal.approach) < 1e-2);
            prop_assert_eq!(clamp_to_limits(&solution.joints), solution.joints);
        }

        #[test]
        fn ik_stays_finite_and_within_limits_for_any_goal(
            position in prop::array::uniform3(-3.0..3.0_f64),
            seed in prop::array::uniform7(-4.0..4.0_f64),
        ) {
            let solution = solve(&Reach::from_above(position.into()), &Joints::from(seed));
            prop_assert_eq!(clamp_to_limits(&solution.joints), solution.joints);
        }
    }

    #[test]
    fn a_nan_goal_is_unreachable() {
        let solution = solve(&Reach::from_above(Point3::new(f64::NAN, 0.0, 0.1)), &home());
        assert!(!solution.converged());
        assert_eq!(solution.joints, home());
    }

    #[test]
    fn out_of_reach_is_reported() {
        let solution = solve(&Reach::from_above(Point3::new(2.0, 0.0, 0.1)), &home());
        assert!(!solution.converged());
        assert!(solution.position_error > 0.5);
    }
}
