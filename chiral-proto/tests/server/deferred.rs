//! Requests for observations that are told again when their answer can leave.

use chiral_proto::ConnectionError;
use chiral_proto::server::{Event, ReplyError};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::Robot;
use super::support::*;

#[test]
fn a_deferred_request_is_delivered_again_when_the_transport_is_ready() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    let number = reply.number();
    assert!(!reply.is_due());
    robot.server.defer_observation(reply).unwrap();
    robot.wait(ms(30));
    assert!(robot.is_told().is_none(), "the transport is busy");

    assert!(robot.server.has_transmit());
    assert_eq!(robot.sends(), None);
    assert!(!robot.server.has_transmit() && robot.server.has_request());
    let reply = robot.is_told_to_observe();
    assert_eq!((reply.is_due(), reply.number()), (true, number));
    assert!(robot.is_told().is_none(), "told once");
    assert_eq!(robot.sends(), None);
    robot.server.reply_observation(reply, observation(1)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
}

#[test]
fn a_deferred_request_waits_for_all_earlier_replies() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    assert!(first.number() < second.number());
    let number = second.number();
    robot.server.defer_observation(second).unwrap();
    assert_eq!(robot.sends(), None);
    assert!(robot.is_told().is_none());
    robot.server.reply_observation(first, observation(1)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
    assert!(robot.is_told().is_none(), "the transport is busy with the first");
    assert_eq!(robot.sends(), None);
    let due = robot.is_told_to_observe();
    assert_eq!((due.number(), due.is_due()), (number, true));
    robot.server.reply_observation(due, observation(2)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(2))));
}

#[test]
fn a_due_deferred_request_is_delivered_during_a_reset() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_observe();
    robot.server.defer_observation(reply).unwrap();
    let _reset = robot.is_told_to_reset();
    assert_eq!(robot.sends(), None);
    assert!(robot.is_told_to_observe().is_due());
}

#[test]
fn actions_do_not_wait_for_a_deferred_request() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    robot.server.defer_observation(reply).unwrap();
    assert_eq!(robot.sends(), None);
    robot.hears_action(1);
    assert!(matches!(robot.is_told(), Some(Event::Action(_))));
    let due = robot.is_told_to_observe();
    robot.hears_action(2);
    assert_eq!(robot.is_told_to_act(), [2]);
    robot.server.defer_observation(due).unwrap();
    assert_eq!(robot.sends(), None);
    assert!(robot.is_told_to_observe().is_due(), "it may be deferred once more");
}

#[test]
fn only_dropping_the_handle_of_a_due_request_counts_as_dropped() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    robot.server.defer_observation(reply).unwrap();
    assert!(robot.is_told().is_none());
    assert_eq!(robot.server.error(), None);
    assert_eq!(robot.sends(), None);
    drop(robot.is_told_to_observe());
    assert!(matches!(
        robot.is_told(),
        Some(Event::Disconnected(ConnectionError::Unanswered { .. }))
    ));
}

#[test]
fn deferring_after_disconnect_or_on_another_server_is_an_error() {
    let (mut robot, mut other) = (Robot::default(), Robot::default());
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    assert_eq!(other.server.defer_observation(first), Err(ReplyError::ForeignHandle));
    robot.server.close();
    let refused = Err(ReplyError::Disconnected(ConnectionError::ClosedLocally));
    assert_eq!(robot.server.defer_observation(second), refused);
}
