//! Reply handles: each is used once, for its own connection, and not forgotten.

use chiral_proto::ConnectionError;
use chiral_proto::server::{Event, ReplyError};
use chiral_proto::wire::{ClientMessage, RequestKind};

use super::Robot;
use super::support::*;

fn unanswered(request: RequestKind) -> ConnectionError {
    ConnectionError::Unanswered { request }
}

#[test]
fn dropping_any_reply_handle_ends_the_connection() {
    let requests = [
        (RequestKind::Metadata, ClientMessage::Metadata),
        (RequestKind::Reset, ClientMessage::Reset),
        (RequestKind::Observe, ClientMessage::Observe),
        (RequestKind::Step, ClientMessage::Step(action(0))),
    ];
    for (kind, request) in requests {
        let mut robot = Robot::default();
        robot.hears(request);
        drop(robot.is_told().expect("the request"));
        let Some(Event::Disconnected(error)) = robot.is_told() else { panic!("{kind}") };
        assert_eq!(error, unanswered(kind));
        assert!(error.is_ours());
        assert!(robot.is_told().is_none());
        assert_eq!(robot.sends(), None);
        assert!(robot.server.error().is_some());
    }
}

#[test]
fn a_dropped_handle_is_noticed_by_poll_transmit() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Observe);
    let [first, second] = [(); 2].map(|()| robot.is_told_to_observe());
    robot.server.reply_observation(first, observation(1)).unwrap();
    drop(second);
    assert_eq!(robot.sends(), None);
    assert_eq!(robot.server.error(), Some(&unanswered(RequestKind::Observe)));
}

#[test]
fn an_undelivered_request_does_not_count_as_dropped() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Metadata);
    let reply = robot.is_told_to_reset();
    assert!(robot.is_told().is_none());
    assert_eq!(robot.server.error(), None);
    robot.server.reply_reset(reply, reset(0)).unwrap();
    assert_eq!(robot.server.error(), None);
}

#[test]
fn moving_a_reply_handle_does_not_drop_it() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let kept = vec![Some(Box::new(robot.is_told_to_observe()))];
    assert!(robot.is_told().is_none());
    let reply = *kept.into_iter().flatten().next().unwrap();
    assert!(robot.server.reply_observation(reply, observation(1)).is_ok());
    assert!(robot.sends().is_some());
}

#[test]
fn dropping_a_reset_handle_drops_the_actions_behind_it() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.hears_action(1);
    drop(reply);
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
    assert!(robot.is_told().is_none());
}

#[test]
fn a_handle_of_another_connection_is_refused() {
    let (mut robot, mut other) = (Robot::default(), Robot::default());
    robot.hears(ClientMessage::Observe);
    other.hears(ClientMessage::Observe);
    let (reply, foreign) = (robot.is_told_to_observe(), other.is_told_to_observe());
    let refused = robot.server.reply_observation(foreign, observation(1));
    assert_eq!(refused, Err(ReplyError::ForeignHandle));
    assert_eq!(robot.sends(), None);
    robot.server.reply_observation(reply, observation(2)).unwrap();
    assert!(robot.sends().is_some());
    // The handle is used up, so the other client would wait for ever.
    assert!(matches!(other.is_told(), Some(Event::Disconnected(_))));
}

#[test]
fn a_reply_after_disconnect_is_an_error_with_the_reason() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    robot.hears(ClientMessage::Reset);
    let told = robot.is_asked_for_metadata();
    let reply = robot.is_told_to_reset();
    robot.server.close();
    let refused = Err(ReplyError::Disconnected(ConnectionError::ClosedLocally));
    assert_eq!(robot.server.reply_metadata(told, metadata(0)), refused);
    assert_eq!(robot.server.reply_reset(reply, reset(0)), refused);
    assert_eq!(robot.sends(), None);
}

#[test]
fn dropping_a_handle_after_disconnect_has_no_effect() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    let told = robot.is_asked_for_metadata();
    robot.server.close();
    drop(told);
    assert!(robot.is_told().is_some());
    assert!(robot.is_told().is_none());
    assert_eq!(robot.server.error(), Some(&ConnectionError::ClosedLocally));
}
