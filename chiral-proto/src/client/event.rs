use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::request::{RequestId, RequestKey};
use crate::timeline::{BasisError, MergeError};
use crate::wire::RequestKind;
use crate::{
    Action, ActionError, ActionKind, ActionSpec, Age, ArmingState, ConnectionError, Map, Name,
    Observation, Rate, ResetResult, StepResult,
};

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
    /// Actions have waited in the queue for [`Config::undispatched`](super::Config::undispatched),
    /// and no dispatch runs that would send them. Told once.
    Undispatched {
        /// How many wait.
        queued: usize,
    },
    /// [`Config::queue_warning`](super::Config::queue_warning) actions, or more, wait in the queue:
    /// they come faster than they leave. Told once.
    QueueLong {
        /// How many wait.
        queued: usize,
    },
    /// The observations that come have shown the same image of a camera, by its timestamp, for
    /// [`Config::camera_stall`](super::Config::camera_stall). Told once, until another comes.
    CameraStalled {
        /// The camera.
        name: Name,
        /// For how long.
        unchanged_for: Duration,
    },
    /// Another image of a camera came after [`CameraStalled`](Self::CameraStalled).
    CameraResumed {
        /// The camera.
        name: Name,
        /// For how long it had shown the same image.
        stalled_for: Duration,
    },
    /// A request that will not be answered.
    Failed {
        /// The request.
        id: RequestKey,
        /// Why not.
        error: RequestError,
    },
    /// So few rows of the plan are left that it is time for the next chunk; see
    /// [`Client::refill_at`](super::Client::refill_at). Told once for each time that the plan was
    /// put or changed; of several not polled yet, the last.
    PlanLow {
        /// How many rows are left.
        remaining: usize,
    },
    /// The robot's metadata says something of its actions that a setting does not fit: the setting
    /// has been undone.
    Undone(Unfit),
    /// The connection was lost, and another one is expected: see
    /// [`Config::when_lost`](super::Config::when_lost).
    Interrupted(ConnectionError),
    /// [Another connection](super::Client::begin_connection) was made after
    /// [`Interrupted`](Self::Interrupted).
    Reconnected {
        /// For how long there was none.
        down_for: Duration,
    },
    /// The robot's metadata, asked for anew over another connection, declares another contract than
    /// before: it may be another robot. The new one counts from now on.
    ContractChanged {
        /// What was declared.
        before: Box<ActionSpec>,
        /// What is declared now.
        after: Box<ActionSpec>,
    },
    /// The robot says that it is in another state by its contract than it last said; see
    /// [`Client::contract_status`](super::Client::contract_status). When it is stopped, what was planned
    /// has been dropped.
    ArmingChanged(ArmingState),
    /// The connection has ended; nothing comes after this.
    Disconnected(ConnectionError),
}

/// Why a request will not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer came before the request's deadline. What was asked for may still happen.
    #[error("no {} after {waited:.1?}: {cause}", request.response())]
    TimedOut {
        /// What was asked for.
        request: RequestKind,
        /// How long ago.
        waited: Duration,
        /// What is most likely behind it.
        cause: TimeoutCause,
    },
    /// The request was given up by [`Client::cancel`](super::Client::cancel). What was asked for
    /// may still happen.
    #[error("the request was cancelled")]
    Cancelled,
    /// The connection ended first.
    #[error("the connection ended before the answer came: {0}")]
    Disconnected(ConnectionError),
    /// The connection was lost first; another one is being made.
    #[error("the connection was interrupted before the answer came: {error}; {}", what_is_known(*.request, *.sent))]
    Interrupted {
        /// What was asked for.
        request: RequestKind,
        /// Whether it had left.
        sent: bool,
        /// Why the connection ended.
        error: ConnectionError,
    },
}

fn what_is_known(request: RequestKind, sent: bool) -> String {
    match (sent, request.moves_robot()) {
        (false, _) => format!("the {request} had not been sent"),
        (true, false) => "ask again when the connection is made again".to_owned(),
        (true, true) => format!(
            "whether the robot has acted on the {request} is not known: look at an observation \
             before you ask for it again"
        ),
    }
}

/// What is most likely behind a request that was not answered in time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutCause {
    /// The transport did not take the request: what was sent before it is stuck.
    NotSent,
    /// The connection was lost, and was not made again in time.
    Interrupted,
    /// Nothing at all has come from the server since the request was sent.
    Silent,
    /// The transport may lose messages, and a request that moves the robot is not sent twice.
    MaybeLost,
    /// The server lives, but has never answered a request of this kind.
    NeverAnswered {
        /// The kinds that it did answer.
        answered: Vec<RequestKind>,
        /// The kind that it did not.
        request: RequestKind,
    },
    /// The server has answered such requests before: it takes its time.
    Slow,
}

impl fmt::Display for TimeoutCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, request) = match self {
            Self::NotSent => return f.write_str("it could not be sent, the connection is stuck"),
            Self::Interrupted => {
                return f.write_str("the connection was interrupted, and is not made again yet");
            }
            Self::Silent => {
                return f.write_str("nothing at all has come, the connection may be dead");
            }
            Self::MaybeLost => {
                return f.write_str(
                    "the request or its answer may have been lost on the network, or the robot may \
                     still be at it; it is not sent twice, so ask for an observation to see what \
                     the robot has done",
                );
            }
            Self::Slow => return f.write_str("the robot may still be at it"),
            Self::NeverAnswered { answered, request } => (answered, request),
        };
        if answered.is_empty() {
            f.write_str("the server has not answered any request yet")?;
        } else {
            let names: Vec<_> = answered.iter().map(|kind| kind.request().name()).collect();
            write!(f, "the server answered {} before", names.join(" and "))?;
        }
        let article = if request.request().name().starts_with(['a', 'o']) { "an" } else { "a" };
        write!(f, ", but never {article} {request}")?;
        match request {
            RequestKind::Observe => {
                f.write_str("; if it answers only metadata, reset and step, use `step`")
            }
            _ => f.write_str("; it may not know this request"),
        }
    }
}

/// Why there is no observation as young as was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFresh {
    /// No observation has come yet.
    #[error("no observation has come yet: start the stream, or ask for one")]
    Nothing,
    /// The latest one is older.
    #[error("the latest observation is {age} old, over {max_age:.1?}")]
    Old {
        /// How old it is.
        age: Age,
        /// The age allowed.
        max_age: Duration,
    },
}

/// A call that the client's state does not allow. The connection goes on as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The connection has ended.
    #[error("the connection has ended: {0}; connect again")]
    Disconnected(ConnectionError),
    /// The connection was lost, and is being made again.
    #[error("the connection was interrupted: {0}; it is being made again, try later")]
    Interrupted(ConnectionError),
    /// A setting that does not fit the robot's actions.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The robot would refuse the step: see [`Client::contract`](super::Client::contract).
    #[error("the robot does not take the step: {0}")]
    Contract(ActionError),
    /// The ticks would be too fast, with those between the rows.
    #[error("{points} points to a row would be more than {max} a second: ask for fewer", max = Rate::MAX_HZ)]
    TooFast {
        /// How many were asked for.
        points: u32,
    },
    /// As many requests as allowed are waiting.
    #[error(
        "{limit} requests are waiting for their answer: wait for one, or raise `Config::pending_requests`"
    )]
    TooManyRequests {
        /// How many may wait.
        limit: usize,
    },
}

/// A setting that does not fit what is known of the robot's actions. It is known from the robot's
/// metadata, or from [`Client::declare_actions`](super::Client::declare_actions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// [`Starved::Repeat`](crate::timeline::Starved::Repeat), for actions that are not known to be
    /// absolute.
    #[error(
        "`Starved::Repeat` is for absolute actions, and {}: repeated, a delta or a velocity keeps the robot moving; {}",
        said(*.kind),
        remedy(*.kind, "use `Starved::Hold`")
    )]
    Repeat {
        /// What the robot's actions are, if it is known.
        kind: Option<ActionKind>,
    },
    /// Points between the rows, for actions that are deltas or not known.
    #[error(
        "points between the rows are for absolute actions and velocities, and {}: more deltas move the robot further; {}",
        said(*.kind),
        remedy(*.kind, "interpolate by 1")
    )]
    Interpolation {
        /// What the robot's actions are, if it is known.
        kind: Option<ActionKind>,
    },
}

fn said(kind: Option<ActionKind>) -> String {
    kind.map_or_else(
        || "what the robot's are is not known".to_owned(),
        |kind| format!("the robot's are declared as {kind}"),
    )
}

fn remedy(kind: Option<ActionKind>, known: &'static str) -> &'static str {
    kind.map_or("ask for its metadata first, or say it with `declare_actions`", |_| known)
}

/// Actions that did not go into the queue; they are given back, and the queue is as it was.
#[derive(Clone, PartialEq, thiserror::Error)]
#[error("{} {}: {reason}", .actions.len(), if .actions.len() == 1 { "action was not queued" } else { "actions were not queued" })]
pub struct NotQueued {
    /// The actions, in their order.
    pub actions: Vec<Action>,
    /// Why not.
    pub reason: NotQueuedReason,
}

// Not the actions, which may be many: a program whose `main` returns the error prints this.
impl fmt::Debug for NotQueued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why actions did not go into the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotQueuedReason {
    /// They do not fit.
    #[error("{}", full(*.waiting, *.capacity))]
    Full {
        /// Actions in the queue.
        waiting: usize,
        /// Actions that fit into it.
        capacity: usize,
    },
    /// As many actions as fit into the queue were [sent](super::Client::send_action), and the
    /// transport has taken none of them yet.
    #[error(
        "{waiting} actions that were sent before have not left yet: the connection is slow or stuck"
    )]
    Unsent {
        /// Actions that wait for the transport.
        waiting: usize,
    },
    /// The observation is none on which a chunk can be placed.
    #[error(transparent)]
    Basis(#[from] BasisError),
    /// The chunk would begin behind the end of the plan.
    #[error("step {at} is behind the end of the plan, which is step {end}: use a step up to it")]
    Gap {
        /// The step at which the chunk was to begin.
        at: u64,
        /// The first step for which nothing is planned.
        end: u64,
    },
    /// The rows cannot be averaged as was asked for.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The robot would refuse an action: see [`Client::contract`](super::Client::contract).
    #[error("the robot does not take action {row} of them: {error}")]
    Contract {
        /// Which of the actions, from 0.
        row: usize,
        /// What is wrong with it.
        error: ActionError,
    },
    /// The connection has ended.
    #[error("the connection has ended: {0}; connect again")]
    Disconnected(ConnectionError),
    /// The connection was lost, and is being made again.
    #[error(
        "the connection was interrupted: {0}; it is being made again, and no action is kept for later: decide anew on an observation of then"
    )]
    Interrupted(ConnectionError),
}

fn full(waiting: usize, capacity: usize) -> String {
    let raise = "or raise `Config::queue_capacity`";
    match waiting {
        0 => format!("the queue has {capacity} places: put fewer at once, {raise}"),
        _ => format!(
            "{waiting} of {capacity} places are taken: start the dispatch, clear or \
             replace the old actions, {raise}"
        ),
    }
}
