//! What a client must do, written as plainly as can be: lists, a clock in nanoseconds, and the
//! rules in the order in which the documentation states them.

use std::collections::VecDeque;

/// What a client tells, with answers by their number and requests by theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Answer(Kind, usize, u32),
    Streamed(u32),
    TimedOut(usize),
    Lost(usize),
    Disconnected,
}

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// An action by its number, and the number of the observation that it is stamped with.
    Action(u32, Option<u32>),
    Request(Kind),
    Step(u32, Option<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Metadata,
    Reset,
    Observe,
    Step,
}

/// Ticks at `start + n / hz`.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    running: Option<(u64, u64)>,
    ticks: u64,
    due: bool,
    pub(crate) missed: u64,
}

impl Grid {
    fn start(&mut self, now: u64, hz: u64) {
        self.stop();
        self.running = Some((now, hz));
        self.ticks = 0;
    }

    fn stop(&mut self) {
        self.running = None;
        self.missed += u64::from(std::mem::take(&mut self.due));
    }

    fn next(&self) -> Option<u64> {
        let (start, hz) = self.running?;
        Some(start + (self.ticks * 1_000_000_000 + hz / 2) / hz)
    }

    /// Whether ticks came up to `now`.
    fn advance(&mut self, now: u64) -> bool {
        let before = self.ticks;
        while self.next().is_some_and(|tick| tick <= now) {
            self.ticks += 1;
        }
        let came = self.ticks - before;
        if came > 0 {
            self.missed += came - 1 + u64::from(self.due);
        }
        came > 0
    }
}

#[derive(Debug)]
struct Queued {
    number: u32,
    bound_to: Option<u32>,
    put_at: u64,
}

#[derive(Debug)]
struct Request {
    id: usize,
    kind: Kind,
    deadline: Option<u64>,
    action: u32,
}

#[derive(Debug)]
struct InFlight {
    kind: Kind,
    /// The user's request, or none for the stream's.
    id: Option<usize>,
    deadline: Option<u64>,
    expired: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    window: usize,
    pending: usize,
    capacity: usize,
    pub(crate) max_age: Option<u64>,
    pub(crate) stream: Grid,
    pub(crate) dispatch: Grid,
    pub(crate) starved: u64,
    pub(crate) expired: u64,
    pub(crate) dropped: u64,
    pub(crate) latest: Option<u32>,
    pub(crate) told: VecDeque<Told>,
    pub(crate) ended: bool,
    queue: VecDeque<Queued>,
    urgent: VecDeque<Queued>,
    unsent: VecDeque<Request>,
    in_flight: VecDeque<InFlight>,
}

impl Reference {
    pub(crate) fn new(
        window: usize,
        pending: usize,
        capacity: usize,
        max_age: Option<u64>,
    ) -> Self {
        Self { window, pending, capacity, max_age, ..Self::default() }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Actions that wait for no tick.
    pub(crate) fn urgent(&self) -> usize {
        self.urgent.len()
    }

    /// The kind of the answer that is due.
    pub(crate) fn due(&self) -> Option<Kind> {
        self.in_flight.front().map(|request| request.kind)
    }

    pub(crate) fn advance(&mut self, now: u64) {
        if self.stream.advance(now) {
            self.stream.due = true;
        }
        if self.dispatch.advance(now) {
            self.drop_expired(now);
            self.dispatch.due = !self.queue.is_empty();
            self.starved += u64::from(self.queue.is_empty());
        }
        let over = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
        for request in &mut self.in_flight {
            if over(request.deadline) && !request.expired {
                request.expired = true;
                self.told.extend(request.id.map(Told::TimedOut));
            }
        }
        let expired = self.unsent.iter().filter(|request| over(request.deadline));
        self.told.extend(expired.map(|request| Told::TimedOut(request.id)));
        self.unsent.retain(|request| !over(request.deadline));
    }

    fn drop_expired(&mut self, now: u64) {
        let max_age = self.max_age.unwrap_or(u64::MAX);
        for queue in [&mut self.queue, &mut self.urgent] {
            let before = queue.len();
            queue.retain(|queued| now - queued.put_at <= max_age);
            self.expired += (before - queue.len()) as u64;
        }
    }

    /// False when there is no room for it.
    pub(crate) fn request(
        &mut self,
        id: usize,
        kind: Kind,
        deadline: Option<u64>,
        action: u32,
    ) -> bool {
        let room = !self.ended && self.unsent.len() + self.in_flight.len() < self.pending;
        if room {
            self.unsent.push_back(Request { id, kind, deadline, action });
        }
        if room && kind == Kind::Reset {
            // Nothing that was planned before it is sent any more.
            self.dropped += self.queue.len() as u64;
            self.queue.clear();
        }
        room
    }

    pub(crate) fn cancel(&mut self, now: u64, id: usize) -> bool {
        if self.ended {
            return false;
        }
        self.advance(now);
        let flying = self.in_flight.iter_mut().find(|r| r.id == Some(id) && !r.expired);
        let unsent = self.unsent.iter().position(|request| request.id == id);
        match (flying, unsent) {
            (Some(request), _) => request.expired = true,
            (_, Some(index)) => drop(self.unsent.remove(index)),
            _ => return false,
        }
        self.told.push_back(Told::TimedOut(id));
        true
    }

    pub(crate) fn start_stream(&mut self, now: u64, hz: u64) {
        self.stream.start(now, hz);
    }

    pub(crate) fn stop_stream(&mut self) {
        self.stream.stop();
    }

    pub(crate) fn start_dispatch(&mut self, now: u64, hz: u64) {
        self.dispatch.start(now, hz);
    }

    pub(crate) fn stop_dispatch(&mut self) {
        self.dispatch.stop();
    }

    /// False when they do not all fit.
    pub(crate) fn put(&mut self, now: u64, numbers: &[u32], bound_to: Option<u32>) -> bool {
        if self.ended {
            return false;
        }
        self.drop_expired(now);
        let fit = self.queue.len() + numbers.len() <= self.capacity;
        if fit {
            let queued = |&number| Queued { number, bound_to, put_at: now };
            self.queue.extend(numbers.iter().map(queued));
        }
        fit
    }

    /// How many made way; `None` when the new ones do not fit.
    pub(crate) fn replace(
        &mut self,
        now: u64,
        numbers: &[u32],
        bound_to: Option<u32>,
    ) -> Option<usize> {
        if self.ended {
            return None;
        }
        self.drop_expired(now);
        if numbers.len() > self.capacity {
            return None;
        }
        let dropped = self.queue.len();
        self.dropped += dropped as u64;
        self.queue.clear();
        self.put(now, numbers, bound_to);
        Some(dropped)
    }

    /// False when there is no room for it.
    pub(crate) fn send(&mut self, now: u64, number: u32) -> bool {
        if self.ended {
            return false;
        }
        self.drop_expired(now);
        let fits = self.urgent.len() < self.capacity;
        if fits {
            self.urgent.push_back(Queued { number, bound_to: None, put_at: now });
        }
        fits
    }

    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.queue.len() + self.urgent.len();
        self.dropped += dropped as u64;
        self.queue.clear();
        self.urgent.clear();
        dropped
    }

    /// Actions, then requests, then the stream.
    pub(crate) fn transmit(&mut self, now: u64) -> Option<Sent> {
        if self.ended {
            return None;
        }
        self.advance(now);
        self.drop_expired(now);
        if let Some(queued) = self.urgent.pop_front() {
            return Some(Sent::Action(queued.number, self.latest));
        }
        if std::mem::take(&mut self.dispatch.due) {
            match self.queue.pop_front() {
                Some(queued) => {
                    return Some(Sent::Action(queued.number, queued.bound_to.or(self.latest)));
                }
                None => self.starved += 1,
            }
        }
        if let Some(Request { id, kind, deadline, action }) = self.unsent.pop_front() {
            self.in_flight.push_back(InFlight { kind, id: Some(id), deadline, expired: false });
            return Some(match kind {
                Kind::Step => Sent::Step(action, self.latest),
                _ => Sent::Request(kind),
            });
        }
        let streaming = self.in_flight.iter().filter(|request| request.id.is_none()).count();
        let room = streaming < self.window && self.in_flight.len() < self.pending;
        if self.stream.due && room {
            self.stream.due = false;
            let kind = Kind::Observe;
            self.in_flight.push_back(InFlight { kind, id: None, deadline: None, expired: false });
            return Some(Sent::Request(kind));
        }
        None
    }

    /// The answer to the request that was sent first.
    pub(crate) fn answer(&mut self, now: u64, number: u32) {
        if self.ended {
            return;
        }
        self.advance(now);
        let request = self.in_flight.pop_front().expect("an answer only where one is due");
        if request.kind != Kind::Metadata {
            self.latest = Some(number);
        }
        match request.id {
            Some(_) if request.expired => {}
            Some(id) => self.told.push_back(Told::Answer(request.kind, id, number)),
            None => {
                self.told.retain(|told| !matches!(told, Told::Streamed(_)));
                self.told.push_back(Told::Streamed(number));
            }
        }
    }

    pub(crate) fn end(&mut self, now: u64) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.advance(now);
        self.stream.stop();
        self.dispatch.stop();
        self.clear();
        let flying = self.in_flight.drain(..).filter(|request| !request.expired);
        self.told.extend(flying.filter_map(|request| request.id).map(Told::Lost));
        self.told.extend(self.unsent.drain(..).map(|request| Told::Lost(request.id)));
        self.told.push_back(Told::Disconnected);
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        let flying = self.in_flight.iter().filter(|r| !r.expired).filter_map(|r| r.deadline);
        let unsent = self.unsent.iter().filter_map(|request| request.deadline);
        flying.chain(unsent).chain(self.stream.next()).chain(self.dispatch.next()).min()
    }
}
