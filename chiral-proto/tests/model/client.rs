//! The client does at every call what the reference does.

use std::time::{Duration, Instant};

use chiral_proto::client::{Client, Config, Event, RequestError, RequestKey};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, ConnectionError, Rate};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::reference::{Kind, Reference, Sent, Told};
use crate::support::*;

#[derive(Debug, Clone)]
enum Op {
    /// Time passes, in microseconds, and the client is told.
    Wait(u64),
    /// Time passes, and the next call tells it.
    Oversleep(u64),
    /// With a deadline in microseconds from now.
    Request(Kind, Option<u64>),
    Cancel(usize),
    StartStream(u64),
    StopStream,
    StartDispatch(u64),
    StopDispatch,
    Put,
    Send,
    PutChunk(u32),
    Replace(u32),
    Clear,
    /// The transport takes up to as many frames.
    Transmit(u32),
    /// The robot answers what is due.
    Answer,
    Poll,
    End,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kind =
        prop_oneof![Just(Kind::Metadata), Just(Kind::Reset), Just(Kind::Observe), Just(Kind::Step)];
    let hz = || prop::sample::select(vec![1, 7, 30, 50, 100, 1000]);
    let op = prop_oneof![
        20 => (0_u64..40_000).prop_map(Op::Wait),
        2 => (0_u64..400_000).prop_map(Op::Oversleep),
        8 => (kind, option::of(0_u64..200_000)).prop_map(|(kind, within)| Op::Request(kind, within)),
        2 => any::<prop::sample::Index>().prop_map(|index| Op::Cancel(index.index(100))),
        3 => hz().prop_map(Op::StartStream),
        1 => Just(Op::StopStream),
        3 => hz().prop_map(Op::StartDispatch),
        1 => Just(Op::StopDispatch),
        6 => Just(Op::Put),
        3 => Just(Op::Send),
        3 => (0_u32..12).prop_map(Op::PutChunk),
        2 => (0_u32..12).prop_map(Op::Replace),
        1 => Just(Op::Clear),
        20 => (1_u32..4).prop_map(Op::Transmit),
        20 => Just(Op::Answer),
        10 => Just(Op::Poll),
        // Rarely: most sequences are to go on.
        1 => prop::bool::weighted(0.2).prop_map(|end| if end { Op::End } else { Op::Poll }),
    ];
    vec(op, 1..120)
}

/// The client, the reference, and what both were given.
struct Run {
    client: Client,
    reference: Reference,
    start: Instant,
    now: u64,
    ids: Vec<RequestKey>,
    answers: u32,
    /// When each action was put, by its number.
    put: Vec<u64>,
    /// The actions that were not to wait for a tick.
    urgent: Vec<u32>,
    /// The actions that left.
    acted: Vec<u32>,
}

impl Run {
    fn at(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }

    fn now(&self) -> Instant {
        self.at(self.now)
    }

    fn actions(&mut self, count: u32) -> (Vec<u32>, Vec<Action>) {
        let numbers: Vec<_> = (self.put.len() as u32..).take(count as usize).collect();
        self.put.extend(numbers.iter().map(|_| self.now));
        let actions = numbers.iter().map(|&number| action(number)).collect();
        (numbers, actions)
    }

    fn refused(&mut self, count: usize) {
        self.put.truncate(self.put.len() - count);
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let now = self.now();
        match *op {
            Op::Wait(micros) => {
                self.now += micros * 1000;
                self.client.handle_timeout(self.now());
                if !self.reference.ended {
                    self.reference.advance(self.now);
                }
            }
            Op::Oversleep(micros) => self.now += micros * 1000,
            Op::Request(kind, within) => self.request(kind, within.map(|w| self.now + w * 1000))?,
            Op::Cancel(index) => {
                if let Some(&key) = self.ids.get(index) {
                    let cancelled = self.client.cancel(now, key);
                    prop_assert_eq!(cancelled, self.reference.cancel(self.now, index));
                }
            }
            Op::StartStream(hz) => {
                let started = self.client.start_obs_stream(now, Rate::hz(hz as f64).unwrap());
                prop_assert_eq!(started.is_ok(), !self.reference.ended);
                if started.is_ok() {
                    self.reference.start_stream(self.now, hz);
                }
            }
            Op::StopStream => {
                self.client.stop_obs_stream();
                self.reference.stop_stream();
            }
            Op::StartDispatch(hz) => {
                let started = self.client.start_action_dispatch(now, Rate::hz(hz as f64).unwrap());
                prop_assert_eq!(started.is_ok(), !self.reference.ended);
                if started.is_ok() {
                    self.reference.start_dispatch(self.now, hz);
                }
            }
            Op::StopDispatch => {
                self.client.stop_action_dispatch();
                self.reference.stop_dispatch();
            }
            Op::Put => {
                let (numbers, mut actions) = self.actions(1);
                let put = self.client.put_action(now, actions.remove(0));
                prop_assert_eq!(put.is_ok(), self.reference.put(self.now, &numbers, None));
                if let Err(refused) = put {
                    prop_assert_eq!(number_of(&refused.actions[0]), numbers[0]);
                    self.refused(1);
                }
            }
            Op::Send => {
                let (numbers, mut actions) = self.actions(1);
                let sent = self.client.send_action(now, actions.remove(0));
                prop_assert_eq!(sent.is_ok(), self.reference.send(self.now, numbers[0]));
                match sent {
                    Ok(()) => self.urgent.extend(numbers),
                    Err(_) => self.refused(1),
                }
            }
            Op::PutChunk(count) | Op::Replace(count) => {
                let (numbers, actions) = self.actions(count);
                let decided_on = 1_000_000 + numbers.len() as u32;
                let on = observation(decided_on);
                let (put, fits) = if matches!(op, Op::Replace(_)) {
                    let dropped = self.client.replace_actions(now, &on, actions);
                    let expected = self.reference.replace(self.now, &numbers, Some(decided_on));
                    prop_assert_eq!(dropped.as_ref().ok().copied(), expected);
                    (dropped.map(drop), expected.is_some())
                } else {
                    let put = self.client.put_chunk(now, &on, actions);
                    (put, self.reference.put(self.now, &numbers, Some(decided_on)))
                };
                prop_assert_eq!(put.is_ok(), fits);
                if let Err(refused) = put {
                    let back: Vec<_> = refused.actions.iter().map(number_of).collect();
                    prop_assert_eq!(&back, &numbers, "given back in their order");
                    self.refused(numbers.len());
                }
            }
            Op::Clear => {
                prop_assert_eq!(self.client.clear_actions(), self.reference.clear());
            }
            Op::Transmit(frames) => {
                for _ in 0..frames {
                    self.transmit()?;
                }
            }
            Op::Answer => self.answer(),
            Op::Poll => self.poll()?,
            Op::End => {
                self.client.handle_disconnect(now, ConnectionError::Lost(String::new()));
                self.reference.end(self.now);
            }
        }
        self.agree()
    }

    fn request(&mut self, kind: Kind, deadline: Option<u64>) -> Result<(), TestCaseError> {
        let (now, id) = (self.now(), self.ids.len());
        let by = deadline.map(|deadline| self.at(deadline));
        let client = &mut self.client;
        let made = match kind {
            Kind::Metadata => client.request_metadata(now, by).map(RequestKey::from),
            Kind::Reset => client.request_reset(now, by).map(RequestKey::from),
            Kind::Observe => client.request_observation(now, by).map(RequestKey::from),
            Kind::Step => client.request_step(now, action(id as u32), by).map(RequestKey::from),
        };
        let fits = self.reference.request(id, kind, deadline, id as u32);
        prop_assert_eq!(made.is_ok(), fits);
        self.ids.extend(made);
        Ok(())
    }

    fn transmit(&mut self) -> Result<(), TestCaseError> {
        let stamp = |action: &Action| {
            let stamps = action.obs_timestamps.as_ref().expect("decoded actions have them");
            stamps.get("cam").map(|stamp| stamp as u32)
        };
        self.client.handle_timeout(self.now());
        let may = self.client.has_transmit();
        let frame = self.client.poll_transmit(self.now());
        assert!(may || frame.is_none(), "{frame:?} came unannounced");
        let sent = frame.map(|frame| {
            match ClientMessage::decode(&frame, &Limits::default()).expect("the client's frame") {
                ClientMessage::ApplyAction(action) => {
                    Sent::Action(number_of(&action), stamp(&action))
                }
                ClientMessage::Step(action) => Sent::Step(number_of(&action), stamp(&action)),
                ClientMessage::Metadata => Sent::Request(Kind::Metadata),
                ClientMessage::Reset => Sent::Request(Kind::Reset),
                ClientMessage::Observe => Sent::Request(Kind::Observe),
                other => panic!("a {} is not known here", other.message_type()),
            }
        });
        if let Some(Sent::Action(number, _)) = sent {
            self.acted.push(number);
            let age = self.now - self.put[number as usize];
            prop_assert!(self.reference.max_age.is_none_or(|max| age <= max), "{age} ns old");
        }
        prop_assert_eq!(sent, self.reference.transmit(self.now));
        Ok(())
    }

    fn answer(&mut self) {
        let Some(due) = self.reference.due() else { return };
        self.answers += 1;
        let number = self.answers;
        let message = match due {
            Kind::Metadata => ServerMessage::Metadata(metadata(number)),
            Kind::Reset => ServerMessage::Reset(reset(number)),
            Kind::Observe => ServerMessage::Observation(observation(number)),
            Kind::Step => ServerMessage::Step(step(number)),
        };
        self.client.handle_message(self.now(), message.encode().to_bytes());
        self.reference.answer(self.now, number);
    }

    fn poll(&mut self) -> Result<(), TestCaseError> {
        loop {
            let told = self.client.poll_event().map(|event| self.read(event));
            let expected = self.reference.told.pop_front();
            prop_assert_eq!(told, expected);
            if told.is_none() {
                return Ok(());
            }
        }
    }

    fn read(&self, event: Event) -> Told {
        let id = |key: RequestKey| self.ids.iter().position(|id| *id == key).expect("an id made");
        let count =
            |metadata: &chiral_proto::Map| metadata.get("number").unwrap().as_u64().unwrap();
        match event {
            Event::Metadata { id: key, metadata } => {
                Told::Answer(Kind::Metadata, id(key.key()), count(&metadata) as u32)
            }
            Event::Reset { id: key, result } => {
                Told::Answer(Kind::Reset, id(key.key()), count(&result.info) as u32)
            }
            Event::Observation { id: key, observation } => {
                Told::Answer(Kind::Observe, id(key.key()), observation.timestamp as u32)
            }
            Event::Step { id: key, result } => {
                Told::Answer(Kind::Step, id(key.key()), result.reward as u32)
            }
            Event::Streamed(observation) => Told::Streamed(observation.timestamp as u32),
            Event::Failed {
                id: key,
                error: RequestError::TimedOut { .. } | RequestError::Cancelled,
            } => Told::TimedOut(id(key)),
            Event::Failed { id: key, .. } => Told::Lost(id(key)),
            Event::Disconnected(_) => Told::Disconnected,
            other => panic!("{other:?} is not expected here"),
        }
    }

    /// What can be seen without a call that changes anything.
    fn agree(&mut self) -> Result<(), TestCaseError> {
        let (client, reference) = (&mut self.client, &self.reference);
        let timeout = client.poll_timeout().map(|at| at.duration_since(self.start).as_nanos());
        prop_assert_eq!(timeout, reference.next_timeout().map(u128::from));
        prop_assert_eq!(client.queued_actions(), reference.queued());
        let latest = client.latest_observation().map(|latest| latest.observation.timestamp as u32);
        prop_assert_eq!(latest, reference.latest);
        prop_assert_eq!(client.error().is_some(), reference.ended);
        let stats = client.stats(self.start + Duration::from_nanos(self.now));
        prop_assert_eq!(stats.stream_ticks_missed, reference.stream.missed);
        prop_assert_eq!(stats.dispatch_ticks_missed, reference.dispatch.missed);
        prop_assert_eq!(stats.starvations, reference.starved);
        prop_assert_eq!(stats.actions_expired, reference.expired);
        prop_assert_eq!(stats.actions_dropped, reference.dropped);
        let accounted = stats.actions.count()
            + stats.actions_expired
            + stats.actions_dropped
            + (client.queued_actions() + reference.urgent()) as u64;
        prop_assert_eq!(accounted, self.put.len() as u64, "sent + expired + dropped + queued");
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::cases(768))]

    #[test]
    fn the_client_matches_the_reference_model(
        ops in ops(),
        window in 1_usize..4,
        pending in 1_usize..12,
        capacity in 0_usize..20,
        max_age in option::of(0_u64..300_000_000),
    ) {
        let config = Config {
            stream_window: window,
            pending_requests: pending,
            queue_capacity: capacity,
            max_age: max_age.map(Duration::from_nanos),
            request_timeout: None,
            motion_timeout: None,
            silence: None,
            ..Config::default()
        };
        let reference = Reference::new(window, pending, capacity, max_age);
        let mut run = Run {
            client: Client::new(config),
            reference,
            start: start(),
            now: 0,
            ids: Vec::new(),
            answers: 0,
            put: Vec::new(),
            urgent: Vec::new(),
            acted: Vec::new(),
        };
        for op in &ops {
            run.apply(op)?;
        }
        run.apply(&Op::Poll)?;
        let (urgent, planned): (Vec<u32>, Vec<u32>) =
            run.acted.iter().partition(|number| run.urgent.contains(number));
        for acted in [urgent, planned] {
            prop_assert!(acted.is_sorted_by(|a, b| a < b), "none twice, none out of order");
        }
    }
}
