use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::time::Instant;

use super::config::Lossy;
use crate::Action;
use crate::pacer::after;
use crate::wire::{MessageType, RequestKind};

/// A request that was made, by the answer that it will get: `RequestId<Map>` for metadata,
/// `RequestId<ResetResult>`, `RequestId<Observation>`, `RequestId<StepResult>`.
pub struct RequestId<Answer> {
    key: RequestKey,
    answer: PhantomData<fn() -> Answer>,
}

/// A request of any kind: what [`RequestId`]s have in common, for one table of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(u64);

impl RequestKey {
    pub(super) fn of(serial: u64) -> Self {
        Self(serial)
    }

    pub(super) fn serial(self) -> u64 {
        self.0
    }
}

impl<Answer> From<RequestId<Answer>> for RequestKey {
    fn from(id: RequestId<Answer>) -> Self {
        id.key
    }
}

impl<Answer> RequestId<Answer> {
    pub(super) fn new(serial: u64) -> Self {
        Self { key: RequestKey::of(serial), answer: PhantomData }
    }

    /// The request, without the type of its answer.
    pub fn key(self) -> RequestKey {
        self.key
    }
}

// By hand: a derive would ask the same of `Answer`.
impl<Answer> Clone for RequestId<Answer> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Answer> Copy for RequestId<Answer> {}
impl<Answer> PartialEq for RequestId<Answer> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<Answer> Eq for RequestId<Answer> {}
impl<Answer> Hash for RequestId<Answer> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
impl<Answer> fmt::Debug for RequestId<Answer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.key.0)
    }
}

/// For whom an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User(u64),
    Stream,
    /// A user who no longer waits: the answer is swallowed.
    Nobody,
}

/// A request to put on the wire now.
#[derive(Debug)]
pub(super) enum Outgoing {
    Metadata,
    Reset,
    Observe,
    Step(Action),
}

#[derive(Debug)]
struct Queued {
    kind: RequestKind,
    serial: u64,
    deadline: Option<Instant>,
    action: Option<Action>,
}

#[derive(Debug)]
struct InFlight {
    kind: RequestKind,
    owner: Owner,
    deadline: Option<Instant>,
    /// When it was sent, the first time.
    sent_at: Instant,
    /// Since when its answer is due: since the last time, or since the robot was busy.
    due_since: Instant,
    /// It was sent more than once.
    repeated: bool,
    /// It is to be sent again, as soon as the transport takes it.
    again: bool,
}

/// An answer and the request that it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) owner: Owner,
    /// When the request was sent, if the answer is surely of that sending.
    pub(super) sent_at: Option<Instant>,
}

/// The ledger of requests: those not sent yet and, in the order in which the answers must come,
/// those in flight. Responses carry no id, so this order is all there is.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queued: VecDeque<Queued>,
    in_flight: VecDeque<InFlight>,
    lossy: Option<Lossy>,
    /// On a lossy transport, by kind: until when answers may still come for requests that are
    /// over.
    lingering: [Option<Instant>; RequestKind::ALL.len()],
}

impl Requests {
    pub(super) fn new(mut lossy: Option<Lossy>) -> Self {
        if let Some(Lossy { retry_after, .. }) = &mut lossy {
            *retry_after = Lossy::SHORTEST_RETRY.max(*retry_after);
        }
        Self { lossy, ..Self::default() }
    }

    /// How many requests of the user are waiting, expired ones in flight included.
    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    /// How many of the stream's requests are in flight.
    pub(super) fn streaming(&self) -> usize {
        self.in_flight.iter().filter(|request| request.owner == Owner::Stream).count()
    }

    pub(super) fn submit(
        &mut self,
        kind: RequestKind,
        serial: u64,
        deadline: Option<Instant>,
        action: Option<Action>,
    ) {
        self.queued.push_back(Queued { kind, serial, deadline, action });
    }

    /// Whether a request of the user's waits, or one is to be sent again.
    pub(super) fn has_due(&self) -> bool {
        !self.queued.is_empty() || self.in_flight.iter().any(|request| request.again)
    }

    /// The next request of the user to send, and whether it is one that is sent again.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<(Outgoing, bool)> {
        if let Some(again) = self.transmit_again(now) {
            return Some((again, true));
        }
        let kind = self.queued.front()?.kind;
        if !self.may_send(kind) {
            return None;
        }
        let Queued { serial, deadline, action, .. } = self.queued.pop_front()?;
        self.sent(kind, Owner::User(serial), deadline, now);
        let outgoing = match kind {
            RequestKind::Metadata => Outgoing::Metadata,
            RequestKind::Reset => Outgoing::Reset,
            RequestKind::Observe => Outgoing::Observe,
            RequestKind::Step => {
                Outgoing::Step(action.expect("a step was submitted with its action"))
            }
        };
        Some((outgoing, false))
    }

    /// Sends a request of the stream, unless an answer of its kind is not yet told apart.
    pub(super) fn transmit_stream(&mut self, now: Instant) -> bool {
        let may = self.may_send(RequestKind::Observe);
        if may {
            self.sent(RequestKind::Observe, Owner::Stream, None, now);
        }
        may
    }

    fn transmit_again(&mut self, now: Instant) -> Option<Outgoing> {
        let request = self.in_flight.iter_mut().find(|request| request.again)?;
        request.due_since = now;
        request.repeated = true;
        request.again = false;
        Some(if request.kind == RequestKind::Metadata {
            Outgoing::Metadata
        } else {
            Outgoing::Observe
        })
    }

    /// On a lossy transport one request of a kind is in flight at a time, and the next waits until
    /// no answer to an earlier one can be taken for its own.
    fn may_send(&self, kind: RequestKind) -> bool {
        self.lossy.is_none()
            || (self.in_flight.iter().all(|request| request.kind != kind)
                && self.lingering[kind as usize].is_none())
    }

    fn sent(&mut self, kind: RequestKind, owner: Owner, deadline: Option<Instant>, now: Instant) {
        self.in_flight.push_back(InFlight {
            kind,
            owner,
            deadline,
            sent_at: now,
            due_since: now,
            repeated: false,
            again: false,
        });
    }

    /// Matches an answer to its request. `Err` names the answer that was due instead; `Ok(None)`
    /// is an answer of a lossy transport that nobody waits for.
    pub(super) fn answer(
        &mut self,
        kind: RequestKind,
        now: Instant,
    ) -> Result<Option<Answered>, Option<MessageType>> {
        let Some(lossy) = &self.lossy else {
            let due = self.in_flight.front().map(|request| request.kind);
            if due != Some(kind) {
                return Err(due.map(RequestKind::response));
            }
            let request = self.in_flight.pop_front().expect("its kind was just seen");
            return Ok(Some(Answered { owner: request.owner, sent_at: Some(request.sent_at) }));
        };
        let Some(index) = self.in_flight.iter().position(|request| request.kind == kind) else {
            return Ok(None);
        };
        let request = self.in_flight.remove(index).expect("just found there");
        if request.repeated {
            // The other sendings may be answered too. How many answers that makes, nobody can
            // tell: they may be lost and repeated as well.
            self.lingering[kind as usize] = Some(after(now, lossy.linger));
        }
        let sent_at = (!request.repeated).then_some(request.sent_at);
        Ok(Some(Answered { owner: request.owner, sent_at }))
    }

    /// Lets time pass; `expired` gets the serial of each request whose deadline has come.
    ///
    /// What is due is noted here, not only when it is sent: the transport may be blocked, and
    /// [`next_timeout`](Self::next_timeout) must not ask for an instant that has passed.
    pub(super) fn advance(&mut self, now: Instant, expired: impl FnMut(u64)) {
        self.expire(now, expired);
        for lingering in &mut self.lingering {
            lingering.take_if(|until| *until <= now);
        }
        let Some(Lossy { retry_after, .. }) = self.lossy else { return };
        let busy = self.is_robot_busy();
        for request in self.in_flight.iter_mut().filter(|request| !request.kind.moves_robot()) {
            if busy {
                request.due_since = now;
            }
            request.again = after(request.due_since, retry_after) <= now;
        }
    }

    /// Whether the robot is at a reset or a step, before which it answers nothing else: to ask
    /// again would only give it more to do afterwards.
    fn is_robot_busy(&self) -> bool {
        self.in_flight.iter().any(|request| request.kind.moves_robot())
    }

    fn expire(&mut self, now: Instant, mut expired: impl FnMut(u64)) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        while let Some(index) = self.in_flight.iter().position(|request| due(request.deadline)) {
            if let Owner::User(serial) = self.in_flight[index].owner {
                expired(serial);
            }
            self.let_go(index, now);
        }
        self.queued.retain(|request| {
            if due(request.deadline) {
                expired(request.serial);
            }
            !due(request.deadline)
        });
    }

    /// Gives up on one request of the user; false if it is over already.
    pub(super) fn cancel(&mut self, serial: u64, now: Instant) -> bool {
        let owner = Owner::User(serial);
        if let Some(index) = self.in_flight.iter().position(|request| request.owner == owner) {
            self.let_go(index, now);
            return true;
        }
        let queued = self.queued.len();
        self.queued.retain(|request| request.serial != serial);
        self.queued.len() < queued
    }

    /// A reliable transport still brings the answer, in its turn; a lossy one may not.
    fn let_go(&mut self, index: usize, now: Instant) {
        if let Some(Lossy { linger, .. }) = self.lossy {
            let over = self.in_flight.remove(index).expect("the index of a request in flight");
            self.lingering[over.kind as usize] = Some(after(now, linger));
        } else {
            self.in_flight[index].owner = Owner::Nobody;
            self.in_flight[index].deadline = None;
        }
    }

    /// Ends all requests of the user; `ended` gets the serial of each.
    pub(super) fn end(&mut self, mut ended: impl FnMut(u64)) {
        for request in self.in_flight.drain(..) {
            if let Owner::User(serial) = request.owner {
                ended(serial);
            }
        }
        self.queued.drain(..).for_each(|request| ended(request.serial));
    }

    /// When [`advance`](Self::advance) next has something to do, always later than it was last
    /// called. `stream_waits`: the stream has a tick that is not sent yet.
    pub(super) fn next_timeout(&self, stream_waits: bool) -> Option<Instant> {
        let deadlines = self
            .queued
            .iter()
            .map(|request| request.deadline)
            .chain(self.in_flight.iter().map(|request| request.deadline))
            .flatten();
        let retries = self.lossy.iter().filter(|_| !self.is_robot_busy()).flat_map(|lossy| {
            let waiting = self.in_flight.iter().filter(|request| !request.again);
            waiting.map(|request| after(request.due_since, lossy.retry_after))
        });
        let waiting = self.queued.front().map(|request| request.kind);
        let settled = waiting
            .into_iter()
            .chain(stream_waits.then_some(RequestKind::Observe))
            .filter_map(|kind| self.lingering[kind as usize]);
        deadlines.chain(retries).chain(settled).min()
    }
}
