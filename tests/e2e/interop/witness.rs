//! A robot that keeps a record of all that it said and was told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chiral_proto::sensors::{CameraFrame, Sensors};
use chiral_proto::server::Answer;
use chiral_proto::{
    Action, CameraConfig, ConnectionError, Dtype, Map, Observation, ProprioConfig, ResetResult,
    StepResult, Value as Free,
};
use chiral_tests::soon;
use chiral_tokio::{PolicyServer, Robot, RobotError, ServerConfig, monotonic_seconds};
use nalgebra::{Matrix3, Matrix4};
use serde_json::Value;

use crate::report;

/// The robot, and the record.
pub(crate) struct Witness {
    sensors: Sensors,
    observations: AtomicU64,
    observe_takes: Duration,
    lines: Mutex<Vec<Value>>,
    gone: Mutex<Vec<ConnectionError>>,
}

impl Witness {
    /// Cameras of `[H, W]`, every second one a grayscale camera with coarse depth in millimetres.
    pub(crate) fn new(cameras: usize, [height, width]: [usize; 2]) -> Self {
        let cameras = (0..cameras).map(|n| {
            let pose = Matrix4::new_translation(&nalgebra::Vector3::new(0.1 * n as f64, -1.0, 0.5));
            let camera = if n % 2 == 0 {
                CameraConfig::new(format!("cam_{n}"), [height, width, 3]).depth([height, width])
            } else {
                CameraConfig::new(format!("Kamera ü{n}"), [height, width, 1])
                    .image_dtype(Dtype::U16)
                    .depth_of([height / 2, width / 2], Dtype::U16)
            };
            camera
                .intrinsics(Matrix3::new(600.5, 0.0, 320.0, 0.0, 600.5, 240.0, 0.0, 0.0, 1.0))
                .extrinsics(pose)
        });
        let proprios = [
            ProprioConfig::new("joint_pos", 7),
            ProprioConfig::new("ticks", 3).dtype(Dtype::I64),
            ProprioConfig::new("nothing", 0),
        ];
        let sensors = Sensors::with_clock(cameras, proprios, monotonic_seconds);
        Self {
            sensors: sensors.expect("the sizes fit the memory"),
            observations: AtomicU64::new(0),
            observe_takes: Duration::ZERO,
            lines: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    pub(crate) fn observe_takes(mut self, duration: Duration) -> Self {
        self.observe_takes = duration;
        self
    }

    /// Serves the robot; it and where it is.
    pub(crate) async fn serve(self, config: ServerConfig) -> (Arc<Self>, PolicyServer, String) {
        let server = PolicyServer::bind_with("127.0.0.1:0", config).await.expect("loopback");
        let uri = format!("ws://{}", server.local_addr().expect("it is bound"));
        let (robot, handle) = (Arc::new(self), server.clone());
        let kept = Arc::clone(&robot);
        tokio::spawn(async move { handle.serve(robot).await });
        (kept, server, uri)
    }

    /// The record so far, which begins anew.
    pub(crate) fn lines(&self) -> Vec<Value> {
        std::mem::take(&mut self.lines.lock().expect("nothing panics with it"))
    }

    /// Waits until a policy has gone.
    pub(crate) async fn wait_for_disconnects(&self) -> ConnectionError {
        let waiting = async {
            loop {
                if let Some(reason) = self.gone.lock().expect("nothing panics with it").pop() {
                    return reason;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon(waiting).await
    }

    fn note(&self, line: Value) {
        self.lines.lock().expect("nothing panics with it").push(line);
    }

    /// An observation unlike those before it.
    fn look(&self) -> Observation {
        let serial = self.observations.fetch_add(1, Ordering::Relaxed);
        for (n, camera) in self.sensors.cameras().enumerate() {
            let config = camera.config().clone();
            let seed = 4099 * n as u32 + serial as u32;
            let noise = |at: u32| (at + seed).wrapping_mul(2_654_435_761);
            let count = config.image_shape.element_count().expect("it was declared") as u32;
            let depth_shape = config.depth.expect("all have depth").0;
            let depth_count = depth_shape.element_count().expect("it was declared") as u32;
            let published = if config.image_dtype == Dtype::U8 {
                let image: Vec<u8> = (0..count).map(|at| (noise(at) >> 24) as u8).collect();
                let depth: Vec<f32> = (0..depth_count).map(|at| noise(at) as f32 * 1e-9).collect();
                camera.publish(CameraFrame::new().image(image).depth(depth))
            } else {
                let image: Vec<u16> = (0..count).map(|at| (noise(at) >> 16) as u16).collect();
                let depth: Vec<u16> = (0..depth_count).map(|at| noise(at) as u16).collect();
                camera.publish(CameraFrame::new().image(image).depth(depth))
            };
            published.expect("it is as declared");
        }
        let joints: Vec<f32> = (0..7).map(|joint| joint as f32 + serial as f32 / 64.0).collect();
        self.sensors.update_proprio("joint_pos", joints).expect("it is as declared");
        let ticks = vec![i64::MIN, i64::MAX, serial.cast_signed()];
        self.sensors.update_proprio("ticks", ticks).expect("it is as declared");
        let mut observation = self.sensors.snapshot(serial as f64 / 32.0);
        observation.extra = free_form().with("serial", serial);
        observation
    }
}

/// Everything that a free-form map can hold.
pub(crate) fn free_form() -> Map {
    Map::new()
        .with("nil", Free::Nil)
        .with("truth", true)
        .with("u64", u64::MAX)
        .with("i64", i64::MIN)
        .with("third", 1.0_f32 / 3.0)
        .with("nan", f64::NAN)
        .with("inf", f64::NEG_INFINITY)
        .with("text", "größer als €")
        .with("bytes", Free::Binary(vec![0, 255]))
        .with("ext", Free::Ext(5, vec![0xab, 0xcd]))
        .with("list", Free::Array(vec![1.into(), "two".into(), Free::Nil]))
        .with("odd keys", Free::Map(vec![(7.into(), "seven".into()), (Free::Nil, 0.5.into())]))
}

impl Robot for Witness {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.note(report::action("apply_action", &action));
        Ok(())
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        let metadata = free_form().with("robot", "witness");
        self.note(report::metadata(&metadata));
        Ok(metadata)
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        let result = ResetResult { observation: self.look(), info: free_form() };
        self.note(report::reset(&result));
        Ok(result)
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        tokio::time::sleep(self.observe_takes).await;
        let observation = self.look();
        self.note(report::observation(&observation));
        Ok(observation.into())
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.note(report::action("action", &action));
        let observation = self.look();
        let reward = -observation.timestamp / 3.0;
        let odd = self.observations.load(Ordering::Relaxed) % 2 == 1;
        let info = free_form();
        let result = StepResult { observation, reward, terminated: odd, truncated: !odd, info };
        self.note(report::step(&result));
        Ok(result)
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        self.gone.lock().expect("nothing panics with it").push(reason.clone());
    }
}
