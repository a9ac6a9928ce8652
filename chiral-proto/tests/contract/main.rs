//! Whatever a policy sends and whatever happens, the robot is given no action that its contract
//! forbids, and arming it is never in vain.
//!
//! Random sequences of actions, silences, resets, stops and reconnections run against a server on a
//! virtual clock. What it tells is judged by what was sent and when, without the server's own state.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

mod world;

use std::time::Duration;

use chiral_proto::server::ActionQueue;
use chiral_proto::{ActionKind, Arming, OnViolation};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use world::{Op, Setup, World};

fn op() -> impl Strategy<Value = Op> {
    let value = prop_oneof![
        8 => -12_i8..13,
        1 => -128_i8..=127,
    ];
    let millis = prop_oneof![
        6 => 0_u64..60,
        2 => 60_u64..400,
        1 => 400_u64..3000,
    ];
    prop_oneof![
        12 => (value, any::<bool>()).prop_map(|(value, fresh)| Op::Act { value, fresh }),
        1 => Just(Op::ActNotANumber),
        8 => millis.prop_map(Op::Wait),
        8 => Just(Op::Poll),
        2 => Just(Op::PollMotion),
        2 => Just(Op::PollRequest),
        3 => Just(Op::Observe),
        2 => Just(Op::Reset),
        2 => Just(Op::AnswerReset),
        1 => Just(Op::Step),
        1 => Just(Op::AnswerStep),
        2 => Just(Op::Arm),
        1 => Just(Op::Stop),
        1 => Just(Op::Reconnect),
        1 => (-100_i8..100).prop_map(Op::Measure),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    let arming = prop_oneof![Just(Arming::OnConnect), Just(Arming::OnReset), Just(Arming::Manual)];
    let on_violation = prop_oneof![Just(OnViolation::Refuse), Just(OnViolation::Clamp)];
    let kind = prop_oneof![
        Just(ActionKind::Absolute),
        Just(ActionKind::Delta),
        Just(ActionKind::Velocity),
    ];
    let queue = prop_oneof![
        Just(ActionQueue::Latest),
        Just(ActionQueue::InOrder { capacity: 8 }),
        Just(ActionQueue::MaxAge(Duration::from_millis(200))),
    ];
    (arming, on_violation, kind, queue, any::<bool>()).prop_map(
        |(arming, on_violation, kind, queue, is_measured)| Setup {
            arming,
            on_violation,
            kind,
            queue,
            is_measured,
        },
    )
}

proptest! {
    #![proptest_config(Config {
        cases: 300,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn nothing_that_the_contract_forbids_reaches_the_robot(
        setup in setup(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(setup);
        for op in ops {
            world.run(op);
        }
        world.run(Op::Poll);
    }
}

/// The sequences that are random above do reach what they are about.
#[test]
fn the_sequences_reach_every_state() {
    let mut runner = TestRunner::deterministic();
    let strategy = (setup(), proptest::collection::vec(op(), 120));
    let mut seen = world::Seen::default();
    for _ in 0..300 {
        let (setup, ops) = strategy.new_tree(&mut runner).unwrap().current();
        let mut world = World::new(setup);
        ops.into_iter().for_each(|op| world.run(op));
        seen.add(&world.seen);
    }
    assert!(seen.is_everything(), "{seen:?}");
}
