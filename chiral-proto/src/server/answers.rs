use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::reply::{Answer, Place};
use crate::wire::{RequestKind, ServerMessage};

/// The requests whose answers have not left yet, in the order in which these must leave.
#[derive(Debug, Default)]
pub(super) struct Answers(VecDeque<Pending>);

/// A request whose answer has not left yet.
///
/// ```text
///                      reply
///   Awaited ──────────────────────────► Ready ──► leaves
///      ▲  │ defer
///      │  ▼
///     Deferred: back when it is the first and the transport can take a frame
/// ```
pub(super) struct Pending {
    place: Place,
    request: RequestKind,
    pub(super) arrived: Instant,
    pub(super) state: State,
    /// The number of the last action that the robot was done with when it gave the answer.
    pub(super) applied: u64,
    /// When the robot was last stopped since it gave the answer.
    stopped_at: Option<Instant>,
}

/// An answer that leaves.
pub(super) struct Leaving {
    /// When its request came.
    pub(super) arrived: Instant,
    pub(super) reply: Reply,
    /// The number of the last action that the robot was done with when it gave the answer.
    pub(super) applied: u64,
    /// When the robot was last stopped since it gave the answer.
    pub(super) stopped_at: Option<Instant>,
}

pub(super) enum State {
    Awaited,
    Deferred,
    Ready(Reply),
}

pub(super) enum Reply {
    Message(ServerMessage),
    Observation(Answer),
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Awaited => "awaited",
            State::Deferred => "deferred",
            State::Ready(_) => "ready",
        };
        write!(f, "{} ({state})", self.request)
    }
}

impl Answers {
    pub(super) fn push(
        &mut self,
        place: Place,
        request: RequestKind,
        arrived: Instant,
        state: State,
    ) {
        let (applied, stopped_at) = (0, None);
        self.0.push_back(Pending { place, request, arrived, state, applied, stopped_at });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&mut self, place: &Place) -> Option<&mut Pending> {
        self.0.iter_mut().find(|pending| pending.place.is(place))
    }

    /// Whether the first waits for nothing but the transport.
    pub(super) fn is_first_movable(&self) -> bool {
        self.0.front().is_some_and(|first| !matches!(first.state, State::Awaited))
    }

    /// The first, if its answer is ready.
    pub(super) fn take_first(&mut self) -> Option<Leaving> {
        let first = self.0.pop_front()?;
        let Pending { arrived, applied, stopped_at, .. } = first;
        match first.state {
            State::Ready(reply) => Some(Leaving { arrived, reply, applied, stopped_at }),
            State::Awaited | State::Deferred => {
                self.0.push_front(first);
                None
            }
        }
    }

    /// The robot is stopped: what it has answered is of before that, whenever it leaves.
    pub(super) fn note_stop(&mut self, now: Instant) {
        for pending in &mut self.0 {
            if matches!(pending.state, State::Ready(_)) {
                pending.stopped_at = Some(now);
            }
        }
    }

    /// The first, if it was deferred: it is awaited again.
    pub(super) fn recall_first(&mut self) -> Option<Place> {
        let first = self.0.front_mut().filter(|first| matches!(first.state, State::Deferred))?;
        first.state = State::Awaited;
        Some(first.place.clone())
    }

    /// The kind of a request whose handle was dropped: its answer, and all behind it, would never
    /// leave.
    pub(super) fn abandoned(&self) -> Option<RequestKind> {
        let is_abandoned = |pending: &&Pending| {
            matches!(pending.state, State::Awaited) && pending.place.is_abandoned()
        };
        self.0.iter().find(is_abandoned).map(|pending| pending.request)
    }

    /// Whether the answer of a reset or a step has not left.
    pub(super) fn has_barrier(&self) -> bool {
        self.0.iter().any(|pending| pending.request.moves_robot())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
