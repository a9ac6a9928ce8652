//! Requests that the server answers by itself, from what the robot gave up front.

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Event;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{CameraConfig, ConnectionError};

use super::Robot;
use super::support::*;

fn sensors() -> Sensors {
    Sensors::with_clock([CameraConfig::new("cam", [1, 1, 3])], [], || 7.0).unwrap()
}

fn with_defaults() -> (Robot, Sensors) {
    let (mut robot, sensors) = (Robot::default(), sensors());
    robot.server.set_default_observation(sensors.clone());
    robot.server.set_default_metadata(metadata(1));
    (robot, sensors)
}

#[test]
fn observations_and_metadata_are_answered_without_an_event() {
    let (mut robot, sensors) = with_defaults();
    robot.hears(ClientMessage::Observe);
    robot.hears(ClientMessage::Metadata);
    assert!(!robot.server.has_request());
    assert!(robot.is_told().is_none());
    assert!(robot.server.has_transmit());
    // What the sensors see when the answer leaves, not when the request came.
    sensors.update_image("cam", &[9_u8; 3]).unwrap();
    let Some(ServerMessage::Observation(seen)) = robot.sends() else { panic!("an observation") };
    assert_eq!((seen.timestamp, &seen["cam"].image.bytes()[..]), (7.0, &[9_u8; 3][..]));
    assert_eq!(robot.sends(), Some(ServerMessage::Metadata(metadata(1))));
    assert_eq!(robot.sends(), None);
}

#[test]
fn each_can_be_given_alone() {
    let mut robot = Robot::default();
    robot.server.set_default_metadata(metadata(1));
    robot.hears(ClientMessage::Observe);
    drop(robot.is_told_to_observe());

    let mut robot = Robot::default();
    robot.server.set_default_observation(sensors());
    robot.hears(ClientMessage::Metadata);
    drop(robot.is_asked_for_metadata());

    let mut robot = Robot::default();
    robot.server.set_sensors(sensors());
    robot.hears(ClientMessage::Observe);
    drop(robot.is_told_to_observe());
}

#[test]
fn such_answers_keep_their_place_behind_a_reset() {
    let (mut robot, _) = with_defaults();
    robot.hears(ClientMessage::Reset);
    robot.hears(ClientMessage::Observe);
    let reply = robot.is_told_to_reset();
    assert_eq!(robot.sends(), None);
    robot.server.reply_reset(reply, reset(3)).unwrap();
    assert_eq!(robot.sends(), Some(ServerMessage::Reset(reset(3))));
    assert!(matches!(robot.sends(), Some(ServerMessage::Observation(_))));
}

#[test]
fn they_count_as_waiting_until_they_leave() {
    let (mut robot, _) = with_defaults();
    for _ in 0..65 {
        robot.hears(ClientMessage::Observe);
    }
    let expected = ConnectionError::TooManyRequests { limit: 64 };
    assert_eq!(robot.server.error(), Some(&expected));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
}
