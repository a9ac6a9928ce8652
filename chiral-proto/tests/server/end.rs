//! The end of a connection.

use std::sync::Arc;

use chiral_proto::ConnectionError;
use chiral_proto::server::{Answer, Config, Event};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};

use super::support::*;
use super::{EVERY_ACTION, Robot};

#[test]
fn disconnected_is_delivered_once_and_last() {
    let mut robot = Robot::new(Config { watchdog: Some(ms(10)), ..Config::default() });
    robot.hears_action(1);
    robot.hears(ClientMessage::Observe);
    let lost = ConnectionError::Lost("cable".to_owned());
    robot.server.handle_disconnect(robot.now, lost.clone());
    robot.server.close();
    robot.server.fail("again");

    assert!(matches!(robot.is_told(), Some(Event::Disconnected(error)) if error == lost));
    robot.hears_action(2);
    robot.hears(ClientMessage::Metadata);
    robot.server.handle_message(robot.now, (&b"no frame"[..]).into());
    robot.wait(ms(100));
    assert!(robot.is_told().is_none());
    assert_eq!(robot.sends(), None);
    assert_eq!(robot.sleeps_for(), None);
    assert_eq!(robot.server.error(), Some(&lost));
    assert_eq!(robot.server.stats().frames_received, 2);
}

#[test]
fn stale_actions_and_requests_are_dropped_on_disconnect() {
    let config = Config { watchdog: Some(ms(10)), action_queue: EVERY_ACTION, ..Config::default() };
    let ends: [fn(&mut Robot); 4] = [
        |robot| robot.server.handle_disconnect(robot.now, ConnectionError::Lost("cable".into())),
        |robot| robot.server.close(),
        |robot| robot.server.fail("stuck"),
        |robot| robot.server.handle_message(robot.now, (&b"no frame"[..]).into()),
    ];
    for ends in ends {
        let mut robot = Robot::new(config.clone());
        robot.hears_action(1);
        robot.hears_action(2);
        robot.hears(ClientMessage::ApplyAction([f32::NAN].into()));
        robot.wait(ms(10)); // The watchdog fires.
        robot.hears(ClientMessage::Step(action(3)));
        robot.hears_action(4);
        robot.hears(ClientMessage::Reset);
        robot.hears_action(5);
        robot.hears(ClientMessage::Observe);
        ends(&mut robot);
        assert!(robot.server.has_motion() && !robot.server.has_request());
        assert!(matches!(robot.server.poll_motion(robot.now), Some(Event::Disconnected(_))));
        assert!(
            robot.server.poll_motion(robot.now).is_none() && robot.server.poll_request().is_none()
        );
        let dropped = robot.server.stats().actions_dropped;
        assert_eq!((dropped.disconnected, dropped.refused), (5, 1), "the step's is one of them");
    }
}

#[test]
fn a_reset_in_progress_releases_nothing_after_disconnect() {
    let mut robot = Robot::in_order();
    robot.hears(ClientMessage::Reset);
    let reply = robot.is_told_to_reset();
    robot.hears_action(1);
    robot.server.handle_disconnect(robot.now, ConnectionError::Lost("cable".to_owned()));
    assert!(robot.server.reply_reset(reply, reset(0)).is_err());
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
    assert!(robot.is_told().is_none());
    assert_eq!(robot.server.stats().actions_dropped.disconnected, 1);
}

#[test]
fn unsent_replies_are_dropped_on_disconnect() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    let buffer = Arc::new(());
    let snapshot = Arc::clone(&buffer);
    let answer = Answer::when_sent(move |_| {
        drop(snapshot);
        observation(1)
    });
    robot.server.reply_observation(reply, answer).unwrap();
    robot.server.close();
    assert_eq!(robot.sends(), None);
    assert_eq!(Arc::strong_count(&buffer), 1, "what they held is free again");
}

#[test]
fn a_robot_error_ends_the_connection_with_its_message() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    let _reply = robot.is_told_to_reset();
    robot.server.fail("the gripper is stuck");
    let error = robot.server.error().unwrap();
    assert_eq!(error.to_string(), "the robot failed: the gripper is stuck");
    assert_eq!((error.is_ours(), error.close_code()), (true, 1011));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(ConnectionError::RobotFailed(_)))));
}

#[test]
fn one_request_over_the_limit_ends_the_connection() {
    let mut robot = Robot::new(Config { pending_replies: 2, ..Config::default() });
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_observe();
    robot.server.reply_observation(reply, observation(1)).unwrap();
    robot.hears(ClientMessage::Observe);
    assert_eq!(robot.server.error(), None, "answered, but not sent, and untold: two wait");
    assert!(robot.sends().is_some());
    robot.hears(ClientMessage::Observe);
    assert_eq!(robot.server.error(), None);
    robot.hears(ClientMessage::Metadata);
    let expected = ConnectionError::TooManyRequests { limit: 2 };
    assert_eq!(robot.server.error(), Some(&expected));
    assert_eq!(expected.close_code(), 1008);
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(error)) if error == expected));
}

#[test]
fn actions_do_not_count_as_waiting_requests() {
    let mut robot = Robot::new(Config { pending_replies: 1, ..Config::default() });
    for number in 0..50 {
        robot.hears_action(number);
    }
    assert_eq!(robot.server.error(), None);
}

#[test]
fn an_unreadable_frame_or_a_server_message_ends_the_connection() {
    let answer = ServerMessage::Metadata(metadata(0)).encode().to_bytes();
    for message in [&b""[..], b"\xff\xff\xff\xff", b"\x01\0\0\0\xc1", &answer] {
        let mut robot = Robot::default();
        robot.server.handle_message(robot.now, message.to_vec().into());
        assert!(matches!(robot.is_told(), Some(Event::Disconnected(ConnectionError::BadFrame(_)))));
    }
}

#[test]
fn a_frame_over_the_limits_ends_the_connection() {
    let limits = Limits { frame_len: 50, ..Limits::default() };
    let mut robot = Robot::new(Config { limits, ..Config::default() });
    robot.hears_action(1);
    assert_eq!(robot.server.error().unwrap().close_code(), 1009);
}
