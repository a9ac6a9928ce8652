use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::{
    Action, CameraConfig, ConnectionError, Map, Observation, ProprioConfig, ResetResult, StepResult,
};
use chiral_tokio::{Robot, RobotError};
use tokio::sync::Notify;

use crate::soon;

/// A robot that numbers what it is asked, so that a swapped answer shows, and remembers what it is
/// told. As slow and as faulty as a test wants it.
pub struct Recorder {
    sensors: Sensors,
    serial: AtomicU64,
    diary: Mutex<Vec<(Instant, Entry)>>,
    written: Notify,
    observe_takes: Duration,
    /// Whether observations may go on, for a robot whose observations block their thread.
    gate: Option<(Mutex<bool>, Condvar)>,
    apply_takes: Duration,
    fault: Option<Fault>,
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
    /// A step was asked for, with its action.
    Stepped(Action),
    /// An observation was asked for.
    Observing,
    /// The watchdog barked.
    Watchdog,
    /// The policy went.
    Disconnected(ConnectionError),
}

/// What can be wrong with a [`Recorder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Actions end in an error.
    ActionsFail,
    /// Resets end in a panic.
    ResetsPanic,
    /// Metadata end in a panic, before there is even a future.
    MetadataPanics,
    /// Observations end in a panic when they are about to leave.
    LateObservationsPanic,
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
        Self::of(sensors.expect("the sizes fit the memory"))
    }

    /// A robot with sensors of the test's own.
    pub fn of(sensors: Sensors) -> Self {
        Self {
            sensors,
            serial: AtomicU64::new(0),
            diary: Mutex::default(),
            written: Notify::new(),
            observe_takes: Duration::ZERO,
            gate: None,
            apply_takes: Duration::ZERO,
            fault: None,
        }
    }

    /// A robot with one tiny camera.
    pub fn small() -> Self {
        Self::new(1, [4, 6])
    }

    /// The same robot, whose observations take that long.
    #[must_use]
    pub fn observe_takes(mut self, duration: Duration) -> Self {
        self.observe_takes = duration;
        self
    }

    /// The same robot, whose observations block their thread until [`unblock`](Self::unblock).
    #[must_use]
    pub fn observe_blocks(mut self) -> Self {
        self.gate = Some((Mutex::new(false), Condvar::new()));
        self
    }

    /// Whether observations block their thread.
    pub fn blocks(&self) -> bool {
        self.gate.is_some()
    }

    /// Lets observations go on, these and all to come.
    pub fn unblock(&self) {
        if let Some((is_open, opened)) = &self.gate {
            *is_open.lock().expect("nothing panics with it") = true;
            opened.notify_all();
        }
    }

    /// The same robot, for which applying an action takes that long.
    #[must_use]
    pub fn apply_takes(mut self, duration: Duration) -> Self {
        self.apply_takes = duration;
        self
    }

    /// The same robot with something wrong.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// What happened to the robot, in order; observations are left out.
    pub fn diary(&self) -> Vec<Entry> {
        let entries = self.lock();
        let entries = entries.iter().map(|(_, entry)| entry);
        entries.filter(|entry| **entry != Entry::Observing).cloned().collect()
    }

    /// The actions that were applied, and when.
    pub fn applied(&self) -> Vec<(Instant, Action)> {
        let applied = |(at, entry): &(Instant, Entry)| match entry {
            Entry::Applied(action) => Some((*at, action.clone())),
            _ => None,
        };
        self.lock().iter().filter_map(applied).collect()
    }

    /// How many entries of a kind there are.
    pub fn count(&self, is_meant: impl Fn(&Entry) -> bool) -> usize {
        self.lock().iter().filter(|(_, entry)| is_meant(entry)).count()
    }

    /// Waits until the diary has so many entries of a kind.
    ///
    /// # Panics
    /// When it does not have them soon.
    pub async fn until(&self, count: usize, is_meant: impl Fn(&Entry) -> bool) {
        soon(async {
            loop {
                let written = self.written.notified();
                if self.count(&is_meant) >= count {
                    return;
                }
                written.await;
            }
        })
        .await;
    }

    /// Waits until so many policies have gone, and returns the last one's reason.
    ///
    /// # Panics
    /// When they have not gone soon.
    pub async fn until_gone(&self, policies: usize) -> ConnectionError {
        self.until(policies, |entry| matches!(entry, Entry::Disconnected(_))).await;
        let last = self.diary().into_iter().rev().find_map(|entry| match entry {
            Entry::Disconnected(reason) => Some(reason),
            _ => None,
        });
        last.expect("one has gone")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Entry)>> {
        self.diary.lock().expect("nothing panics with it")
    }

    fn write(&self, entry: Entry) {
        self.lock().push((Instant::now(), entry));
        self.written.notify_waiters();
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
        tokio::time::sleep(self.apply_takes).await;
        if self.fault == Some(Fault::ActionsFail) {
            return Err("joint 3 is over its torque limit".into());
        }
        self.write(Entry::Applied(action));
        Ok(())
    }

    fn metadata(&self) -> impl Future<Output = Result<Map, RobotError>> + Send {
        assert_ne!(self.fault, Some(Fault::MetadataPanics), "no calibration file");
        let metadata = Map::new().with("robot", "recorder").with("serial", self.next());
        async { Ok(metadata) }
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        self.write(Entry::Observing);
        tokio::time::sleep(self.observe_takes).await;
        if let Some((is_open, opened)) = &self.gate {
            let is_open = is_open.lock().expect("nothing panics with it");
            drop(opened.wait_while(is_open, |is_open| !*is_open));
        }
        if self.fault == Some(Fault::LateObservationsPanic) {
            return Ok(Answer::when_sent(|_| panic!("the camera was unplugged")));
        }
        Ok(self.observation("observe").into())
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.write(Entry::Reset);
        assert_ne!(self.fault, Some(Fault::ResetsPanic), "the arm is not homed");
        Ok(ResetResult {
            observation: self.observation("reset"),
            info: Map::new().with("ok", true),
        })
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        let reward = f64::from(action.to_f32().iter().sum::<f32>());
        self.write(Entry::Stepped(action));
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
