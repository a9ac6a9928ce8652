use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::sensors::{Sensors, StaleCamera};
use crate::{ConnectionError, Observation};

/// The place of one answer in the order in which answers leave, known to its server and to the
/// handle that will fill it.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<u64>);

impl Place {
    pub(super) fn new(number: u64) -> Self {
        Self(Arc::new(number))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The place, without counting as one who knows it.
    pub(super) fn note(&self) -> PlaceNote {
        PlaceNote(Arc::downgrade(&self.0))
    }

    /// Whether the server's is the only one left: the handle was dropped.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// A note of a place; it does not keep a dropped handle's place from being noticed.
#[derive(Debug)]
pub(super) struct PlaceNote(Weak<u64>);

impl PlaceNote {
    pub(super) fn is(&self, place: &Place) -> bool {
        self.0.as_ptr() == Arc::as_ptr(&place.0)
    }
}

macro_rules! reply_handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// It belongs to one request of one connection, and is used up by answering. Dropping it
        /// unanswered ends the connection, because the protocol cannot say "no".
        #[must_use = "the client waits for the answer: dropping its handle ends the connection"]
        pub struct $name(pub(super) Place);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

reply_handles! {
    /// The right to answer a metadata request; see [`Server::reply_metadata`](super::Server::reply_metadata).
    MetadataReply
    /// The right to answer a reset; see [`Server::reply_reset`](super::Server::reply_reset).
    ResetReply
    /// The right to answer a legacy step; see [`Server::reply_step`](super::Server::reply_step).
    StepReply
}

/// The right to answer a request for an observation; see
/// [`Server::reply_observation`](super::Server::reply_observation) and
/// [`Server::defer_observation`](super::Server::defer_observation).
///
/// It belongs to one request of one connection, and is used up by answering or deferring. Dropping
/// it ends the connection, because the protocol cannot say "no".
#[must_use = "the client waits for the answer: dropping its handle ends the connection"]
pub struct ObserveReply {
    pub(super) place: Place,
    is_due: bool,
}

impl ObserveReply {
    pub(super) fn new(place: Place) -> Self {
        Self { place, is_due: false }
    }

    pub(super) fn due(place: Place) -> Self {
        Self { place, is_due: true }
    }

    /// The request's number among all requests of the connection: the same when it is told again
    /// after it was deferred.
    pub fn number(&self) -> u64 {
        *self.place.0
    }

    /// Whether the request was [deferred](super::Server::defer_observation) and its answer can
    /// leave now.
    pub fn is_due(&self) -> bool {
        self.is_due
    }
}

impl fmt::Debug for ObserveReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObserveReply")
    }
}

/// An observation to answer with: one that is at hand, or one to be taken when the answer leaves.
///
/// Taken late it is as fresh as can be, although the socket may still be busy with an earlier
/// answer when the request comes.
#[non_exhaustive]
pub enum Answer {
    /// An observation at hand.
    Ready(Observation),
    /// A snapshot of the sensors, taken when the answer leaves and stamped with their clock. It
    /// takes nanoseconds a sensor. If a camera is stale and declared to
    /// [fail](crate::WhenStale::Fail) then, the connection ends and the client is told which.
    Snapshot(Sensors),
    /// Called when the answer leaves, with the time of leaving.
    ///
    /// It is called within [`poll_transmit`](super::Server::poll_transmit): for as long as it runs
    /// the machine does nothing else, actions wait, and so does whoever wants the lock under which
    /// the machine may be. In a loop of one thread that is as good as calling it anywhere. A driver
    /// with threads or tasks calls [`defer_observation`](super::Server::defer_observation) instead
    /// and runs the function where it delays nobody.
    WhenSent(Box<dyn FnOnce(Instant) -> Observation + Send>),
}

impl Answer {
    /// An observation to be taken by `snapshot` when the answer leaves; see
    /// [`WhenSent`](Self::WhenSent) for what a slow one delays.
    pub fn when_sent(snapshot: impl FnOnce(Instant) -> Observation + Send + 'static) -> Self {
        Self::WhenSent(Box::new(snapshot))
    }

    /// Whether the observation is taken only when it leaves.
    pub(super) fn is_taken_late(&self) -> bool {
        !matches!(self, Self::Ready(_))
    }

    pub(super) fn take(self, now: Instant) -> Result<Observation, StaleCamera> {
        match self {
            Self::Ready(observation) => Ok(observation),
            Self::Snapshot(sensors) => sensors.try_snapshot_now(),
            Self::WhenSent(snapshot) => Ok(snapshot(now)),
        }
    }
}

impl From<Observation> for Answer {
    fn from(observation: Observation) -> Self {
        Self::Ready(observation)
    }
}

/// A snapshot taken when the answer leaves, stamped with the sensors' clock.
impl From<&Sensors> for Answer {
    fn from(sensors: &Sensors) -> Self {
        Self::Snapshot(sensors.clone())
    }
}

/// A snapshot taken when the answer leaves, stamped with the sensors' clock.
impl From<Sensors> for Answer {
    fn from(sensors: Sensors) -> Self {
        Self::Snapshot(sensors)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(observation) => f.debug_tuple("Ready").field(observation).finish(),
            Self::Snapshot(sensors) => f.debug_tuple("Snapshot").field(sensors).finish(),
            Self::WhenSent(_) => f.write_str("WhenSent(…)"),
        }
    }
}

/// An answer that cannot be given. The connection goes on as before, if it was still there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The connection has ended; nobody waits for the answer.
    #[error("the connection has ended ({0}): nobody waits for the answer")]
    Disconnected(ConnectionError),
    /// The handle is of another connection.
    #[error("the reply handle is of another connection: give it to the server that handed it out")]
    ForeignHandle,
}
