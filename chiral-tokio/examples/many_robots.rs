//! One program that drives several robots at once, each at its own rate; what one of them does, or
//! its end, is nothing to the others. The arguments are the robots' URIs. Without any there are two
//! simulated ones in this process, as they would be on one computer: each with a port of its own.
//!
//! `cargo run --example many_robots`, or `cargo run --example many_robots -- ws://left:8765
//! ws://right:8765`; with `--features zenoh` also robots by their names on one network, `zenoh:?robot=…`.

use std::time::Duration;

use chiral_tokio::proto::sensors::Sensors;
use chiral_tokio::proto::{Action, ActionSpec, CameraConfig, ConnectionError, Map, Rate, server};
use chiral_tokio::{
    PolicyClient, PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds,
};
use tokio::task::JoinSet;

struct Arm {
    name: &'static str,
    sensors: Sensors,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("robot", self.name))
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let _joints = action.to_array::<7>()?; // radians; command your arm with them here
        Ok(())
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        println!("{}: holding still: no action for {silent_for:.1?}", self.name);
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        println!("{}: holding still: {reason}", self.name);
    }
}

/// Serves a simulated arm.
async fn serve(name: &'static str) -> anyhow::Result<PolicyServer> {
    let camera = CameraConfig::new("wrist_cam", [480, 640, 3]);
    let sensors = Sensors::with_clock([camera], [], monotonic_seconds)?;
    let config = ServerConfig {
        machine: server::Config { action_spec: ActionSpec::vector(7), ..Default::default() },
        watchdog: Watchdog::After(Duration::from_millis(500)),
        ..ServerConfig::default()
    };
    let server = PolicyServer::bind_with("127.0.0.1:0", config).await?;
    let handle = server.clone();
    tokio::spawn(async move { handle.serve(Arm { name, sensors }).await });
    Ok(server)
}

/// Drives one robot for a second.
async fn drive(uri: &str) -> anyhow::Result<u64> {
    let patience = Duration::from_secs(10);
    let robot = PolicyClient::builder().connect_timeout(patience).connect(uri).await?;
    robot.start_obs_stream(Rate::hz(30)?)?;
    for _ in 0..30 {
        let observation = robot.next_obs().await?;
        let pixels = observation["wrist_cam"].image.as_slice::<u8>()?;
        robot.send_action([f32::from(pixels[0]) / 255.0; 7])?;
    }
    let observations = robot.stats().observations.count();
    robot.close().await;
    Ok(observations)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // who connects, and what fails

    let mut uris: Vec<String> = std::env::args().skip(1).collect();
    let mut servers = Vec::new();
    if uris.is_empty() {
        for name in ["left", "right"] {
            let server = serve(name).await?;
            uris.push(server.uri()?);
            servers.push(server);
        }
    }
    let mut drives = JoinSet::new();
    for uri in uris {
        drives.spawn(async move {
            match drive(&uri).await {
                Ok(count) => println!("{uri}: {count} observations"),
                Err(error) => println!("{uri}: {error}"),
            }
        });
    }
    drives.join_all().await;
    for server in servers {
        server.shutdown().await; // returns when its robot is at rest
    }
    Ok(())
}
