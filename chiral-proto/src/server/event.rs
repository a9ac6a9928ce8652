use std::time::Duration;

use super::reply::{MetadataReply, ObserveReply, ResetReply, StepReply};
use crate::{Action, ConnectionError};

/// What a [`Server`](super::Server) has to tell.
///
/// Requests come with a handle; answer each with the `reply_*` call of its kind, at any time and
/// in any order.
#[derive(Debug)]
pub enum Event {
    /// An action to apply now.
    Action(Action),
    /// The client asks for the robot's metadata.
    Metadata(MetadataReply),
    /// The client asks for a reset. The actions that came before it have been told; those behind
    /// it are held back until it is answered.
    Reset(ResetReply),
    /// The client asks for an observation.
    Observe(ObserveReply),
    /// The legacy, coupled step: an action, `[N, D]`, to apply, and to answer with its result.
    Step(Action, StepReply),
    /// No action has come for as long as [`Config::watchdog`](super::Config::watchdog) says: hold
    /// the robot still. Told once; the next action winds the watchdog up again.
    Watchdog {
        /// The time since the last action.
        silent_for: Duration,
    },
    /// The connection has ended: hold the robot still. Nothing comes after this.
    Disconnected(ConnectionError),
}
