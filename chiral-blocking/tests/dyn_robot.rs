//! Robots whose type is chosen while the program runs.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::server::{Answer, DropReason};
use chiral_blocking::proto::{
    Action, ConnectionError, Map, ProprioConfig, ResetResult, StepResult,
};
use chiral_blocking::{PolicyClient, PolicyServer, Robot, RobotError, ServerConfig};

/// How long something may take that happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(10);

/// A robot that tells which of its methods were called.
struct Witness {
    sensors: Sensors,
    calls: Mutex<Sender<&'static str>>,
}

impl Witness {
    fn new() -> (Self, Receiver<&'static str>) {
        let (calls, called) = channel();
        let sensors = Sensors::new([], [ProprioConfig::new("joints", 2)]).expect("it fits");
        (Self { sensors, calls: Mutex::new(calls) }, called)
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().expect("nothing panics").send(call).expect("the test waits");
    }
}

impl Robot for Witness {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, _: Action) -> Result<(), RobotError> {
        self.note("apply_action");
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        self.note("metadata");
        Ok(Map::new().with("robot", "witness"))
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        self.note("reset");
        Ok(ResetResult::default())
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        self.note("observe");
        Ok(Answer::from(&self.sensors))
    }

    fn step(&self, _: Action) -> Result<StepResult, RobotError> {
        self.note("step");
        Ok(StepResult::default())
    }

    fn on_connect(&self) {
        self.note("on_connect");
    }

    fn on_disconnect(&self, _: &ConnectionError) {
        self.note("on_disconnect");
    }

    fn on_actions_dropped(&self, _: u64, reason: &DropReason) {
        assert!(matches!(reason, DropReason::Refused(_)), "{reason}");
        self.note("on_actions_dropped");
    }

    fn on_watchdog(&self, _: Duration) {
        self.note("on_watchdog");
    }
}

/// Serves a robot, and calls each of its methods through a policy.
fn every_method_is_called(robot: impl Robot, called: &Receiver<&'static str>) {
    let mut config = ServerConfig::default();
    config.machine.watchdog = Some(Duration::from_millis(50));
    let server = PolicyServer::bind_with("127.0.0.1:0", config).expect("loopback");
    server.spawn(robot).expect("it is bound");
    let policy = PolicyClient::connect(&server.uri().expect("it is bound")).expect("it is there");
    // The watchdog may speak at any time.
    let wait_for = |call| {
        while called.recv_timeout(SOON).unwrap_or_else(|_| panic!("{call} was not called")) != call
        {
        }
    };
    wait_for("on_connect");
    let metadata = policy.metadata().expect("it answers");
    assert_eq!(metadata, Map::new().with("robot", "witness"));
    wait_for("metadata");
    policy.reset().expect("it answers");
    wait_for("reset");
    policy.observe().expect("it answers");
    wait_for("observe");
    policy.step([0.5, 0.5]).expect("it answers");
    wait_for("step");
    policy.send_action([0.5, 0.5]).expect("there is room");
    wait_for("apply_action");
    wait_for("on_watchdog");
    policy.send_action([f32::NAN, 0.5]).expect("there is room");
    wait_for("on_actions_dropped");
    policy.close();
    wait_for("on_disconnect");
}

#[test]
fn a_shared_dyn_robot_can_be_served() {
    let (robot, called) = Witness::new();
    let robot: Arc<dyn Robot> = Arc::new(robot);
    every_method_is_called(Arc::clone(&robot), &called);
    assert_eq!(robot.sensors().snapshot_now().proprios.len(), 1);
}

#[test]
fn a_boxed_dyn_robot_can_be_served() {
    let (robot, called) = Witness::new();
    let robot: Box<dyn Robot> = Box::new(robot);
    every_method_is_called(robot, &called);
}
