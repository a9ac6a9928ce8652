//! A robot with an RGB-D camera on its hand. Image, depth and T are published together, so that no
//! observation shows an image with the pose of another one; an observation waits for a frame that
//! was not sent before; a reset moves the arm home and says which episode begins.
//!
//! `cargo run --example moving_camera`, then the example `client` in another terminal. Ctrl-C ends it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chiral_tokio::proto::nalgebra::{Matrix3, Matrix4, Vector4};
use chiral_tokio::proto::sensors::{CameraFrame, CameraWriter, SensorError, Sensors};
use chiral_tokio::proto::server::{self, Answer};
use chiral_tokio::proto::{
    Action, ActionSpec, CameraConfig, ConnectionError, Map, ProprioConfig, ResetResult,
};
use chiral_tokio::{PolicyServer, Robot, RobotError, ServerConfig, Watchdog, monotonic_seconds};
use tokio::sync::watch;

const HEIGHT: usize = 48;
const WIDTH: usize = 64;
/// Radians.
const HOME: [f32; 7] = [0.0; 7];
const FRAME_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the arm is; in the place of your arm.
#[derive(Clone, Default)]
struct Joints(Arc<Mutex<[f32; 7]>>);

impl Joints {
    fn get(&self) -> [f32; 7] {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, joints: [f32; 7]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = joints;
    }
}

/// In the place of the forward kinematics and of the camera's mounting: T, camera to world, in
/// metres. The camera looks down on a table at z = 0, from a height that the first joint sets.
fn camera_pose(joints: &[f32; 7]) -> Matrix4<f64> {
    let mut pose = Matrix4::from_diagonal(&Vector4::new(1.0, -1.0, -1.0, 1.0));
    pose[(2, 3)] = 0.5 + 0.1 * f64::from(joints[0]);
    pose
}

/// One frame: the pose that the arm has now, and what the camera sees from there.
fn publish_frame(
    sensors: &Sensors,
    wrist: &CameraWriter,
    joints: &Joints,
) -> Result<(), SensorError> {
    let joints = joints.get();
    let pose = camera_pose(&joints);
    let mut image = wrist.image_buffer::<u8>()?; // recycled memory, for a driver to decode into
    image.fill(128);
    let mut depth = wrist.depth_buffer::<f32>()?;
    depth.fill(pose[(2, 3)] as f32); // the table, along the optical axis
    wrist.publish(CameraFrame::new().image(image).depth(depth).extrinsics(pose))?;
    sensors.update_proprio("joint_pos", &joints)
}

struct Arm {
    sensors: Sensors,
    joints: Joints,
    /// Changes with each frame.
    frames: tokio::sync::Mutex<watch::Receiver<()>>,
    episode: AtomicU32,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("robot", "arm-3").with("action", "7 joint targets, radians"))
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.joints.set(HOME); // a real arm moves there, and this waits for it
        let episode = self.episode.fetch_add(1, Ordering::Relaxed);
        let info = Map::new().with("episode", episode).with("home", true);
        Ok(ResetResult { observation: self.sensors.snapshot_now(), info })
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        let mut frames = self.frames.lock().await;
        // An error ends the connection, and the policy is told its text.
        tokio::time::timeout(FRAME_TIMEOUT, frames.changed())
            .await
            .map_err(|_| format!("the wrist camera has had no frame for {FRAME_TIMEOUT:?}"))??;
        Ok(Answer::from(&self.sensors))
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.joints.set(action.to_array()?);
        Ok(())
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        println!("holding still: no action for {silent_for:.1?}");
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        println!("holding still: {reason}");
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // who connects, and what fails

    let intrinsics = Matrix3::new(60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0);
    let camera = CameraConfig::new("wrist_cam", [HEIGHT, WIDTH, 3]).depth([HEIGHT, WIDTH]);
    let sensors = Sensors::with_clock(
        [camera.intrinsics(intrinsics)],
        [ProprioConfig::new("joint_pos", 7)],
        monotonic_seconds,
    )?;
    let joints = Joints::default();
    let wrist = sensors.camera("wrist_cam")?;
    let (announce, frames) = watch::channel(());
    std::thread::spawn({
        let (sensors, joints) = (sensors.clone(), joints.clone());
        move || loop {
            publish_frame(&sensors, &wrist, &joints).expect("it is as declared");
            announce.send_replace(());
            std::thread::sleep(Duration::from_millis(33));
        }
    });

    let config = ServerConfig {
        machine: server::Config { action_spec: ActionSpec::vector(7), ..Default::default() },
        watchdog: Watchdog::After(Duration::from_millis(500)),
        ..ServerConfig::default()
    };
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8765".to_owned());
    let server = PolicyServer::bind_with(&address, config)
        .await
        .with_context(|| format!("listening at {address}"))?;
    println!("serving at {}", server.uri()?);
    let arm = Arm { sensors, joints, frames: frames.into(), episode: AtomicU32::default() };
    let interrupted = async {
        tokio::signal::ctrl_c().await?;
        server.shutdown().await; // tells the policy; `serve` then returns
        Ok(())
    };
    tokio::try_join!(server.serve(arm), interrupted)?;
    Ok(())
}
