//! A robot with one camera, ready for any policy: `cargo run --example smol_server`, then the example
//! `smol_client` in another terminal. Ctrl-C ends it.
//!
//! It listens on loopback. Another address is the first argument, for example `unix:/tmp/arm.sock`
//! or, with `--features zenoh`, `tcp/127.0.0.1:7447`.

use std::time::Duration;

use chiral_smol::proto::sensors::{CameraFrame, Sensors};
use chiral_smol::proto::{
    Action, ActionKind, ActionSpec, CameraConfig, ConnectionError, Map, ProprioConfig, server,
};
use chiral_smol::{PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds};

struct Arm {
    sensors: Sensors,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("robot", "arm-3").with("control_hz", 50))
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let joints = action.to_array::<7>()?; // radians; command your arm with them here
        println!("joint targets: {joints:?}");
        Ok(())
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        println!("holding still: no action for {silent_for:.1?}");
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        println!("holding still: {reason}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // who connects, and what fails

    smol::block_on(async {
        let camera = CameraConfig::new("wrist_cam", [480, 640, 3]).depth([480, 640]);
        let joints = ProprioConfig::new("joint_pos", 7);
        let sensors = Sensors::with_clock([camera], [joints], monotonic_seconds)?;
        let wrist = sensors.camera("wrist_cam")?;
        std::thread::spawn(move || {
            for brightness in (0_u8..=255).cycle() {
                let image = vec![brightness; 480 * 640 * 3]; // from your camera's driver
                wrist.publish(CameraFrame::new().image(image)).expect("it is as declared");
                std::thread::sleep(Duration::from_millis(33));
            }
        });

        let config = ServerConfig {
            // Only 7 finite numbers reach `apply_action`.
            machine: server::Config {
                // Joint positions: who is late may send the last again, to stay there.
                action_spec: ActionSpec::vector(7).kind(ActionKind::Absolute),
                ..Default::default()
            },
            watchdog: Watchdog::After(Duration::from_millis(500)),
            ..ServerConfig::default()
        };
        let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
        let server = PolicyServer::bind_with(&address, config).await?;
        println!("serving at {}", server.uri()?);
        let (interrupt, interrupted) = smol::channel::bounded(1);
        ctrlc::set_handler(move || {
            let _ = interrupt.try_send(());
        })?;
        let interrupted = async {
            let _ = interrupted.recv().await;
            server.shutdown().await; // tells the policy; `serve` then returns
            Ok(())
        };
        smol::future::try_zip(server.serve(Arm { sensors }), interrupted).await?;
        Ok(())
    })
}
