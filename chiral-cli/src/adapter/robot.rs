//! Robots that any adapter can serve.

use std::sync::Arc;
use std::time::Duration;

use chiral_driver::{RobotError, Runtime};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::Answer;
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult};
use futures_channel::oneshot;

/// A robot that any adapter can serve: written for threads, as simulations are.
pub(crate) trait Robot: chiral_blocking::Robot {
    /// Whether its methods block for longer than a task may; it then has threads of its own on
    /// every adapter. `reset` and `step` may block in any case.
    const BLOCKS: bool = false;

    /// `observe`, as a task calls it, which must wait without blocking.
    fn observe_in_task<R: Runtime>(
        &self,
    ) -> impl Future<Output = Result<Answer, RobotError>> + Send {
        async { self.observe() }
    }
}

/// A robot, as an async adapter serves it.
pub(crate) struct OnTasks<B, R> {
    robot: Arc<B>,
    runtime: std::marker::PhantomData<fn() -> R>,
}

impl<B: Robot, R: Runtime> OnTasks<B, R> {
    pub(crate) fn new(robot: Arc<B>) -> Self {
        Self { robot, runtime: std::marker::PhantomData }
    }

    /// Does what may take a while where it keeps no task waiting.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&B) -> Result<T, RobotError> + Send + 'static,
    ) -> Result<T, RobotError> {
        if B::BLOCKS {
            return work(&self.robot);
        }
        let (done, result) = oneshot::channel();
        let robot = Arc::clone(&self.robot);
        R::spawn_apart("robot", async move {
            // The policy may have gone.
            let _ = done.send(work(&robot));
        })?;
        result.await.unwrap_or_else(|_| Err("the robot has panicked".into()))
    }
}

impl<B: Robot, R: Runtime> chiral_driver::Robot for OnTasks<B, R> {
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
        self.aside(B::reset).await
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        self.robot.observe_in_task::<R>().await
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.aside(|robot| robot.step(action)).await
    }

    async fn on_connect(&self) {
        self.robot.on_connect();
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        self.robot.on_disconnect(reason);
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        self.robot.on_watchdog(silent_for);
    }
}
