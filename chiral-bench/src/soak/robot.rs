//! The robot that is soaked, for every adapter. It applies nothing, and checks everything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chiral_driver::RobotError;
use chiral_proto::sensors::Sensors;
use chiral_proto::{Action, ActionSpec, CameraConfig, ConnectionError, ProprioConfig};

/// Values of an action.
pub(super) const ACTION_LEN: usize = 7;

/// What an action looks like: first its number, counted from the connection's beginning, then this.
pub(super) const FILL: f32 = 0.5;

/// What happened to a robot.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) applied: AtomicU64,
    /// Actions that were not sent so, or not in this order.
    pub(super) forbidden: AtomicU64,
    /// How often it was told to hold.
    pub(super) holds: AtomicU64,
    pub(super) policies: AtomicU64,
    has_policy: AtomicBool,
    last: Mutex<Option<f32>>,
}

impl Counts {
    /// Whether an action is one of the policy that is connected, and later than the one before.
    fn is_allowed(&self, action: &Action) -> bool {
        let values = action.to_f32();
        let Some((&number, fill)) = values.split_first() else { return false };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_later = last.is_none_or(|last| number > last);
        *last = Some(number);
        self.has_policy.load(Ordering::Relaxed)
            && is_later
            && number.fract() == 0.0
            && fill == [FILL; ACTION_LEN - 1]
    }
}

/// A robot of one camera.
#[derive(Clone)]
pub(super) struct SoakRobot {
    sensors: Sensors,
    counts: Arc<Counts>,
}

impl SoakRobot {
    pub(super) fn new(counts: Arc<Counts>) -> anyhow::Result<Self> {
        let camera = CameraConfig::new("wrist_cam", [32, 32, 3]);
        let sensors = Sensors::new([camera], [ProprioConfig::new("joint_pos", ACTION_LEN)])?;
        Ok(Self { sensors, counts })
    }

    pub(super) fn action_spec() -> ActionSpec {
        ActionSpec::vector(ACTION_LEN)
    }

    fn apply(&self, action: &Action) {
        self.counts.applied.fetch_add(1, Ordering::Relaxed);
        if !self.counts.is_allowed(action) {
            self.counts.forbidden.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_connected(&self) {
        self.counts.policies.fetch_add(1, Ordering::Relaxed);
        *self.counts.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.counts.has_policy.store(true, Ordering::Relaxed);
    }

    fn hold(&self) {
        self.counts.holds.fetch_add(1, Ordering::Relaxed);
    }

    fn note_disconnected(&self) {
        self.counts.has_policy.store(false, Ordering::Relaxed);
        self.hold();
    }
}

impl chiral_blocking::Robot for SoakRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.apply(&action);
        Ok(())
    }

    fn on_connect(&self) {
        self.note_connected();
    }

    fn on_disconnect(&self, _reason: &ConnectionError) {
        self.note_disconnected();
    }

    fn on_watchdog(&self, _silent_for: Duration) {
        self.hold();
    }
}

impl chiral_driver::Robot for SoakRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.apply(&action);
        Ok(())
    }

    async fn on_connect(&self) {
        self.note_connected();
    }

    async fn on_disconnect(&self, _reason: &ConnectionError) {
        self.note_disconnected();
    }

    async fn on_watchdog(&self, _silent_for: Duration) {
        self.hold();
    }
}
