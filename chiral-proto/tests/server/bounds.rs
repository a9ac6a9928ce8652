//! What waits in the server stays within its byte budget, whatever comes.

use chiral_proto::server::{ActionQueue, Config, DropReason, Event};
use chiral_proto::wire::{ClientMessage, Limits};
use chiral_proto::{Action, Array, ConnectionError, Dtype};

use super::support::*;
use super::{Robot, is_told_of_drops};

fn action_of(bytes: usize) -> Action {
    Action::new(Array::zeros(Dtype::U8, [bytes]).unwrap())
}

fn robot(queue_bytes: usize) -> Robot {
    let limits = Limits { frame_len: 16 << 20, ..Limits::default() };
    let action_queue = ActionQueue::InOrder { capacity: 1000 };
    Robot::new(Config { queue_bytes, limits, action_queue, ..Config::default() })
}

#[test]
fn default_limits_are_1_mib_frames_and_64_kib_headers() {
    let config = Config::default();
    assert_eq!((config.limits.frame_len, config.limits.header_len), (1 << 20, 64 << 10));
    let mut robot = Robot::default();
    robot.hears(ClientMessage::ApplyAction(action_of(2 << 20)));
    assert!(matches!(robot.server.error(), Some(ConnectionError::BadFrame(_))));
}

#[test]
fn the_oldest_actions_are_dropped_over_the_byte_budget() {
    let mut robot = robot(4 << 20);
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    for _ in 0..64 {
        robot.hears(ClientMessage::ApplyAction(action_of(1 << 20)));
    }
    robot.server.reply_reset(reply, reset(0)).unwrap();
    for _ in 0..3 {
        assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    }
    is_told_of_drops(&mut robot, 61, &DropReason::OverBudget);
    assert_eq!(robot.server.stats().actions_dropped.over_budget, 61);
}

#[test]
fn an_action_larger_than_the_budget_is_dropped() {
    let mut robot = robot(1 << 20);
    robot.hears(ClientMessage::ApplyAction(action_of(1 << 20)));
    is_told_of_drops(&mut robot, 1, &DropReason::OverBudget);
    robot.hears_action(1);
    assert_eq!(robot.is_told_to_act(), [1]);
}

#[test]
fn steps_over_the_byte_budget_end_the_connection() {
    let mut robot = robot(4 << 20);
    robot.hears(ClientMessage::Reset);
    let _reply = robot.is_told_to_reset();
    robot.hears_action(1);
    for _ in 0..4 {
        assert_eq!(robot.server.error(), None);
        robot.hears(ClientMessage::Step(action_of(1 << 20)));
    }
    let expected = ConnectionError::TooManyBytes { limit: 4 << 20 };
    assert_eq!(robot.server.error(), Some(&expected));
    assert_eq!((expected.is_ours(), expected.close_code()), (true, 1008));
    let dropped = robot.server.stats().actions_dropped;
    assert_eq!((dropped.over_budget, dropped.disconnected), (1, 4), "actions make room first");
}

#[test]
fn delivered_messages_free_their_budget() {
    let mut robot = robot(3 << 20);
    for _ in 0..10 {
        for _ in 0..2 {
            robot.hears(ClientMessage::ApplyAction(action_of(1 << 20)));
        }
        for _ in 0..2 {
            assert!(matches!(robot.is_told(), Some(Event::Action(_))));
        }
        robot.hears(ClientMessage::Step(action_of(2 << 20)));
        let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("the step is next") };
        robot.server.reply_step(reply, step(0)).unwrap();
        assert!(robot.sends().is_some());
    }
    assert_eq!(robot.server.stats().actions_dropped.total(), 0);
}

#[test]
fn messages_are_not_accepted_while_the_next_might_not_fit() {
    let limits = Limits { frame_len: 1 << 20, ..Limits::default() };
    let action_queue = ActionQueue::InOrder { capacity: 1000 };
    let mut robot =
        Robot::new(Config { queue_bytes: 2 << 20, limits, action_queue, ..Config::default() });
    robot.hears(ClientMessage::ApplyAction(action_of(900 << 10)));
    assert!(robot.server.wants_message());
    robot.hears(ClientMessage::ApplyAction(action_of(900 << 10)));
    assert!(!robot.server.wants_message());
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    assert!(robot.server.wants_message());
}
