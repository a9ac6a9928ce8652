//! The newcomer's case: an arm that is to move at 0.2 rad/s, and a policy that thinks meanwhile.

#[path = "../../examples/late_chunks.rs"]
#[expect(dead_code, reason = "its `main` is for a terminal")]
mod late_chunks;

use std::time::Duration;

use late_chunks::{INFERENCES, NETWORK, Setup, run};

fn setups() -> impl Iterator<Item = Setup> {
    INFERENCES.into_iter().flat_map(|millis| {
        let inference = Duration::from_millis(millis);
        let of = move |jitter| Setup { inference, jitter, aligned: true, exact: true };
        [Duration::ZERO, inference / 2].map(of)
    })
}

#[test]
fn an_aligned_arm_moves_as_was_planned_however_long_the_policy_thinks() {
    for setup in setups() {
        let motion = run(setup).unwrap();
        let share = motion.executed_over_planned();
        assert!((0.95..1.01).contains(&share), "{setup:?}: {motion:?}");
        assert!(motion.largest_jump < 0.021, "{setup:?}: {motion:?}");
        // Where a chunk lasts for two inferences the arm never waits.
        let slowest = setup.inference + setup.jitter;
        if slowest < Duration::from_millis(460) {
            assert!(motion.covered > 0.98, "{setup:?}: {motion:?}");
        }
    }
}

/// A row that is sent while an observation is asked for may count for one that is still to come: a
/// step is lost then. Of the time between two looks, that is the share of the round trip.
#[test]
fn of_a_robot_that_does_not_tell_only_the_round_trip_is_uncertain() {
    for setup in setups() {
        let setup = Setup { exact: false, ..setup };
        let motion = run(setup).unwrap();
        let round_trip = 2.0 * NETWORK.as_secs_f32();
        let uncertain = round_trip / (setup.inference.as_secs_f32() + round_trip);
        let share = motion.executed_over_planned();
        assert!((0.95 - uncertain..1.01).contains(&share), "{setup:?}: {motion:?}");
    }
}

#[test]
fn without_alignment_most_of_the_motion_is_lost() {
    let inference = Duration::from_millis(150);
    let setup = Setup { inference, jitter: Duration::ZERO, aligned: false, exact: true };
    let motion = run(setup).unwrap();
    assert!(motion.executed_over_planned() < 0.5, "{motion:?}");
}
