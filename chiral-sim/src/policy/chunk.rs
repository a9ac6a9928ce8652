//! From a goal posture to commands that the arm can follow.

use crate::arm::{DOF, Joints, clamp_to_limits, max_speeds};

/// How long the arm may plausibly lag behind its commands, seconds: the age of an observation and
/// the delay of an action together.
const MAX_LAG: f64 = 0.3;

/// Makes successive chunks join up into one steady motion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChunkPlanner {
    /// Seconds between two commands.
    period: f64,
    /// Commands in a chunk.
    len: usize,
    /// Top speeds of the motion, radians per second.
    speeds: Joints,
    /// The last command of the latest chunk.
    latest: Option<Joints>,
}

impl ChunkPlanner {
    /// Plans `len` commands at a time, `period` seconds apart, at a `pace` between 0 and 1 of the
    /// joints' greatest speeds.
    pub(super) fn new(len: usize, period: f64, pace: f64) -> Self {
        Self { period, len, speeds: max_speeds() * pace, latest: None }
    }

    /// The next commands on the straight way, in joint space, from `measured` to `goal`; all
    /// joints arrive together.
    pub(super) fn plan(&mut self, measured: &Joints, goal: &Joints) -> Vec<[f32; DOF]> {
        let mut command = self.start(measured);
        let way = clamp_to_limits(goal) - command;
        let duration = way.component_div(&self.speeds).amax();
        let share = (self.period / duration.max(self.period)).min(1.0);
        let steps = (duration / self.period).ceil() as usize;
        let chunk = (1..=self.len)
            .map(|k| {
                command = if k < steps { command + way * share } else { clamp_to_limits(goal) };
                command.map(|angle| angle as f32).into()
            })
            .collect();
        self.latest = Some(command);
        chunk
    }

    /// Where the previous chunk ended: the arm is about to be there. It is measured joint
    /// positions that decide, though: the start is never further from them than lag explains, so
    /// an arm that does not follow is not run away from.
    fn start(&self, measured: &Joints) -> Joints {
        let lead = self.latest.unwrap_or(*measured) - measured;
        let reach = self.speeds * MAX_LAG;
        measured + Joints::from_fn(|i, _| lead[i].clamp(-reach[i], reach[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::{JOINTS, home};
    use proptest::prelude::*;

    const PERIOD: f64 = 0.02;

    fn angles() -> impl Strategy<Value = Joints> {
        JOINTS.map(|joint| joint.lower..joint.upper).prop_map(Joints::from)
    }

    fn widen(command: &[f32; DOF]) -> Joints {
        Joints::from(command.map(f64::from))
    }

    proptest! {
        #[test]
        fn commands_respect_the_speed_and_reach_the_goal(from in angles(), to in angles()) {
            let mut planner = ChunkPlanner::new(5, PERIOD, 0.6);
            let mut arm = from;
            for _ in 0..100 {
                for command in planner.plan(&arm, &to) {
                    let speed = (widen(&command) - arm) / PERIOD;
                    for i in 0..DOF {
                        prop_assert!(speed[i].abs() <= 0.6 * JOINTS[i].max_speed + 1e-3);
                    }
                    arm = widen(&command);
                }
            }
            prop_assert!((arm - to).amax() < 1e-6);
        }
    }

    #[test]
    fn motion_stays_smooth_when_the_arm_lags() {
        let goal = home() + Joints::repeat(0.8);
        let mut planner = ChunkPlanner::new(5, PERIOD, 0.6);
        let first = planner.plan(&home(), &goal);
        // The next plan sees the arm where it was two commands before the chunk's end.
        let second = planner.plan(&widen(&first[2]), &goal);
        let steps = [(&first[3], &first[4]), (&first[4], &second[0]), (&second[0], &second[1])];
        let [before, across, after] = steps.map(|(a, b)| widen(b) - widen(a));
        assert!((before - across).amax() < 1e-5 && (across - after).amax() < 1e-5);
    }

    #[test]
    fn commands_wait_for_an_arm_that_does_not_move() {
        let goal = home() + Joints::repeat(1.0);
        let mut planner = ChunkPlanner::new(5, PERIOD, 0.6);
        for _ in 0..50 {
            for command in planner.plan(&home(), &goal) {
                let ahead = (widen(&command) - home()).component_div(&max_speeds()).amax();
                assert!(ahead <= 0.6 * (MAX_LAG + 5.0 * PERIOD) + 1e-6);
            }
        }
    }
}
