//! The server does at every call what a plain list of arrivals says.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::server::{
    Answer, Config, Event, MetadataReply, ObserveReply, ResetReply, Server, StepReply,
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
    /// One of the handles is used, the answer taken late or not.
    Reply(prop::sample::Index, bool),
    Drop(prop::sample::Index),
    Transmit,
    /// In microseconds.
    Wait(u64),
    /// So many microseconds from now at the latest.
    ShutDown(u64),
    End,
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
    Answered,
    /// An action that was told, an answer that left, or what will come to nothing.
    Over,
}

/// Everything that ever arrived; its number is its place in the list.
#[derive(Debug, Default)]
struct Arrivals {
    all: Vec<(What, State)>,
    backlog: usize,
    pending: usize,
    patience: Option<u64>,
    dropped: u64,
    armed_at: Option<u64>,
    alarm: Option<u64>,
    shut_down_by: Option<u64>,
    abandoned: bool,
    ended: bool,
    end_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Thing(What, usize),
    Watchdog(u64),
    Disconnected,
}

impl Arrivals {
    fn find(&self, of: impl Fn(What, State) -> bool) -> Option<usize> {
        self.all.iter().position(|&(what, state)| of(what, state))
    }

    fn count(&self, of: impl Fn(What, State) -> bool) -> usize {
        self.all.iter().filter(|&&(what, state)| of(what, state)).count()
    }

    fn hear(&mut self, now: u64, what: What) {
        if self.ended {
            return;
        }
        if what != What::Action && self.shut_down_by.is_some() {
            return self.all.push((what, State::Over));
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
        self.all.push((what, State::Waiting));
        let waiting = |what, state| what == What::Action && state == State::Waiting;
        while self.count(waiting) > self.backlog {
            let oldest = self.find(waiting).expect("one waits");
            self.all[oldest].1 = State::Over;
            self.dropped += 1;
        }
    }

    fn resetting(&self) -> bool {
        self.find(|what, state| what == What::Reset && state < State::Answered).is_some()
    }

    fn wait(&mut self, now: u64) {
        if self.shut_down_by.is_some_and(|deadline| deadline <= now) {
            self.end();
        }
        if self.ended || self.resetting() {
            return;
        }
        if let (Some(armed), Some(patience)) = (self.armed_at, self.patience)
            && armed + patience <= now
        {
            self.alarm = Some(now - armed);
            self.armed_at = None;
        }
    }

    fn next_timeout(&self) -> Option<u64> {
        if self.ended {
            return None;
        }
        let barks = (!self.resetting()).then(|| Some(self.armed_at? + self.patience?)).flatten();
        barks.into_iter().chain(self.shut_down_by).min()
    }

    fn poll(&mut self, of: Of) -> Option<Told> {
        self.notice();
        let motion = if of == Of::Requests { None } else { self.poll_motion() };
        if of == Of::Motion { motion } else { motion.or_else(|| self.poll_request()) }
    }

    fn poll_motion(&mut self) -> Option<Told> {
        let barrier = |what, state| match what {
            What::Reset => state < State::Answered,
            What::Step => state == State::Waiting,
            _ => false,
        };
        let barrier = self.find(barrier).filter(|_| !self.ended).unwrap_or(usize::MAX);
        let action = self.find(|what, state| what == What::Action && state == State::Waiting);
        if let Some(action) = action.filter(|action| *action < barrier) {
            self.all[action].1 = State::Over;
            return Some(Told::Thing(What::Action, action));
        }
        if let Some(silence) = self.alarm.take() {
            return Some(Told::Watchdog(silence));
        }
        let tell_end = self.ended && !std::mem::replace(&mut self.end_told, self.ended);
        tell_end.then_some(Told::Disconnected)
    }

    fn poll_request(&mut self) -> Option<Told> {
        let is_work = |what| matches!(what, What::Reset | What::Step);
        if self.find(|what, state| is_work(what) && state == State::Told).is_some() {
            return None;
        }
        let request = self.find(|what, state| what != What::Action && state == State::Waiting)?;
        let action = self.find(|what, state| what == What::Action && state == State::Waiting);
        if is_work(self.all[request].0) && action.is_some_and(|action| action < request) {
            return None;
        }
        self.all[request].1 = State::Told;
        Some(Told::Thing(self.all[request].0, request))
    }

    fn transmit(&mut self, now: u64) -> Option<usize> {
        self.notice();
        let next = self.find(|what, state| what != What::Action && state != State::Over);
        if next.is_none() && self.shut_down_by.is_some() {
            self.end();
        }
        let next = next?;
        if self.all[next].1 != State::Answered {
            return None;
        }
        self.all[next].1 = State::Over;
        if self.all[next].0 == What::Step && !self.resetting() {
            self.armed_at = Some(now);
            self.alarm = None;
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
        let reset = self.find(|what, state| what == What::Reset && state < State::Answered);
        let void = reset.unwrap_or(usize::MAX);
        for (index, (what, state)) in self.all.iter_mut().enumerate() {
            let untold = *state == State::Waiting;
            if untold && ((*what == What::Action && index > void) || *what == What::Step) {
                self.dropped += 1;
            }
            if *what != What::Action || index > void {
                *state = State::Over;
            }
        }
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
            Op::Reply(index, late) if !self.handles.is_empty() => {
                let (number, handle) = self.handles.remove(index.index(self.handles.len()));
                self.reply(number, handle, *late)?;
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
        prop_assert_eq!(self.server.stats().actions_dropped, self.arrivals.dropped);
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
        let server = &mut self.server;
        let (announced, event) = match of {
            Of::Motion => (server.has_motion(), server.poll_motion()),
            Of::Requests => (server.has_request(), server.poll_request()),
            Of::All => (server.has_motion() || server.has_request(), server.poll_event()),
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
            Some(Event::Disconnected(_)) => (Some(Told::Disconnected), None),
        };
        prop_assert_eq!(told, expected);
        self.handles.extend(handle.map(|handle| (number, handle)));
        Ok(told.is_some())
    }

    fn reply(&mut self, number: usize, handle: Handle, late: bool) -> Result<(), TestCaseError> {
        let server = &mut self.server;
        let n = number as u32;
        let answered = match handle {
            Handle::Metadata(reply) => server.reply_metadata(reply, metadata(n)),
            Handle::Reset(reply) => server.reply_reset(reply, reset(n)),
            Handle::Step(reply) => server.reply_step(reply, step(n)),
            Handle::Observe(reply) if late => {
                server.reply_observation(reply, Answer::when_sent(move |_| observation(n)))
            }
            Handle::Observe(reply) => server.reply_observation(reply, observation(n)),
        };
        prop_assert_eq!(answered.is_ok(), !self.arrivals.ended);
        if answered.is_ok() {
            self.arrivals.all[number].1 = State::Answered;
        }
        Ok(())
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
        8 => (index(), any::<bool>()).prop_map(|(index, late)| Op::Reply(index, late)),
        6 => Just(Op::Transmit),
        4 => (0_u64..80_000).prop_map(Op::Wait),
        1 => index().prop_flat_map(move |index| rarely(0.1, Op::Drop(index))),
        1 => rarely(0.1, Op::End),
        1 => (0_u64..200_000).prop_flat_map(move |within| rarely(0.1, Op::ShutDown(within))),
    ];
    vec(op, 1..150)
}

proptest! {
    #![proptest_config(crate::cases(1024))]

    #[test]
    fn the_server_does_as_the_list_of_arrivals_says(
        ops in ops(),
        pending in 1_usize..40,
        backlog in 1_usize..10,
        patience in option::of(1_u64..100_000_000),
    ) {
        let config = Config {
            pending_replies: pending,
            action_backlog: backlog,
            watchdog: patience.map(Duration::from_nanos),
            ..Config::default()
        };
        let mut run = Run {
            server: Server::new(config),
            arrivals: Arrivals { backlog, pending, patience, ..Arrivals::default() },
            handles: Vec::new(),
            start: start(),
            now: 0,
        };
        for op in &ops {
            run.apply(op)?;
        }
        // Everything that can be told, answered and sent still is, in its order.
        while run.poll(Of::All)? || !run.handles.is_empty() {
            if !run.handles.is_empty() {
                let (number, handle) = run.handles.remove(0);
                run.reply(number, handle, false)?;
            }
        }
        while run.transmit()? {}
        let untold = run.arrivals.count(|_, state| state != State::Over);
        prop_assert!(run.arrivals.ended || untold == 0, "{untold} came to nothing");
    }
}
