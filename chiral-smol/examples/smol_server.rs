//! A robot with one camera, ready for any policy. `cargo run --example smol_server`, then the
//! example `smol_client` in another terminal.

use chiral_smol::proto::sensors::{CameraFrame, Sensors};
use chiral_smol::proto::{Action, CameraConfig, ProprioConfig};
use chiral_smol::{PolicyServer, Robot, RobotError, monotonic_seconds};

struct Arm {
    sensors: Sensors,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        println!("joint targets: {:?}", action.to_f32());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let camera = CameraConfig::new("wrist_cam", [480, 640, 3]).depth([480, 640]);
        let joints = ProprioConfig::new("joint_pos", 7);
        let sensors = Sensors::with_clock([camera], [joints], monotonic_seconds)?;
        let wrist = sensors.camera("wrist_cam")?;
        std::thread::spawn(move || {
            for brightness in (0_u8..=255).cycle() {
                let image = vec![brightness; 480 * 640 * 3]; // from your camera's driver
                wrist.publish(CameraFrame::new().image(image)).expect("it is as declared");
                std::thread::sleep(std::time::Duration::from_millis(33));
            }
        });
        let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
        let server = PolicyServer::bind(&address).await?;
        println!("serving at ws://{}", server.local_addr()?);
        Ok(server.serve(Arm { sensors }).await?)
    })
}
