//! Two robots and their policies on one Zenoh network, each robot by its name. Here all are in one
//! process, and reach each other without a router.
//! `cargo run --example blocking_zenoh --features zenoh`

use std::sync::Arc;

use chiral_blocking::proto::sensors::Sensors;
use chiral_blocking::proto::{Action, CameraConfig, Map};
use chiral_blocking::zenoh::Counts;
use chiral_blocking::{PolicyClient, PolicyServer, Robot, RobotError, monotonic_seconds};

struct Arm {
    name: &'static str,
    sensors: Sensors,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("robot", self.name))
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        println!("{} moves to {:?}", self.name, action.to_array::<2>()?);
        Ok(())
    }
}

fn serve(name: &'static str) -> Result<PolicyServer, Box<dyn std::error::Error>> {
    let sensors =
        Sensors::with_clock([CameraConfig::new("wrist", [48, 64, 3])], [], monotonic_seconds)?;
    // With a router, on any machine: `zenoh:?robot=left&connect=tcp/router:7447`.
    let server = PolicyServer::bind(&format!("zenoh:tcp/127.0.0.1:0?robot={name}"))?;
    server.spawn(Arm { name, sensors })?;
    println!("{name} is at {}", server.uri()?);
    Ok(server)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    for name in ["left", "right"] {
        let server = serve(name)?;
        let robot = PolicyClient::connect(&server.uri()?)?;
        println!("{}", robot.metadata()?);
        println!("a camera of {} pixels", robot.observe()?["wrist"].image.shape());
        robot.send_action([0.1, -0.1])?;
        let counts: Option<Arc<Counts>> = robot.transport_extension();
        println!("over Zenoh: {:?}", counts.map(|counts| counts.read()));
        robot.reset()?; // waits for the action; a robot applies none after the connection's end
        robot.close();
        server.shutdown();
    }
    Ok(())
}
