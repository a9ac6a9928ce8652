//! A simulated robot: sensors that deliver at their rates, and something that actions may move.

pub(crate) mod arm;
pub(crate) mod fault;
mod memory;
mod pattern;
mod spec;
mod stage;
mod threads;
mod view;

use std::sync::Arc;

use anyhow::Context as _;
use chiral_driver::{RobotError, monotonic_seconds};
use chiral_proto::sensors::Sensors;
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult, Value};

pub(crate) use memory::Memory;
pub(crate) use spec::{Scene, Size, Spec};
pub(crate) use stage::{Effect, Stage};
pub(crate) use threads::Threads;

use crate::adapter;

/// Is told what happens to a robot.
pub(crate) trait Witness: Send + Sync + 'static {
    /// An action has come, of a stream or of a legacy step. Called before it is carried out.
    fn acted(&self, action: &Action) {
        let _ = action;
    }

    /// A policy has connected.
    fn connected(&self) {}

    /// The policy has gone.
    fn disconnected(&self, reason: &ConnectionError) {
        let _ = reason;
    }
}

/// Nobody looks.
impl Witness for () {}

/// A simulated robot. Dropped, its sensors stop.
pub(crate) struct SimulatedRobot<W = ()> {
    spec: Spec,
    sensors: Sensors,
    stage: Arc<dyn Stage>,
    witness: W,
    /// Held for its drop.
    _threads: Threads,
}

impl<W: Witness> SimulatedRobot<W> {
    /// A robot whose sensors have delivered once and go on doing so.
    pub(crate) fn start(spec: Spec, witness: W) -> anyhow::Result<Self> {
        Self::start_in(&Memory::default(), spec, witness)
    }

    /// As [`start`](Self::start), with cameras of noise or a gradient that write to this memory.
    pub(crate) fn start_in(memory: &Memory, spec: Spec, witness: W) -> anyhow::Result<Self> {
        spec.check()?;
        let sensors =
            Sensors::with_clock(spec.camera_configs(), spec.proprio_configs(), monotonic_seconds)?;
        let mut threads = Threads::default();
        let stage = match spec.scene {
            Scene::Arm => arm::start(&spec, &sensors, &mut threads),
            Scene::Noise => pattern::noise(&spec, memory, &sensors, &mut threads),
            Scene::Gradient => pattern::gradient(&spec, memory, &sensors, &mut threads),
        };
        let stage = stage.context("the sensors did not start")?;
        wave(&spec, &sensors, &mut threads).context("the sensors did not start")?;
        Ok(Self { spec, sensors, stage, witness, _threads: threads })
    }
}

/// Lets the streams that were asked for wave, each element a little later than the one before.
fn wave(spec: &Spec, sensors: &Sensors, threads: &mut Threads) -> anyhow::Result<()> {
    let of_the_scene = spec.proprio_configs().len() - spec.proprios.len();
    let streams: Vec<_> = sensors.proprios().skip(of_the_scene).collect();
    if streams.is_empty() {
        return Ok(());
    }
    threads.spawn("proprios".to_owned(), spec.rate, move || {
        let now = monotonic_seconds();
        for stream in &streams {
            let len = stream.config().len;
            let values = (0..len).map(|index| (now - 0.1 * index as f64).sin() as f32);
            stream.update(values.collect::<Vec<_>>()).expect("the stream is float32, so long");
        }
    })?;
    Ok(())
}

impl<W: Witness> adapter::Robot for SimulatedRobot<W> {}

impl<W: Witness> chiral_blocking::Robot for SimulatedRobot<W> {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.witness.acted(&action);
        self.stage.apply(&action)
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let cameras = self.sensors.cameras().map(|camera| camera.config().name.as_str().into());
        let proprios = self.sensors.proprios().map(|stream| {
            let config = stream.config();
            (config.name.as_str().into(), config.len.into())
        });
        let mut metadata = Map::new()
            .with("robot", "simulated by chiral")
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("scene", self.spec.scene.name())
            .with("cameras", Value::Array(cameras.collect()))
            .with("width", self.spec.size.width)
            .with("height", self.spec.size.height)
            .with("depth", self.spec.depth)
            .with("proprios", Value::Map(proprios.collect()))
            .with("sensor_hz", self.spec.rate.as_hz());
        let action = self.stage.action_space();
        if !action.is_empty() {
            let entries = action.iter().map(|(key, value)| (key.into(), value));
            metadata.insert("action", Value::Map(entries.collect()));
        }
        Ok(metadata)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        let info = self.stage.reset();
        Ok(ResetResult { observation: self.sensors.snapshot_now(), info })
    }

    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.witness.acted(&action);
        let Effect { reward, terminated, truncated } = self.stage.step(&action)?;
        let observation = self.sensors.snapshot_now();
        Ok(StepResult { observation, reward, terminated, truncated, info: Map::new() })
    }

    fn on_connect(&self) {
        self.witness.connected();
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        self.stage.hold_still();
        self.witness.disconnected(reason);
    }

    fn on_watchdog(&self, _silent_for: std::time::Duration) {
        self.stage.hold_still();
    }
}

#[cfg(test)]
mod tests;
