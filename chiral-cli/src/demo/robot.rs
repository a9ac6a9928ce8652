//! The arm as the demo's robot: it tells how its episode stands, and may run on simulated time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_driver::{RobotError, monotonic_seconds};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::stats::Histogram;
use chiral_proto::{Action, ConnectionError, Map, Observation, Rate, ResetResult, Timestamps};
use chiral_sim::episode::{DISPATCH_HZ, OBSERVATION_HZ, TICK_HZ};

use super::description::{Description, EpisodeStatus, Reaction, Served};
use crate::robot::arm::Arm;
use crate::robot::fault::Fault;
use crate::robot::{Environment as _, Spec, Threads};

/// The arm, its sensors, and a record of what it was told to do.
pub(super) struct DemoRobot {
    spec: Spec,
    sensors: Sensors,
    arm: Arc<Arm>,
    /// Where time passes with the actions instead of by itself.
    lock_step: Option<LockStep>,
    record: Mutex<Record>,
    /// Dropped with the robot, which stops them.
    _threads: Threads,
}

#[derive(Default)]
struct Record {
    actions: u64,
    reaction: Histogram,
    jumps: Jumps,
}

/// How much one command differs from the one before.
#[derive(Default)]
struct Jumps {
    previous: Vec<f32>,
    largest: f32,
}

impl Jumps {
    fn note(&mut self, command: &[f32]) {
        let differences = command.iter().zip(&self.previous).map(|(now, before)| now - before);
        self.largest = differences.map(f32::abs).fold(self.largest, f32::max);
        self.previous.clear();
        self.previous.extend_from_slice(command);
    }
}

impl DemoRobot {
    /// The arm of a spec at rest, with what it gets wrong. In real time physics and joint sensors
    /// run in one thread, each camera in its own; in lock step time passes with the actions.
    pub(super) fn start(spec: Spec, lock_step: bool, fault: Option<Fault>) -> anyhow::Result<Self> {
        let sensors =
            Sensors::with_clock(spec.camera_configs(), spec.proprio_configs(), monotonic_seconds)?;
        let arm = Arc::new(Arm::new(&spec, &sensors, fault)?);
        let mut threads = Threads::default();
        if lock_step {
            arm.sense();
        } else {
            start_threads(&arm, &sensors, spec.rate, &mut threads)?;
        }
        Ok(Self {
            spec,
            sensors,
            arm,
            lock_step: lock_step.then(LockStep::default),
            record: Mutex::default(),
            _threads: threads,
        })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how long ago the images were taken on which an action was decided.
    fn note(&self, action: &Action) {
        let timestamps = action.obs_timestamps.iter().flat_map(Timestamps::iter);
        let oldest = timestamps.map(|(_, captured)| captured).reduce(f64::min);
        let reaction = oldest.map(|oldest| monotonic_seconds() - oldest);
        let mut record = self.record();
        record.actions += 1;
        record.jumps.note(&action.to_f32());
        if let Some(reaction) = reaction.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            record.reaction.record(reaction);
        }
    }
}

fn start_threads(
    arm: &Arc<Arm>,
    sensors: &Sensors,
    cameras: Rate,
    threads: &mut Threads,
) -> anyhow::Result<()> {
    let world = Arc::clone(arm);
    threads.spawn("arm".to_owned(), Rate::hz(TICK_HZ)?, move || {
        world.pass_time();
        world.read_joints();
    })?;
    for (index, camera) in sensors.cameras().enumerate() {
        let arm = Arc::clone(arm);
        let name = camera.config().name.to_string();
        threads.spawn(name, cameras, move || arm.capture(index))?;
    }
    Ok(())
}

/// What the sensors show, and how the episode stands.
fn look(arm: &Arm, sensors: &Sensors) -> Observation {
    // The status comes first: the sensors are then at least as new.
    let status = arm.status();
    let extra =
        Map::from_serialize(&EpisodeStatus::from(status)).expect("a struct of numbers is a map");
    Observation { extra, ..sensors.snapshot(status.clock) }
}

impl chiral_blocking::Robot for DemoRobot {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.note(&action);
        self.arm.apply(&action)?;
        if let Some(lock_step) = &self.lock_step {
            lock_step.pass_time(&self.arm);
        }
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let served = {
            let Record { actions, reaction, jumps } = &*self.record();
            let ms = |q| reaction.quantile(q).as_secs_f64() * 1e3;
            let reaction_ms =
                (reaction.count() > 0).then(|| Reaction { p50: ms(0.5), p99: ms(0.99) });
            Served { actions: *actions, reaction_ms, largest_jump: jumps.largest }
        };
        let real_time = self.lock_step.is_none();
        Ok(Map::from_serialize(&Description::new(&self.spec, real_time, served))?)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        let info = self.arm.reset();
        self.record().jumps = Jumps::default();
        if let Some(lock_step) = &self.lock_step {
            lock_step.start_over();
        }
        Ok(ResetResult { observation: look(&self.arm, &self.sensors), info })
    }

    /// In lock step, where a frame may come at any moment, it is waited for: so none is missed.
    fn observe(&self) -> Result<Answer, RobotError> {
        if let Some(lock_step) = &self.lock_step
            && !self.arm.status().over
        {
            lock_step.wait_for_change();
        }
        let (arm, sensors) = (Arc::clone(&self.arm), self.sensors.clone());
        let real_time = self.lock_step.is_none();
        Ok(Answer::when_sent(move |_| {
            if real_time {
                // The joints of this very moment: a chunk begins where they are.
                arm.pass_time();
                arm.read_joints();
            }
            look(&arm, &sensors)
        }))
    }

    fn on_disconnect(&self, _reason: &ConnectionError) {
        self.arm.hold_still();
    }
}

/// Time that passes with the actions: with each, as much as lies between two of them at
/// [`DISPATCH_HZ`], and the cameras take their pictures at [`OBSERVATION_HZ`] of *that* time.
/// However fast the machine is, and whatever else it does, the robot does the same.
#[derive(Debug, Default)]
struct LockStep {
    /// Since the last reset.
    ticks: AtomicU32,
    /// There is something that no observation has shown yet.
    changed: Mutex<bool>,
    condition: Condvar,
}

impl LockStep {
    const TICKS_PER_ACTION: u32 = TICK_HZ / DISPATCH_HZ;
    const TICKS_PER_FRAME: u32 = TICK_HZ / OBSERVATION_HZ;
    /// How long an observation waits for a new frame: longer than it takes an action to bring
    /// one, unless there is none.
    const FRESHNESS: Duration = Duration::from_millis(10);

    /// Lets the time of one action pass.
    fn pass_time(&self, arm: &Arm) {
        for _ in 0..Self::TICKS_PER_ACTION {
            arm.simulate(1.0 / f64::from(TICK_HZ));
            let tick = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
            let is_frame_due = tick.is_multiple_of(Self::TICKS_PER_FRAME);
            if is_frame_due {
                arm.sense();
            } else {
                arm.read_joints();
            }
            if is_frame_due || arm.status().over {
                *self.has_changed() = true;
                self.condition.notify_one();
            }
        }
    }

    fn start_over(&self) {
        self.ticks.store(0, Ordering::Relaxed);
    }

    /// Without a change in time, the answer is what is known already.
    fn wait_for_change(&self) {
        let changed = self.has_changed();
        let waited =
            self.condition.wait_timeout_while(changed, Self::FRESHNESS, |changed| !*changed);
        let (mut changed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *changed = false;
    }

    fn has_changed(&self) -> MutexGuard<'_, bool> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chiral_blocking::Robot as _;

    use super::*;
    use crate::robot::Scene;

    #[test]
    fn in_lock_step_mode_only_actions_advance_time() {
        let spec = Spec {
            scene: Scene::Arm,
            cameras: None,
            size: "32x24".parse().unwrap(),
            depth: true,
            proprios: Vec::new(),
            rate: Rate::hz(OBSERVATION_HZ).unwrap(),
            seed: 1,
        };
        let robot = DemoRobot::start(spec, true, None).unwrap();
        let frames = || robot.sensors.cameras().map(|camera| camera.sequence()).collect::<Vec<_>>();
        assert_eq!(frames(), [1; 3]);
        for episode in 1..=2 {
            let reset = robot.reset().unwrap().observation;
            let status: EpisodeStatus = reset.extra.deserialize().unwrap();
            assert_eq!(status, EpisodeStatus { episode, time: 0.0, solved: false, over: false });
            let before = frames();
            for _ in 0..DISPATCH_HZ / 10 {
                robot.apply_action([0.1; 7].into()).unwrap();
            }
            // A tenth of a second, and three frames of each camera in it.
            assert!((robot.arm.status().time - 0.1).abs() < 1e-9);
            assert!((robot.arm.status().clock - reset.timestamp - 0.1).abs() < 1e-9);
            assert_eq!(frames(), before.iter().map(|count| count + 3).collect::<Vec<_>>());
        }
        assert_eq!(robot.record().actions, u64::from(2 * DISPATCH_HZ / 10));
    }
}
