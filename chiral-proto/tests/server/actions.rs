//! Actions: told the moment they arrive, but not across a reset.

use chiral_proto::server::{ActionQueue, Config, DropReason, Event};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};

use super::support::*;
use super::{Robot, is_action, is_told_of_drops};

#[test]
fn an_action_is_delivered_before_earlier_requests() {
    let mut robot = Robot::in_order();
    robot.hears(ClientMessage::Metadata);
    robot.hears(ClientMessage::Observe);
    robot.hears_action(1);
    robot.hears_action(2);
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 2));
    drop((robot.is_asked_for_metadata(), robot.is_told_to_observe()));
}

#[test]
fn an_action_is_delivered_while_replies_are_pending() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
    robot.server.reply_observation(first, observation(1)).unwrap();
    robot.hears_action(2);
    assert_eq!(robot.is_told_to_act(), [2]);
    robot.server.reply_observation(second, observation(2)).unwrap();
    assert!(robot.sends().is_some());
}

#[test]
fn actions_are_delivered_with_their_obs_timestamps() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::ApplyAction(action(1).decided_on(&observation(3))));
    let Some(Event::Action(told)) = robot.is_told() else { panic!("the action is next") };
    assert_eq!(told.obs_timestamps, Some(stamped(3)));
}

#[test]
fn a_reset_is_a_barrier_between_the_actions_before_and_after_it() {
    let mut robot = Robot::in_order();
    robot.hears(ClientMessage::Metadata);
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    robot.hears_action(2);
    robot.hears(ClientMessage::Observe);

    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let told = robot.is_asked_for_metadata();
    let reply = robot.is_told_to_reset();
    robot.hears_action(3);
    assert!(robot.is_told().is_none(), "held back until the reset is over");
    robot.server.reply_metadata(told, metadata(0)).unwrap();
    assert!(robot.is_told().is_none(), "another answer does not end it");
    robot.server.reply_reset(reply, reset(0)).unwrap();

    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 2));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 3));
    drop(robot.is_told_to_observe());
}

#[test]
fn two_resets_are_two_barriers() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    robot.hears_action(1);
    robot.hears(ClientMessage::Reset);
    robot.hears_action(2);
    let first = robot.is_told_to_reset();
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(first, reset(1)).unwrap();
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let second = robot.is_told_to_reset();
    assert!(robot.is_told().is_none());
    robot.server.reply_reset(second, reset(2)).unwrap();
    assert_eq!(robot.is_told_to_act(), [2]);
}

#[test]
fn a_step_is_ordered_with_actions_and_blocks_only_requests() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    robot.hears(ClientMessage::Step(action(2)));
    robot.hears_action(3);
    robot.hears(ClientMessage::Observe);
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    let Some(Event::Step(stepped, reply)) = robot.is_told() else { panic!("the step is next") };
    assert_eq!(number_of(&stepped), 2);
    assert_eq!(robot.is_told_to_act(), [3]);
    robot.server.reply_step(reply, step(0)).unwrap();
    let reply = robot.is_told_to_observe();
    robot.server.reply_observation(reply, observation(1)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Step(step(0))));
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
}

#[test]
fn by_default_the_latest_action_supersedes_earlier_ones() {
    let mut robot = Robot::default();
    for number in 0..100 {
        robot.hears_action(number);
    }
    assert_eq!(robot.server.poll_motion(robot.now).map(|told| is_action(&told)), Some(Some(99)));
    is_told_of_drops(&mut robot, 99, &DropReason::Superseded);
    assert!(robot.is_told().is_none());
    let stats = robot.server.stats();
    assert_eq!((stats.actions.count(), stats.actions_dropped.superseded), (100, 99));
    assert_eq!(stats.actions_dropped.total(), 99);
}

#[test]
fn a_delivered_action_is_not_superseded() {
    let mut robot = Robot::default();
    for number in 0..10 {
        robot.hears_action(number);
        assert_eq!(robot.is_told_to_act(), [number]);
    }
    assert_eq!(robot.server.stats().actions_dropped.total(), 0);
}

#[test]
fn actions_are_not_superseded_across_a_reset_or_a_step() {
    for barrier in [ClientMessage::Reset, ClientMessage::Step(action(3))] {
        let mut robot = Robot::default();
        robot.hears_action(1);
        robot.hears_action(2);
        robot.hears(barrier);
        robot.hears_action(4);
        robot.hears_action(5);
        assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(2));
        is_told_of_drops(&mut robot, 2, &DropReason::Superseded);
        match robot.is_told() {
            Some(Event::Reset(reply)) => robot.server.reply_reset(reply, reset(0)).unwrap(),
            Some(Event::Step(_, reply)) => robot.server.reply_step(reply, step(0)).unwrap(),
            other => panic!("{other:?}"),
        }
        assert_eq!(robot.is_told_to_act(), [5]);
    }
}

#[test]
fn a_slow_robot_does_not_lag_behind_its_policy() {
    // 50 Hz of actions, 33 ms each: told is always the latest that came.
    let mut robot = Robot::default();
    let mut free_at = robot.now;
    for number in 0..500 {
        robot.hears_action(number);
        if robot.now >= free_at {
            assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(number));
            free_at = robot.now + ms(33);
        }
        robot.wait(ms(20));
    }
}

fn queue(action_queue: ActionQueue) -> Robot {
    Robot::new(Config { action_queue, ..Config::default() })
}

/// An ordered queue of so few bytes that its read-ahead is less than an action.
fn short_ordered_queue(capacity: usize) -> Robot {
    let limits = Limits { frame_len: 200, ..Config::default().limits };
    let queue_bytes = 400 * capacity.max(1);
    let action_queue = ActionQueue::InOrder { capacity };
    Robot::new(Config { action_queue, queue_bytes, limits, ..Config::default() })
}

#[test]
fn an_action_queued_too_long_is_dropped_and_reported() {
    let mut robot = queue(ActionQueue::MaxAge(ms(100)));
    for number in 0..10 {
        robot.hears_action(number);
        robot.wait(ms(20));
    }
    // At 200 ms: those from 0 to 100 ms are too old.
    assert_eq!(robot.sleeps_for(), Some(ms(20)));
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(6));
    robot.wait(ms(40));
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(8));
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(9));
    is_told_of_drops(&mut robot, 7, &DropReason::TooOld);
    assert_eq!(robot.server.stats().actions_dropped.too_old, 7);
    assert_eq!(robot.sleeps_for(), None);
}

#[test]
fn an_action_expires_behind_a_reset_too() {
    let mut robot = queue(ActionQueue::MaxAge(ms(100)));
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.hears_action(1);
    robot.wait(ms(99));
    robot.hears_action(2);
    robot.wait(ms(1));
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(2));
    is_told_of_drops(&mut robot, 1, &DropReason::TooOld);
}

#[test]
fn an_ordered_queue_delivers_every_action_and_reports_when_full() {
    let mut robot = short_ordered_queue(3);
    for number in 0..3 {
        assert!(robot.server.wants_message());
        robot.hears_action(number);
    }
    assert!(!robot.server.wants_message());
    robot.hears_action(3); // It came anyway: it is not lost.
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(0));
    assert!(!robot.server.wants_message());
    assert_eq!(robot.is_told().and_then(|told| is_action(&told)), Some(1));
    assert!(robot.server.wants_message());
    assert_eq!(robot.is_told_to_act(), [2, 3]);
    assert_eq!(robot.server.stats().actions_dropped.total(), 0);
}

#[test]
fn the_driver_is_woken_when_messages_are_wanted_again() {
    let mut robot = short_ordered_queue(1);
    robot.hears_action(1);
    assert_eq!(robot.sleeps_for(), None);
    assert!(!robot.server.wants_message() && !robot.server.needs_wake());
    assert_eq!(robot.is_told_to_act(), [1]);
    assert!(robot.server.wants_message() && robot.server.needs_wake());
    assert_eq!(robot.sleeps_for(), None);
    assert!(!robot.server.needs_wake());
}

#[test]
fn an_ordered_queue_takes_small_actions_beyond_its_capacity_and_drops_them_on_disconnect() {
    let mut robot = queue(ActionQueue::InOrder { capacity: 3 });
    for number in 0..1000 {
        assert!(robot.server.wants_message(), "at action {number}");
        robot.hears_action(number);
    }
    robot.server.close();
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
    assert_eq!(robot.server.stats().actions_dropped.disconnected, 1000);
}

#[test]
fn a_full_queue_accepts_messages_after_disconnect() {
    let mut robot = short_ordered_queue(0);
    assert!(robot.server.wants_message(), "0 counts as 1");
    robot.hears_action(1);
    assert!(!robot.server.wants_message());
    robot.server.close();
    assert!(robot.server.wants_message());
}

#[test]
fn other_queue_policies_accept_every_message() {
    for action_queue in [ActionQueue::Latest, ActionQueue::MaxAge(ms(1000))] {
        let mut robot = queue(action_queue);
        for number in 0..100 {
            robot.hears_action(number);
            assert!(robot.server.wants_message());
        }
    }
}
