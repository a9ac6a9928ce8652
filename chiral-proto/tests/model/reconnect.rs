//! Connections that are lost at any moment and made again, with requests, resets, chunks and streams
//! under way: whatever comes belongs to the connection that it is of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chiral_proto::client::{self, Event, RequestError, RequestId, RequestKey, WhenLost};
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::{Observation, Rate, server};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::reference::Kind;
use crate::support::*;

#[derive(Debug, Clone)]
enum Command {
    Request(Kind),
    /// On the newest observation, and on the oldest that is kept.
    Follow {
        rows: u32,
        is_old: bool,
    },
    Put,
    Send,
    Stream(u32),
    Dispatch(u32),
    /// For so many milliseconds there is no connection.
    Cut(u64),
}

fn command() -> impl Strategy<Value = Command> {
    let kind = prop_oneof![
        Just(Kind::Metadata),
        Just(Kind::Reset),
        Just(Kind::Observe),
        Just(Kind::Step),
    ];
    prop_oneof![
        4 => kind.prop_map(Command::Request),
        4 => (1_u32..20, any::<bool>())
            .prop_map(|(rows, is_old)| Command::Follow { rows, is_old }),
        1 => Just(Command::Put),
        1 => Just(Command::Send),
        1 => (10_u32..100).prop_map(Command::Stream),
        1 => (10_u32..100).prop_map(Command::Dispatch),
        2 => (0_u64..400).prop_map(Command::Cut),
    ]
}

/// The numbers of a connection's actions and answers begin here.
const PER_CONNECTION: u32 = 10_000;

struct World {
    pair: Pair,
    when_lost: WhenLost,
    /// How often the connection was made again.
    connection: u32,
    is_up: bool,
    answers: u32,
    requests: HashMap<RequestKey, Kind>,
    /// Observations, the oldest first, with the connection that they came through.
    seen: Vec<(u32, Arc<Observation>)>,
    rates: [Option<u32>; 2],
}

impl World {
    /// Lets time pass, and looks at everything that happens.
    fn run(&mut self, time: Duration) {
        let until = self.pair.now() + time;
        while let Some(happening) = self.pair.next(until) {
            match happening {
                Happening::Server(event) => self.robot(event),
                Happening::Client(event) => self.policy(event),
            }
        }
    }

    fn robot(&mut self, event: server::Event) {
        self.answers += 1;
        let number = self.connection * PER_CONNECTION + self.answers % PER_CONNECTION;
        let server = &mut self.pair.server;
        match event {
            server::Event::Metadata(reply) => server.reply_metadata(reply, metadata(number)),
            server::Event::Observe(reply) => server.reply_observation(reply, observation(number)),
            server::Event::Reset(reply) => server.reply_reset(reply, reset(number)),
            server::Event::Step(action, reply) => {
                assert_eq!(number_of(&action) / PER_CONNECTION, self.connection);
                server.reply_step(reply, step(number))
            }
            server::Event::Action(action) => {
                let found = number_of(&action) / PER_CONNECTION;
                assert_eq!(found, self.connection, "an action of another connection");
                Ok(())
            }
            _ => Ok(()),
        }
        .expect("the connection is open");
    }

    fn policy(&mut self, event: Event) {
        match event {
            Event::Metadata { id, metadata } => {
                let number = metadata.get("number").and_then(|number| number.as_u64());
                let number = number.expect("a number");
                assert_eq!(number as u32 / PER_CONNECTION, self.connection);
                self.answered(id.key(), Kind::Metadata);
            }
            Event::Observation { id, observation } => {
                self.answered(id.key(), Kind::Observe);
                self.saw(observation);
            }
            Event::Streamed(observation) => self.saw(observation),
            Event::Reset { id, result } => {
                assert_eq!(result.observation.timestamp as u32 / PER_CONNECTION, self.connection);
                self.answered(id.key(), Kind::Reset);
            }
            Event::Step { id, result } => {
                assert_eq!(result.reward as u32 / PER_CONNECTION, self.connection);
                self.answered(id.key(), Kind::Step);
            }
            Event::Failed { id, error } => {
                let kind = self.requests.remove(&id).expect("it was made, and fails once");
                let is_held = self.when_lost == WhenLost::HoldCalls
                    && matches!(kind, Kind::Metadata | Kind::Observe);
                assert!(matches!(error, RequestError::Interrupted { .. }), "{error}");
                assert!(!is_held, "a held request failed: {error}");
            }
            _ => {}
        }
    }

    fn answered(&mut self, id: RequestKey, kind: Kind) {
        assert_eq!(self.requests.remove(&id), Some(kind), "an answer to nothing, or to another");
    }

    fn saw(&mut self, observation: Arc<Observation>) {
        assert_eq!(observation.timestamp as u32 / PER_CONNECTION, self.connection);
        self.seen.push((self.connection, observation));
    }

    fn command(&mut self, command: &Command) {
        let now = self.pair.now();
        let first = self.connection * PER_CONNECTION;
        let client = &mut self.pair.client;
        match *command {
            Command::Request(kind) => {
                let asked = match kind {
                    Kind::Metadata => client.request_metadata(now, None).map(RequestId::key),
                    Kind::Reset => client.request_reset(now, None).map(RequestId::key),
                    Kind::Observe => client.request_observation(now, None).map(RequestId::key),
                    Kind::Step => client.request_step(now, action(first), None).map(RequestId::key),
                };
                let is_held = self.when_lost == WhenLost::HoldCalls
                    && matches!(kind, Kind::Metadata | Kind::Observe);
                assert_eq!(asked.is_ok(), self.is_up || is_held, "{asked:?}");
                self.requests.extend(asked.ok().map(|id| (id, kind)));
            }
            Command::Follow { rows, is_old } => {
                let basis = if is_old { self.seen.first() } else { self.seen.last() };
                let Some((connection, basis)) = basis else { return };
                let is_present = self.is_up && *connection == self.connection;
                // What is decided on an observation carries the number of its connection: not one of
                // before must arrive.
                let first = connection * PER_CONNECTION;
                let placed = client.follow(now, basis, (first..first + rows).map(action));
                if !is_present && self.when_lost == WhenLost::HoldCalls {
                    assert!(placed.expect("it is no error").discarded);
                } else if !is_present {
                    placed.expect_err("it is of a connection before");
                }
            }
            Command::Put => {
                assert_eq!(client.put_action(now, action(first)).is_ok(), self.is_up);
            }
            Command::Send => {
                assert_eq!(client.send_action(now, action(first)).is_ok(), self.is_up);
            }
            Command::Stream(hz) => {
                client.start_obs_stream(now, Rate::hz(hz).expect("a rate")).expect("it may");
                self.rates[0] = Some(hz);
            }
            Command::Dispatch(hz) => {
                client.start_action_dispatch(now, Rate::hz(hz).expect("a rate")).expect("it may");
                self.rates[1] = Some(hz);
            }
            Command::Cut(_) => {
                self.pair.cut();
                self.is_up = false;
            }
        }
    }

    fn connect_again(&mut self) {
        self.connection += 1;
        self.is_up = true;
        assert!(self.pair.reconnect(server::Config::default()));
    }

    /// All that goes on goes on at its rate.
    fn check_rates(&mut self) {
        let before = self.pair.client.stats(self.pair.now());
        self.run(Duration::from_secs(2));
        let after = self.pair.client.stats(self.pair.now());
        let seen = after.observations.count() - before.observations.count();
        if let Some(hz) = self.rates[0] {
            // A round trip takes 20 ms at the most, and resets hold nothing up.
            assert!(seen >= u64::from(hz.min(50)) - 1, "{seen} at {hz} Hz");
        }
        let ticks = |stats: &client::Stats| stats.starvations + stats.steps;
        let ticked = ticks(&after) - ticks(&before) + after.dispatch_ticks_missed
            - before.dispatch_ticks_missed;
        let expected = self.rates[1].map_or(0, |hz| 2 * u64::from(hz));
        assert!(ticked.abs_diff(expected) <= 1, "{ticked} ticks, expected {expected}");
    }
}

proptest! {
    #![proptest_config(crate::cases(400))]

    #[test]
    fn what_comes_belongs_to_its_connection(
        holds in any::<bool>(),
        latency in 0_u64..10,
        commands in vec((0_u64..60, command()), 1..60),
    ) {
        let when_lost = if holds { WhenLost::HoldCalls } else { WhenLost::FailCalls };
        let config = client::Config { when_lost, queue_capacity: 2000, ..Default::default() };
        let mut pair = Pair::new(start(), config, server::Config::default());
        pair.to_server = Network::default().latency(ms(latency));
        pair.to_client = Network::default().latency(ms(latency)).bytes_per_second(1e6);
        let mut world = World {
            pair,
            when_lost,
            connection: 0,
            is_up: true,
            answers: 0,
            requests: HashMap::new(),
            seen: Vec::new(),
            rates: [None; 2],
        };
        let mut back_at = None;
        let mut cuts = 0;
        for (wait, command) in &commands {
            world.run(ms(*wait));
            if back_at.is_some_and(|at| at <= world.pair.now()) {
                world.connect_again();
                back_at = None;
            }
            if let Command::Cut(pause) = command {
                if !world.is_up {
                    continue;
                }
                cuts += 1;
                back_at = Some(world.pair.now() + ms(*pause));
            }
            world.command(command);
        }
        if !world.is_up {
            world.connect_again();
        }
        world.check_rates();
        assert!(world.requests.is_empty(), "never over: {:?}", world.requests);
        let stats = world.pair.client.stats(world.pair.now());
        prop_assert_eq!(stats.reconnects, cuts);
        prop_assert_eq!(stats.strays, 0);
        prop_assert!(world.pair.client.error().is_none());
    }
}
