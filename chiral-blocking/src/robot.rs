use std::sync::Arc;
use std::time::Duration;

use chiral_driver::RobotError;
use chiral_driver::proto::sensors::Sensors;
use chiral_driver::proto::server::{Answer, DropReason};
use chiral_driver::proto::{Action, ConnectionError, Map, ResetResult, StepResult, StopReason};

/// A robot, or a simulator, as a [`PolicyServer`](crate::PolicyServer) serves it by calling it.
///
/// Only its sensors and what to do with an action must be written; the rest has sensible defaults.
/// Two threads call it while a policy is connected. One does what moves the robot: `apply_action`,
/// `step`, `reset`, `on_actions_dropped`, `on_watchdog`, `on_stop`, `on_disconnect`, one at a time, in the
/// order in which the policy sent what it is about, `on_disconnect` last. (Steps and resets come from the other thread, but
/// never beside these.) The other one answers `metadata` and `observe`: a slow `observe` delays no
/// action, and one that was asked for in time may run beside `on_disconnect` and after it. The next
/// policy waits for both.
///
/// Methods may block their thread. A robot that fails, or panics, ends the connection, and the
/// policy is told why; the server goes on. A robot whose own loop asks for its commands instead is
/// served with [`PolicyServer::pull`](crate::PolicyServer::pull).
///
/// ```
/// use chiral_blocking::proto::{Action, sensors::Sensors};
/// use chiral_blocking::{Robot, RobotError};
///
/// struct Arm {
///     sensors: Sensors,
/// }
///
/// impl Robot for Arm {
///     fn sensors(&self) -> &Sensors {
///         &self.sensors
///     }
///
///     fn apply_action(&self, action: Action) -> Result<(), RobotError> {
///         println!("joint targets: {:?}", action.to_f32());
///         Ok(())
///     }
/// }
/// ```
pub trait Robot: Send + Sync + 'static {
    /// The sensors whose latest values make an observation.
    fn sensors(&self) -> &Sensors;

    /// Applies an action.
    ///
    /// # Errors
    /// When the robot cannot; the connection then ends.
    fn apply_action(&self, action: Action) -> Result<(), RobotError>;

    /// Describes the robot. Default: nothing.
    ///
    /// # Errors
    /// When the robot cannot; the connection then ends.
    fn metadata(&self) -> Result<Map, RobotError> {
        Ok(Map::new())
    }

    /// Resets the robot. Default: does nothing and returns a snapshot of the sensors.
    ///
    /// # Errors
    /// When the robot cannot; the connection then ends.
    fn reset(&self) -> Result<ResetResult, RobotError> {
        let observation = self.sensors().snapshot_now();
        Ok(ResetResult { observation, ..ResetResult::default() })
    }

    /// Makes an observation. Default: a snapshot of the sensors, taken when the answer leaves.
    ///
    /// Override it, for example, to wait for a fresh frame with
    /// [`WaitForSensors`](crate::WaitForSensors).
    ///
    /// # Errors
    /// When the robot cannot; the connection then ends.
    fn observe(&self) -> Result<Answer, RobotError> {
        Ok(Answer::from(self.sensors()))
    }

    /// The legacy, coupled step. Default: applies the action and returns a snapshot of the
    /// sensors, with reward 0 and the episode going on.
    ///
    /// # Errors
    /// When the robot cannot; the connection then ends.
    fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.apply_action(action)?;
        let observation = self.sensors().snapshot_now();
        Ok(StepResult { observation, ..StepResult::default() })
    }

    /// A policy has connected; nothing else is asked of the robot before this is done. Default:
    /// nothing.
    fn on_connect(&self) {}

    /// The policy has gone, for whatever reason: hold still. Default: nothing.
    fn on_disconnect(&self, reason: &ConnectionError) {
        let _ = reason;
    }

    /// Actions came that were not applied, and will not be: they were superseded by newer ones, too
    /// old, or not what the robot accepts. `count` is how many since the last call for this reason.
    /// Default: nothing; the log has one line for each reason, the statistics count them.
    fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        let _ = (count, reason);
    }

    /// No action has come for longer than the server's watchdog allows: hold still. Default:
    /// nothing.
    fn on_watchdog(&self, silent_for: Duration) {
        let _ = silent_for;
    }

    /// The robot is stopped: hold still. No action comes until it is armed again, by what its
    /// [`ActionSpec`](chiral_driver::proto::ActionSpec) declares or by
    /// [`PolicyServer::arm`](crate::PolicyServer::arm). Default: [`on_watchdog`](Self::on_watchdog).
    ///
    /// A reset or a step that has not begun by then begins when this is done.
    fn on_stop(&self, reason: &StopReason) {
        self.on_watchdog(reason.silent_for());
    }
}

macro_rules! pointers {
    ($($(#[$doc:meta])* $pointer:ident;)*) => {$(
        $(#[$doc])*
        impl<B: Robot + ?Sized> Robot for $pointer<B> {
            fn sensors(&self) -> &Sensors {
                (**self).sensors()
            }

            fn apply_action(&self, action: Action) -> Result<(), RobotError> {
                (**self).apply_action(action)
            }

            fn metadata(&self) -> Result<Map, RobotError> {
                (**self).metadata()
            }

            fn reset(&self) -> Result<ResetResult, RobotError> {
                (**self).reset()
            }

            fn observe(&self) -> Result<Answer, RobotError> {
                (**self).observe()
            }

            fn step(&self, action: Action) -> Result<StepResult, RobotError> {
                (**self).step(action)
            }

            fn on_connect(&self) {
                (**self).on_connect();
            }

            fn on_disconnect(&self, reason: &ConnectionError) {
                (**self).on_disconnect(reason);
            }

            fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
                (**self).on_actions_dropped(count, reason);
            }

            fn on_watchdog(&self, silent_for: Duration) {
                (**self).on_watchdog(silent_for);
            }

            fn on_stop(&self, reason: &StopReason) {
                (**self).on_stop(reason);
            }
        }
    )*};
}

pointers! {
    /// A robot of which the application keeps hold as well.
    Arc;
    /// A robot of one kind or another, `Box<dyn Robot>`.
    Box;
}

/// A robot that blocks, as the driver sees it.
pub(crate) struct BlockingRobot<B>(pub(crate) B);

impl<B: Robot> chiral_driver::Robot for BlockingRobot<B> {
    fn sensors(&self) -> &Sensors {
        self.0.sensors()
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        self.0.apply_action(action)
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        self.0.metadata()
    }

    async fn reset(&self) -> Result<ResetResult, RobotError> {
        self.0.reset()
    }

    async fn observe(&self) -> Result<Answer, RobotError> {
        self.0.observe()
    }

    async fn step(&self, action: Action) -> Result<StepResult, RobotError> {
        self.0.step(action)
    }

    async fn on_connect(&self) {
        self.0.on_connect();
    }

    async fn on_disconnect(&self, reason: &ConnectionError) {
        self.0.on_disconnect(reason);
    }

    async fn on_actions_dropped(&self, count: u64, reason: &DropReason) {
        self.0.on_actions_dropped(count, reason);
    }

    async fn on_watchdog(&self, silent_for: Duration) {
        self.0.on_watchdog(silent_for);
    }

    async fn on_stop(&self, reason: &StopReason) {
        self.0.on_stop(reason);
    }
}
