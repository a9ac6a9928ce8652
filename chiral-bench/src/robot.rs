//! The robot that is measured, for every adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_blocking::Robot as _;
use chiral_cli::bench::BenchRobot;
use chiral_driver::{RobotError, Runtime};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::{Action, Map, ResetResult};

/// The robot of `chiral bench`, also for async adapters, and as slow as asked.
pub(crate) struct SlowRobot {
    robot: Arc<BenchRobot>,
    observe_takes: Duration,
}

impl SlowRobot {
    pub(crate) fn new(robot: Arc<BenchRobot>, observe_takes: Duration) -> Self {
        Self { robot, observe_takes }
    }
}

impl chiral_blocking::Robot for SlowRobot {
    fn sensors(&self) -> &Sensors {
        self.robot.sensors()
    }

    fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.robot.apply_action(action)
    }

    fn metadata(&self) -> Result<Map, RobotError> {
        self.robot.metadata()
    }

    fn reset(&self) -> Result<ResetResult, RobotError> {
        self.robot.reset()
    }

    fn observe(&self) -> Result<Answer, RobotError> {
        if !self.observe_takes.is_zero() {
            std::thread::sleep(self.observe_takes);
        }
        self.robot.observe()
    }
}

/// A [`SlowRobot`] on an async adapter.
pub(crate) struct OnTasks<R> {
    robot: SlowRobot,
    runtime: std::marker::PhantomData<fn() -> R>,
}

impl<R> OnTasks<R> {
    pub(crate) fn new(robot: SlowRobot) -> Self {
        Self { robot, runtime: std::marker::PhantomData }
    }
}

impl<R: Runtime> chiral_driver::Robot for OnTasks<R> {
    fn sensors(&self) -> &Sensors {
        self.robot.sensors()
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.robot.apply_action(action)
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        self.robot.metadata()
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.robot.reset()
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        if !self.robot.observe_takes.is_zero() {
            R::timer(Instant::now() + self.robot.observe_takes).await;
        }
        self.robot.robot.observe()
    }
}
