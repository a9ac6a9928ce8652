//! Going out of service in an orderly way.

use chiral_proto::ConnectionError;
use chiral_proto::server::{Config, Event};
use chiral_proto::wire::{ClientMessage, ServerMessage};

use super::Robot;
use super::support::*;

fn is_told_of_shutdown(robot: &mut Robot) {
    let told = robot.is_told();
    assert!(matches!(told, Some(Event::Disconnected(ConnectionError::ShutDown))), "{told:?}");
    assert_eq!(robot.server.error().map(ConnectionError::close_code), Some(1001));
    assert!(robot.is_told().is_none());
}

#[test]
fn shutdown_without_pending_requests_is_immediate() {
    let mut robot = Robot::default();
    robot.server.shut_down(robot.now + ms(1000));
    assert_eq!(robot.sends(), None);
    is_told_of_shutdown(&mut robot);
    assert_eq!(robot.sleeps_for(), None);
}

#[test]
fn shutdown_answers_pending_requests_first() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Metadata);
    let reply = robot.is_told_to_observe();
    robot.server.shut_down(robot.now + ms(1000));
    assert_eq!(robot.sleeps_for(), Some(ms(1000)));
    robot.hears(ClientMessage::Observe); // Too late.
    robot.server.reply_observation(reply, observation(1)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Observation(observation(1))));
    assert_eq!(robot.sends(), None);
    assert_eq!(robot.server.error(), None);
    let told = robot.is_asked_for_metadata();
    robot.server.reply_metadata(told, metadata(2)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Metadata(metadata(2))));
    assert_eq!(robot.server.error(), None, "the transport has not taken it yet");
    assert_eq!(robot.sends(), None);
    is_told_of_shutdown(&mut robot);
}

#[test]
fn shutdown_does_not_wait_past_its_deadline() {
    let mut robot = Robot::default();
    robot.hears(ClientMessage::Reset);
    let _reply = robot.is_told_to_reset();
    robot.server.shut_down(robot.now + ms(1000));
    robot.wait(ms(999));
    assert_eq!(robot.sends(), None);
    assert_eq!(robot.server.error(), None);
    robot.wait(ms(1));
    is_told_of_shutdown(&mut robot);
}

#[test]
fn actions_and_watchdog_work_during_shutdown() {
    let mut robot = Robot::new(Config { watchdog: Some(ms(100)), ..Config::default() });
    robot.hears(ClientMessage::Observe);
    let _reply = robot.is_told_to_observe();
    robot.server.shut_down(robot.now + ms(1000));
    robot.hears_action(1);
    // Passed over: the robot moves on, and must not do so unwatched.
    robot.hears(ClientMessage::Reset);
    robot.hears(ClientMessage::Step(action(2)));
    assert_eq!(robot.is_told_to_act(), [1]);
    assert_eq!(robot.sleeps_for(), Some(ms(100)));
    robot.wait(ms(100));
    assert!(matches!(robot.is_told(), Some(Event::Watchdog { .. })));
    assert_eq!(robot.server.stats().actions.count(), 1, "the step's was passed over");
}

#[test]
fn requests_ignored_during_shutdown_do_not_exceed_the_limit() {
    let mut robot = Robot::new(Config { pending_replies: 1, ..Config::default() });
    robot.hears(ClientMessage::Observe);
    let _reply = robot.is_told_to_observe();
    robot.server.shut_down(robot.now + ms(1000));
    robot.hears(ClientMessage::Observe);
    assert_eq!(robot.server.error(), None);
}

#[test]
fn shutdown_after_disconnect_has_no_effect() {
    let mut robot = Robot::default();
    robot.server.close();
    robot.server.shut_down(robot.now);
    robot.wait(ms(1));
    assert_eq!(robot.server.error(), Some(&ConnectionError::ClosedLocally));
}
