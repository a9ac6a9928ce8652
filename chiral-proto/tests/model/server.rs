//! The server does at every call what a plain list of arrivals says.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::server::{
    ActionQueue, Answer, Config, DropReason, Event, MetadataReply, ObserveReply, ResetReply,
    Server, StepReply,
};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::support::*;

#[derive(Debug, Clone)]
enum Op {
    Hear(What),
    Poll(Of),
    /// One of the handles is used.
    Reply(prop::sample::Index, When),
    Drop(prop::sample::Index),
    Transmit,
    /// In microseconds.
    Wait(u64),
    /// So many microseconds from now at the latest.
    ShutDown(u64),
    End,
}

/// When an observation is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Sent,
    /// It is asked for again when it can be sent.
    Asked,
}

/// Which of the polls is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Motion,
    Requests,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Action,
    Metadata,
    Reset,
    Observe,
    Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Waiting,
    Told,
    Deferred,
    /// Deferred, and to be told again.
    Due,
    Answered,
    /// An action that was told, an answer that left, or what will come to nothing.
    Over,
}

/// Everything that ever arrived; its number is its place in the list.
#[derive(Debug, Default)]
struct Arrivals {
    all: Vec<(What, State)>,
    /// When each came.
    times: Vec<u64>,
    queue: ActionQueue,
    pending: usize,
    timeout: Option<u64>,
    /// By reason, those that are to be told.
    untold_drops: Vec<(DropReason, u64)>,
    dropped: u64,
    armed_at: Option<u64>,
    alarm: Option<u64>,
    shut_down_by: Option<u64>,
    abandoned: bool,
    ended: bool,
    end_told: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Thing(What, usize),
    Dropped(DropReason, u64),
    Watchdog(u64),
    Disconnected,
}

fn is_waiting_action(what: What, state: State) -> bool {
    what == What::Action && state == State::Waiting
}

fn is_barrier(what: What) -> bool {
    matches!(what, What::Reset | What::Step)
}

impl Arrivals {
    fn find(&self, of: impl Fn(What, State) -> bool) -> Option<usize> {
        self.all.iter().position(|&(what, state)| of(what, state))
    }

    fn count(&self, of: impl Fn(What, State) -> bool) -> usize {
        self.all.iter().filter(|&&(what, state)| of(what, state)).count()
    }

    fn push(&mut self, now: u64, what: What, state: State) {
        self.all.push((what, state));
        self.times.push(now);
    }

    fn drop_action(&mut self, number: usize, reason: DropReason) {
        self.all[number].1 = State::Over;
        self.dropped += 1;
        match self.untold_drops.iter_mut().find(|(told, _)| *told == reason) {
            Some((_, count)) => *count += 1,
            None => self.untold_drops.push((reason, 1)),
        }
    }

    fn hear(&mut self, now: u64, what: What) {
        self.wait(now);
        if self.ended {
            return;
        }
        if what != What::Action && self.shut_down_by.is_some() {
            return self.push(now, what, State::Over);
        }
        let pending = self.count(|what, state| what != What::Action && state != State::Over);
        if what != What::Action && pending >= self.pending {
            return self.end();
        }
        match what {
            What::Action => (self.armed_at, self.alarm) = (Some(now), None),
            What::Reset | What::Step => (self.armed_at, self.alarm) = (None, None),
            What::Metadata | What::Observe => {}
        }
        if what == What::Action && self.queue == ActionQueue::Latest {
            let untold = |&(what, state): &(What, State)| {
                state == State::Waiting && (what == What::Action || is_barrier(what))
            };
            if let Some(last) = self.all.iter().rposition(untold)
                && self.all[last].0 == What::Action
            {
                self.drop_action(last, DropReason::Superseded);
            }
        }
        self.push(now, what, State::Waiting);
    }

    fn resetting(&self) -> bool {
        self.find(|what, state| what == What::Reset && state < State::Answered).is_some()
    }

    fn wait(&mut self, now: u64) {
        if self.shut_down_by.is_some_and(|deadline| deadline <= now) {
            self.end();
        }
        if self.ended {
            return;
        }
        while self.expires().is_some_and(|expires| expires <= now) {
            let oldest = self.find(is_waiting_action).expect("it expires");
            self.drop_action(oldest, DropReason::TooOld);
        }
        if let (Some(armed), Some(timeout)) = (self.armed_at, self.timeout)
            && armed + timeout <= now
            && !self.resetting()
        {
            self.alarm = Some(now - armed);
            self.armed_at = None;
        }
    }

    /// When the next action will have waited too long.
    fn expires(&self) -> Option<u64> {
        let ActionQueue::MaxAge(max_age) = self.queue else { return None };
        Some(self.times[self.find(is_waiting_action)?] + max_age.as_nanos() as u64)
    }

    fn next_timeout(&self) -> Option<u64> {
        if self.ended {
            return None;
        }
        let fires = (!self.resetting()).then(|| Some(self.armed_at? + self.timeout?)).flatten();
        [fires, self.expires(), self.shut_down_by].into_iter().flatten().min()
    }

    fn poll(&mut self, of: Of) -> Option<Told> {
        self.notice();
        let motion = if of == Of::Requests { None } else { self.poll_motion() };
        if of == Of::Motion { motion } else { motion.or_else(|| self.poll_request()) }
    }

    fn poll_motion(&mut self) -> Option<Told> {
        if self.ended {
            let is_news = !std::mem::replace(&mut self.end_told, true);
            return is_news.then_some(Told::Disconnected);
        }
        let barrier = |what, state| match what {
            What::Reset => state < State::Answered,
            What::Step => state == State::Waiting,
            _ => false,
        };
        let barrier = self.find(barrier).unwrap_or(usize::MAX);
        let action = self.find(is_waiting_action);
        if let Some(action) = action.filter(|action| *action < barrier) {
            self.all[action].1 = State::Over;
            return Some(Told::Thing(What::Action, action));
        }
        if let Some(silence) = self.alarm.take() {
            return Some(Told::Watchdog(silence));
        }
        if self.untold_drops.is_empty() {
            return None;
        }
        let (reason, count) = self.untold_drops.remove(0);
        Some(Told::Dropped(reason, count))
    }

    fn poll_request(&mut self) -> Option<Told> {
        if let Some(due) = self.find(|_, state| state == State::Due) {
            self.all[due].1 = State::Told;
            return Some(Told::Thing(What::Observe, due));
        }
        if self.find(|what, state| is_barrier(what) && state == State::Told).is_some() {
            return None;
        }
        let request = self.find(|what, state| what != What::Action && state == State::Waiting)?;
        let action = self.find(is_waiting_action);
        if is_barrier(self.all[request].0) && action.is_some_and(|action| action < request) {
            return None;
        }
        self.all[request].1 = State::Told;
        Some(Told::Thing(self.all[request].0, request))
    }

    fn transmit(&mut self, now: u64) -> Option<usize> {
        self.wait(now);
        self.notice();
        let next = self.find(|what, state| what != What::Action && state != State::Over);
        if next.is_none() && self.shut_down_by.is_some() {
            self.end();
        }
        let next = next?;
        if self.all[next].1 == State::Deferred {
            self.all[next].1 = State::Due;
        }
        if self.all[next].1 != State::Answered {
            return None;
        }
        self.all[next].1 = State::Over;
        let barrier = |what, state| is_barrier(what) && state < State::Answered;
        if is_barrier(self.all[next].0) && self.find(barrier).is_none() {
            self.armed_at.get_or_insert(now);
        }
        Some(next)
    }

    fn notice(&mut self) {
        if self.abandoned {
            self.end();
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let untold =
            |what, state| state == State::Waiting && (what == What::Action || what == What::Step);
        self.dropped += self.count(untold) as u64;
        self.all.iter_mut().for_each(|(_, state)| *state = State::Over);
    }
}

enum Handle {
    Metadata(MetadataReply),
    Reset(ResetReply),
    Observe(ObserveReply),
    Step(StepReply),
}

struct Run {
    server: Server,
    arrivals: Arrivals,
    handles: Vec<(usize, Handle)>,
    start: Instant,
    now: u64,
}

impl Run {
    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.now)
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Hear(what) => self.hear(*what),
            Op::Poll(of) => drop(self.poll(*of)?),
            Op::Reply(index, when) if !self.handles.is_empty() => {
                let (number, handle) = self.handles.remove(index.index(self.handles.len()));
                self.reply(number, handle, *when)?;
            }
            Op::Drop(index) if !self.handles.is_empty() => {
                self.handles.remove(index.index(self.handles.len()));
                self.arrivals.abandoned = true;
            }
            Op::Reply(..) | Op::Drop(_) => {}
            Op::Transmit => drop(self.transmit()?),
            Op::Wait(micros) => {
                self.now += micros * 1000;
                self.server.handle_timeout(self.now());
                self.arrivals.wait(self.now);
            }
            Op::ShutDown(micros) => {
                let deadline = self.now + micros * 1000;
                self.server.shut_down(self.start + Duration::from_nanos(deadline));
                self.arrivals.shut_down_by = Some(deadline);
            }
            Op::End => {
                self.server.handle_disconnect(self.now(), ConnectionError::Lost(String::new()));
                self.arrivals.end();
            }
        }
        let timeout = self.server.poll_timeout().map(|at| at.duration_since(self.start));
        prop_assert_eq!(timeout, self.arrivals.next_timeout().map(Duration::from_nanos));
        prop_assert_eq!(self.server.error().is_some(), self.arrivals.ended);
        prop_assert_eq!(self.server.stats().actions_dropped.total(), self.arrivals.dropped);
        Ok(())
    }

    fn hear(&mut self, what: What) {
        let number = self.arrivals.all.len() as u32;
        let message = match what {
            What::Action => ClientMessage::ApplyAction(action(number)),
            What::Metadata => ClientMessage::Metadata,
            What::Reset => ClientMessage::Reset,
            What::Observe => ClientMessage::Observe,
            What::Step => ClientMessage::Step(action(number)),
        };
        self.server.handle_message(self.now(), message.encode().to_bytes());
        self.arrivals.hear(self.now, what);
    }

    /// Whether something was told.
    fn poll(&mut self, of: Of) -> Result<bool, TestCaseError> {
        let now = self.now();
        let server = &mut self.server;
        let (announced, event) = match of {
            Of::Motion => (server.has_motion(), server.poll_motion(now)),
            Of::Requests => (server.has_request(), server.poll_request()),
            Of::All => (server.has_motion() || server.has_request(), server.poll_event(now)),
        };
        // A handle that was dropped is noticed by polling.
        prop_assert!(announced == event.is_some() || self.arrivals.abandoned);
        let expected = self.arrivals.poll(of);
        // Requests bear no number: which one was told shows when its answer leaves.
        let number = match expected {
            Some(Told::Thing(_, number)) => number,
            _ => usize::MAX,
        };
        let (told, handle) = match event {
            None => (None, None),
            Some(Event::Action(action)) => {
                (Some(Told::Thing(What::Action, number_of(&action) as usize)), None)
            }
            Some(Event::Metadata(reply)) => {
                (Some(Told::Thing(What::Metadata, number)), Some(Handle::Metadata(reply)))
            }
            Some(Event::Reset(reply)) => {
                (Some(Told::Thing(What::Reset, number)), Some(Handle::Reset(reply)))
            }
            Some(Event::Observe(reply)) => {
                (Some(Told::Thing(What::Observe, number)), Some(Handle::Observe(reply)))
            }
            Some(Event::Step(action, reply)) => {
                let told = Told::Thing(What::Step, number_of(&action) as usize);
                (Some(told), Some(Handle::Step(reply)))
            }
            Some(Event::Watchdog { silent_for }) => {
                (Some(Told::Watchdog(silent_for.as_nanos() as u64)), None)
            }
            Some(Event::ActionsDropped { count, reason }) => {
                (Some(Told::Dropped(reason, count)), None)
            }
            Some(Event::Disconnected(_)) => (Some(Told::Disconnected), None),
            Some(other) => panic!("{other:?}"),
        };
        prop_assert_eq!(&told, &expected);
        self.handles.extend(handle.map(|handle| (number, handle)));
        Ok(told.is_some())
    }

    fn reply(&mut self, number: usize, handle: Handle, when: When) -> Result<(), TestCaseError> {
        let server = &mut self.server;
        let n = number as u32;
        let mut is_deferred = false;
        let answered = match handle {
            Handle::Metadata(reply) => server.reply_metadata(reply, metadata(n)),
            Handle::Reset(reply) => server.reply_reset(reply, reset(n)),
            Handle::Step(reply) => server.reply_step(reply, step(n)),
            Handle::Observe(reply) if when == When::Asked => {
                is_deferred = true;
                server.defer_observation(reply)
            }
            Handle::Observe(reply) if when == When::Sent => {
                server.reply_observation(reply, Answer::when_sent(move |_| observation(n)))
            }
            Handle::Observe(reply) => server.reply_observation(reply, observation(n)),
        };
        prop_assert_eq!(answered.is_ok(), !self.arrivals.ended);
        if answered.is_ok() {
            self.arrivals.all[number].1 =
                if is_deferred { State::Deferred } else { State::Answered };
        }
        Ok(())
    }

    /// Sends what there is. Whether a request is to be told again.
    fn recall(&mut self) -> Result<bool, TestCaseError> {
        while self.transmit()? {}
        Ok(self.server.has_request())
    }

    /// Whether something was sent.
    fn transmit(&mut self) -> Result<bool, TestCaseError> {
        let may = self.server.has_transmit();
        let frame = self.server.poll_transmit(self.now());
        assert!(may || frame.is_none(), "{frame:?} came unannounced");
        let sent = frame.map(|frame| {
            ServerMessage::decode(&frame, &Limits::default()).expect("the server's own frame")
        });
        let expected = self.arrivals.transmit(self.now).map(|number| {
            let n = number as u32;
            match self.arrivals.all[number].0 {
                What::Metadata => ServerMessage::Metadata(metadata(n)),
                What::Reset => ServerMessage::Reset(reset(n)),
                What::Observe => ServerMessage::Observation(observation(n)),
                What::Step => ServerMessage::Step(step(n)),
                What::Action => unreachable!("nothing answers an action"),
            }
        });
        prop_assert_eq!(&sent, &expected);
        Ok(sent.is_some())
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let what = prop_oneof![
        6 => Just(What::Action),
        1 => Just(What::Metadata),
        1 => Just(What::Reset),
        3 => Just(What::Observe),
        1 => Just(What::Step),
    ];
    let when = prop::sample::select(&[When::Now, When::Sent, When::Asked][..]);
    let index = any::<prop::sample::Index>;
    let rarely = |share, op: Op| {
        prop::bool::weighted(share)
            .prop_map(move |rare| if rare { op.clone() } else { Op::Poll(Of::All) })
    };
    let op = prop_oneof![
        12 => what.prop_map(Op::Hear),
        6 => Just(Op::Poll(Of::All)),
        4 => Just(Op::Poll(Of::Motion)),
        4 => Just(Op::Poll(Of::Requests)),
        8 => (index(), when).prop_map(|(index, when)| Op::Reply(index, when)),
        6 => Just(Op::Transmit),
        4 => (0_u64..80_000).prop_map(Op::Wait),
        1 => index().prop_flat_map(move |index| rarely(0.1, Op::Drop(index))),
        1 => rarely(0.1, Op::End),
        1 => (0_u64..200_000).prop_flat_map(move |within| rarely(0.1, Op::ShutDown(within))),
    ];
    vec(op, 1..150)
}

fn queue() -> impl Strategy<Value = ActionQueue> {
    prop_oneof![
        Just(ActionQueue::Latest),
        (1_u64..100_000).prop_map(|micros| ActionQueue::MaxAge(Duration::from_micros(micros))),
        Just(ActionQueue::InOrder { capacity: 3 }),
    ]
}

proptest! {
    #![proptest_config(crate::cases(1024))]

    #[test]
    fn the_server_matches_the_reference_model(
        ops in ops(),
        pending in 1_usize..40,
        queue in queue(),
        timeout in option::of(1_u64..100_000_000),
    ) {
        let config = Config {
            pending_replies: pending,
            action_queue: queue,
            watchdog: timeout.map(Duration::from_nanos),
            ..Config::default()
        };
        let start = start();
        let mut run = Run {
            server: Server::new(start, config),
            arrivals: Arrivals { queue, pending, timeout, armed_at: Some(0), ..Arrivals::default() },
            handles: Vec::new(),
            start,
            now: 0,
        };
        for op in &ops {
            run.apply(op)?;
        }
        // Everything that can be told, answered and sent still is, in its order.
        while run.poll(Of::All)? || !run.handles.is_empty() || run.recall()? {
            if !run.handles.is_empty() {
                let (number, handle) = run.handles.remove(0);
                run.reply(number, handle, When::Now)?;
            }
        }
        let untold = run.arrivals.count(|_, state| state != State::Over);
        prop_assert!(run.arrivals.ended || untold == 0, "{untold} came to nothing");
    }
}
