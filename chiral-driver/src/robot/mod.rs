//! The robot's side: a [`Robot`] that is called, or [`Commands`] that a robot's own loop pulls.

mod callbacks;
mod clock;
mod commands;
mod waiting;

pub use callbacks::{dispatch, dispatch_on_threads};
pub use clock::monotonic_seconds;
pub use commands::{Command, CommandSlot, Commands, Hold};
pub(crate) use waiting::wait;
pub use waiting::{NotReady, WaitForSensors};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Answer, DropReason};
use chiral_proto::{Action, ConnectionError, Map, ResetResult, StepResult, StopReason};

/// Why a robot could not do what was asked: any error. The connection then ends, and the policy
/// is told the error's text.
pub type RobotError = Box<dyn std::error::Error + Send + Sync>;

/// A robot, or a simulator, as a [`PolicyServer`](crate::PolicyServer) serves it.
///
/// Only its sensors and what to do with an action must be written; the rest has sensible defaults.
/// What moves the robot (`apply_action`, `step`, `reset`, `on_watchdog`, `on_stop`, `on_disconnect`)
/// is called one at a time, in the order in which the policy sent what it is about. `metadata` and `observe`
/// run beside that, one at a time: a slow `observe` delays no action. Their futures are dropped
/// when the policy goes; those of what moves the robot run to their end, and `on_disconnect` comes
/// last.
///
/// They run in the connection's own task, so that an answer that needs no wait is given on the spot.
/// Methods must therefore not block their thread, as everywhere in async code; those of a robot that
/// must are run in threads of their own with
/// [`ServerConfig::robot_threads`](crate::ServerConfig::robot_threads).
///
/// A robot that fails, or panics, ends the connection, and the policy is told why; the server
/// goes on.
///
/// ```
/// use chiral_driver::{Robot, RobotError};
/// use chiral_proto::{Action, sensors::Sensors};
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
///     async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
///         println!("joint targets: {:?}", action.to_f32());
///         Ok(())
///     }
/// }
/// ```
pub trait Robot: Send + Sync + 'static {
    /// The sensors whose latest values make an observation.
    fn sensors(&self) -> &Sensors;

    /// Applies an action.
    fn apply_action(&self, action: Action) -> impl Future<Output = Result<(), RobotError>> + Send;

    /// Describes the robot. Default: nothing.
    fn metadata(&self) -> impl Future<Output = Result<Map, RobotError>> + Send {
        async { Ok(Map::new()) }
    }

    /// Resets the robot. Default: does nothing and returns a snapshot of the sensors.
    fn reset(&self) -> impl Future<Output = Result<ResetResult, RobotError>> + Send {
        async {
            let observation = self.sensors().snapshot_now();
            Ok(ResetResult { observation, ..ResetResult::default() })
        }
    }

    /// Makes an observation. Default: a snapshot of the sensors, taken when the answer leaves.
    ///
    /// Override it, for example, to wait for a fresh frame with
    /// [`Sensors::next_frame`].
    fn observe(&self) -> impl Future<Output = Result<Answer, RobotError>> + Send {
        async { Ok(Answer::from(self.sensors())) }
    }

    /// The legacy, coupled step. Default: applies the action and returns a snapshot of the
    /// sensors, with reward 0 and the episode going on.
    fn step(&self, action: Action) -> impl Future<Output = Result<StepResult, RobotError>> + Send {
        async {
            self.apply_action(action).await?;
            let observation = self.sensors().snapshot_now();
            Ok(StepResult { observation, ..StepResult::default() })
        }
    }

    /// A policy has connected; nothing else is asked of the robot before this is done. Default:
    /// nothing.
    fn on_connect(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The policy has gone, for whatever reason: hold still. Default: nothing.
    fn on_disconnect(&self, reason: &ConnectionError) -> impl Future<Output = ()> + Send {
        let _ = reason;
        async {}
    }

    /// Actions came that were not applied, and will not be: they were superseded by newer ones, too
    /// old, or not what the robot accepts. `count` is how many since the last call for this reason.
    /// Default: nothing; the log has one line for each reason, the statistics count them.
    fn on_actions_dropped(
        &self,
        count: u64,
        reason: &DropReason,
    ) -> impl Future<Output = ()> + Send {
        let _ = (count, reason);
        async {}
    }

    /// No action has come for longer than the server's watchdog or the robot's declared rate allows: hold
    /// still. Default:
    /// nothing.
    fn on_watchdog(&self, silent_for: Duration) -> impl Future<Output = ()> + Send {
        let _ = silent_for;
        async {}
    }

    /// The robot is stopped: hold still. No action comes until it is armed again, by what its
    /// [`ActionSpec`](chiral_proto::ActionSpec) declares or by
    /// [`PolicyServer::arm`](crate::PolicyServer::arm). Default: [`on_watchdog`](Self::on_watchdog).
    ///
    /// A reset or a step that has not begun by then begins when this is done.
    fn on_stop(&self, reason: &StopReason) -> impl Future<Output = ()> + Send {
        self.on_watchdog(reason.silent_for())
    }
}

/// A robot of which the application keeps hold as well.
impl<B: Robot> Robot for Arc<B> {
    fn sensors(&self) -> &Sensors {
        (**self).sensors()
    }

    fn apply_action(&self, action: Action) -> impl Future<Output = Result<(), RobotError>> + Send {
        (**self).apply_action(action)
    }

    fn metadata(&self) -> impl Future<Output = Result<Map, RobotError>> + Send {
        (**self).metadata()
    }

    fn reset(&self) -> impl Future<Output = Result<ResetResult, RobotError>> + Send {
        (**self).reset()
    }

    fn observe(&self) -> impl Future<Output = Result<Answer, RobotError>> + Send {
        (**self).observe()
    }

    fn step(&self, action: Action) -> impl Future<Output = Result<StepResult, RobotError>> + Send {
        (**self).step(action)
    }

    fn on_connect(&self) -> impl Future<Output = ()> + Send {
        (**self).on_connect()
    }

    fn on_disconnect(&self, reason: &ConnectionError) -> impl Future<Output = ()> + Send {
        (**self).on_disconnect(reason)
    }

    fn on_actions_dropped(
        &self,
        count: u64,
        reason: &DropReason,
    ) -> impl Future<Output = ()> + Send {
        (**self).on_actions_dropped(count, reason)
    }

    fn on_watchdog(&self, silent_for: Duration) -> impl Future<Output = ()> + Send {
        (**self).on_watchdog(silent_for)
    }

    fn on_stop(&self, reason: &StopReason) -> impl Future<Output = ()> + Send {
        (**self).on_stop(reason)
    }
}
