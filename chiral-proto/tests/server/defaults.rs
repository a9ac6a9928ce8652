//! Requests that the server answers by itself, from what the robot gave up front.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Event;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{CameraConfig, ConnectionError, WhenStale};

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
fn default_observations_and_metadata_need_no_event() {
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
fn each_default_reply_can_be_set_alone() {
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
fn default_replies_keep_their_order_behind_a_reset() {
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
fn default_replies_count_as_pending_until_sent() {
    let (mut robot, _) = with_defaults();
    for _ in 0..65 {
        robot.hears(ClientMessage::Observe);
    }
    let expected = ConnectionError::TooManyRequests { limit: 64 };
    assert_eq!(robot.server.error(), Some(&expected));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
}

#[test]
fn a_stale_camera_set_to_fail_ends_the_connection_naming_it() {
    let clock = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&clock);
    let camera = CameraConfig::new("cam", [1, 1, 3]).max_age(ms(500), WhenStale::Fail);
    let now = move || read.load(Ordering::SeqCst) as f64;
    let sensors = Sensors::with_clock([camera], [], now).unwrap();
    let mut robot = Robot::default();
    robot.server.set_default_observation(sensors.clone());
    robot.hears(ClientMessage::Observe);
    assert!(robot.sends().is_some());
    clock.store(2, Ordering::SeqCst);
    robot.hears(ClientMessage::Observe);
    assert_eq!(robot.sends(), None);
    let error = robot.server.error().unwrap().to_string();
    assert!(error.contains(r#"camera "cam" has published no image for 2.0s"#), "{error}");
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(_))));
}

#[test]
fn the_statistics_show_the_age_of_every_camera() {
    let (robot, sensors) = with_defaults();
    sensors.update_image("cam", &[9_u8; 3]).unwrap();
    let stats = robot.server.stats();
    assert_eq!(stats.cameras[0].age, Some(ms(0)));
    assert!(stats.to_string().contains(r#"camera        "cam" live, 1 images"#), "{stats}");
    assert!(Robot::default().server.stats().cameras.is_empty());
}
