//! What becomes of steps that an old and a new chunk both plan.

use chiral_proto::client::NotQueuedReason;
use chiral_proto::timeline::{Anchor, FollowOptions, Merge, MergeError, Weights};
use chiral_proto::{Action, Array, Rate};

use crate::placing::Policy;

/// The plan 0, 1, 2, …, 5, and what is planned after another chunk of `rows` at the next step.
fn merged(rows: &[f32], merge: Merge) -> Vec<f32> {
    let mut policy = Policy::default();
    policy.puts(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let options = FollowOptions::new().anchor(Anchor::Next).merge(merge);
    policy.places(rows, &options).unwrap();
    policy.sends_the_rest()
}

#[test]
fn the_new_plan_replaces_the_old_one_whole() {
    assert_eq!(merged(&[10.0, 11.0], Merge::Replace), [10.0, 11.0]);
    assert_eq!(merged(&[], Merge::Replace), []);
}

#[test]
fn the_first_rows_of_the_old_plan_can_be_kept() {
    let rows = [10.0, 11.0, 12.0, 13.0];
    assert_eq!(merged(&rows, Merge::KeepFirst(2)), [0.0, 1.0, 12.0, 13.0]);
    assert_eq!(merged(&rows, Merge::KeepFirst(0)), rows);
    assert_eq!(merged(&rows, Merge::KeepFirst(9)), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn the_old_plan_is_continued() {
    let rows: Vec<f32> = (10..18_u8).map(f32::from).collect();
    let expected = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 16.0, 17.0];
    assert_eq!(merged(&rows, Merge::Append), expected);
}

#[test]
fn rows_of_both_plans_are_blended() {
    let half = Merge::Blend(Weights::Constant(0.5));
    assert_eq!(merged(&[10.0, 11.0, 12.0], half), [5.0, 6.0, 7.0]);
    let fade = Merge::Blend(Weights::Crossfade(3));
    assert_eq!(merged(&[8.0, 9.0, 10.0, 11.0, 12.0], fade), [2.0, 5.0, 8.0, 11.0, 12.0]);
}

#[test]
fn an_ensemble_averages_all_plans_of_a_step() {
    let mut policy = Policy::default();
    let mean = Merge::TemporalEnsemble { m: 0.0 };
    let options = FollowOptions::new().anchor(Anchor::Next).merge(mean);
    for rows in [[0.0, 0.0], [3.0, 6.0], [9.0, 0.0]] {
        policy.places(&rows, &options).unwrap();
    }
    assert_eq!(policy.sends_the_rest(), [4.0, 2.0]);
}

#[test]
fn a_gripper_is_not_averaged() {
    let mut policy = Policy::default();
    let options = FollowOptions::new().anchor(Anchor::Next);
    policy.follows([Action::from([0.0, 0.0])], &options).unwrap();
    let options = options.merge(Merge::Blend(Weights::Constant(0.5))).average_only([0]);
    let placement = policy.follows([Action::from([1.0, 1.0])], &options).unwrap();
    assert_eq!((placement.blended, placement.replaced), (1, 0));
    policy.client.start_action_dispatch(policy.now, Rate::hz(10).unwrap()).unwrap();
    assert_eq!(policy.sends_action().unwrap().to_array(), Ok([0.5, 1.0]));
}

#[test]
fn rows_that_cannot_be_averaged_leave_the_plan_as_it_was() {
    let mut policy = Policy::default();
    policy.puts(&[0.0, 1.0]);
    let blend =
        FollowOptions::new().anchor(Anchor::Next).merge(Merge::Blend(Weights::Crossfade(2)));
    let whole = Action::new(Array::vector(vec![7_i32]));
    let refused = policy.follows([Action::from([5.0]), whole], &blend).unwrap_err();
    assert!(matches!(refused.reason, NotQueuedReason::Merge(MergeError::Dtype { .. })));
    assert_eq!(refused.actions.len(), 2);
    let refused = policy.follows([Action::from([5.0, 6.0])], &blend).unwrap_err();
    assert!(matches!(refused.reason, NotQueuedReason::Merge(MergeError::Shape { .. })));
    let refused = policy.places(&[5.0], &blend.clone().average_only([1])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "1 action was not queued: dimension 1 is to be averaged, but the actions have 1"
    );
    assert_eq!(policy.sends_the_rest(), [0.0, 1.0]);
}

#[test]
fn the_placement_counts_what_became_of_the_rows() {
    let mut policy = Policy::default();
    policy.puts(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let next = FollowOptions::new().anchor(Anchor::Next);
    let kept = policy.places(&[1.0, 2.0, 3.0], &next.clone().merge(Merge::KeepFirst(2))).unwrap();
    assert_eq!((kept.kept, kept.replaced, kept.first), (2, 4, Some(2)));
    let fade = next.merge(Merge::Blend(Weights::Crossfade(1)));
    let faded = policy.places(&[1.0, 2.0, 3.0, 4.0], &fade).unwrap();
    assert_eq!((faded.blended, faded.replaced, faded.first), (1, 2, Some(0)));
    let stats = policy.client.stats(policy.now);
    assert_eq!((stats.rows_blended, stats.actions_dropped), (1, 2 + 4 + 2));
    assert_eq!(policy.client.queued_actions(), 4);
}
