//! A robot that declares a contract, and a policy that keeps to it and breaks it. Here both are in one
//! process, on loopback. `cargo run --example contract`
//!
//! It is no safety function: keep the emergency stop, and the limits of the arm's own controller.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::{
    Action, ActionKind, ActionSpec, Arming, ConnectionError, OnViolation, ProprioConfig, Rate,
    ResetResult, StopReason, server,
};
use chiral_blocking::{
    PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds,
};

/// Two joints, in radians.
struct Arm {
    sensors: Sensors,
    position: Mutex<[f32; 2]>,
}

impl Arm {
    fn move_to(&self, target: [f32; 2]) -> Result<(), RobotError> {
        *self.position.lock().expect("nothing panics with it") = target;
        Ok(self.sensors.update_proprio("joint_pos", &target)?)
    }
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let target = action.to_array()?;
        println!("  robot: to {target:?}{}", if action.clamped { ", clamped" } else { "" });
        self.move_to(target)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        self.move_to([0.0, 0.0])?;
        println!("  robot: at home");
        Ok(ResetResult { observation: self.sensors.snapshot_now(), ..ResetResult::default() })
    }

    fn on_watchdog(&self, silent_for: Duration) {
        println!("  robot: holds, no action for {silent_for:.0?}");
    }

    fn on_stop(&self, reason: &StopReason) {
        println!("  robot: holds, and takes no action until it is armed: {reason}");
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        println!("  robot: holds: {reason}");
    }
}

fn contract() -> anyhow::Result<ActionSpec> {
    Ok(ActionSpec::vector(2)
        .kind(ActionKind::Absolute)
        .bounds([-2.9, -1.8], [2.9, 1.8])
        .max_step(0.1)
        .measured_by("joint_pos")
        .on_violation(OnViolation::Clamp)
        .rate(Rate::hz(20)?)
        .stop_after(6)
        .arming(Arming::OnReset))
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let sensors = Sensors::with_clock([], [ProprioConfig::new("joint_pos", 2)], monotonic_seconds)?;
    let config = ServerConfig {
        machine: server::Config { action_spec: contract()?, ..Default::default() },
        watchdog: Watchdog::Default, // which the declared rate sets
        ..ServerConfig::default()
    };
    let server = PolicyServer::bind_with("127.0.0.1:0", config)?;
    server.spawn(Arm { sensors, position: Mutex::default() })?;

    let robot = PolicyClient::connect(&server.uri()?)?;
    robot.metadata()?; // the contract comes with it
    println!("the robot takes {}", robot.contract());

    println!("an action before the robot is armed is dropped");
    robot.send_action([0.05, 0.0])?;
    println!("a reset arms it");
    robot.reset()?;
    println!("a target that is 1 rad away is brought within a step of 0.1");
    robot.send_action([1.0, 0.0])?;
    sleep(Duration::from_millis(40));
    println!("NaN does not even leave");
    match robot.send_action([f32::NAN, 0.0]) {
        Err(refused) => println!("  policy: {refused}"),
        Ok(()) => anyhow::bail!("it was sent"),
    }

    println!("the policy falls silent");
    sleep(Duration::from_millis(600));
    println!("what it sends then is dropped");
    robot.send_action([0.1, 0.0])?;
    robot.observe()?;
    if let Some(status) = robot.contract_status() {
        println!("  policy: the robot is {status}");
    }
    println!("an operator may arm it, too");
    server.arm();
    robot.observe()?; // what was decided before the stop is not executed after it
    robot.send_action([0.15, 0.0])?;
    robot.reset()?; // waits for the actions before it
    robot.close();
    server.shutdown();
    Ok(())
}
