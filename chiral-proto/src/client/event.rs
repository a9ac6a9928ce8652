use std::sync::Arc;
use std::time::Duration;

use super::request::{RequestId, RequestKey};
use crate::{Action, ConnectionError, Map, Observation, ResetResult, StepResult};

/// What a [`Client`](super::Client) has to tell.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The answer to a metadata request.
    Metadata {
        /// The request.
        id: RequestId<Map>,
        /// The robot's metadata.
        metadata: Map,
    },
    /// The answer to a reset.
    Reset {
        /// The request.
        id: RequestId<ResetResult>,
        /// The observation after the reset, and what the robot says about it.
        result: ResetResult,
    },
    /// The answer to a request for an observation.
    Observation {
        /// The request.
        id: RequestId<Observation>,
        /// The observation, which is also the latest one now.
        observation: Arc<Observation>,
    },
    /// The answer to a legacy step.
    Step {
        /// The request.
        id: RequestId<StepResult>,
        /// The observation after the step, its reward, and whether the episode is over.
        result: StepResult,
    },
    /// A new observation of the stream. When several arrived since the last poll, the newest.
    Streamed(Arc<Observation>),
    /// A request of the stream was not answered in time. Told once, until an answer comes; the
    /// stream goes on by itself then.
    StreamTimedOut(RequestError),
    /// Something needs an answer, and nothing at all has come from the server for
    /// [`Config::silence`](super::Config::silence). Told once, until something comes.
    ///
    /// It is no verdict: the connection goes on. A policy may take it as a reason to stop acting
    /// on an observation that has become old, and its driver as one to
    /// [ping](crate::keepalive::Heartbeat::probe) the robot.
    Silent {
        /// How long nothing has come that was waited for.
        silent_for: Duration,
    },
    /// Something came after [`Silent`](Self::Silent).
    Resumed {
        /// How long the silence was.
        silent_for: Duration,
    },
    /// A request that will not be answered.
    Failed {
        /// The request.
        id: RequestKey,
        /// Why not.
        error: RequestError,
    },
    /// The connection has ended; nothing comes after this.
    Disconnected(ConnectionError),
}

/// Why a request will not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer came before the request's deadline. What was asked for may still happen.
    #[error("no answer before the deadline; the robot may still be at it")]
    TimedOut,
    /// The connection ended first.
    #[error("the connection ended before the answer came: {0}")]
    Disconnected(ConnectionError),
}

/// A call that the client's state does not allow. The connection goes on as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The connection has ended.
    #[error("the connection has ended ({0}): connect again")]
    Disconnected(ConnectionError),
    /// As many requests as allowed are waiting.
    #[error(
        "{limit} requests are waiting for their answer: wait for one, or raise `Config::pending_requests`"
    )]
    TooManyRequests {
        /// How many may wait.
        limit: usize,
    },
}

/// Actions that did not go into the queue; they are given back, and the queue is as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} {}: {reason}", .actions.len(), if .actions.len() == 1 { "action was not queued" } else { "actions were not queued" })]
pub struct NotQueued {
    /// The actions, in their order.
    pub actions: Vec<Action>,
    /// Why not.
    pub reason: NotQueuedReason,
}

/// Why actions did not go into the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotQueuedReason {
    /// They do not fit.
    #[error(
        "{waiting} of {capacity} places are taken: start the dispatch, replace the old actions, or raise `Config::queue_capacity`"
    )]
    Full {
        /// Actions in the queue.
        waiting: usize,
        /// Actions that fit into it.
        capacity: usize,
    },
    /// The connection has ended.
    #[error("the connection has ended ({0}): connect again")]
    Disconnected(ConnectionError),
}
