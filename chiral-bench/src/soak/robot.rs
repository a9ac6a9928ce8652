//! The robot that is soaked, for every adapter. It applies nothing, and checks everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_driver::RobotError;
use chiral_proto::sensors::Sensors;
use chiral_proto::server::DropReason;
use chiral_proto::{
    Action, ActionKind, ActionSpec, Arming, CameraConfig, ConnectionError, Map, ProprioConfig,
    Rate, ResetResult, StopReason,
};

/// Values of an action: first its number, counted from the connection's beginning, then all the same.
const ACTION_LEN: usize = 7;
const FILL: f32 = 0.5;
/// The last value of an action whose number is too far from the one before.
const FAR: f32 = 0.25;
/// What the robot declares: the bounds of the other values, and how far one number is from the next.
const BOUNDS: (f32, f32) = (0.0, 1.0);
const MAX_STEP: f32 = 100.0;

/// An action that the robot's contract allows.
pub(super) fn action(number: u16) -> Action {
    let mut values = [FILL; ACTION_LEN];
    values[0] = f32::from(number);
    Action::from(values)
}

/// One that it forbids: out of bounds, too far from the one before, or no finite number.
pub(super) fn forbidden_action(number: u16) -> Action {
    let mut values = [FILL; ACTION_LEN];
    values[0] = f32::from(number);
    match number / 10 % 3 {
        0 => values[ACTION_LEN - 1] = 2.0,
        1 => {
            values[0] += 2.0 * MAX_STEP;
            values[ACTION_LEN - 1] = FAR;
        }
        _ => values[1] = f32::NAN,
    }
    Action::from(values)
}

/// What happened to a robot.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) applied: AtomicU64,
    /// Actions that were not sent so, or not in this order, or that the contract forbids.
    pub(super) forbidden: AtomicU64,
    /// Actions that the server kept from the robot because the contract forbids them.
    pub(super) refused: AtomicU64,
    /// How often it was told to hold.
    pub(super) holds: AtomicU64,
    pub(super) policies: AtomicU64,
    motion: Mutex<Motion>,
}

/// Whether actions may move the robot, and which have.
#[derive(Debug, Default)]
struct Motion {
    is_armed: bool,
    /// The number of the last action of this policy that was not marked as too far.
    last: Option<f32>,
    /// The number of the last action since the robot was armed.
    since_armed: Option<f32>,
}

impl Counts {
    /// Whether an action is one of the policy that is connected, and later than the one before.
    fn is_allowed(&self, action: &Action) -> bool {
        let values = action.to_f32();
        let Some((&number, fill)) = values.split_first() else { return false };
        let mut motion = self.motion();
        let previous = motion.since_armed.replace(number);
        let is_near = previous.is_none_or(|last| (number - last).abs() <= MAX_STEP);
        if !motion.is_armed || !is_near || number.fract() != 0.0 {
            return false;
        }
        // Nothing is too far from where there is none before it, or another one of these.
        if fill.last() == Some(&FAR) {
            return true;
        }
        let is_later = motion.last.replace(number).is_none_or(|last| number > last);
        is_later && fill == [FILL; ACTION_LEN - 1]
    }

    fn motion(&self) -> MutexGuard<'_, Motion> {
        self.motion.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What the robot declares: a reset arms it.
    pub(super) fn action_spec() -> anyhow::Result<ActionSpec> {
        let (mut low, mut high) = ([BOUNDS.0; ACTION_LEN], [BOUNDS.1; ACTION_LEN]);
        (low[0], high[0]) = (0.0, f32::from(u16::MAX));
        Ok(ActionSpec::vector(ACTION_LEN)
            .kind(ActionKind::Absolute)
            .bounds(low, high)
            .max_step(MAX_STEP)
            .rate(Rate::hz(50)?)
            .stop_after(50)
            .arming(Arming::OnReset))
    }

    fn apply(&self, action: &Action) {
        self.counts.applied.fetch_add(1, Ordering::Relaxed);
        if !self.counts.is_allowed(action) {
            self.counts.forbidden.fetch_add(1, Ordering::Relaxed);
            eprintln!("applied, and forbidden: {:?}, {:?}", action.to_f32(), self.counts.motion());
        }
    }

    fn note_connected(&self) {
        self.counts.policies.fetch_add(1, Ordering::Relaxed);
        *self.counts.motion() = Motion::default();
    }

    fn go_home(&self) -> ResetResult {
        let mut motion = self.counts.motion();
        (motion.is_armed, motion.since_armed) = (true, None);
        ResetResult { observation: self.sensors.snapshot_now(), info: Map::new() }
    }

    fn note_dropped(&self, count: u64, reason: &DropReason) {
        if matches!(reason, DropReason::Refused(_) | DropReason::NotArmed { .. }) {
            self.counts.refused.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn note_stopped(&self) {
        self.counts.motion().is_armed = false;
        self.hold();
    }

    fn hold(&self) {
        self.counts.holds.fetch_add(1, Ordering::Relaxed);
    }

    fn note_disconnected(&self) {
        *self.counts.motion() = Motion::default();
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

    fn reset(&self) -> Result<ResetResult, RobotError> {
        Ok(self.go_home())
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

    fn on_stop(&self, _reason: &StopReason) {
        self.note_stopped();
    }

    fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        self.note_dropped(count, reason);
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

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        Ok(self.go_home())
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

    async fn on_stop(&self, _reason: &StopReason) {
        self.note_stopped();
    }

    async fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        self.note_dropped(count, reason);
    }
}
