//! The robot that is measured.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_driver::{RobotError, monotonic_seconds};
use chiral_proto::sensors::Sensors;
use chiral_proto::stats::Histogram;
use chiral_proto::{Action, Map, Observation, Rate, ResetResult};

use crate::robot::{Deliver, Scene, SimulatedRobot, Size, Spec};
use crate::usage::ensure_usage;

/// The first element of an action whose others are the time at which it was sent.
const ACTION_MARK: f32 = 8765.0;
/// Bits of the time in each of them: a `float32`, as which actions leave, holds so many exactly.
const STAMP_BITS: u32 = 24;

/// An action that says when it was made.
pub(super) fn stamped_action() -> Action {
    stamped(now())
}

fn now() -> u64 {
    (monotonic_seconds() * 1e9) as u64
}

fn stamped(nanos: u64) -> Action {
    let part = |index| (nanos >> (index * STAMP_BITS) & ((1 << STAMP_BITS) - 1)) as f32;
    [ACTION_MARK, part(0), part(1), part(2)].into()
}

/// When an action was made, if it says so.
fn stamp(action: &Action) -> Option<u64> {
    let [mark, ref parts @ ..] = *action.to_f32() else { return None };
    let is_stamped = mark.to_bits() == ACTION_MARK.to_bits() && parts.len() == 3;
    let nanos = || parts.iter().rev().fold(0, |nanos, part| nanos << STAMP_BITS | *part as u64);
    is_stamped.then(nanos)
}

/// A robot whose cameras show noise at next to no cost, so that the transport is what is measured.
/// It measures how long the actions that it gets were under way. A reset makes it forget that.
pub struct BenchRobot {
    simulated: SimulatedRobot,
    latency: Mutex<Histogram>,
}

impl BenchRobot {
    /// A robot with so many RGB-D cameras, 640 × 480, at 30 Hz, which deliver pictures so.
    ///
    /// # Errors
    /// When they are too many, or the system has no threads left.
    pub fn start(cameras: usize, deliver: &Deliver) -> anyhow::Result<Self> {
        let simulated = SimulatedRobot::start_delivering(deliver, spec(cameras)?, ())?;
        Ok(Self { simulated, latency: Mutex::default() })
    }

    /// Refuses numbers of cameras that cannot be measured with.
    ///
    /// # Errors
    /// When there are none, or more than a client takes.
    pub fn check(cameras: &[usize]) -> anyhow::Result<()> {
        for &count in cameras {
            ensure_usage!(count > 0, "found --cameras 0, expected more");
            spec(count)?.check()?;
        }
        Ok(())
    }

    fn latency(&self) -> MutexGuard<'_, Histogram> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spec(cameras: usize) -> anyhow::Result<Spec> {
    Ok(Spec {
        scene: Scene::Noise,
        cameras: Some(cameras),
        size: Size { width: 640, height: 480 },
        depth: true,
        proprios: Vec::new(),
        rate: Rate::hz(30.0)?,
        seed: 1,
    })
}

/// CPU seconds that this process has used, where the system tells.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "not every system tells")]
pub(super) fn process_cpu_seconds() -> Option<f64> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
pub(super) fn process_cpu_seconds() -> Option<f64> {
    None
}

/// Bytes of an observation's sensor data.
pub fn payload_len(observation: &Observation) -> usize {
    let cameras = observation.cameras.iter();
    let cameras = cameras.map(|camera| {
        camera.image.bytes().len() + camera.depth.as_ref().map_or(0, |depth| depth.bytes().len())
    });
    let proprios = observation.proprios.iter().map(|proprio| proprio.values.bytes().len());
    cameras.chain(proprios).sum()
}

impl chiral_blocking::Robot for BenchRobot {
    fn sensors(&self) -> &Sensors {
        self.simulated.sensors()
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        if let Some(stamp) = stamp(&action) {
            self.latency().record(Duration::from_nanos(now().saturating_sub(stamp)));
        }
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let latency = self.latency();
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let mut metadata = Map::new()
            .with("robot", "chiral bench")
            .with("action_p50_ms", ms(latency.quantile(0.5)))
            .with("action_p99_ms", ms(latency.quantile(0.99)))
            .with("action_max_ms", ms(latency.max()))
            .with("action_count", latency.count() as f64);
        if let Some(seconds) = process_cpu_seconds() {
            metadata.insert("cpu_seconds", seconds);
        }
        Ok(metadata)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        *self.latency() = Histogram::default();
        Ok(ResetResult::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_loses_nothing_as_float32_however_long_the_machine_runs() {
        for nanos in [0, 1, (1 << 24) - 1, 1 << 24, 70_000_123_456_789, u64::MAX - 1] {
            assert_eq!(stamp(&stamped(nanos)), Some(nanos));
        }
        assert_eq!(stamp(&[0.0; 4].into()), None);
        assert_eq!(stamp(&[ACTION_MARK; 2].into()), None);
    }
}
