use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::config::Lossy;
use crate::Action;
use crate::pacer::instant_after;
use crate::timeline::Asked;
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
    /// A user who no longer waits, or the client itself: the answer is told to nobody.
    Nobody,
}

/// When a request is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    Never,
    /// As the caller wished.
    At(Instant),
    /// By default; `since` moves on while the robot moves for an earlier request.
    After {
        timeout: Duration,
        since: Instant,
    },
}

impl Deadline {
    /// A shorter timeout counts as this one: what is sent at this instant is not late yet.
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(super) fn after(timeout: Duration, now: Instant) -> Self {
        Self::After { timeout: timeout.max(Self::SHORTEST), since: now }
    }

    fn instant(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::At(instant) => Some(instant),
            Self::After { timeout, since } => Some(instant_after(since, timeout)),
        }
    }

    fn is_due(self, now: Instant) -> bool {
        self.instant().is_some_and(|deadline| deadline <= now)
    }

    /// A default deadline counts from `now` at the earliest.
    fn postpone(&mut self, now: Instant) {
        if let Self::After { since, .. } = self {
            *since = now;
        }
    }
}

/// A request whose deadline has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expired {
    /// A user's, or the stream's.
    pub(super) owner: Owner,
    pub(super) kind: RequestKind,
    /// When it was made, and when it was sent, if it was.
    pub(super) made_at: Instant,
    pub(super) sent_at: Option<Instant>,
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
    owner: Owner,
    made_at: Instant,
    deadline: Deadline,
    action: Option<Action>,
}

#[derive(Debug)]
struct InFlight {
    kind: RequestKind,
    owner: Owner,
    made_at: Instant,
    deadline: Deadline,
    /// Its deadline has come, or it was cancelled: its answer may never come.
    is_overdue: bool,
    /// When it was sent, the first time.
    sent_at: Instant,
    /// Since when its answer is due: since the last time, or since the robot was busy.
    due_since: Instant,
    /// It was sent more than once.
    repeated: bool,
    /// It is to be sent again, as soon as the transport takes it.
    again: bool,
    /// Where the timeline was when it was sent, the first time.
    asked: Asked,
}

impl InFlight {
    /// Whether the robot moves for it, as far as can be told.
    fn is_awaited_motion(&self) -> bool {
        self.kind.moves_robot() && !self.is_overdue
    }
}

/// An answer and the request that it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) owner: Owner,
    /// When the request was sent, if the answer is surely of that sending.
    pub(super) sent_at: Option<Instant>,
    /// Where the timeline was then.
    pub(super) asked: Asked,
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
    /// On a reliable transport, by kind: overdue requests that the server has passed over, by
    /// answering later ones. Should it answer them after all, the answers are dropped.
    passed_over: [u64; RequestKind::ALL.len()],
    /// By kind: a request was open when the connection before was lost.
    unsettled: [bool; RequestKind::ALL.len()],
    /// When a reset or a step was last given up. What waits behind it is waited for since then.
    motion_given_up: Option<Instant>,
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
        now: Instant,
        deadline: Deadline,
        action: Option<Action>,
    ) {
        let owner = Owner::User(serial);
        self.queued.push_back(Queued { kind, owner, made_at: now, deadline, action });
    }

    /// Asks for metadata ahead of everything, for nobody but the client.
    pub(super) fn submit_metadata(&mut self, now: Instant, deadline: Deadline) {
        let (kind, owner) = (RequestKind::Metadata, Owner::Nobody);
        self.queued.push_front(Queued { kind, owner, made_at: now, deadline, action: None });
    }

    /// Whether a request of the user's waits, or one is to be sent again.
    pub(super) fn has_due(&self) -> bool {
        !self.queued.is_empty() || self.in_flight.iter().any(|request| request.again)
    }

    /// The next request of the user to send, and whether it is one that is sent again.
    pub(super) fn transmit(&mut self, now: Instant, asked: Asked) -> Option<(Outgoing, bool)> {
        if let Some(again) = self.transmit_again(now) {
            return Some((again, true));
        }
        let kind = self.queued.front()?.kind;
        if !self.may_send(kind) {
            return None;
        }
        let Queued { owner, made_at, deadline, action, .. } = self.queued.pop_front()?;
        self.sent(kind, owner, made_at, deadline, now, asked);
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
    pub(super) fn transmit_stream(
        &mut self,
        now: Instant,
        deadline: Deadline,
        asked: Asked,
    ) -> bool {
        let may = self.may_send(RequestKind::Observe);
        if may {
            self.sent(RequestKind::Observe, Owner::Stream, now, deadline, now, asked);
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

    fn sent(
        &mut self,
        kind: RequestKind,
        owner: Owner,
        made_at: Instant,
        deadline: Deadline,
        now: Instant,
        mut asked: Asked,
    ) {
        // A reset that waits behind it has begun an epoch of which its answer is not.
        let behind = self.queued.iter().filter(|request| request.kind == RequestKind::Reset);
        asked.epoch -= behind.count() as u64;
        self.in_flight.push_back(InFlight {
            kind,
            owner,
            made_at,
            deadline,
            is_overdue: false,
            sent_at: now,
            due_since: now,
            repeated: false,
            again: false,
            asked,
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
            return self.answer_in_order(kind);
        };
        let Some(index) = self.in_flight.iter().position(|request| request.kind == kind) else {
            return Ok(None);
        };
        let request = self.in_flight.remove(index).expect("just found there");
        if request.repeated {
            // The other sendings may be answered too. How many answers that makes, nobody can
            // tell: they may be lost and repeated as well.
            self.lingering[kind as usize] = Some(instant_after(now, lossy.linger));
        }
        let sent_at = (!request.repeated).then_some(request.sent_at);
        Ok(Some(Answered { owner: request.owner, sent_at, asked: request.asked }))
    }

    /// As [`answer`](Self::answer), on a reliable transport: the answer is that of the oldest
    /// request, unless that is overdue and of another kind. Then the server has passed it over.
    fn answer_in_order(
        &mut self,
        kind: RequestKind,
    ) -> Result<Option<Answered>, Option<MessageType>> {
        let may_be_answered = |request: &&InFlight| request.kind == kind || !request.is_overdue;
        let due = self.in_flight.iter().find(may_be_answered).map(|request| request.kind);
        if due == Some(kind) {
            loop {
                let request = self.in_flight.pop_front().expect("one of its kind is there");
                if request.kind == kind {
                    return Ok(Some(Answered {
                        owner: request.owner,
                        sent_at: Some(request.sent_at),
                        asked: request.asked,
                    }));
                }
                self.passed_over[request.kind as usize] += 1;
            }
        }
        match &mut self.passed_over[kind as usize] {
            0 => Err(due.map(RequestKind::response)),
            passed_over => {
                *passed_over -= 1;
                Ok(None)
            }
        }
    }

    /// Lets time pass; `expired` gets each request whose deadline has come.
    ///
    /// What is due is noted here, not only when it is sent: the transport may be blocked, and
    /// [`next_timeout`](Self::next_timeout) must not ask for an instant that has passed.
    pub(super) fn advance(&mut self, now: Instant, expired: impl FnMut(Expired)) {
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
            request.again = instant_after(request.due_since, retry_after) <= now;
        }
    }

    /// Whether the robot is at a reset or a step, before which it answers nothing else: to ask
    /// again would only give it more to do afterwards.
    fn is_robot_busy(&self) -> bool {
        self.in_flight.iter().any(|request| request.kind.moves_robot())
    }

    fn expire(&mut self, now: Instant, mut expired: impl FnMut(Expired)) {
        // What waits behind a motion of the robot is not late as long as that is not.
        let motion = self.in_flight.iter().position(InFlight::is_awaited_motion);
        if let Some(motion) = motion {
            let behind = self.in_flight.iter_mut().skip(motion + 1);
            behind.for_each(|request| request.deadline.postpone(now));
            self.queued.iter_mut().for_each(|request| request.deadline.postpone(now));
        }
        let is_due = |request: &InFlight| request.deadline.is_due(now);
        while let Some(index) = self.in_flight.iter().position(is_due) {
            let InFlight { owner, kind, made_at, sent_at, .. } = self.in_flight[index];
            expired(Expired { owner, kind, made_at, sent_at: Some(sent_at) });
            self.let_go(index, now);
        }
        self.queued.retain(|request| {
            let Queued { owner, kind, made_at, .. } = *request;
            let is_due = request.deadline.is_due(now);
            if is_due {
                expired(Expired { owner, kind, made_at, sent_at: None });
            }
            !is_due
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
        self.queued.retain(|request| request.owner != owner);
        self.queued.len() < queued
    }

    /// A reliable transport may still bring the answer, in its turn. The stream goes on waiting
    /// for it, with its window full: a server that does not answer is not asked without end.
    fn let_go(&mut self, index: usize, now: Instant) {
        let request = &mut self.in_flight[index];
        request.deadline = Deadline::Never;
        request.is_overdue = true;
        if request.kind.moves_robot() {
            self.motion_given_up = Some(now);
        }
        if request.owner == Owner::Stream {
            return;
        }
        request.owner = Owner::Nobody;
        if let Some(Lossy { linger, .. }) = self.lossy {
            self.lingering[request.kind as usize] = Some(instant_after(now, linger));
            self.in_flight.remove(index);
        }
    }

    /// Since when the oldest answer is waited for that may come at any moment: not while the
    /// robot moves for a reset or a step, nor for the time in which it did.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let mut awaited = self.in_flight.iter().filter(|request| !request.is_overdue).peekable();
        let oldest = awaited.peek()?.sent_at;
        let oldest = self.motion_given_up.map_or(oldest, |at| at.max(oldest));
        (!awaited.any(InFlight::is_awaited_motion)).then_some(oldest)
    }

    /// Ends all requests of the user; `ended` gets the serial of each.
    pub(super) fn end(&mut self, mut ended: impl FnMut(u64)) {
        self.interrupt(|_| false, |serial, _, _| ended(serial));
    }

    /// The connection is lost: forgets what was in flight, so that no answer of it is matched to a
    /// request of the next one. Of the user's requests those that are of a kind to hold are to be
    /// sent over the next connection; `ended` gets of each of the others the serial, the kind, and
    /// whether it had been sent.
    pub(super) fn interrupt(
        &mut self,
        holds: impl Fn(RequestKind) -> bool,
        mut ended: impl FnMut(u64, RequestKind, bool),
    ) {
        for (kind, lingering) in self.lingering.iter_mut().enumerate() {
            self.unsettled[kind] |= lingering.take().is_some();
        }
        self.passed_over = Default::default();
        self.motion_given_up = None;
        let mut held = VecDeque::new();
        for InFlight { kind, owner, made_at, deadline, .. } in self.in_flight.drain(..) {
            self.unsettled[kind as usize] = true;
            match owner {
                Owner::User(_) if holds(kind) => {
                    held.push_back(Queued { kind, owner, made_at, deadline, action: None });
                }
                Owner::User(serial) => ended(serial, kind, true),
                Owner::Stream | Owner::Nobody => {}
            }
        }
        for request in self.queued.drain(..) {
            match request.owner {
                Owner::User(_) if holds(request.kind) => held.push_back(request),
                Owner::User(serial) => ended(serial, request.kind, false),
                Owner::Stream | Owner::Nobody => {}
            }
        }
        self.queued = held;
    }

    /// Another connection has been made. On a transport that may repeat messages, answers to what was
    /// asked over the one before may still come: none is taken for a new one.
    pub(super) fn begin_connection(&mut self, now: Instant) {
        let unsettled = std::mem::take(&mut self.unsettled);
        let Some(Lossy { linger, .. }) = self.lossy else { return };
        for (kind, lingering) in self.lingering.iter_mut().enumerate() {
            *lingering = unsettled[kind].then(|| instant_after(now, linger));
        }
    }

    /// When [`advance`](Self::advance) next has something to do, always later than it was last
    /// called. `stream_waits`: the stream has a tick that is not sent yet.
    pub(super) fn next_timeout(&self, stream_waits: bool) -> Option<Instant> {
        let motion = self.in_flight.iter().position(InFlight::is_awaited_motion);
        // The default deadlines of what waits behind a motion do not run.
        let runs = |deadline: &Deadline, is_behind: bool| {
            !(is_behind && matches!(deadline, Deadline::After { .. }))
        };
        let queued = self.queued.iter().map(|request| (request.deadline, motion.is_some()));
        let in_flight = self.in_flight.iter().enumerate().map(|(index, request)| {
            (request.deadline, motion.is_some_and(|motion| motion < index))
        });
        let deadlines = queued
            .chain(in_flight)
            .filter(|(deadline, is_behind)| runs(deadline, *is_behind))
            .filter_map(|(deadline, _)| deadline.instant());
        let retries = self.lossy.iter().filter(|_| !self.is_robot_busy()).flat_map(|lossy| {
            let waiting = self.in_flight.iter().filter(|request| !request.again);
            waiting.map(|request| instant_after(request.due_since, lossy.retry_after))
        });
        let waiting = self.queued.front().map(|request| request.kind);
        let settled = waiting
            .into_iter()
            .chain(stream_waits.then_some(RequestKind::Observe))
            .filter_map(|kind| self.lingering[kind as usize]);
        deadlines.chain(retries).chain(settled).min()
    }
}
