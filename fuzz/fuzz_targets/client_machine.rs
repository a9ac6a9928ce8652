//! Any sequence of commands, valid answers, hostile messages and times for a client: it does not
//! panic, sets no timer in the past, emits nothing after the end, stays within its limits, sends no
//! action late or twice, and matches no answer to the wrong request.
#![no_main]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use chiral_fuzz::machines::{
    Hostile, Kind, Time, action, epoch, hz, number_of, number_of_metadata, observation,
};
use chiral_proto::client::{Client, Config, Event, Lossy, RequestKey};
use chiral_proto::wire::{ClientMessage, Limits};
use chiral_proto::{Action, ConnectionError};

#[derive(Debug, Arbitrary)]
struct Input {
    window: u8,
    pending: u8,
    capacity: u8,
    max_age: Option<Time>,
    /// Retry and linger.
    lossy: Option<[Time; 2]>,
    request_timeout: Option<Time>,
    motion_timeout: Option<Time>,
    silence: Option<Time>,
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Wait(Time),
    /// Time passes without a call to `handle_timeout`.
    Oversleep(Time),
    Request(Kind, Option<Time>),
    Cancel(u8),
    Stream(Option<u16>),
    Dispatch(Option<u16>),
    Put,
    Send,
    PutChunk(u8),
    Replace(u8),
    Clear,
    /// The transport takes a frame.
    Transmit,
    /// The transport takes all frames.
    TransmitAll,
    /// The robot answers the oldest request.
    Answer,
    /// The robot sends an answer that may not have been asked for.
    Unasked(Kind),
    Hear(Hostile),
    /// Bytes come that are no whole message.
    Activity,
    Poll,
    PollAll,
    Disconnect,
    Close,
}

struct Policy {
    client: Client,
    config: Config,
    now: Instant,
    /// All requests that were made; the kind is `None` once a request is finished.
    made: Vec<(RequestKey, Option<Kind>)>,
    /// Requests that the robot has not answered.
    asked: VecDeque<Kind>,
    /// The kind of each answer, by its number.
    answers: Vec<Kind>,
    /// The number of the last answer that was emitted.
    last_told: Option<u32>,
    /// A hostile message was received: later events may be caused by it.
    deceived: bool,
    /// The robot answered out of turn, and may have passed over requests that are overdue.
    out_of_turn: bool,
    /// When each action was queued, by its number, and whether it was sent.
    put: Vec<(Instant, bool)>,
    steps: Vec<u32>,
    resets: usize,
    /// The end was emitted.
    told_end: bool,
}

impl Policy {
    fn new(input: &Input) -> Self {
        let lossy = input.lossy.map(|[retry_after, linger]| Lossy {
            retry_after: retry_after.into(),
            linger: linger.into(),
        });
        let config = Config {
            stream_window: input.window.into(),
            pending_requests: input.pending.into(),
            queue_capacity: input.capacity.into(),
            max_age: input.max_age.map(Duration::from),
            limits: Limits { frame_len: 1 << 20, ..Limits::default() },
            lossy,
            request_timeout: input.request_timeout.map(Duration::from),
            motion_timeout: input.motion_timeout.map(Duration::from),
            silence: input.silence.map(Duration::from),
            ..Config::default()
        };
        Self {
            client: Client::new(config.clone()),
            config,
            now: epoch(),
            made: Vec::new(),
            asked: VecDeque::new(),
            answers: Vec::new(),
            last_told: None,
            deceived: false,
            out_of_turn: false,
            put: Vec::new(),
            steps: Vec::new(),
            resets: 0,
            told_end: false,
        }
    }

    fn does(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Wait(time) => {
                self.now += Duration::from(time);
                self.client.handle_timeout(self.now);
                self.assert_sleeps();
            }
            Op::Oversleep(time) => self.now += Duration::from(time),
            Op::Request(kind, within) => self.asks(kind, within),
            Op::Cancel(index) => {
                if let Some((id, kind)) = self.made.get(usize::from(index)) {
                    assert!(!self.client.cancel(now, *id) || kind.is_some());
                }
            }
            Op::Stream(None) => self.client.stop_obs_stream(),
            Op::Stream(Some(rate)) => {
                let started = self.client.start_obs_stream(now, hz(rate));
                assert_eq!(started.is_ok(), self.client.error().is_none());
            }
            Op::Dispatch(None) => self.client.stop_action_dispatch(),
            Op::Dispatch(Some(rate)) => {
                let started = self.client.start_action_dispatch(now, hz(rate));
                assert_eq!(started.is_ok(), self.client.error().is_none());
            }
            Op::Put => {
                self.puts(1, |client, mut plan| client.put_action(now, plan.remove(0)).is_ok())
            }
            Op::Send => {
                self.puts(1, |client, mut plan| client.send_action(now, plan.remove(0)).is_ok())
            }
            Op::PutChunk(count) => self
                .puts(count, |client, plan| client.put_chunk(now, &observation(0), plan).is_ok()),
            Op::Replace(count) => self.puts(count, |client, plan| {
                client.replace_actions(now, &observation(0), plan).is_ok()
            }),
            Op::Clear => drop(self.client.clear_actions()),
            Op::Transmit => drop(self.transmits()),
            Op::TransmitAll => {
                let most = self.config.pending_requests + self.config.queue_capacity + 2;
                let frames = (0..).take_while(|_| self.transmits()).count();
                assert!(frames <= most, "{frames} frames at once");
                self.assert_sleeps();
            }
            Op::Answer => {
                if let Some(kind) = self.asked.pop_front() {
                    let before = self.client.error().cloned();
                    self.hears_answer(kind);
                    let surely = self.config.lossy.is_none() && !self.deceived && !self.out_of_turn;
                    assert!(!surely || self.client.error() == before.as_ref());
                }
            }
            Op::Unasked(kind) => {
                self.out_of_turn |= self.asked.pop_front_if(|asked| *asked == kind).is_none();
                self.hears_answer(kind);
            }
            Op::Hear(hostile) => {
                let message = hostile.message(|kind| kind.answer(0).encode());
                self.client.handle_message(now, message);
                self.deceived = true;
            }
            Op::Activity => self.client.note_activity(now),
            Op::Poll => drop(self.polls()),
            Op::PollAll => while self.polls() {},
            Op::Disconnect => {
                self.client.handle_disconnect(now, ConnectionError::Lost(String::new()));
            }
            Op::Close => self.client.close(now),
        }
        self.assert_bounds();
    }

    fn asks(&mut self, kind: Kind, within: Option<Time>) {
        let now = self.now;
        let by = within.map(|within| now + Duration::from(within));
        let client = &mut self.client;
        let number = self.made.len() as u32;
        let id = match kind {
            Kind::Metadata => client.request_metadata(now, by).map(RequestKey::from),
            Kind::Reset => client.request_reset(now, by).map(RequestKey::from),
            Kind::Observe => client.request_observation(now, by).map(RequestKey::from),
            Kind::Step => client.request_step(now, action(number), by).map(RequestKey::from),
        };
        self.made.extend(id.map(|id| (id, Some(kind))));
    }

    fn puts(&mut self, count: u8, put: impl FnOnce(&mut Client, Vec<Action>) -> bool) {
        let first = self.put.len() as u32;
        let plan = (first..).take(count.into()).map(action).collect();
        if put(&mut self.client, plan) {
            self.put.extend((0..count).map(|_| (self.now, false)));
        }
    }

    fn transmits(&mut self) -> bool {
        let Some(frame) = self.client.poll_transmit(self.now) else { return false };
        let message = ClientMessage::decode(&frame, &Limits::default()).expect("its own frame");
        match message {
            ClientMessage::ApplyAction(action) => {
                let (put, left) = &mut self.put[number_of(&action) as usize];
                assert!(!std::mem::replace(left, true), "an action left twice");
                let age = self.now.duration_since(*put);
                assert!(self.config.max_age.is_none_or(|max_age| age <= max_age), "{age:?} old");
            }
            ClientMessage::Metadata => self.asked.push_back(Kind::Metadata),
            ClientMessage::Observe => self.asked.push_back(Kind::Observe),
            ClientMessage::Reset => {
                self.resets += 1;
                self.asked.push_back(Kind::Reset);
            }
            ClientMessage::Step(action) => {
                let number = number_of(&action);
                assert!(!self.steps.contains(&number), "a step left twice");
                self.steps.push(number);
                self.asked.push_back(Kind::Step);
            }
            other => panic!("a {} is not known here", other.message_type()),
        }
        true
    }

    fn hears_answer(&mut self, kind: Kind) {
        let number = self.answers.len() as u32;
        self.answers.push(kind);
        self.client.handle_message(self.now, kind.answer(number).encode().to_bytes());
    }

    fn polls(&mut self) -> bool {
        let Some(event) = self.client.poll_event() else { return false };
        assert!(!self.told_end, "{event:?} after the end");
        match event {
            Event::Metadata { id, metadata } => {
                assert_eq!(self.over(id.key()), Kind::Metadata);
                self.told(Kind::Metadata, || number_of_metadata(&metadata));
            }
            Event::Reset { id, result } => {
                assert_eq!(self.over(id.key()), Kind::Reset);
                self.told(Kind::Reset, || result.observation.timestamp as u32);
            }
            Event::Observation { id, observation } => {
                assert_eq!(self.over(id.key()), Kind::Observe);
                self.told(Kind::Observe, || observation.timestamp as u32);
            }
            Event::Step { id, result } => {
                assert_eq!(self.over(id.key()), Kind::Step);
                self.told(Kind::Step, || result.observation.timestamp as u32);
            }
            Event::Streamed(observation) => {
                self.told(Kind::Observe, || observation.timestamp as u32);
            }
            Event::Failed { id, .. } => drop(self.over(id)),
            Event::StreamTimedOut(_) => assert!(self.config.request_timeout.is_some()),
            Event::Silent { silent_for } => {
                assert!(self.config.silence.is_some_and(|silence| silent_for >= silence));
            }
            Event::Resumed { .. } => assert!(self.config.silence.is_some()),
            Event::Undispatched { queued } => {
                assert!(self.config.undispatched.is_some() && queued > 0);
            }
            Event::CameraStalled { unchanged_for, .. } => {
                assert!(self.config.camera_stall.is_some_and(|stall| unchanged_for >= stall));
            }
            Event::CameraResumed { .. } => assert!(self.config.camera_stall.is_some()),
            Event::ContractChanged { before, after } => assert_ne!(before, after),
            Event::Disconnected(error) => {
                assert_eq!(self.client.error(), Some(&error));
                self.told_end = true;
                let open = self.made.iter().filter(|(_, open)| open.is_some()).count();
                assert_eq!(open, 0, "requests without an end");
            }
            other => panic!("{other:?} is not known here"),
        }
        true
    }

    fn over(&mut self, id: RequestKey) -> Kind {
        let made = self.made.iter_mut().find(|(made, _)| *made == id);
        made.expect("a request that was made").1.take().expect("a request comes to one end")
    }

    /// Answers are emitted with their kind, once, and in order.
    fn told(&mut self, kind: Kind, number: impl FnOnce() -> u32) {
        if !self.deceived {
            let number = number();
            assert_eq!(self.answers[number as usize], kind);
            assert!(self.last_told.is_none_or(|last| last < number));
            self.last_told = Some(number);
        }
    }

    fn assert_sleeps(&mut self) {
        if let Some(next) = self.client.poll_timeout() {
            assert!(next > self.now, "asks for a call in the past");
        }
        assert!(
            !self.client.needs_wake()
                || self.client.has_transmit()
                || self.client.error().is_some()
        );
    }

    fn assert_bounds(&mut self) {
        let Self { client, config, .. } = self;
        assert!(client.queued_actions() <= config.queue_capacity);
        let stats = client.stats(self.now);
        assert!(
            stats.actions.count() + stats.actions_expired + stats.actions_dropped
                <= self.put.len() as u64
        );
        let resets = self.made.len();
        assert!(self.resets <= resets, "a reset left twice");
        if client.error().is_some() {
            assert_eq!(client.poll_timeout(), None);
            assert!(client.poll_transmit(self.now).is_none());
            assert_eq!(client.queued_actions(), 0);
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut policy = Policy::new(&input);
    for op in input.ops {
        policy.does(op);
    }
    policy.client.close(policy.now);
    while policy.polls() {}
    assert!(policy.told_end);
    assert!(policy.client.poll_event().is_none());
});
