//! Random plans, rates, delays, losses, resets and reconnects, against the reference.
//!
//! `CHIRAL_TIMELINE_RUNS` sets how many; each is another seed, and a failure names it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chiral_proto::client::{Client, Config, Event, NotQueuedReason};
use chiral_proto::timeline::{self, Anchor, BasisError, FollowOptions, Weights, WhenLate};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, Observation, Rate, ResetResult};

use crate::reference::{Chunk, Merge, Placed, Reference, Values};
use crate::world::{Random, observation, start};

const RUNS: u64 = 1000;
/// How often something can happen in a run.
const ROUNDS: usize = 160;

/// What the robot had done when it made an observation.
#[derive(Clone, Copy)]
struct Truth {
    /// Resets.
    resets: u64,
    /// Steps that it had executed, if it tells.
    executed: Option<u64>,
}

/// What is known of an observation beside what the client says.
#[derive(Clone)]
struct Seen {
    observation: std::sync::Arc<Observation>,
    connection: u64,
    truth: Truth,
    /// Steps sent when the request left, and when the reply arrived.
    asked: u64,
    arrived: u64,
}

/// One run. The fuzz target `timeline` makes its choices from the input.
pub(crate) struct Run {
    random: Random,
    now: Instant,
    client: Client,
    config: Config,
    rate: Rate,
    began: Instant,
    reference: Reference,
    refill_at: usize,
    /// The steps that had been sent with each action on the wire.
    steps_with: Vec<u64>,
    /// Frames on their way, each way, with the time of their arrival.
    to_robot: VecDeque<(Instant, ClientMessage)>,
    to_client: VecDeque<(Instant, ServerMessage, Truth)>,
    /// Steps that had been sent when each request left that is not answered yet.
    asked: VecDeque<u64>,
    latency: u64,
    loses_one_in: Option<u64>,
    tells: bool,
    /// The robot: the last action that it applied, and the resets that it did.
    applied: u64,
    resets_done: u64,
    resets_asked: u64,
    connection: u64,
    observations: u64,
    seen: Vec<Seen>,
    starved: u64,
}

impl Run {
    pub(crate) fn new(mut random: Random) -> Self {
        let capacity = 4 + random.below(60) as usize;
        let max_age = random.one_in(3).then(|| Duration::from_millis(50 + random.below(900)));
        let config = Config {
            queue_capacity: capacity,
            max_age,
            timing: !random.one_in(4),
            request_timeout: None,
            motion_timeout: None,
            silence: None,
            ..Config::default()
        };
        let m = [0.01, 0.0, 0.5, -0.3][random.below(4) as usize];
        let hz = [5.0, 10.0, 30.0, 50.0][random.below(4) as usize];
        let now = start();
        let mut run = Self {
            now,
            client: Client::new(config.clone()),
            rate: Rate::hz(hz).unwrap(),
            began: now,
            reference: Reference {
                capacity,
                max_age,
                m,
                plan: Vec::new(),
                sent: Vec::new(),
                chunks: 0,
                skipped: 0,
            },
            refill_at: random.below(8) as usize,
            steps_with: vec![0],
            to_robot: VecDeque::new(),
            to_client: VecDeque::new(),
            asked: VecDeque::new(),
            latency: random.below(60_000),
            loses_one_in: random.one_in(3).then(|| 2 + random.below(10)),
            tells: config.timing && !random.one_in(4),
            applied: 0,
            resets_done: 0,
            resets_asked: 0,
            connection: 0,
            observations: 0,
            seen: Vec::new(),
            starved: 0,
            config,
            random,
        };
        run.connect();
        run
    }

    /// A new client, for a new connection; the policy keeps what it saw.
    fn connect(&mut self) {
        self.client = Client::new(self.config.clone());
        self.client.start_action_dispatch(self.now, self.rate).unwrap();
        self.client.refill_at(self.refill_at);
        self.began = self.now;
        self.connection += 1;
        self.reference.plan.clear();
        self.reference.sent.clear();
        (self.reference.chunks, self.reference.skipped, self.starved) = (0, 0, 0);
        self.steps_with = vec![0];
        self.to_robot.clear();
        self.to_client.clear();
        self.asked.clear();
        (self.applied, self.resets_done, self.resets_asked) = (0, 0, 0);
    }

    pub(crate) fn live(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.let_time_pass();
            self.robot();
            self.deliver();
            self.client.handle_timeout(self.now);
            self.check_starvation();
            // Now and then the transport is stuck.
            if !self.random.one_in(12) {
                self.transmit();
            }
            self.policy();
        }
        let ticks = (self.now - self.began).as_secs_f64() * self.rate.as_hz();
        let stats = self.client.stats(self.now);
        let accounted = stats.steps + stats.starvations + stats.dispatch_ticks_missed;
        let expected = ticks.floor() as u64 + 1;
        assert!(accounted.abs_diff(expected) <= 1, "{accounted} of {expected} ticks: {stats}");
        assert_eq!(stats.steps, self.reference.steps());
        assert_eq!(stats.rows_skipped, self.reference.skipped);
    }

    fn let_time_pass(&mut self) {
        let arrivals = [
            self.client.poll_timeout(),
            self.to_robot.front().map(|(at, _)| *at),
            self.to_client.front().map(|(at, ..)| *at),
        ];
        let next = arrivals.into_iter().flatten().min().expect("the dispatch ticks");
        self.now = self.now.max(next);
        if self.random.one_in(10) {
            self.now += Duration::from_micros(self.random.below(150_000));
        }
    }

    // ---- the robot ----------------------------------------------------------------------------

    fn robot(&mut self) {
        while self.to_robot.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, message) = self.to_robot.pop_front().expect("it is there");
            let reply = match message {
                ClientMessage::ApplyAction(action) => {
                    let lost = self.loses_one_in.is_some_and(|n| self.random.one_in(n));
                    if !lost {
                        self.applied = action.sent.map_or(0, |sent| sent.seq);
                    }
                    continue;
                }
                ClientMessage::Reset => {
                    self.resets_done += 1;
                    let observation = self.observe();
                    ServerMessage::Reset(ResetResult { observation, ..ResetResult::default() })
                }
                ClientMessage::Observe => ServerMessage::Observation(self.observe()),
                other => panic!("the policy does not ask for {other:?}"),
            };
            let executed = self.tells.then(|| self.steps_with[self.applied as usize]);
            let truth = Truth { resets: self.resets_done, executed };
            let at = self.arrival();
            self.to_client.push_back((at, reply, truth));
        }
    }

    fn observe(&mut self) -> Observation {
        self.observations += 1;
        observation(self.observations, self.tells.then_some(self.applied))
    }

    fn arrival(&mut self) -> Instant {
        let jitter = self.random.below(1 + self.latency);
        let at = self.now + Duration::from_micros(self.latency + jitter);
        let last = [self.to_robot.back().map(|(at, _)| *at), self.to_client.back().map(|b| b.0)];
        last.into_iter().flatten().fold(at, Instant::max)
    }

    fn deliver(&mut self) {
        while self.to_client.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, reply, truth) = self.to_client.pop_front().expect("it is there");
            let arrived = self.reference.steps();
            self.client.handle_message(self.now, reply.encode().to_bytes());
            let asked = self.asked.pop_front().expect("an answer to a request");
            let observation = self.client.latest_observation().expect("it came");
            let observation = std::sync::Arc::clone(&observation.observation);
            let connection = self.connection;
            self.seen.push(Seen { observation, connection, truth, asked, arrived });
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Observation { .. } | Event::Reset { .. } => {}
                Event::PlanLow { remaining } => assert!(remaining <= self.refill_at),
                other => panic!("{other:?} is not expected here"),
            }
        }
    }

    // ---- what the client sends ----------------------------------------------------------------

    fn transmit(&mut self) {
        while let Some(frame) = self.client.poll_transmit(self.now) {
            let message = ClientMessage::decode(&frame, &Limits::default()).unwrap();
            match &message {
                ClientMessage::ApplyAction(action) => self.check_action(action),
                ClientMessage::Reset | ClientMessage::Observe => {
                    self.asked.push_back(self.reference.steps());
                }
                other => panic!("{other:?} is not expected here"),
            }
            let at = self.arrival();
            self.to_robot.push_back((at, message));
        }
        self.check_starvation();
        self.reference.expire(self.now);
        assert_eq!(self.client.queued_actions(), self.reference.plan.len());
        assert!(self.client.queued_actions() <= self.config.queue_capacity);
        let is_low = self.reference.plan.len() <= self.refill_at;
        assert_eq!(self.client.is_plan_low(), is_low);
    }

    /// Each action that leaves is the next row of the plan, of this epoch, and not too old; or one
    /// that was sent besides, of three elements.
    fn check_action(&mut self, action: &Action) {
        let values = action.to_f32();
        if values.len() == 2 {
            let row = self.reference.send(self.now).expect("a row is planned");
            let expected = self.reference.values(&row);
            for (found, expected) in values.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, not {expected}");
            }
        }
        if let Some(sent) = action.sent {
            assert_eq!(sent.seq, self.steps_with.len() as u64);
        }
        self.steps_with.push(self.reference.steps());
    }

    /// A tick starves only when nothing is planned.
    fn check_starvation(&mut self) {
        let starved = self.client.stats(self.now).starvations;
        if starved > self.starved {
            self.reference.expire(self.now);
            assert!(self.reference.plan.is_empty(), "{:?}", self.reference.plan);
        }
        self.starved = starved;
    }

    // ---- the policy ---------------------------------------------------------------------------

    fn policy(&mut self) {
        match self.random.below(24) {
            0..6 if self.asked.len() < 4 => {
                let asked = self.client.request_observation(self.now, None);
                assert!(asked.is_ok() || self.is_stuck(), "{asked:?}");
            }
            6..14 => self.follow(),
            14 => self.put_at_end(1),
            15 => {
                let count = self.random.below(12);
                self.put_at_end(count);
            }
            16 => {
                let action = Action::from([9.0; 3]);
                // Not when it may wait, and then expire, beside the model.
                if self.config.max_age.is_none() {
                    self.client.send_action(self.now, action).unwrap();
                    self.transmit();
                }
            }
            17 if self.random.one_in(3) => {
                self.client.clear_actions();
                self.reference.plan.clear();
            }
            18 if self.random.one_in(2) && self.asked.len() < 4 => {
                match self.client.request_reset(self.now, None) {
                    Ok(_) => {
                        self.resets_asked += 1;
                        self.reference.plan.clear();
                    }
                    Err(error) => assert!(self.is_stuck(), "{error}"),
                }
            }
            19 if self.random.one_in(8) => self.connect(),
            20..22 => self.check_context(),
            _ => {}
        }
    }

    /// Whether the transport has been stuck for so long that requests wait for it.
    fn is_stuck(&self) -> bool {
        self.client.has_transmit()
    }

    fn rows(&mut self, count: u64) -> Vec<Values> {
        (0..count).map(|_| [self.random.unit(), self.random.unit()]).collect()
    }

    /// One of the latest observations, mostly the newest.
    fn pick(&mut self) -> Option<Seen> {
        let back = if self.random.one_in(3) { self.random.below(6) } else { 0 };
        let index = self.seen.len().checked_sub(1 + back as usize)?;
        Some(self.seen[index].clone())
    }

    /// Whether a chunk can be placed on what was seen, and at which step it then begins.
    fn basis(&self, seen: &Seen) -> Result<u64, BasisError> {
        if seen.connection != self.connection {
            Err(BasisError::Foreign)
        } else if seen.truth.resets < self.resets_asked {
            Err(BasisError::FormerEpoch)
        } else {
            Ok(seen.truth.executed.unwrap_or(seen.arrived))
        }
    }

    fn follow(&mut self) {
        let Some(seen) = self.pick() else { return };
        let count = self.random.below(24);
        let rows = self.rows(count);
        let merge = match self.random.below(9) {
            0..3 => Merge::Replace,
            3 => Merge::KeepFirst(self.random.below(8) as usize),
            4 => Merge::Append,
            5 => Merge::Constant(self.random.below(5) as f64 / 4.0),
            6 => Merge::Crossfade(self.random.below(8) as usize),
            _ => Merge::Ensemble,
        };
        let masked =
            matches!(merge, Merge::Constant(_) | Merge::Crossfade(_)) && self.random.one_in(3);
        let basis = self.basis(&seen);
        let (anchor, base) = match self.random.below(6) {
            0 => (Anchor::Next, Some(self.reference.steps())),
            1 => {
                let at = (self.reference.steps() + self.random.below(20)).saturating_sub(4);
                (Anchor::At(at), Some(at))
            }
            _ => (Anchor::Observation, basis.ok()),
        };
        let mut options =
            FollowOptions::new().anchor(anchor).merge(as_option(merge, self.reference.m));
        if masked {
            options = options.average_only([0]);
        }
        let max_delay = self.random.one_in(4).then(|| self.random.below(6));
        if let Some(max) = max_delay {
            options = options.max_delay(max, WhenLate::Discard);
        }
        let actions = rows.iter().map(|row| Action::from(*row));
        let placed = self.client.follow_with(self.now, &seen.observation, actions, &options);
        let refused_basis = match basis {
            Err(BasisError::Foreign) if anchor != Anchor::Observation => None,
            Err(error) => Some(error),
            Ok(_) => None,
        };
        if let Some(error) = refused_basis {
            let refused = placed.unwrap_err();
            assert_eq!(refused.reason, NotQueuedReason::Basis(error));
            assert_eq!(refused.actions.len(), rows.len());
            return;
        }
        let delay = basis.is_ok().then(|| {
            let steps = self.reference.steps();
            match seen.truth.executed {
                Some(executed) => (steps - executed, steps - executed),
                None => (steps - seen.arrived, steps - seen.asked),
            }
        });
        let base = base.expect("it is known");
        let is_late = max_delay.is_some_and(|max| delay.is_some_and(|(min, _)| min > max));
        self.reference.expire(self.now);
        if is_late && base <= self.reference.end() {
            let placement = placed.unwrap();
            assert!(placement.late && placement.discarded && placement.first.is_none());
            self.reference.chunks += 1;
            return;
        }
        let chunk = Chunk { rows, base, merge, masked };
        let number = self.reference.chunks;
        let expected = self.reference.place(self.now, &chunk);
        match (placed, expected) {
            (Ok(placement), Some(expected)) => {
                assert_eq!(placement.chunk.to_string(), format!("chunk {number}"));
                assert_eq!(placement.base, base);
                let found = Placed { skipped: placement.skipped, first: placement.first };
                assert_eq!(found, expected);
                assert_eq!(placement.delay.map(|delay| (delay.min, delay.max)), delay);
            }
            (Err(refused), None) => {
                let found: Vec<_> = refused.actions.iter().map(Action::to_f32).collect();
                assert_eq!(found.len(), chunk.rows.len());
            }
            (placed, expected) => panic!("{placed:?}, expected {expected:?}"),
        }
    }

    fn put_at_end(&mut self, count: u64) {
        let rows = self.rows(count);
        let actions: Vec<_> = rows.iter().map(|row| Action::from(*row)).collect();
        let put = match &actions[..] {
            [action] => self.client.put_action(self.now, action.clone()),
            _ => self.client.put_chunk(self.now, &Observation::default(), actions),
        };
        self.reference.expire(self.now);
        let base = self.reference.end();
        let chunk = Chunk { rows, base, merge: Merge::Append, masked: false };
        assert_eq!(put.is_ok(), self.reference.place(self.now, &chunk).is_some());
    }

    fn check_context(&mut self) {
        // What has expired is in no context.
        self.transmit();
        let Some(seen) = self.pick() else { return };
        let context = self.client.plan_context(&seen.observation);
        let base = match self.basis(&seen) {
            Ok(base) => base,
            Err(error) => {
                assert_eq!(context, Err(error));
                return;
            }
        };
        let context = context.unwrap();
        assert_eq!(context.base, base);
        let planned = self.reference.plan.iter().map(|row| (row.chunk, row.index));
        let sent = self.reference.sent[base as usize..].iter().copied();
        let expected: Vec<_> =
            sent.chain(planned).map(|(chunk, row)| (format!("chunk {chunk}"), row)).collect();
        let of_span = |span: &timeline::Span| {
            let chunk = span.chunk.to_string();
            span.rows().map(move |row| (chunk.clone(), row))
        };
        let found: Vec<_> = context.spans.iter().flat_map(of_span).collect();
        assert_eq!(found, expected);
        assert_eq!(context.remaining(), expected.len());
    }
}

fn as_option(merge: Merge, m: f64) -> timeline::Merge {
    match merge {
        Merge::Replace => timeline::Merge::Replace,
        Merge::KeepFirst(count) => timeline::Merge::KeepFirst(count),
        Merge::Append => timeline::Merge::Append,
        Merge::Constant(weight) => timeline::Merge::Blend(Weights::Constant(weight)),
        Merge::Crossfade(steps) => timeline::Merge::Blend(Weights::Crossfade(steps)),
        Merge::Ensemble => timeline::Merge::TemporalEnsemble { m },
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how many runs it is to be is the tester's to say")]
fn the_timeline_matches_the_reference_model() {
    let runs = std::env::var("CHIRAL_TIMELINE_RUNS")
        .map_or(RUNS, |runs| runs.parse().expect("CHIRAL_TIMELINE_RUNS is a number of runs"));
    for seed in 0..runs {
        let run = std::panic::catch_unwind(|| Run::new(Random::new(seed)).live(ROUNDS));
        assert!(run.is_ok(), "in the run of seed {seed}");
    }
}
