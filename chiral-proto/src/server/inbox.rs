use std::collections::VecDeque;
use std::time::Instant;

use super::config::ActionQueue;
use super::drops::{DropReason, Drops};
use super::event::Event;
use super::reply::{MetadataReply, ObserveReply, Place, PlaceNote, ResetReply, StepReply};
use crate::Action;
use crate::pacer::instant_after;
use crate::wire::RequestKind;

/// The part of the budget, one in so many, that fills up before the client is held up. What waits
/// here is dropped when the client goes; what waits in the transport hides that it has gone.
const READ_AHEAD: usize = 4;

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

    fn size(&self) -> usize {
        match self {
            Self::Step(action) => size_of_action(action),
            Self::Metadata | Self::Reset | Self::Observe => 0,
        }
    }
}

/// What has arrived and is not told yet, in the order in which to tell it.
///
/// Actions overtake requests, but not a reset, nor a step, which is an action itself. What comes
/// behind a reset is held back until it is answered; behind a step, only requests are.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: ActionQueue,
    /// Bytes that may wait.
    budget: usize,
    /// Bytes of the actions and steps that wait.
    bytes: usize,
    actions: VecDeque<WaitingAction>,
    requests: VecDeque<(u64, Request, Place)>,
    /// The request for an observation that is to be told once more: its answer can leave.
    due: Option<Place>,
    arrivals: u64,
    /// Up to this arrival steps are not told any more: the robot was stopped.
    revoked: u64,
    /// The reset or step that is being worked on.
    working: Option<(Work, PlaceNote)>,
    pub(super) drops: Drops,
}

#[derive(Debug)]
struct WaitingAction {
    arrival: u64,
    since: Instant,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Reset,
    Step,
}

impl Inbox {
    pub(super) fn new(queue: ActionQueue, budget: usize) -> Self {
        Self {
            queue,
            budget,
            bytes: 0,
            actions: VecDeque::new(),
            requests: VecDeque::new(),
            due: None,
            arrivals: 0,
            revoked: 0,
            working: None,
            drops: Drops::default(),
        }
    }

    /// Takes an action in, and drops what the queue has no place for.
    pub(super) fn push_action(&mut self, now: Instant, action: Action) {
        if self.queue == ActionQueue::Latest && self.is_last_untold() {
            let superseded = self.actions.pop_back();
            self.drop_action(superseded, DropReason::Superseded);
        }
        self.arrivals += 1;
        self.bytes += size_of_action(&action);
        self.actions.push_back(WaitingAction { arrival: self.arrivals, since: now, action });
        self.keep_budget();
    }

    /// Takes a request in. False when it is a step that finds no room.
    pub(super) fn push_request(&mut self, request: Request, place: Place) -> bool {
        self.arrivals += 1;
        self.bytes += request.size();
        self.requests.push_back((self.arrivals, request, place));
        self.keep_budget()
    }

    /// Tells the request for an observation once more.
    pub(super) fn push_due(&mut self, place: Place) {
        self.due = Some(place);
    }

    /// Whether an action waits that no barrier separates from what comes next.
    fn is_last_untold(&self) -> bool {
        let Some(last) = self.actions.back() else { return false };
        let barrier = self.requests.iter().rev().find(|(_, request, _)| request.is_barrier());
        barrier.is_none_or(|(barrier, ..)| *barrier < last.arrival)
    }

    /// Drops the oldest actions until what waits is within the budget; false when even that does
    /// not help.
    fn keep_budget(&mut self) -> bool {
        while self.bytes > self.budget {
            let Some(oldest) = self.actions.pop_front() else { return false };
            self.drop_action(Some(oldest), DropReason::OverBudget);
        }
        true
    }

    fn drop_action(&mut self, dropped: Option<WaitingAction>, reason: DropReason) {
        if let Some(WaitingAction { action, .. }) = dropped {
            self.bytes -= size_of_action(&action);
            self.drops.record(reason);
        }
    }

    /// The robot is stopped: drops the actions that wait, and revokes the steps.
    pub(super) fn note_stop(&mut self, reason: &DropReason) {
        self.revoked = self.arrivals;
        while let Some(oldest) = self.actions.pop_front() {
            self.drop_action(Some(oldest), reason.clone());
        }
    }

    /// Drops the actions that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.next_timeout().is_some_and(|timeout| timeout <= now) {
            let oldest = self.actions.pop_front();
            self.drop_action(oldest, DropReason::TooOld);
        }
    }

    /// When the next action will have waited too long.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.queue {
            ActionQueue::MaxAge(max_age) => {
                Some(instant_after(self.actions.front()?.since, max_age))
            }
            ActionQueue::Latest | ActionQueue::InOrder { .. } => None,
        }
    }

    /// Whether another message of at most `len` bytes is welcome.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        match self.queue {
            ActionQueue::InOrder { capacity } => {
                let within_budget =
                    self.bytes == 0 || self.bytes.saturating_add(len) <= self.budget;
                let read_ahead = self.bytes < self.budget / READ_AHEAD;
                (self.actions.len() < capacity.max(1) || read_ahead) && within_budget
            }
            ActionQueue::Latest | ActionQueue::MaxAge(_) => true,
        }
    }

    /// Notes that a request was answered: what was held back behind it may go on.
    pub(super) fn answered(&mut self, place: &Place) {
        self.working.take_if(|(_, working)| working.is(place));
    }

    /// Drops everything: the connection has ended, and a robot must not move on for a client that
    /// has gone.
    pub(super) fn end(&mut self) {
        let is_step =
            |(_, request, _): &&(u64, Request, Place)| matches!(request, Request::Step(_));
        let steps = self.requests.iter().filter(is_step).count();
        self.drops.end(self.actions.len() + steps);
        self.actions = VecDeque::new();
        self.requests = VecDeque::new();
        self.bytes = 0;
        self.due = None;
        self.working = None;
    }

    /// The next action that nothing holds back, and since when it has waited.
    pub(super) fn poll_action(&mut self) -> Option<(Action, Instant)> {
        if !self.may_tell_action() {
            return None;
        }
        let WaitingAction { action, since, .. } = self.actions.pop_front()?;
        self.bytes -= size_of_action(&action);
        Some((action, since))
    }

    /// The number of the first action that waits, of those that have one.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.actions.iter().find_map(|waiting| Some(waiting.action.sent?.seq))
    }

    /// The next request that nothing holds back: not a reset or step being worked on, nor, for
    /// another of these, an action from before it or a stop that is not told yet.
    pub(super) fn poll_request(&mut self, is_stop_untold: bool) -> Option<Event> {
        if let Some(place) = self.due.take() {
            return Some(Event::Observe(ObserveReply::due(place)));
        }
        if !self.may_tell_request(is_stop_untold) {
            return None;
        }
        let (_, request, place) = self.requests.pop_front()?;
        self.bytes -= request.size();
        Some(match request {
            Request::Metadata => Event::Metadata(MetadataReply(place)),
            Request::Observe => Event::Observe(ObserveReply::new(place)),
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

    /// Whether a reset or a step is being worked on or waits for it.
    pub(super) fn has_barrier(&self) -> bool {
        self.working.is_some() || self.requests.iter().any(|(_, request, _)| request.is_barrier())
    }

    /// Whether the request that is told next came before the robot was stopped.
    pub(super) fn is_next_revoked(&self) -> bool {
        self.requests.front().is_some_and(|(arrival, ..)| *arrival <= self.revoked)
    }

    /// Whether the request that is told next is a reset or a step.
    pub(super) fn is_barrier_next(&self, is_stop_untold: bool) -> bool {
        let is_barrier = self.requests.front().is_some_and(|(_, request, _)| request.is_barrier());
        self.due.is_none() && is_barrier && self.may_tell_request(is_stop_untold)
    }

    fn is_at_reset(&self) -> bool {
        matches!(self.working, Some((Work::Reset, _)))
    }

    pub(super) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    pub(super) fn may_tell_action(&self) -> bool {
        let Some(next) = self.actions.front() else { return false };
        let barrier = self.requests.iter().find(|(_, request, _)| request.is_barrier());
        !self.is_at_reset() && barrier.is_none_or(|(barrier, ..)| next.arrival < *barrier)
    }

    pub(super) fn may_tell_request(&self, is_stop_untold: bool) -> bool {
        if self.due.is_some() {
            return true;
        }
        let Some((arrival, request, _)) = self.requests.front() else { return false };
        let earlier_action = self.actions.front().is_some_and(|action| action.arrival < *arrival);
        let is_held_back = request.is_barrier() && (earlier_action || is_stop_untold);
        self.working.is_none() && !is_held_back
    }
}

/// Bytes that an action takes while it waits, about.
fn size_of_action(action: &Action) -> usize {
    let timestamps = action.obs_timestamps.as_ref().map_or(0, |timestamps| {
        timestamps.iter().map(|(name, _)| size_of::<(crate::Name, f64)>() + name.len()).sum()
    });
    size_of::<WaitingAction>() + action.values.bytes().len() + timestamps
}
