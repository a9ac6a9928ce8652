//! A simulated robot: sensors that deliver at their rates, and something that actions may move.

pub(crate) mod arm;
mod environment;
pub(crate) mod fault;
mod pattern;
mod spec;
mod threads;
mod view;

use std::sync::Arc;

use anyhow::Context as _;
use chiral_driver::{RobotError, monotonic_seconds};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::DropReason;
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult, Value};

pub(crate) use environment::{Effect, Environment, StepOutcome};
pub use pattern::Deliver;
pub(crate) use spec::{Scene, Size, Spec};
pub(crate) use threads::Threads;

/// Is called when something happens to a robot.
pub(crate) trait RobotListener: Send + Sync + 'static {
    /// An action was ignored, and why.
    fn action_ignored(&self, why: &str) {
        let _ = why;
    }

    /// A policy has connected.
    fn connected(&self) {}

    /// The policy has gone.
    fn disconnected(&self, reason: &ConnectionError) {
        let _ = reason;
    }
}

/// Ignores everything.
impl RobotListener for () {}

/// A simulated robot. Dropped, its sensors stop.
pub(crate) struct SimulatedRobot<W = ()> {
    spec: Spec,
    sensors: Sensors,
    environment: Arc<dyn Environment>,
    listener: W,
    /// Dropped with the robot, which stops them.
    _threads: Threads,
}

impl<W: RobotListener> SimulatedRobot<W> {
    /// A robot whose sensors have delivered once and go on doing so.
    pub(crate) fn start(spec: Spec, listener: W) -> anyhow::Result<Self> {
        let deliver: Deliver = Arc::new(|picture| picture);
        Self::start_delivering(&deliver, spec, listener)
    }

    /// As [`start`](Self::start), with cameras of noise or a gradient that deliver so.
    pub(crate) fn start_delivering(
        deliver: &Deliver,
        spec: Spec,
        listener: W,
    ) -> anyhow::Result<Self> {
        spec.check()?;
        let sensors =
            Sensors::with_clock(spec.camera_configs(), spec.proprio_configs(), monotonic_seconds)?;
        let mut threads = Threads::default();
        let environment = match spec.scene {
            Scene::Arm => arm::start(&spec, &sensors, &mut threads),
            Scene::Noise => pattern::noise(&spec, deliver, &sensors, &mut threads),
            Scene::Gradient => pattern::gradient(&spec, deliver, &sensors, &mut threads),
        };
        let environment = environment.context("the sensors did not start")?;
        wave(&spec, &sensors, &mut threads).context("the sensors did not start")?;
        Ok(Self { spec, sensors, environment, listener, _threads: threads })
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

impl<W: RobotListener> chiral_blocking::Robot for SimulatedRobot<W> {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        if let Effect::Ignored(why) = self.environment.apply(&action)? {
            self.listener.action_ignored(why);
        }
        Ok(())
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        let cameras = self.sensors.cameras().map(|camera| camera.config().name.clone());
        let proprios = self.sensors.proprios().map(|stream| {
            let config = stream.config();
            (config.name.clone(), config.len)
        });
        let mut metadata = Map::new()
            .with("robot", "simulated by chiral")
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("scene", self.spec.scene.name())
            .with("cameras", cameras.collect::<Value>())
            .with("width", self.spec.size.width)
            .with("height", self.spec.size.height)
            .with("depth", self.spec.depth)
            .with("proprios", proprios.collect::<Map>())
            .with("sensor_hz", self.spec.rate.as_hz());
        let action = self.environment.action_space();
        if !action.is_empty() {
            metadata.insert("action", action);
        }
        Ok(metadata)
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        let info = self.environment.reset();
        Ok(ResetResult { observation: self.sensors.snapshot_now(), info })
    }

    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        let StepOutcome { reward, terminated, truncated } = self.environment.step(&action)?;
        let observation = self.sensors.snapshot_now();
        Ok(StepResult { observation, reward, terminated, truncated, info: Map::new() })
    }

    fn on_connect(&self) {
        self.listener.connected();
    }

    fn on_disconnect(&self, reason: &ConnectionError) {
        self.environment.hold_still();
        self.listener.disconnected(reason);
    }

    fn on_actions_dropped(&self, _count: u64, reason: &DropReason) {
        if let DropReason::Refused(error) = reason {
            self.listener.action_ignored(&error.to_string());
        }
    }

    fn on_watchdog(&self, _silent_for: std::time::Duration) {
        self.environment.hold_still();
    }
}

#[cfg(test)]
mod tests;
