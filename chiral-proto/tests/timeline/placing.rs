//! Where chunks come to lie.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_proto::client::{Client, Config, Event, NotQueued, NotQueuedReason};
use chiral_proto::nalgebra::{Matrix3, Matrix4};
use chiral_proto::timeline::{
    Anchor, BasisError, Delay, FollowOptions, Merge, Placement, Span, WhenLate,
};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, Array, Camera, Dtype, Map, Observation, Rate, ResetResult, Value};

use crate::world::{ms, observation, start};

/// A client that sends a row every 100 ms, and the time.
pub(crate) struct Policy {
    pub(crate) client: Client,
    pub(crate) now: Instant,
    answers: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Policy {
    pub(crate) fn new(config: Config) -> Self {
        Self { client: Client::new(config), now: start(), answers: 0 }
    }

    /// One whose dispatch is running; its first tick has passed.
    pub(crate) fn dispatching() -> Self {
        let mut policy = Self::default();
        policy.starts();
        policy
    }

    pub(crate) fn starts(&mut self) {
        self.client.start_action_dispatch(self.now, Rate::hz(10).unwrap()).unwrap();
        assert_eq!(self.sends_action(), None);
    }

    pub(crate) fn waits(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now);
    }

    /// The action that leaves now.
    pub(crate) fn sends_action(&mut self) -> Option<Action> {
        match ClientMessage::decode(&self.client.poll_transmit(self.now)?, &Limits::default()) {
            Ok(ClientMessage::ApplyAction(action)) => Some(action),
            other => panic!("{other:?}"),
        }
    }

    /// What leaves at each of the next ticks.
    pub(crate) fn ticks(&mut self, count: usize) -> Vec<Option<f32>> {
        let tick = |_| {
            self.waits(ms(100));
            self.sends_action().map(|action| action.to_f32()[0])
        };
        (0..count).map(tick).collect()
    }

    /// What is planned, sent to its end.
    pub(crate) fn sends_the_rest(&mut self) -> Vec<f32> {
        self.client.start_action_dispatch(self.now, Rate::hz(10).unwrap()).unwrap();
        let mut sent = Vec::new();
        while let Some(action) = self.sends_action() {
            sent.push(action.to_f32()[0]);
            self.waits(ms(100));
        }
        sent
    }

    pub(crate) fn puts(&mut self, rows: &[f32]) {
        let rows = rows.iter().map(|&row| Action::from(row));
        self.client.put_chunk(self.now, &Observation::default(), rows).unwrap();
    }

    /// Places rows that were decided on no observation of this client's.
    pub(crate) fn places(
        &mut self,
        rows: &[f32],
        options: &FollowOptions,
    ) -> Result<Placement, NotQueued> {
        self.follows(rows.iter().map(|&row| Action::from(row)), options)
    }

    pub(crate) fn follows(
        &mut self,
        rows: impl IntoIterator<Item = Action>,
        options: &FollowOptions,
    ) -> Result<Placement, NotQueued> {
        self.client.follow_with(self.now, &Observation::default(), rows, options)
    }

    /// Follows an observation with the rows `from`, `from + 1`, … .
    pub(crate) fn follow(
        &mut self,
        observation: &Observation,
        from: u8,
        count: u8,
    ) -> Result<Placement, NotQueued> {
        let rows = (from..from + count).map(|row| Action::from(f32::from(row)));
        self.client.follow(self.now, observation, rows)
    }

    pub(crate) fn asks(&mut self) {
        self.client.request_observation(self.now, None).unwrap();
        let sent = self
            .client
            .poll_transmit(self.now)
            .map(|frame| ClientMessage::decode(&frame, &Limits::default()).unwrap());
        assert_eq!(sent, Some(ClientMessage::Observe));
    }

    /// The answer of a robot, which tells what it applied last if it is said.
    pub(crate) fn hears(&mut self, applied: Option<u64>) -> Arc<Observation> {
        self.answers += 1;
        let reply = ServerMessage::Observation(observation(self.answers, applied));
        self.client.handle_message(self.now, reply.encode().to_bytes());
        loop {
            match self.client.poll_event().expect("the observation") {
                Event::Observation { observation, .. } => return observation,
                Event::PlanLow { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The robot answers; what comes of it is not looked at.
    fn is_answered(&mut self, observation: Observation) {
        self.asks();
        let reply = ServerMessage::Observation(observation);
        self.client.handle_message(self.now, reply.encode().to_bytes());
        while self.client.poll_event().is_some() {}
    }

    /// Sees an image of this time.
    pub(crate) fn sees_camera(&mut self, timestamp: f64) {
        let camera = Camera {
            name: "cam".into(),
            timestamp,
            intrinsics: Matrix3::identity(),
            extrinsics: Matrix4::identity(),
            image: Array::zeros(Dtype::U8, [1, 1, 3]).unwrap(),
            depth: None,
        };
        self.is_answered(Observation { cameras: vec![camera], ..Observation::default() });
    }

    /// Sees whether the robot is armed, and how often it was stopped.
    pub(crate) fn sees_state(&mut self, state: &str, stops: u64) {
        let map = |entries: Vec<(&str, Value)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
        };
        let contract = map(vec![("state", state.into()), ("stops", stops.into())]);
        let told = map(vec![
            ("v", 1.into()),
            ("applied", 0.into()),
            ("snap", Value::F64(0.5)),
            ("contract", contract),
        ]);
        let extra = Map::new().with("chiral", told);
        self.is_answered(Observation { extra, ..Observation::default() });
    }

    pub(crate) fn sees(&mut self, applied: Option<u64>) -> Arc<Observation> {
        self.asks();
        self.hears(applied)
    }

    /// Resets the robot, to the end.
    pub(crate) fn resets(&mut self) -> Observation {
        self.client.request_reset(self.now, None).unwrap();
        assert!(self.client.poll_transmit(self.now).is_some());
        self.client.handle_message(
            self.now,
            ServerMessage::Reset(ResetResult::default()).encode().to_bytes(),
        );
        let Some(Event::Reset { result, .. }) = self.client.poll_event() else { panic!() };
        result.observation
    }
}

fn exactly(steps: u64) -> Delay {
    Delay { min: steps, max: steps }
}

#[test]
fn rows_that_were_executed_in_the_meantime_are_skipped() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(None);
    policy.follow(&first, 0, 20).unwrap();
    assert_eq!(policy.ticks(4), [0.0, 1.0, 2.0, 3.0].map(Some));
    // The robot has applied two of the four.
    let seen = policy.sees(Some(2));
    assert_eq!(policy.ticks(3), [4.0, 5.0, 6.0].map(Some));
    let placement = policy.follow(&seen, 100, 20).unwrap();
    assert_eq!((placement.base, placement.skipped), (2, 5));
    assert_eq!((placement.delay, placement.first), (Some(exactly(5)), Some(7)));
    assert_eq!(policy.ticks(2), [105.0, 106.0].map(Some));
}

#[test]
fn without_the_robots_word_the_least_delay_is_taken_and_the_range_told() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(None);
    policy.follow(&first, 0, 20).unwrap();
    policy.ticks(2);
    policy.asks();
    policy.ticks(3);
    let seen = policy.hears(None);
    policy.ticks(4);
    let placement = policy.follow(&seen, 100, 20).unwrap();
    assert_eq!((placement.base, placement.skipped), (5, 4));
    assert_eq!(placement.delay, Some(Delay { min: 4, max: 7 }));
    assert_eq!(placement.delay.unwrap().to_string(), "4 to 7 steps");
}

#[test]
fn what_a_robot_says_that_cannot_be_is_not_believed() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(Some(0));
    policy.follow(&first, 0, 20).unwrap();
    policy.ticks(3);
    let seen = policy.sees(Some(1 << 60));
    assert_eq!(policy.follow(&seen, 0, 9).unwrap().base, 3);
}

#[test]
fn holds_and_actions_that_wait_for_no_tick_are_no_steps() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(None);
    policy.follow(&first, 0, 20).unwrap();
    policy.ticks(2);
    for _ in 0..5 {
        policy.client.send_action(policy.now, Action::from([9.0; 2])).unwrap();
        assert!(policy.sends_action().is_some());
    }
    // Two rows and five others.
    let seen = policy.sees(Some(7));
    assert_eq!(policy.follow(&seen, 0, 9).unwrap().base, 2);
    policy.ticks(1);
    let seen = policy.sees(Some(1));
    assert_eq!(policy.follow(&seen, 0, 9).unwrap().delay, Some(exactly(2)));
}

#[test]
fn a_chunk_can_begin_at_any_step_up_to_the_end_of_the_plan() {
    let mut policy = Policy::dispatching();
    policy.puts(&[0.0, 1.0, 2.0, 3.0]);
    policy.ticks(1);
    let at = |step| FollowOptions::new().anchor(Anchor::At(step));
    let refused = policy.places(&[9.0], &at(5)).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Gap { at: 5, end: 4 });
    assert_eq!(
        refused.to_string(),
        "1 action was not queued: step 5 is behind the end of the plan, which is step 4: use a step up to it"
    );
    policy.places(&[9.0], &at(4)).unwrap();
    let placement = policy.places(&[7.0, 8.0], &at(3)).unwrap();
    assert_eq!((placement.first, placement.replaced), (Some(3), 2));
    assert_eq!(policy.places(&[5.0], &at(0)).unwrap().skipped, 1);
    assert_eq!(policy.sends_the_rest(), [], "a chunk of the past alone ends the plan");
}

#[test]
fn a_chunk_that_does_not_fit_is_refused_whole() {
    let mut policy = Policy::new(Config { queue_capacity: 8, ..Config::default() });
    let first = policy.sees(None);
    policy.follow(&first, 0, 8).unwrap();
    let refused = policy.follow(&first, 10, 9).unwrap_err();
    assert_eq!(refused.reason, NotQueuedReason::Full { waiting: 0, capacity: 8 });
    assert_eq!(refused.actions.len(), 9);
    let append = FollowOptions::new().anchor(Anchor::Next).merge(Merge::Append);
    assert_eq!(policy.places(&[1.0; 8], &append).unwrap().kept, 8);
    assert!(policy.places(&[1.0; 9], &append).is_err());
    assert_eq!(policy.sends_the_rest(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn a_late_chunk_is_played_or_discarded_and_counted() {
    for when_late in [WhenLate::Play, WhenLate::Discard] {
        let mut policy = Policy::dispatching();
        let seen = policy.sees(Some(0));
        policy.follow(&seen, 0, 20).unwrap();
        policy.ticks(4);
        let options = FollowOptions::new().max_delay(3, when_late);
        let rows = (100..120_u8).map(|row| Action::from(f32::from(row)));
        let placement = policy.client.follow_with(policy.now, &seen, rows, &options).unwrap();
        let is_discarded = when_late == WhenLate::Discard;
        assert_eq!((placement.late, placement.discarded), (true, is_discarded));
        let expected = if is_discarded { 4.0 } else { 104.0 };
        assert_eq!(policy.ticks(1), [Some(expected)]);
        let stats = policy.client.stats(policy.now);
        assert_eq!((stats.chunks_late, stats.chunks_discarded), (1, u64::from(is_discarded)));
    }
}

#[test]
fn a_policy_learns_which_rows_of_its_chunks_the_robot_executes() {
    let mut policy = Policy::dispatching();
    let first = policy.sees(Some(0));
    let a = policy.follow(&first, 0, 10).unwrap().chunk;
    policy.ticks(3);
    let seen = policy.sees(Some(2));
    let context = policy.client.plan_context(&seen).unwrap();
    // One row was sent since, seven wait.
    assert_eq!(context.spans, [Span { chunk: a, row: 2, count: 8 }]);
    assert_eq!((context.base, context.remaining()), (2, 8));
    assert_eq!(context.delay, exactly(1));
    assert_eq!(context.spans[0].rows(), 2..10);
    // Another chunk is placed meanwhile.
    policy.ticks(1);
    let options = FollowOptions::new().anchor(Anchor::Next);
    let b = policy.places(&[0.5; 3], &options).unwrap().chunk;
    let context = policy.client.plan_context(&seen).unwrap();
    let spans = [Span { chunk: a, row: 2, count: 2 }, Span { chunk: b, row: 0, count: 3 }];
    assert_eq!(context.spans, spans);
    policy.client.clear_actions();
    policy.ticks(1);
    let seen = policy.sees(Some(4));
    assert_eq!(policy.client.plan_context(&seen).unwrap().spans, []);
}

#[test]
fn the_expected_delay_is_known_from_the_second_inference_on() {
    let mut policy = Policy::dispatching();
    let seen = policy.sees(Some(0));
    assert_eq!(policy.client.plan_context(&seen).unwrap().expected_delay, None);
    policy.waits(Duration::from_secs(30));
    policy.follow(&seen, 0, 100).unwrap();
    policy.ticks(2);
    for _ in 0..2 {
        let seen = policy.sees(Some(1));
        policy.waits(ms(250));
        policy.follow(&seen, 0, 100).unwrap();
        assert!(policy.sends_action().is_some());
    }
    // Two ticks and a half, so three; and three steps that were under way already.
    let seen = policy.sees(Some(1));
    assert_eq!(policy.client.plan_context(&seen).unwrap().expected_delay, Some(3 + 3));
    policy.client.stop_action_dispatch();
    assert_eq!(policy.client.plan_context(&seen).unwrap().expected_delay, None);
}

#[test]
fn a_stamp_is_that_of_one_observation_and_of_its_copies() {
    let mut policy = Policy::dispatching();
    let (seen, other) = (policy.sees(Some(0)), policy.sees(Some(0)));
    assert_ne!(seen.stamp, other.stamp);
    let copy = Observation::clone(&seen);
    assert_eq!(seen.stamp, copy.stamp);
    let kept = seen.stamp.clone();
    drop(seen);
    assert!(!kept.is_unique(), "there is a copy");
    drop(copy);
    assert!(kept.is_unique());
    assert!(Observation::default().stamp.is_unique());
}

#[test]
fn an_observation_of_another_connection_is_no_basis() {
    let seen = Policy::dispatching().sees(Some(0));
    let mut policy = Policy::dispatching();
    for observation in [&*seen, &Observation::default()] {
        let refused = policy.follow(observation, 0, 3).unwrap_err();
        assert_eq!(refused.reason, NotQueuedReason::Basis(BasisError::Foreign));
        assert_eq!(policy.client.plan_context(observation), Err(BasisError::Foreign));
        // Two robots and one policy: what one sees may move the other.
        policy.client.put_chunk(policy.now, observation, [Action::from(0.5)]).unwrap();
    }
    assert_eq!(policy.client.queued_actions(), 2);
}

#[test]
fn a_reset_ends_the_plan_and_what_was_seen_before_it() {
    let mut policy = Policy::dispatching();
    let before = policy.sees(Some(0));
    policy.follow(&before, 0, 10).unwrap();
    policy.ticks(2);
    policy.asks();
    policy.client.request_reset(policy.now, None).unwrap();
    assert_eq!(policy.client.queued_actions(), 0);
    policy.client.request_observation(policy.now, None).unwrap();
    while policy.client.poll_transmit(policy.now).is_some() {}
    // Asked for before the reset left: of the former epoch, though it comes after.
    let crossed = policy.hears(Some(2));
    let reply = ServerMessage::Reset(ResetResult::default()).encode();
    policy.client.handle_message(policy.now, reply.to_bytes());
    let Some(Event::Reset { result, .. }) = policy.client.poll_event() else { panic!() };
    let after = policy.hears(Some(2));
    for observation in [&before, &crossed] {
        let refused = policy.follow(observation, 0, 3).unwrap_err();
        assert_eq!(refused.reason, NotQueuedReason::Basis(BasisError::FormerEpoch));
        let now = policy.now;
        assert!(policy.client.put_chunk(now, observation, [Action::from(0.5)]).is_err());
        assert!(policy.client.replace_actions(now, observation, [Action::from(0.5)]).is_err());
    }
    for observation in [&result.observation, &*after] {
        assert_eq!(policy.follow(observation, 50, 3).unwrap().base, 2);
    }
    assert_eq!(policy.ticks(2), [50.0, 51.0].map(Some));
}

#[test]
fn a_reset_that_waits_to_be_sent_divides_the_epochs_where_it_leaves() {
    let mut policy = Policy::dispatching();
    let now = policy.now;
    policy.client.start_obs_stream(now, Rate::hz(1000).unwrap()).unwrap();
    let reset = policy.client.request_reset(now, None).unwrap();
    assert!(policy.client.cancel(now, reset));
    // It never left: what is asked for now is of the new epoch.
    assert!(policy.client.poll_transmit(now).is_some());
    let reply = ServerMessage::Observation(observation(1, None)).encode();
    policy.client.handle_message(now, reply.to_bytes());
    let seen = Arc::clone(&policy.client.latest_observation().unwrap().observation);
    assert!(policy.follow(&seen, 0, 3).is_ok());
}

#[test]
fn a_refused_reset_leaves_the_plan() {
    let mut policy = Policy::new(Config { pending_requests: 0, ..Config::default() });
    policy.puts(&[0.0, 1.0]);
    assert!(policy.client.request_reset(policy.now, None).is_err());
    assert_eq!(policy.client.queued_actions(), 2);
}

#[test]
fn a_policy_is_told_when_few_rows_are_left() {
    let mut policy = Policy::dispatching();
    let lows = |policy: &mut Policy| -> Vec<usize> {
        let events = std::iter::from_fn(|| policy.client.poll_event());
        let low = |event| match event {
            Event::PlanLow { remaining } => remaining,
            other => panic!("{other:?}"),
        };
        events.map(low).collect()
    };
    assert!(policy.client.is_plan_low());
    policy.client.refill_at(2);
    assert_eq!(lows(&mut policy), [0], "an empty plan is low at once");
    let seen = policy.sees(None);
    policy.follow(&seen, 0, 5).unwrap();
    assert!(!policy.client.is_plan_low());
    policy.ticks(2);
    assert_eq!(lows(&mut policy), []);
    policy.ticks(1);
    assert_eq!(lows(&mut policy), [2]);
    assert!(policy.client.is_plan_low());
    policy.ticks(2);
    assert_eq!(lows(&mut policy), [], "once for a plan");
    policy.follow(&seen, 0, 6).unwrap();
    assert_eq!(lows(&mut policy), [1], "of a chunk that is short, at once");
    policy.puts(&[0.0; 5]);
    policy.client.clear_actions();
    assert_eq!(lows(&mut policy), [0]);
}
