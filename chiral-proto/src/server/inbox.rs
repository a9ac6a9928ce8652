use std::collections::VecDeque;

use super::event::Event;
use super::reply::{MetadataReply, ObserveReply, Place, PlaceNote, ResetReply, StepReply};
use crate::Action;
use crate::wire::RequestKind;

/// What a client asked that is not an action.
#[derive(Debug)]
pub(super) enum Request {
    Metadata,
    Reset,
    Observe,
    Step(Action),
}

impl Request {
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::Metadata => RequestKind::Metadata,
            Self::Reset => RequestKind::Reset,
            Self::Observe => RequestKind::Observe,
            Self::Step(_) => RequestKind::Step,
        }
    }

    /// Whether actions keep their order with it.
    pub(super) fn is_barrier(&self) -> bool {
        self.kind().moves_robot()
    }
}

/// What has arrived and is not told yet, in the order in which to tell it.
///
/// Actions overtake requests, but not a reset, nor a step, which is an action itself. What comes
/// behind a reset is held back until it is answered; behind a step, only requests are.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    actions: VecDeque<(u64, Action)>,
    requests: VecDeque<(u64, Request, Place)>,
    arrivals: u64,
    /// The reset or step that is being worked on.
    working: Option<(Work, PlaceNote)>,
    pub(super) dropped: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Reset,
    Step,
}

impl Inbox {
    /// Takes an action in; the oldest goes when there are more than `backlog`.
    pub(super) fn push_action(&mut self, action: Action, backlog: usize) {
        self.arrivals += 1;
        self.actions.push_back((self.arrivals, action));
        while self.actions.len() > backlog.max(1) {
            self.actions.pop_front();
            self.dropped += 1;
        }
    }

    pub(super) fn push_request(&mut self, request: Request, place: Place) {
        self.arrivals += 1;
        self.requests.push_back((self.arrivals, request, place));
    }

    /// Notes that a request was answered: what was held back behind it may go on.
    pub(super) fn answered(&mut self, place: &Place) {
        self.working.take_if(|(_, working)| working.is(place));
    }

    /// Drops what was never told, when the connection ends during a reset: a robot that was reset
    /// for a client that has gone must not move on its old commands.
    pub(super) fn end(&mut self) {
        if self.is_at_reset() {
            self.dropped += self.actions.len() as u64;
            self.actions.clear();
        }
        self.working = None;
        // Requests cannot be answered any more, and a step's action goes with it. Actions behind
        // an untold reset are void as well.
        let is_step = |(_, request, _): &&(_, Request, _)| matches!(request, Request::Step(_));
        self.dropped += self.requests.iter().filter(is_step).count() as u64;
        let reset = self.requests.iter().find(|(_, request, _)| matches!(request, Request::Reset));
        if let Some(&(barrier, ..)) = reset {
            let before = self.actions.len();
            self.actions.retain(|(arrival, _)| *arrival < barrier);
            self.dropped += (before - self.actions.len()) as u64;
        }
        self.requests.clear();
    }

    /// The next action that nothing holds back.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        if self.may_tell_action() {
            self.actions.pop_front().map(|(_, action)| action)
        } else {
            None
        }
    }

    /// The next request that nothing holds back: not a reset or step being worked on, nor, for
    /// another of these, an action from before it that is not told yet.
    pub(super) fn poll_request(&mut self) -> Option<Event> {
        if !self.may_tell_request() {
            return None;
        }
        let (_, request, place) = self.requests.pop_front()?;
        Some(match request {
            Request::Metadata => Event::Metadata(MetadataReply(place)),
            Request::Observe => Event::Observe(ObserveReply(place)),
            Request::Reset => {
                self.working = Some((Work::Reset, place.note()));
                Event::Reset(ResetReply(place))
            }
            Request::Step(action) => {
                self.working = Some((Work::Step, place.note()));
                Event::Step(action, StepReply(place))
            }
        })
    }

    /// Whether a reset is being worked on or waits for it.
    pub(super) fn is_resetting(&self) -> bool {
        self.is_at_reset()
            || self.requests.iter().any(|(_, request, _)| matches!(request, Request::Reset))
    }

    fn is_at_reset(&self) -> bool {
        matches!(self.working, Some((Work::Reset, _)))
    }

    pub(super) fn may_tell_action(&self) -> bool {
        let Some((action, _)) = self.actions.front() else { return false };
        let barrier = self.requests.iter().find(|(_, request, _)| request.is_barrier());
        !self.is_at_reset() && barrier.is_none_or(|(barrier, ..)| action < barrier)
    }

    pub(super) fn may_tell_request(&self) -> bool {
        let Some((arrival, request, _)) = self.requests.front() else { return false };
        let earlier_action = self.actions.front().is_some_and(|(action, _)| action < arrival);
        self.working.is_none() && !(request.is_barrier() && earlier_action)
    }
}
