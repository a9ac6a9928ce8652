//! Actions, silences, resets, steps, stops and reconnections in any order and at any time: the robot is
//! given no action that its contract forbids, and arming it is never in vain. What the server tells
//! is judged as in the tests; the input says what happens.
#![no_main]
#![allow(dead_code, reason = "the tests use all of what is shared with them")]

#[path = "../../chiral-proto/tests/contract/world.rs"]
mod world;

use std::time::Duration;

use arbitrary::Arbitrary;
use chiral_fuzz::machines::Time;
use chiral_proto::server::ActionQueue;
use chiral_proto::{ActionKind, Arming, OnViolation};

use world::{Op, Setup, World};

/// What the world takes from the tests.
mod support {
    use std::time::{Duration, Instant};

    use chiral_fuzz::machines::{epoch, observation};
    use chiral_proto::{ResetResult, StepResult};

    pub(crate) fn start() -> Instant {
        epoch()
    }

    pub(crate) fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(crate) fn reset(number: u32) -> ResetResult {
        ResetResult { observation: observation(number), ..ResetResult::default() }
    }

    pub(crate) fn step(number: u32) -> StepResult {
        StepResult { observation: observation(number), ..StepResult::default() }
    }
}

#[derive(Debug, Arbitrary)]
struct Input {
    arming: ArmingInput,
    clamps: bool,
    kind: KindInput,
    queue: Queue,
    is_measured: bool,
    happens: Vec<Happens>,
}

#[derive(Debug, Arbitrary)]
enum ArmingInput {
    OnConnect,
    OnReset,
    Manual,
}

#[derive(Debug, Arbitrary)]
enum KindInput {
    Absolute,
    Delta,
    Velocity,
}

#[derive(Debug, Arbitrary)]
enum Queue {
    Latest,
    InOrder(u8),
    MaxAge(Time),
}

#[derive(Debug, Arbitrary)]
enum Happens {
    Act { value: i8, fresh: bool },
    ActNotANumber,
    WaitBriefly(u8),
    Wait(u16),
    Poll,
    PollMotion,
    PollRequest,
    Observe,
    Reset,
    AnswerReset,
    Step,
    AnswerStep,
    Arm,
    Stop,
    Reconnect,
    Measure(i8),
}

impl From<Happens> for Op {
    fn from(happens: Happens) -> Self {
        match happens {
            Happens::Act { value, fresh } => Self::Act { value, fresh },
            Happens::ActNotANumber => Self::ActNotANumber,
            Happens::WaitBriefly(millis) => Self::Wait(millis.into()),
            Happens::Wait(millis) => Self::Wait(millis.into()),
            Happens::Poll => Self::Poll,
            Happens::PollMotion => Self::PollMotion,
            Happens::PollRequest => Self::PollRequest,
            Happens::Observe => Self::Observe,
            Happens::Reset => Self::Reset,
            Happens::AnswerReset => Self::AnswerReset,
            Happens::Step => Self::Step,
            Happens::AnswerStep => Self::AnswerStep,
            Happens::Arm => Self::Arm,
            Happens::Stop => Self::Stop,
            Happens::Reconnect => Self::Reconnect,
            Happens::Measure(value) => Self::Measure(value),
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let mut world = World::new(Setup {
        arming: match input.arming {
            ArmingInput::OnConnect => Arming::OnConnect,
            ArmingInput::OnReset => Arming::OnReset,
            ArmingInput::Manual => Arming::Manual,
        },
        on_violation: if input.clamps { OnViolation::Clamp } else { OnViolation::Refuse },
        kind: match input.kind {
            KindInput::Absolute => ActionKind::Absolute,
            KindInput::Delta => ActionKind::Delta,
            KindInput::Velocity => ActionKind::Velocity,
        },
        queue: match input.queue {
            Queue::Latest => ActionQueue::Latest,
            Queue::InOrder(capacity) => ActionQueue::InOrder { capacity: capacity.into() },
            Queue::MaxAge(time) => ActionQueue::MaxAge(Duration::from(time)),
        },
        is_measured: input.is_measured,
    });
    for happens in input.happens {
        world.run(happens.into());
    }
    world.run(Op::Poll);
});
