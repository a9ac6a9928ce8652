//! Actions that the robot does not see: malformed ones, and those of observations of long ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Config, DropReason, Event};
use chiral_proto::wire::ClientMessage;
use chiral_proto::{Action, ActionSpec, Array, CameraConfig, ConnectionError, Timestamps};

use super::support::*;
use super::{EVERY_ACTION, Robot, is_told_of_drops};

fn refusal(robot: &mut Robot) -> (u64, String) {
    match robot.is_told() {
        Some(Event::ActionsDropped { count, reason: DropReason::Refused(error) }) => {
            (count, error.to_string())
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn non_finite_and_empty_actions_are_rejected() {
    let mut robot = Robot::default();
    let refused = [
        Action::from([0.0, f32::NAN]),
        [f32::INFINITY].into(),
        [f32::NEG_INFINITY].into(),
        Array::vector(vec![f64::NAN]).into(),
        Array::vector(vec![1e300]).into(),
        Array::vector(Vec::<f32>::new()).into(),
    ];
    for action in refused {
        robot.hears(ClientMessage::ApplyAction(action));
        assert_eq!(refusal(&mut robot).0, 1);
        assert!(robot.is_told().is_none());
    }
    assert_eq!(robot.server.error(), None);
    assert_eq!(robot.server.stats().actions_dropped.refused, 6);
}

#[test]
fn actions_are_checked_against_the_declaration() {
    let action_spec = ActionSpec::vector(7);
    let mut robot = Robot::new(Config { action_spec, ..Config::default() });
    robot.hears(ClientMessage::ApplyAction([0.1; 6].into()));
    robot.hears(ClientMessage::ApplyAction([0.1; 8].into()));
    let expected = (2, "the action has shape [8], expected [7] or [1, 7]".to_owned());
    assert_eq!(refusal(&mut robot), expected, "merged, with the latest's words");
    robot.hears(ClientMessage::ApplyAction([0.1; 7].into()));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if *action.shape() == [7]));
    assert!(robot.is_told().is_none());
}

#[test]
fn a_rejected_action_does_not_supersede_a_queued_one() {
    let mut robot = Robot::default();
    robot.hears_action(1);
    robot.hears(ClientMessage::ApplyAction([f32::NAN].into()));
    assert!(matches!(robot.is_told(), Some(Event::Action(action)) if number_of(&action) == 1));
    assert_eq!(refusal(&mut robot).0, 1);
}

#[test]
fn an_invalid_step_ends_the_connection() {
    let action_spec = ActionSpec::vector(2);
    let mut robot = Robot::new(Config { action_spec, ..Config::default() });
    let rows = Array::from_slice([3, 2], &[0.5_f32; 6]).unwrap();
    robot.hears(ClientMessage::Step(rows.into()));
    let Some(Event::Step(_, reply)) = robot.is_told() else { panic!("rows are what a step has") };
    robot.server.reply_step(reply, step(0)).unwrap();
    robot.hears(ClientMessage::Step([0.5; 3].into()));
    let error = robot.server.error().unwrap();
    assert_eq!(
        error.to_string(),
        "a step was refused: the action has shape [3], expected [2] or [N, 2]"
    );
    assert_eq!((error.is_ours(), error.close_code()), (true, 1008));
    assert!(matches!(robot.is_told(), Some(Event::Disconnected(ConnectionError::RefusedStep(_)))));
    assert_eq!(robot.server.stats().actions_dropped.refused, 1);
}

/// A robot with one camera and a clock that the test sets, in milliseconds.
struct Seeing {
    robot: Robot,
    sensors: Sensors,
    clock: Arc<AtomicU64>,
}

impl Seeing {
    fn new(max_obs_age: Option<Duration>) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&clock);
        let now = move || read.load(Ordering::SeqCst) as f64 / 1e3;
        let camera = CameraConfig::new("cam", [1, 1, 3]);
        let sensors = Sensors::with_clock([camera], [], now).unwrap();
        let config = Config { max_obs_age, action_queue: EVERY_ACTION, ..Config::default() };
        let mut robot = Robot::new(config);
        robot.server.set_sensors(sensors.clone());
        Self { robot, sensors, clock }
    }

    fn sees_at(&self, millis: u64) {
        self.clock.store(millis, Ordering::SeqCst);
        self.sensors.update_image("cam", &[0_u8; 3]).unwrap();
    }

    fn hears_at(&mut self, millis: u64, stamps: &[(&'static str, f64)]) {
        self.clock.store(millis, Ordering::SeqCst);
        let obs_timestamps = Some(stamps.iter().copied().collect::<Timestamps>());
        self.robot.hears(ClientMessage::ApplyAction(Action { obs_timestamps, ..action(1) }));
    }

    fn acts(&mut self) -> bool {
        match self.robot.is_told() {
            Some(Event::Action(_)) => true,
            Some(Event::ActionsDropped { reason: DropReason::StaleObservation { .. }, .. }) => {
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_action_decided_on_an_old_observation_is_rejected() {
    let mut seeing = Seeing::new(Some(ms(300)));
    for millis in (1000..=4000).step_by(100) {
        seeing.sees_at(millis);
    }
    seeing.hears_at(4000, &[("cam", 3.8)]);
    assert!(seeing.acts());
    // After a stall of the network.
    seeing.hears_at(4000, &[("cam", 1.0)]);
    seeing.hears_at(4000, &[("cam", 1.5)]);
    let reason = DropReason::StaleObservation { age: ms(2500), limit: ms(300) };
    assert_eq!(
        reason.to_string(),
        "it was decided on an observation 2.5s old, over the 300.0ms of `Config::max_obs_age`"
    );
    is_told_of_drops(&mut seeing.robot, 2, &reason);
    assert_eq!(seeing.robot.server.stats().actions_dropped.stale_observation, 2);
}

#[test]
fn observation_age_is_measured_from_its_newest_frame() {
    let mut seeing = Seeing::new(Some(ms(300)));
    seeing.sees_at(1000);
    seeing.hears_at(1300, &[("cam", 1.0)]);
    assert!(seeing.acts());
    seeing.hears_at(1301, &[("cam", 1.0)]);
    assert!(!seeing.acts(), "the camera is silent, and the policy blind");
}

#[test]
fn the_default_age_limit_of_5_s_allows_a_4_s_chunk() {
    let mut seeing = Seeing::new(Config::default().max_obs_age);
    seeing.sees_at(1000);
    // 500 ms of inference, and then 40 rows at 10 Hz, all of one observation.
    for row in 0..40 {
        let millis = 1500 + row * 100;
        seeing.sees_at(millis);
        seeing.hears_at(millis, &[("cam", 1.0)]);
        assert!(seeing.acts(), "row {row}");
    }
    seeing.sees_at(7000);
    seeing.hears_at(7000, &[("cam", 1.0)]);
    assert!(!seeing.acts());
}

#[test]
fn actions_without_known_timestamps_are_accepted() {
    let mut seeing = Seeing::new(Some(ms(300)));
    seeing.hears_at(5000, &[("cam", 0.5)]);
    assert!(seeing.acts(), "the camera has not published anything");
    seeing.sees_at(6000);
    seeing.hears_at(6000, &[]);
    assert!(seeing.acts(), "no timestamps");
    seeing.hears_at(6000, &[("other", 0.5)]);
    assert!(seeing.acts(), "no camera of this robot");
    seeing.hears_at(6000, &[("cam", 0.0)]);
    assert!(seeing.acts(), "0 is that of a camera that had not delivered");
    seeing.hears_at(6000, &[("cam", f64::NAN)]);
    assert!(seeing.acts(), "not a time");
    seeing.hears_at(6000, &[("cam", f64::NEG_INFINITY)]);
    assert!(seeing.acts(), "not a time");
    seeing.hears_at(6100, &[("cam", 1e9)]);
    assert!(seeing.acts(), "ahead of the latest frame: as that one");
    seeing.hears_at(6400, &[("cam", 1e9)]);
    assert!(!seeing.acts(), "ahead of the latest frame, which is old");

    let mut seeing = Seeing::new(None);
    seeing.sees_at(9000);
    seeing.hears_at(9000, &[("cam", 1.0)]);
    assert!(seeing.acts(), "not judged");
}

#[test]
fn without_a_sensor_clock_no_action_is_rejected_for_age() {
    let config = || Config { max_obs_age: Some(ms(1)), ..Config::default() };
    let old = || ClientMessage::ApplyAction(action(1).decided_on(&observation(1)));
    let mut robot = Robot::new(config());
    robot.hears(old());
    assert_eq!(robot.is_told_to_act(), [1]);

    let mut robot = Robot::new(config());
    let sensors = Sensors::new([CameraConfig::new("cam", [1, 1, 3])], []).unwrap();
    sensors.update_image_at("cam", &[0_u8; 3], 1000.0).unwrap();
    robot.server.set_sensors(sensors);
    robot.hears(old());
    assert_eq!(robot.is_told_to_act(), [1]);
}

#[test]
fn timestamps_of_a_camera_clock_are_supported() {
    let mut seeing = Seeing::new(Some(ms(300)));
    // The camera's clock began long before the robot's, or long after.
    for start in [-1e6, 1e6] {
        for millis in [1000, 1100, 1200_u64] {
            seeing.clock.store(millis, Ordering::SeqCst);
            let captured_at = start + millis as f64 / 1e3;
            seeing.sensors.update_image_at("cam", &[0_u8; 3], captured_at).unwrap();
        }
        seeing.hears_at(1300, &[("cam", start + 1.1)]);
        assert!(seeing.acts());
        seeing.hears_at(1500, &[("cam", start + 1.1)]);
        assert!(!seeing.acts());
    }
}

#[test]
fn one_dead_camera_does_not_make_an_observation_stale() {
    let clock = Arc::new(AtomicU64::new(0));
    let read = Arc::clone(&clock);
    let now = move || read.load(Ordering::SeqCst) as f64 / 1e3;
    let cameras = ["dead", "live"].map(|name| CameraConfig::new(name, [1, 1, 3]));
    let sensors = Sensors::with_clock(cameras, [], now).unwrap();
    let mut robot = Robot::new(Config { max_obs_age: Some(ms(300)), ..Config::default() });
    robot.server.set_sensors(sensors.clone());
    clock.store(1000, Ordering::SeqCst);
    sensors.update_image("dead", &[0_u8; 3]).unwrap();
    clock.store(9000, Ordering::SeqCst);
    sensors.update_image("live", &[0_u8; 3]).unwrap();
    let decided = action(1).decided_on(&sensors.snapshot_now());
    robot.hears(ClientMessage::ApplyAction(decided));
    assert_eq!(robot.is_told_to_act(), [1]);
}

#[test]
fn an_action_that_becomes_stale_behind_a_reset_is_rejected_on_delivery() {
    let mut seeing = Seeing::new(Some(ms(300)));
    seeing.sees_at(1000);
    seeing.robot.hears(ClientMessage::Reset);
    let reply = seeing.robot.is_told_to_reset();
    seeing.hears_at(1000, &[("cam", 1.0)]);
    seeing.sees_at(9000);
    seeing.hears_at(9000, &[("cam", 9.0)]);
    seeing.robot.server.reply_reset(reply, reset(0)).unwrap();
    assert!(seeing.acts());
    assert!(!seeing.acts());
    assert_eq!(seeing.robot.server.stats().actions_dropped.stale_observation, 1);
}
