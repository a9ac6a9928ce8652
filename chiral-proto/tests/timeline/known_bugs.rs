//! What went wrong elsewhere with chunks and delays, and must not here. The numbers are those of the
//! threads.

use std::time::Duration;

use chiral_proto::client::{Config, NotQueuedReason};
use chiral_proto::timeline::{Anchor, BasisError, FollowOptions, Span};

use crate::placing::Policy;
use crate::support::ms;

/// lerobot 4223, 3125: a first chunk at standstill lost 21 of 30 rows, and 210 of 300, because the
/// delay was taken from the clock; the arm jumped.
#[test]
fn a_first_chunk_at_standstill_loses_no_row_however_long_it_took() {
    for (rows, inference) in [(30, ms(2100)), (100, Duration::from_secs(60))] {
        let mut policy = Policy::dispatching();
        let seen = policy.sees(None);
        policy.waits(inference);
        let placement = policy.follow(&seen, 0, rows).unwrap();
        assert_eq!((placement.skipped, placement.first), (0, Some(0)));
    }
}

/// lerobot 4454: skip what was consumed, not what time has passed; the old plan ran out meanwhile.
#[test]
fn rows_are_skipped_by_what_was_executed_not_by_the_clock() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(None);
    policy.follow(&seen, 0, 3).unwrap();
    let seen = policy.sees(None);
    assert_eq!(policy.ticks(10)[..4], [Some(0.0), Some(1.0), Some(2.0), None]);
    let placement = policy.follow(&seen, 50, 20).unwrap();
    assert_eq!(placement.skipped, 3, "of ten ticks");
}

/// lerobot 4223: the latency of the first inference, which compiles the model, never left the
/// maximum.
#[test]
fn a_slow_first_inference_is_no_expectation() {
    let mut policy = Policy::dispatching();
    for inference in [ms(30_000), ms(90), ms(90)] {
        let seen = policy.sees(None);
        policy.waits(inference);
        policy.follow(&seen, 0, 100).unwrap();
        while policy.sends_action().is_some() {}
    }
    let seen = policy.sees(None);
    assert_eq!(policy.client.plan_context(&seen).unwrap().expected_delay, Some(1));
}

/// lerobot 4223: a warm-up of several slow inferences leaves the window in time.
#[test]
fn a_slow_warm_up_is_forgotten() {
    let mut policy = Policy::dispatching();
    for inference in std::iter::repeat_n(ms(2000), 4).chain(std::iter::repeat_n(ms(50), 40)) {
        let seen = policy.sees(None);
        policy.waits(inference);
        policy.follow(&seen, 0, 100).unwrap();
        while policy.sends_action().is_some() {}
    }
    let seen = policy.sees(None);
    assert_eq!(policy.client.plan_context(&seen).unwrap().expected_delay, Some(1));
}

/// lerobot 4454: a prefix that was padded with zeros moved the arm to the mean of the data. Here no
/// value is made up: a prefix is as long as there are rows.
#[test]
fn a_prefix_ends_where_the_plan_ends() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(Some(0));
    let chunk = policy.follow(&seen, 0, 10).unwrap().chunk;
    policy.ticks(7);
    let seen = policy.sees(Some(7));
    let context = policy.client.plan_context(&seen).unwrap();
    assert_eq!(context.spans, [Span { chunk, row: 7, count: 3 }]);
}

/// strands 3402, and a fork that sent the chunk unshifted: the prefix was cut when the chunk was
/// made, and so shifted by just the delay, or held rows that had been executed.
#[test]
fn a_prefix_begins_at_the_first_row_not_executed_at_the_capture() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(Some(0));
    policy.follow(&seen, 0, 20).unwrap();
    policy.ticks(5);
    // The robot has applied three of the five that were sent.
    let seen = policy.sees(Some(3));
    let first = policy.client.plan_context(&seen).unwrap();
    policy.ticks(4);
    // At the time of the next inference the prefix begins at the same row, whatever was sent.
    let later = policy.client.plan_context(&seen).unwrap();
    assert_eq!((first.spans[0].rows(), &first.spans), (3..20, &later.spans));
    assert_eq!(later.delay.min, 6);
}

/// OpenTau 552: a bounded queue dropped the rows that were next to make room for later ones.
#[test]
fn a_full_plan_loses_none_of_its_rows_to_a_chunk() {
    let mut policy = Policy::new(Config { queue_capacity: 5, ..Config::default() });
    policy.puts(&[0.0, 1.0, 2.0]);
    let end = FollowOptions::new().anchor(Anchor::End);
    let refused = policy.places(&[3.0, 4.0, 5.0], &end).unwrap_err();
    assert_eq!(refused.actions.len(), 3);
    assert_eq!(policy.sends_the_rest(), [0.0, 1.0, 2.0]);
}

/// lerobot's reset epoch, `DreamZero`'s `session_epoch`: a chunk inferred before a reset was merged
/// after it.
#[test]
fn a_chunk_inferred_before_a_reset_is_never_played_after_it() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(Some(0));
    policy.follow(&seen, 0, 10).unwrap();
    policy.ticks(1);
    policy.resets();
    assert_eq!(policy.ticks(3), [None; 3], "the plan is over");
    let refused = policy.follow(&seen, 0, 10).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Basis(BasisError::FormerEpoch));
    assert_eq!(
        refused.to_string(),
        "10 actions were not queued: the observation was taken before the last reset: decide on one of after it"
    );
    assert_eq!(policy.ticks(3), [None; 3]);
}

/// lerobot 1500, 1557, 2356: an observation close to the last was passed over, and the robot froze
/// until its queue was empty. Here each is a basis, also one that is equal to the last.
#[test]
fn equal_observations_are_two_bases() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(Some(0));
    policy.follow(&first, 0, 10).unwrap();
    policy.ticks(3);
    let second = policy.sees(Some(3));
    assert_eq!(policy.follow(&second, 0, 10).unwrap().base, 3);
    assert_eq!(policy.follow(&first, 0, 10).unwrap().base, 0);
}

/// lerobot's asynchronous client: an action that left between the reading of the queue and its
/// exchange was sent again.
#[test]
fn a_row_that_leaves_before_the_chunk_comes_is_not_sent_again() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(Some(0));
    policy.follow(&seen, 0, 10).unwrap();
    policy.waits(ms(100));
    // The tick has come, its row has not left: the chunk's own row of that step leaves.
    policy.follow(&seen, 100, 10).unwrap();
    assert_eq!(policy.sends_action().map(|action| action.to_f32()[0]), Some(100.0));
    policy.follow(&seen, 50, 10).unwrap();
    assert_eq!(policy.ticks(2), [51.0, 52.0].map(Some));
}
