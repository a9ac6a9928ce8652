//! Robots for the end-to-end tests.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::{
    Action, CameraConfig, ConnectionError, Map, Observation, ProprioConfig, ResetResult, StepResult,
};
use chiral_tokio::{Robot, RobotError};

/// A robot that numbers what it is asked, so that a swapped answer shows, and remembers what it is
/// told.
pub struct Recorder {
    sensors: Sensors,
    serial: AtomicU64,
    /// How long an observation takes.
    pub observe_takes: Duration,
    /// What happened to the robot, in order.
    pub diary: Mutex<Vec<Entry>>,
}

/// Something that happened to a [`Recorder`].
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A policy connected.
    Connected,
    /// An action was applied.
    Applied(Action),
    /// A reset was asked for.
    Reset,
    /// The watchdog barked.
    Watchdog,
    /// The policy went.
    Disconnected(ConnectionError),
}

impl Recorder {
    /// A robot with cameras of the given size, `[H, W]`, all with depth.
    ///
    /// # Panics
    /// When the sizes overflow.
    pub fn new(cameras: usize, [height, width]: [usize; 2]) -> Self {
        let cameras = (0..cameras).map(|index| {
            CameraConfig::new(format!("cam_{index}"), [height, width, 3]).depth([height, width])
        });
        let sensors = Sensors::new(cameras, [ProprioConfig::new("joint_pos", 7)]);
        Self {
            sensors: sensors.expect("the sizes fit the memory"),
            serial: AtomicU64::new(0),
            observe_takes: Duration::ZERO,
            diary: Mutex::default(),
        }
    }

    fn write(&self, entry: Entry) {
        self.diary.lock().expect("no test panics with it").push(entry);
    }

    fn next(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// An observation that says for what kind of request it is and which one.
    fn observation(&self, kind: &str) -> Observation {
        let serial = self.next();
        let mut observation = self.sensors.snapshot(serial as f64);
        observation.extra = Map::new().with("for", kind);
        observation
    }
}

impl Robot for Recorder {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.write(Entry::Applied(action));
        Ok(())
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new().with("robot", "recorder").with("serial", self.next()))
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        tokio::time::sleep(self.observe_takes).await;
        Ok(self.observation("observe").into())
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.write(Entry::Reset);
        Ok(ResetResult {
            observation: self.observation("reset"),
            info: Map::new().with("ok", true),
        })
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        let reward = f64::from(action.to_f32().iter().sum::<f32>());
        self.write(Entry::Applied(action));
        Ok(StepResult { observation: self.observation("step"), reward, ..StepResult::default() })
    }

    async fn on_connect(&self) {
        self.write(Entry::Connected);
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        self.write(Entry::Disconnected(reason.clone()));
    }

    async fn on_watchdog(&self, _silent_for: Duration) {
        self.write(Entry::Watchdog);
    }
}
