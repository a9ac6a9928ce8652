//! What the robot does: waits while it is held, then does its work.

use std::sync::Arc;
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Answer, DropReason};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, ResetResult, StepResult, StopReason,
};
use chiral_tokio::RobotError;
use event_listener::{EventListener, Listener};

use super::{Entry, Fault, Record, Recorder, Work};

impl Record {
    fn begin_blocking(&self, work: Work) {
        self.note_begun(work);
        while let Some(changed) = self.held_up(work) {
            changed.wait();
        }
    }

    fn note_begun(&self, work: Work) {
        self.change(|state| state.begun[work as usize] += 1);
    }

    fn held_up(&self, work: Work) -> Option<EventListener> {
        let changed = self.changed.listen();
        self.lock().held[work as usize].then_some(changed)
    }
}

impl Recorder {
    /// Begins work and waits while it is held, without blocking the thread unless the robot is
    /// meant to.
    async fn begin(&self, work: Work) {
        if self.blocks {
            return self.begin_blocking(work);
        }
        self.record.note_begun(work);
        while let Some(changed) = self.record.held_up(work) {
            changed.await;
        }
    }

    /// Begins work and blocks while it is held.
    fn begin_blocking(&self, work: Work) {
        self.record.begin_blocking(work);
    }

    fn fault_of(&self, work: Work) -> Result<(), RobotError> {
        match self.fault {
            Some(Fault::Fails(faulty)) if faulty == work => Err("joint 3 is over its limit".into()),
            Some(Fault::Panics(faulty)) if faulty == work => panic!("the arm is not homed"),
            _ => Ok(()),
        }
    }

    /// Records what happened.
    fn write(&self, entry: Entry) {
        self.change(|state| state.history.push(entry));
    }

    fn next_serial(&self) -> u64 {
        self.change(|state| {
            state.serial += 1;
            state.serial
        })
    }

    /// An observation that names the kind of work it is for; its timestamp is its number.
    fn observation(&self, work: Work) -> Observation {
        let mut observation = self.sensors.snapshot(self.next_serial() as f64);
        observation.extra = Map::new().with("for", format!("{work:?}"));
        observation
    }

    /// Metadata: the robot's name, and the number of the answer.
    fn describe(&self) -> Result<Map, RobotError> {
        self.fault_of(Work::Describe)?;
        let metadata = Map::new().with("robot", "recorder").with("serial", self.next_serial());
        Ok(metadata.with("joints", ["base", "elbow", "wrist"]))
    }

    /// An observation.
    fn look(&self) -> Result<Answer, RobotError> {
        self.fault_of(Work::Observe)?;
        if self.fault == Some(Fault::LateObservationsPanic) {
            return Ok(Answer::when_sent(|_| panic!("the camera was unplugged")));
        }
        let observation = self.observation(Work::Observe);
        if self.observes_late {
            let record = Arc::clone(&self.record);
            return Ok(Answer::when_sent(move |_| {
                record.begin_blocking(Work::ObserveLate);
                observation
            }));
        }
        Ok(observation.into())
    }

    /// Applies an action.
    fn act(&self, action: Action) -> Result<(), RobotError> {
        self.fault_of(Work::Apply)?;
        self.write(Entry::Applied(action));
        Ok(())
    }

    /// Resets itself.
    fn go_home(&self) -> Result<ResetResult, RobotError> {
        self.fault_of(Work::Reset)?;
        self.write(Entry::Reset);
        let info = Map::new().with("seed", 42).with("scene", "two cubes");
        Ok(ResetResult { observation: self.observation(Work::Reset), info })
    }

    /// Takes a step, whose reward is the sum of its action. A negative one ends the episode.
    fn take_step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.fault_of(Work::Step)?;
        let reward = f64::from(action.to_f32().iter().sum::<f32>());
        self.write(Entry::Stepped(action));
        Ok(StepResult {
            observation: self.observation(Work::Step),
            reward,
            terminated: reward < 0.0,
            truncated: reward > 100.0,
            info: Map::new().with("success", false),
        })
    }
}

impl chiral_tokio::Robot for Recorder {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.begin(Work::Apply).await;
        self.act(action)
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        self.begin(Work::Describe).await;
        self.describe()
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        self.begin(Work::Observe).await;
        self.look()
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.begin(Work::Reset).await;
        self.go_home()
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.begin(Work::Step).await;
        self.take_step(action)
    }

    async fn on_connect(&self) {
        self.write(Entry::Connected);
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        self.write(Entry::Disconnected(reason.clone()));
    }

    async fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        self.write(Entry::ActionsDropped(count, reason.clone()));
    }

    async fn on_watchdog(&self, _silent_for: Duration) {
        self.write(Entry::Watchdog);
    }

    async fn on_stop(&self, _reason: &StopReason) {
        self.write(Entry::Stopped);
    }
}

impl chiral_blocking::Robot for Recorder {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.begin_blocking(Work::Apply);
        self.act(action)
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        self.begin_blocking(Work::Describe);
        self.describe()
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        self.begin_blocking(Work::Observe);
        self.look()
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        self.begin_blocking(Work::Reset);
        self.go_home()
    }

    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.begin_blocking(Work::Step);
        self.take_step(action)
    }

    fn on_connect(&self) {
        self.write(Entry::Connected);
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        self.write(Entry::Disconnected(reason.clone()));
    }

    fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        self.write(Entry::ActionsDropped(count, reason.clone()));
    }

    fn on_watchdog(&self, _silent_for: Duration) {
        self.write(Entry::Watchdog);
    }

    fn on_stop(&self, _reason: &StopReason) {
        self.write(Entry::Stopped);
    }
}
