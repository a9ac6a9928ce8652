//! Any sequence of valid and hostile messages, replies, dropped handles and times for a server: it
//! does not panic, sets no timer in the past, emits nothing after the end, stays within its limits,
//! emits actions in order and not across a reset, and answers in the order of the requests.
#![no_main]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use chiral_fuzz::machines::{
    Hostile, Kind, Time, action, epoch, metadata, number_of, observation, queue_bytes,
};
use chiral_proto::server::{
    ActionQueue, Answer, Config, Event, MetadataReply, ObserveReply, ReplyError, ResetReply,
    Server, StepReply,
};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{ConnectionError, ResetResult, StepResult};

#[derive(Debug, Arbitrary)]
struct Input {
    pending: u8,
    queue: Queue,
    watchdog: Option<Time>,
    ops: Vec<Op>,
    queue_bytes: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Queue {
    Latest,
    MaxAge(Time),
    InOrder(u8),
}

impl From<Queue> for ActionQueue {
    fn from(queue: Queue) -> Self {
        match queue {
            Queue::Latest => Self::Latest,
            Queue::MaxAge(time) => Self::MaxAge(time.into()),
            Queue::InOrder(capacity) => Self::InOrder { capacity: capacity.into() },
        }
    }
}

/// When an observation is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum When {
    Now,
    Sent,
    /// It is asked for again when it can be sent.
    Asked,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Act,
    Ask(Kind),
    Hear(Hostile),
    Wait(Time),
    /// Time passes without a call to `handle_timeout`.
    Oversleep(Time),
    Poll,
    PollAll,
    PollMotion,
    PollRequest,
    /// One of the handles is used.
    Reply(u8, When),
    /// One of the handles is given to another server.
    ReplyElsewhere(u8),
    Forget(u8),
    Transmit,
    TransmitAll,
    ShutDown(Time),
    Disconnect,
    Fail,
}

enum Handle {
    Metadata(MetadataReply),
    Reset(ResetReply),
    Observe(ObserveReply),
    Step(StepReply),
}

/// A request, from its arrival until its answer is sent.
struct Request {
    id: u32,
    kind: Kind,
    /// How many actions arrived before it.
    actions_before: u32,
    told: bool,
    answered: Option<u32>,
}

struct Robot {
    server: Server,
    config: Config,
    now: Instant,
    /// In order of arrival. After a hostile message it is unknown what arrived.
    requests: Option<VecDeque<Request>>,
    /// Each with its request, except for those that arrived after a hostile message.
    handles: Vec<(u32, Handle)>,
    asked: u32,
    actions: u32,
    last_action: Option<u32>,
    answers: u32,
    shutting_down: bool,
    told_end: bool,
}

impl Robot {
    fn new(input: &Input) -> Self {
        let config = Config {
            pending_replies: input.pending.into(),
            action_queue: input.queue.into(),
            queue_bytes: queue_bytes(input.queue_bytes),
            watchdog: input.watchdog.map(Duration::from),
            ..Config::default()
        };
        Self {
            server: Server::new(epoch(), config.clone()),
            config,
            now: epoch(),
            requests: Some(VecDeque::new()),
            handles: Vec::new(),
            asked: 0,
            actions: 0,
            last_action: None,
            answers: 0,
            shutting_down: false,
            told_end: false,
        }
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Act => {
                let message = ClientMessage::ApplyAction(action(self.actions));
                self.actions += 1;
                self.server.handle_message(self.now, message.encode().to_bytes());
            }
            Op::Ask(kind) => self.hears(kind),
            Op::Hear(hostile) => {
                let message = hostile.message(|kind| kind.request(0).encode());
                self.server.handle_message(self.now, message);
                self.requests = None;
            }
            Op::Wait(time) => {
                self.now += Duration::from(time);
                self.server.handle_timeout(self.now);
                self.assert_sleeps();
            }
            Op::Oversleep(time) => self.now += Duration::from(time),
            Op::Poll => drop(self.polls(Server::poll_event)),
            Op::PollAll => while self.polls(Server::poll_event) {},
            Op::PollMotion => drop(self.polls(Server::poll_motion)),
            Op::PollRequest => drop(self.polls(|server, _| server.poll_request())),
            Op::Reply(index, when) => self.replies(index, when),
            Op::ReplyElsewhere(index) => {
                if let Some((_, Handle::Observe(reply))) = self.take(index) {
                    let mut other = Server::new(self.now, Config::default());
                    let refused = other.reply_observation(reply, observation(0));
                    assert_eq!(refused, Err(ReplyError::ForeignHandle));
                }
            }
            Op::Forget(index) => drop(self.take(index)),
            Op::Transmit => drop(self.transmits()),
            Op::TransmitAll => {
                while self.transmits() {}
                self.server.handle_timeout(self.now);
                self.assert_sleeps();
            }
            Op::ShutDown(time) => {
                self.server.shut_down(self.now + Duration::from(time));
                self.shutting_down = true;
            }
            Op::Disconnect => {
                let lost = ConnectionError::Lost(String::new());
                self.server.handle_disconnect(self.now, lost);
            }
            Op::Fail => self.server.fail("stuck"),
        }
        self.assert_bounds();
    }

    fn hears(&mut self, kind: Kind) {
        let actions_before = self.actions;
        if kind == Kind::Step {
            self.actions += 1;
        }
        let message = kind.request(actions_before).encode().to_bytes();
        let ended = self.server.error().is_some();
        self.server.handle_message(self.now, message);
        if self.shutting_down || ended {
            return;
        }
        let limit = self.config.pending_replies;
        let Some(requests) = &mut self.requests else { return };
        if requests.len() >= limit {
            let expected = ConnectionError::TooManyRequests { limit };
            assert_eq!(self.server.error(), Some(&expected));
        } else if let Some(ConnectionError::TooManyBytes { limit }) = self.server.error() {
            // A step cannot be dropped. The default is more than an input can fill.
            assert_eq!((kind, *limit), (Kind::Step, self.config.queue_bytes));
            assert!(*limit < Config::default().queue_bytes);
        } else {
            assert_eq!(self.server.error(), None);
            let (id, told, answered) = (self.asked, false, None);
            self.asked += 1;
            requests.push_back(Request { id, kind, actions_before, told, answered });
        }
    }

    fn polls(&mut self, poll: impl Fn(&mut Server, Instant) -> Option<Event>) -> bool {
        let Some(event) = poll(&mut self.server, self.now) else { return false };
        assert!(!self.told_end, "{event:?} after the end");
        let ended = self.server.error().is_some();
        match event {
            Event::Action(action) => self.is_told_to_act(number_of(&action)),
            Event::Watchdog { silent_for } => {
                assert!(self.config.watchdog.is_some_and(|patience| silent_for >= patience));
            }
            Event::ActionsDropped { count, .. } => assert!(count > 0),
            Event::Disconnected(error) => {
                assert_eq!(self.server.error(), Some(&error));
                self.told_end = true;
            }
            Event::Metadata(reply) => self.is_told(Kind::Metadata, Handle::Metadata(reply)),
            Event::Reset(reply) => self.is_told(Kind::Reset, Handle::Reset(reply)),
            Event::Observe(reply) if reply.is_due() => self.is_asked_again(reply),
            Event::Observe(reply) => self.is_told(Kind::Observe, Handle::Observe(reply)),
            Event::Step(action, reply) => {
                self.is_told_to_act(number_of(&action));
                self.is_told(Kind::Step, Handle::Step(reply));
            }
            other => panic!("{other:?}"),
        }
        assert!(!ended || self.told_end, "the end is not the next event");
        true
    }

    fn is_told_to_act(&mut self, number: u32) {
        let Some(requests) = &self.requests else { return };
        assert!(self.last_action.is_none_or(|last| last < number), "actions out of order");
        self.last_action = Some(number);
        let barred = requests.iter().any(|request| {
            request.kind == Kind::Reset
                && request.answered.is_none()
                && request.actions_before <= number
        });
        assert!(!barred, "an action across a reset");
    }

    fn is_told(&mut self, kind: Kind, handle: Handle) {
        let Some(requests) = &mut self.requests else {
            return self.handles.push((u32::MAX, handle));
        };
        let next = requests.iter_mut().find(|request| !request.told).expect("one is waiting");
        assert_eq!(next.kind, kind);
        next.told = true;
        self.handles.push((next.id, handle));
    }

    fn is_asked_again(&mut self, reply: ObserveReply) {
        let id = match &self.requests {
            Some(requests) => {
                let first = requests.front().expect("one is waiting");
                assert_eq!((first.kind, first.answered), (Kind::Observe, None));
                first.id
            }
            None => u32::MAX,
        };
        self.handles.push((id, Handle::Observe(reply)));
    }

    fn take(&mut self, index: u8) -> Option<(u32, Handle)> {
        if self.handles.is_empty() {
            return None;
        }
        Some(self.handles.swap_remove(usize::from(index) % self.handles.len()))
    }

    fn replies(&mut self, index: u8, when: When) {
        let Some((id, handle)) = self.take(index) else { return };
        let number = self.answers;
        self.answers += 1;
        let server = &mut self.server;
        let seen = observation(number);
        let mut is_deferred = false;
        let answered = match handle {
            Handle::Metadata(reply) => server.reply_metadata(reply, metadata(number)),
            Handle::Reset(reply) => {
                let result = ResetResult { observation: seen, ..ResetResult::default() };
                server.reply_reset(reply, result)
            }
            Handle::Observe(reply) if when == When::Asked => {
                is_deferred = true;
                server.defer_observation(reply)
            }
            Handle::Observe(reply) if when == When::Sent => {
                server.reply_observation(reply, Answer::when_sent(move |_| seen))
            }
            Handle::Observe(reply) => server.reply_observation(reply, seen),
            Handle::Step(reply) => {
                let result = StepResult { observation: seen, ..StepResult::default() };
                server.reply_step(reply, result)
            }
        };
        assert_eq!(answered.is_ok(), server.error().is_none());
        if answered.is_ok()
            && !is_deferred
            && let Some(requests) = &mut self.requests
        {
            let request = requests.iter_mut().find(|request| request.id == id);
            request.expect("it waits for its answer").answered = Some(number);
        }
    }

    fn transmits(&mut self) -> bool {
        let Some(frame) = self.server.poll_transmit(self.now) else { return false };
        let message = ServerMessage::decode(&frame, &Limits::default()).expect("its own frame");
        if let Some(requests) = &mut self.requests {
            let next = requests.pop_front().expect("an answer to a request");
            let (kind, number) = Kind::of_answer(&message);
            assert_eq!((next.kind, next.answered), (kind, Some(number)));
        }
        true
    }

    fn assert_sleeps(&mut self) {
        if let Some(next) = self.server.poll_timeout() {
            assert!(next > self.now, "asks for a call in the past");
        }
    }

    fn assert_bounds(&mut self) {
        let Self { server, config, .. } = self;
        let waiting = self.requests.as_ref().map_or(0, VecDeque::len);
        assert!(waiting <= config.pending_replies);
        assert!(server.error().is_some() || self.handles.len() <= config.pending_replies);
        if server.error().is_some() {
            assert_eq!(server.poll_timeout(), None);
            assert!(server.poll_transmit(self.now).is_none());
            assert!(!server.has_request());
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut robot = Robot::new(&input);
    for op in input.ops {
        robot.does(op);
    }
    robot.server.close();
    while robot.polls(Server::poll_event) {}
    assert!(robot.told_end);
    assert!(!robot.server.has_motion());
});
