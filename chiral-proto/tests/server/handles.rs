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
fn a_dropped_handle_ends_the_connection_of_whatever_kind_it_is() {
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
fn it_is_noticed_when_something_is_to_be_sent_too() {
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
fn a_request_that_was_not_told_yet_is_not_forgotten() {
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
fn a_handle_that_is_moved_about_is_not_dropped() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let kept = vec![Some(Box::new(robot.is_told_to_observe()))];
    assert!(robot.is_told().is_none());
    let reply = *kept.into_iter().flatten().next().unwrap();
    assert!(robot.server.reply_observation(reply, observation(1)).is_ok());
    assert!(robot.sends().is_some());
}

#[test]
fn a_dropped_reset_handle_voids_the_actions_behind_it() {
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
fn an_answer_after_the_end_is_refused_with_the_reason() {
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
fn a_handle_dropped_after_the_end_changes_nothing() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Metadata);
    let told = robot.is_asked_for_metadata();
    robot.server.close();
    drop(told);
    assert!(robot.is_told().is_some());
    assert!(robot.is_told().is_none());
    assert_eq!(robot.server.error(), Some(&ConnectionError::ClosedLocally));
}
