use std::time::Duration;

use super::drops::DropReason;
use super::reply::{MetadataReply, ObserveReply, ResetReply, StepReply};
use crate::sensors::StaleCamera;
use crate::{Action, ActionError, ConnectionError, Name, StopReason};

/// What a [`Server`](super::Server) has to tell.
///
/// Requests come with a handle; answer each with the `reply_*` call of its kind, at any time and
/// in any order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An action to apply now.
    Action(Action),
    /// Actions came that the robot will not be told. Those of one reason are told together, so
    /// that a flood of them is few events.
    ActionsDropped {
        /// How many since the last event of this reason.
        count: u64,
        /// Why; the details are those of the latest.
        reason: DropReason,
    },
    /// Actions were clamped, as the [contract](crate::ActionSpec) says; they are told
    /// [marked](Action::clamped). Those with one kind of error are told together.
    ActionsClamped {
        /// How many since the last event of this kind.
        count: u64,
        /// What was wrong with the latest.
        error: ActionError,
    },
    /// The client asks for the robot's metadata.
    Metadata(MetadataReply),
    /// The client asks for a reset. The actions that came before it have been told, or dropped;
    /// those behind it are held back until it is answered.
    Reset(ResetReply),
    /// The client asks for an observation, or the answer to an earlier request of that kind
    /// [can leave now](super::Server::defer_observation).
    Observe(ObserveReply),
    /// The legacy, coupled step: an action, `[N, D]`, to apply, and to answer with its result.
    Step(Action, StepReply),
    /// No action has come for as long as [`Config::watchdog`](super::Config::watchdog) or
    /// [`ActionSpec::hold_after`](crate::ActionSpec::hold_after) says: hold the robot still. Told once;
    /// the next action arms the watchdog again.
    Watchdog {
        /// The time since the last action, or since the connection began or the last reset or step
        /// was answered.
        silent_for: Duration,
    },
    /// The robot is stopped: hold it still. No action is told until it is
    /// [armed](super::Server::arm) again. What had come before is dropped.
    Stopped(StopReason),
    /// A camera of the [sensors](super::Server::set_sensors) is over its
    /// [`max_age`](crate::CameraConfig::max_age), as was found when an observation left. Told once,
    /// until it delivers again.
    CameraStalled(StaleCamera),
    /// A camera is no longer over its maximal age.
    CameraResumed {
        /// The camera.
        name: Name,
    },
    /// The connection has ended: hold the robot still. What was not told before is dropped, and
    /// nothing comes after this.
    Disconnected(ConnectionError),
}
