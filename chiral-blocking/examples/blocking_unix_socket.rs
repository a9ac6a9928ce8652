//! Robot and policy on one computer, without a network: over a Unix socket. Here both are in one
//! process. `cargo run --example blocking_unix_socket`

use std::time::Duration;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::{Action, ActionSpec, CameraConfig, ConnectionError, server};
use chiral_blocking::{
    PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds,
};

struct Gripper {
    sensors: Sensors,
}

impl Robot for Gripper {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let [opening] = action.to_array()?; // metres
        println!("opening to {opening} m");
        Ok(())
    }

    fn on_watchdog(&self, silent_for: Duration) {
        println!("holding still: no action for {silent_for:.1?}");
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        println!("holding still: {reason}");
    }
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let camera = CameraConfig::new("palm", [48, 64, 3]);
    let sensors = Sensors::with_clock([camera], [], monotonic_seconds)?;
    let config = ServerConfig {
        machine: server::Config { action_spec: ActionSpec::vector(1), ..Default::default() },
        watchdog: Watchdog::After(Duration::from_millis(500)),
        ..ServerConfig::default()
    };
    // Who may write to the socket's file may drive the robot: put it where only this user may go.
    let folder = std::env::var("XDG_RUNTIME_DIR").unwrap_or("/tmp".to_owned());
    let path = std::env::args().nth(1).unwrap_or(format!("{folder}/chiral-gripper.sock"));
    let server = PolicyServer::bind_with(&format!("unix:{path}"), config)?;
    server.spawn(Gripper { sensors })?;

    let robot = PolicyClient::connect(&server.uri()?)?;
    let observation = robot.observe()?;
    println!("a camera of {} pixels", observation["palm"].image.shape());
    robot.send_action([0.04])?;
    robot.reset()?; // waits for the actions before it; a robot applies none after the connection's end
    robot.close();
    server.shutdown();
    Ok(())
}
