//! The robot that is measured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chiral_blocking::Robot as _;
use chiral_driver::{RobotError, Runtime, monotonic_seconds};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::stats::Histogram;
use chiral_proto::{Action, Map, Rate, ResetResult};

use crate::adapter;
use crate::robot::{Memory, Scene, SimulatedRobot, Size, Spec};

/// The first element of an action whose second is the time at which it was sent.
pub(super) const MARK: f64 = 8765.0;

/// A robot whose cameras' noise costs next to nothing, so that the transport is what is measured.
pub(super) fn noisy(memory: &Memory, cameras: usize) -> anyhow::Result<SimulatedRobot> {
    let spec = Spec {
        scene: Scene::Noise,
        cameras: Some(cameras),
        size: Size { width: 640, height: 480 },
        depth: true,
        proprios: Vec::new(),
        rate: Rate::hz(30.0)?,
        seed: 1,
    };
    SimulatedRobot::start_in(memory, spec, ())
}

/// CPU seconds that this process has used.
pub(super) fn process_cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

/// A simulated robot that measures how long the actions that it gets were under way. A reset makes
/// it forget what it measured.
pub(super) struct BenchRobot {
    simulated: Arc<SimulatedRobot>,
    observe_takes: Duration,
    latency: Mutex<Histogram>,
}

impl BenchRobot {
    pub(super) fn new(simulated: Arc<SimulatedRobot>, observe_takes: Duration) -> Self {
        Self { simulated, observe_takes, latency: Mutex::default() }
    }

    fn latency(&self) -> MutexGuard<'_, Histogram> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl adapter::Robot for BenchRobot {
    async fn observe_in_task<R: Runtime>(&self) -> Result<Answer, RobotError> {
        if !self.observe_takes.is_zero() {
            R::sleep_until(Instant::now() + self.observe_takes).await;
        }
        Ok(Answer::from(self.simulated.sensors()))
    }
}

impl chiral_blocking::Robot for BenchRobot {
    fn sensors(&self) -> &Sensors {
        self.simulated.sensors()
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        if !self.observe_takes.is_zero() {
            std::thread::sleep(self.observe_takes);
        }
        Ok(Answer::from(self.sensors()))
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        let now = monotonic_seconds();
        if let [mark, sent_at] = action.values.to_f64()[..]
            && mark.to_bits() == MARK.to_bits()
        {
            self.latency().record(Duration::from_secs_f64((now - sent_at).max(0.0)));
        }
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let latency = self.latency();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Ok(Map::new()
            .with("robot", "chiral bench")
            .with("action_p50_ms", ms(latency.quantile(0.5)))
            .with("action_p99_ms", ms(latency.quantile(0.99)))
            .with("action_max_ms", ms(latency.max()))
            .with("action_count", latency.count() as f64)
            .with("cpu_seconds", process_cpu_seconds()))
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        *self.latency() = Histogram::default();
        Ok(ResetResult::default())
    }
}
