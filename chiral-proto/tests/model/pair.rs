//! Client and server against each other, over links of every quality.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chiral_proto::client::{self, Event, Lossy, RequestKey};
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::wire::ClientMessage;
use chiral_proto::{ConnectionError, Rate, Sent, server};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::reference::Kind;
use crate::robot::Robot;
use crate::support::*;

#[derive(Debug, Clone)]
enum Command {
    /// With a deadline in milliseconds from now.
    Request(Kind, Option<u64>),
    Cancel(prop::sample::Index),
    Stream(Option<u32>),
    Dispatch(Option<u32>),
    Put(u32),
    Replace(u32),
    Clear,
}

#[derive(Debug, Clone)]
struct Line {
    latency: Duration,
    bytes_per_second: Option<u32>,
    loss: f64,
    repetition: f64,
    seed: u64,
}

impl Line {
    fn link(&self) -> Network {
        let link = Network::default().latency(self.latency).loss(self.loss, self.seed);
        let link = link.repetition(self.repetition);
        match self.bytes_per_second {
            Some(rate) => link.bytes_per_second(f64::from(rate)),
            None => link,
        }
    }

    /// How long a frame takes at the most.
    fn longest(&self, frame_len: usize) -> Duration {
        let writing = self.bytes_per_second.map_or(0.0, |rate| frame_len as f64 / f64::from(rate));
        self.latency + Duration::from_secs_f64(writing)
    }
}

#[derive(Debug, Clone)]
struct Scenario {
    client: client::Config,
    to_server: Line,
    to_client: Line,
    robot_delays: Vec<Duration>,
    robot_forgets: Option<usize>,
    /// Each after so many milliseconds.
    commands: Vec<(u64, Command)>,
    /// The connection is cut after so many milliseconds.
    cut: Option<u64>,
}

/// What the policy made and what became of it.
#[derive(Debug)]
struct Request {
    kind: Kind,
    made: Instant,
    /// Of a step: the number of its action.
    action: u32,
    over: bool,
}

struct World {
    pair: Pair,
    robot: Robot,
    requests: Vec<(RequestKey, Request)>,
    /// When each action was put, by its number.
    put: Vec<Instant>,
    /// Per kind, the last answer and when it came.
    last_answer: HashMap<Kind, (u32, Instant)>,
    answers: u64,
    streamed: u64,
    ended: Option<ConnectionError>,
    /// Whether one answer follows the other across all kinds.
    in_order: bool,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let now = start();
        let mut pair = Pair::new(now, scenario.client.clone(), server::Config::default());
        pair.to_server = scenario.to_server.link();
        pair.to_client = scenario.to_client.link();
        Self {
            pair,
            robot: Robot::new(scenario.robot_delays.clone(), scenario.robot_forgets),
            requests: Vec::new(),
            put: Vec::new(),
            last_answer: HashMap::new(),
            answers: 0,
            streamed: 0,
            ended: None,
            in_order: scenario.client.lossy.is_none(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.pair.now() + time;
        loop {
            self.robot.answers(self.pair.now(), &mut self.pair.server);
            let until = self.robot.next().map_or(end, |next| next.min(end));
            match self.pair.next(until) {
                Some(Happening::Server(event)) => self.robot.hears(self.pair.now(), event),
                Some(Happening::Client(event)) => self.policy_hears(event),
                None if until == end => return,
                None => {}
            }
            assert!(self.robot.busy() <= 64, "requests pile up at the robot");
            assert!(self.pair.to_client.in_flight() <= 128, "answers pile up, each at most twice");
        }
    }

    fn policy_hears(&mut self, event: Event) {
        assert_eq!(self.ended, None, "{event:?} after the end");
        match event {
            Event::Metadata { id, metadata } => {
                let number = metadata.get("number").unwrap().as_u64().unwrap();
                self.is_answered(id.key(), Kind::Metadata, number as u32);
            }
            Event::Reset { id, result } => {
                assert_eq!(result.info, metadata(result.observation.timestamp as u32));
                self.is_answered(id.key(), Kind::Reset, result.observation.timestamp as u32);
            }
            Event::Observation { id, observation } => {
                self.is_answered(id.key(), Kind::Observe, observation.timestamp as u32);
            }
            Event::Step { id, result } => {
                let number = result.reward as u32;
                self.is_answered(id.key(), Kind::Step, number);
                let steps = &self.robot.asked[..number as usize];
                let before = steps.iter().filter(|(kind, _)| *kind == Kind::Step).count();
                let stepped = self.robot.stepped[before];
                assert_eq!(self.request(id.key()).action, stepped, "another step's result");
            }
            Event::Streamed(observation) => {
                self.streamed += 1;
                let number = observation.timestamp as u32;
                // The tick cannot have been sent before the answer to the one before it had come.
                if !self.in_order
                    && let Some((_, came)) = self.last_answer.get(&Kind::Observe)
                {
                    assert!(self.robot.asked[number as usize].1 >= *came, "a stale observation");
                }
                self.came(Kind::Observe, number);
            }
            Event::Failed { id, .. } => self.is_over(id),
            Event::Disconnected(error) => self.ended = Some(error),
            Event::Silent { .. } | Event::Resumed { .. } => {}
            Event::StreamTimedOut(_) => assert!(!self.in_order, "only a lossy one has a timeout"),
            other => panic!("{other:?} is not expected here"),
        }
    }

    fn request(&mut self, id: RequestKey) -> &mut Request {
        let found = self.requests.iter_mut().find(|(key, _)| *key == id);
        &mut found.expect("a request that was made").1
    }

    fn is_over(&mut self, id: RequestKey) {
        let over = std::mem::replace(&mut self.request(id).over, true);
        assert!(!over, "{id:?} came to two ends");
    }

    fn is_answered(&mut self, id: RequestKey, kind: Kind, number: u32) {
        self.is_over(id);
        let asked = self.robot.asked[number as usize].1;
        let request = self.request(id);
        assert_eq!(request.kind, kind);
        assert!(asked >= request.made, "the answer is older than the question");
        self.came(kind, number);
    }

    /// Answers come once and in the order in which the robot was asked.
    fn came(&mut self, kind: Kind, number: u32) {
        self.answers += 1;
        assert_eq!(self.robot.asked[number as usize].0, kind);
        let now = self.pair.now();
        let in_order = self.in_order;
        let before = self.last_answer.iter().filter(|(other, _)| in_order || **other == kind);
        for (_, (before, _)) in before {
            assert!(*before < number, "answer {number} behind {before}");
        }
        self.last_answer.insert(kind, (number, now));
    }

    fn does(&mut self, command: &Command) {
        let now = self.pair.now();
        let client = &mut self.pair.client;
        match *command {
            Command::Request(kind, within) => self.asks(kind, within),
            Command::Cancel(index) if !self.requests.is_empty() => {
                let (id, request) = &self.requests[index.index(self.requests.len())];
                assert!(!client.cancel(now, *id) || !request.over);
            }
            Command::Cancel(_) => {}
            Command::Stream(None) => client.stop_obs_stream(),
            Command::Stream(Some(hz)) => {
                let started = client.start_obs_stream(now, Rate::hz(f64::from(hz)).unwrap());
                assert_eq!(started.is_ok(), client.error().is_none());
            }
            Command::Dispatch(None) => client.stop_action_dispatch(),
            Command::Dispatch(Some(hz)) => {
                let started = client.start_action_dispatch(now, Rate::hz(f64::from(hz)).unwrap());
                assert_eq!(started.is_ok(), client.error().is_none());
            }
            Command::Put(count) | Command::Replace(count) => {
                let first = self.put.len() as u32;
                let actions = (first..first + count).map(action);
                let put = if matches!(command, Command::Put(_)) {
                    client.put_chunk(now, &observation(0), actions)
                } else {
                    client.replace_actions(now, &observation(0), actions).map(drop)
                };
                if put.is_ok() {
                    self.put.extend((0..count).map(|_| now));
                }
            }
            Command::Clear => drop(client.clear_actions()),
        }
    }

    fn asks(&mut self, kind: Kind, within: Option<u64>) {
        // On a lossy line one after the other: so it shows when an answer is taken for a later
        // request's.
        let waits = |(_, request): &(_, Request)| request.kind == kind && !request.over;
        if !self.in_order && self.requests.iter().any(waits) {
            return;
        }
        let made = self.pair.now();
        let by = within.map(|within| made + ms(within));
        let number = self.requests.len() as u32;
        let client = &mut self.pair.client;
        let id = match kind {
            Kind::Metadata => client.request_metadata(made, by).map(RequestKey::from),
            Kind::Reset => client.request_reset(made, by).map(RequestKey::from),
            Kind::Observe => client.request_observation(made, by).map(RequestKey::from),
            Kind::Step => client.request_step(made, action(number), by).map(RequestKey::from),
        };
        if let Ok(id) = id {
            self.requests.push((id, Request { kind, made, action: number, over: false }));
        }
    }

    /// What holds at any time.
    fn check(&self, scenario: &Scenario) {
        let (client, server) = (self.pair.client.stats(self.pair.now()), self.pair.server.stats());
        let accounted = client.actions.count()
            + client.actions_expired
            + client.actions_dropped
            + self.pair.client.queued_actions() as u64;
        assert_eq!(accounted, self.put.len() as u64, "sent + expired + dropped + queued");
        assert!(self.pair.client.queued_actions() <= scenario.client.queue_capacity);

        let acted = &self.robot.acted;
        assert!(acted.is_sorted_by_key(|(number, _)| number), "actions out of order");
        let mut numbers: Vec<_> = acted.iter().map(|(number, _)| number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), acted.len(), "an action came twice");
        let told = (acted.len() + self.robot.stepped.len()) as u64;
        assert!(told + server.actions_dropped.total() <= server.actions.count());

        let resets = |kind: Kind| kind == Kind::Reset;
        let asked = self.robot.asked.iter().filter(|(kind, _)| resets(*kind)).count();
        let made = self.requests.iter().filter(|(_, request)| resets(request.kind)).count();
        assert!(asked <= made, "a reset came twice");
        let mut steps = self.robot.stepped.clone();
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), self.robot.stepped.len(), "a step came twice");

        // Unless something holds them back at the robot, actions arrive young.
        if let Some(max_age) = scenario.client.max_age
            && made + steps.len() == 0
        {
            let mut stamped = action(0).decided_on(&observation(0));
            stamped.sent = Some(Sent { seq: u64::MAX, hold: Some(max_age) });
            stamped.obs_timestamps = stamped.obs_timestamps.map(|it| it.with_snap(Some(max_age)));
            let longest = ClientMessage::ApplyAction(stamped).encode().len();
            let bound = max_age + scenario.to_server.longest(longest);
            for (number, told) in acted {
                let age = told.duration_since(self.put[*number as usize]);
                assert!(age <= bound, "action {number} is {age:?} old, over {bound:?}");
            }
        }
    }
}

fn hz() -> impl Strategy<Value = Option<u32>> {
    option::weighted(0.8, prop::sample::select(vec![1, 10, 30, 50, 100]))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Metadata),
        1 => Just(Kind::Reset),
        4 => Just(Kind::Observe),
        1 => Just(Kind::Step)
    ]
}

fn commands() -> impl Strategy<Value = Vec<(u64, Command)>> {
    let command = prop_oneof![
        6 => (kind(), option::of(0_u64..800)).prop_map(|(kind, by)| Command::Request(kind, by)),
        1 => any::<prop::sample::Index>().prop_map(Command::Cancel),
        3 => hz().prop_map(Command::Stream),
        3 => hz().prop_map(Command::Dispatch),
        4 => (0_u32..20).prop_map(Command::Put),
        1 => (0_u32..20).prop_map(Command::Replace),
        1 => Just(Command::Clear),
    ];
    vec((0_u64..300, command), 1..40)
}

fn line(loss: f64, repetition: f64, slowest: u32) -> impl Strategy<Value = Line> {
    let bytes_per_second = option::of(slowest..1_000_000);
    let losses = (0.0..=loss, 0.0..=repetition, any::<u64>());
    (0_u64..150, bytes_per_second, losses).prop_map(
        |(latency, bytes_per_second, (loss, repetition, seed))| Line {
            latency: ms(latency),
            bytes_per_second,
            loss,
            repetition,
            seed,
        },
    )
}

fn delays() -> impl Strategy<Value = Vec<Duration>> {
    vec((0_u64..300).prop_map(ms), 1..12)
}

prop_compose! {
    fn reliable()(
        window in 1_usize..4,
        pending in 1_usize..64,
        capacity in 0_usize..50,
        max_age in option::of((0_u64..500).prop_map(ms)),
        to_server in line(0.0, 0.0, 500),
        to_client in line(0.0, 0.0, 500),
        robot_delays in delays(),
        robot_forgets in option::weighted(0.2, 0_usize..30),
        commands in commands(),
        cut in option::weighted(0.2, 0_u64..4000),
    ) -> Scenario {
        let client = client::Config {
            stream_window: window,
            pending_requests: pending,
            queue_capacity: capacity,
            max_age,
            request_timeout: None,
            motion_timeout: None,
            ..client::Config::default()
        };
        Scenario { client, to_server, to_client, robot_delays, robot_forgets, commands, cut }
    }
}

prop_compose! {
    fn lossy()(
        mut scenario in reliable(),
        // A request that the transport repeats makes two answers, which nobody can tell apart.
        to_server in line(0.4, 0.0, 5000),
        to_client in line(0.4, 0.4, 5000),
        retry_after in 100_u64..1000,
    ) -> Scenario {
        // Longer than an answer can take: two latencies, and a reset and a step before it.
        let linger = ms(3000);
        scenario.client.lossy = Some(Lossy { retry_after: ms(retry_after), linger });
        scenario.client.request_timeout = Some(ms(5000));
        scenario.client.motion_timeout = Some(ms(5000));
        (scenario.to_server, scenario.to_client) = (to_server, to_client);
        (scenario.robot_forgets, scenario.cut) = (None, None);
        scenario
    }
}

fn play(scenario: &Scenario) -> World {
    let mut world = World::new(scenario);
    let mut until_cut = scenario.cut;
    for (wait, command) in &scenario.commands {
        match until_cut {
            Some(left) if left <= *wait => {
                world.run(ms(left));
                world.pair.cut();
                until_cut = None;
                world.run(ms(wait - left));
            }
            _ => {
                until_cut = until_cut.map(|left| left - wait);
                world.run(ms(*wait));
            }
        }
        world.does(command);
        world.check(scenario);
    }
    world
}

proptest! {
    #![proptest_config(crate::cases(192))]

    #[test]
    fn replies_are_not_swapped_and_actions_are_not_lost(scenario in reliable()) {
        let mut world = play(&scenario);
        world.pair.client.stop_obs_stream();
        world.pair.client.stop_action_dispatch();
        world.run(Duration::from_secs(300));
        world.check(&scenario);

        // Everything came to its end, and to one.
        let open: Vec<_> = world.requests.iter().filter(|(_, request)| !request.over).collect();
        prop_assert!(open.is_empty(), "{open:?}");
        let forgot = scenario.robot_forgets.is_some_and(|n| n < world.robot.asked.len());
        let cut = world.pair.client.error() == Some(&ConnectionError::Lost("cut".to_owned()));
        prop_assert_eq!(world.ended.as_ref(), world.pair.client.error());
        prop_assert_eq!(world.robot.ended.as_ref(), world.pair.server.error());
        prop_assert_eq!(world.ended.is_some(), forgot || cut);
        prop_assert_eq!(world.robot.ended.is_some(), world.ended.is_some());
        if world.ended.is_none() {
            let (client, server) = (world.pair.client.stats(world.pair.now()), world.pair.server.stats());
            prop_assert_eq!(client.frames_sent, server.frames_received);
            prop_assert_eq!(server.frames_sent, client.frames_received);
            prop_assert_eq!(client.bytes_sent, server.bytes_received);
            let told = (world.robot.acted.len() + world.robot.stepped.len()) as u64;
            prop_assert_eq!(told + server.actions_dropped.total(), server.actions.count());
            // Each answer was told, but those that came too late or were coalesced.
            let asked = world.robot.asked.len() as u64;
            prop_assert_eq!(client.round_trip.count(), asked);
            prop_assert!(world.answers <= asked);
        }
    }

    #[test]
    fn on_a_lossy_link_no_reply_is_matched_to_a_later_request(scenario in lossy()) {
        let mut world = play(&scenario);
        // The line recovers: every request ends, and the stream goes on.
        world.pair.to_server = Line { loss: 0.0, ..scenario.to_server.clone() }.link();
        let calm = Line { loss: 0.0, repetition: 0.0, ..scenario.to_client.clone() };
        world.pair.to_client = calm.link();
        world.does(&Command::Stream(Some(10)));
        world.run(Duration::from_secs(10));
        let streamed = world.streamed;
        world.run(Duration::from_secs(5));
        world.check(&scenario);
        prop_assert_eq!(world.ended, None);
        prop_assert!(world.streamed > streamed, "the stream stands still");
        let open: Vec<_> = world.requests.iter().filter(|(_, request)| !request.over).collect();
        prop_assert!(open.is_empty(), "{open:?}");
    }
}

#[test]
fn an_hour_at_30_hz_is_108_000_observations_and_108_000_actions() {
    const TICKS: u32 = 108_000;
    let config = client::Config { queue_capacity: TICKS as usize + 9, ..client::Config::default() };
    let mut pair = Pair::new(start(), config, server::Config::default());
    pair.to_server = Network::default().latency(ms(7));
    pair.to_client = Network::default().latency(ms(9));
    let rate = Rate::hz(30.0).unwrap();
    let plan = (0..TICKS + 9).map(action);
    pair.client.put_chunk(pair.now(), &observation(0), plan).unwrap();
    pair.client.start_obs_stream(pair.now(), rate).unwrap();
    pair.client.start_action_dispatch(pair.now(), rate).unwrap();

    // Up to, and without, the tick that begins the second hour; and then what is under way.
    let end = pair.now() + Duration::new(3599, 999_999_999);
    let (mut streamed, mut acted) = (0, 0);
    let mut run = |pair: &mut Pair, until| {
        while let Some(happening) = pair.next(until) {
            match happening {
                Happening::Server(server::Event::Observe(reply)) => {
                    pair.server.reply_observation(reply, observation(0)).unwrap();
                }
                Happening::Server(server::Event::Action(action)) => {
                    assert_eq!(number_of(&action), acted);
                    assert_eq!(action.obs_timestamps, Some(stamped(0)));
                    acted += 1;
                }
                Happening::Client(Event::Streamed(_)) => streamed += 1,
                other => panic!("{other:?}"),
            }
        }
    };
    run(&mut pair, end);
    pair.client.stop_obs_stream();
    pair.client.stop_action_dispatch();
    run(&mut pair, end + ms(16));
    assert_eq!((streamed, acted), (TICKS, TICKS));
    assert_eq!(pair.client.stats(pair.now()).actions.hz().map(|hz| (hz * 1e6).round()), Some(30e6));
    assert_eq!(pair.client.stats(pair.now()).stream_ticks_missed, 0);
}
