//! What the fuzz targets of the two state machines share: messages known by their number, and
//! messages that no honest peer would send.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use chiral_proto::{Action, Map, Observation, ResetResult, StepResult};

/// Where the machines' clocks begin.
pub fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// How long to wait: mostly a little, sometimes for days.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Time {
    Micros(u16),
    Millis(u16),
    Seconds(u16),
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        match time {
            Time::Micros(micros) => Self::from_micros(micros.into()),
            Time::Millis(millis) => Self::from_millis(millis.into()),
            Time::Seconds(seconds) => Self::from_secs(u64::from(seconds) * 10),
        }
    }
}

/// What is asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Kind {
    Metadata,
    Reset,
    Observe,
    Step,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Reset, Self::Observe, Self::Step];

    /// The request of this kind; a step is known by the number of its action.
    pub fn request(self, number: u32) -> ClientMessage {
        match self {
            Self::Metadata => ClientMessage::Metadata,
            Self::Reset => ClientMessage::Reset,
            Self::Observe => ClientMessage::Observe,
            Self::Step => ClientMessage::Step(action(number)),
        }
    }

    /// The answer of this kind and number.
    pub fn answer(self, number: u32) -> ServerMessage {
        let observation = observation(number);
        match self {
            Self::Metadata => ServerMessage::Metadata(metadata(number)),
            Self::Reset => ServerMessage::Reset(ResetResult { observation, info: Map::new() }),
            Self::Observe => ServerMessage::Observation(observation),
            Self::Step => ServerMessage::Step(StepResult { observation, ..StepResult::default() }),
        }
    }

    /// Kind and number of an answer.
    pub fn of_answer(message: &ServerMessage) -> (Self, u32) {
        match message {
            ServerMessage::Metadata(data) => (Self::Metadata, number_of_metadata(data)),
            ServerMessage::Reset(reset) => (Self::Reset, reset.observation.timestamp as u32),
            ServerMessage::Observation(seen) => (Self::Observe, seen.timestamp as u32),
            ServerMessage::Step(step) => (Self::Step, step.observation.timestamp as u32),
            other => panic!("{other:?}"),
        }
    }
}

pub fn observation(number: u32) -> Observation {
    Observation { timestamp: number.into(), ..Observation::default() }
}

pub fn metadata(number: u32) -> Map {
    Map::new().with("number", number)
}

/// # Panics
/// When it is not [`metadata`] of a number.
pub fn number_of_metadata(data: &Map) -> u32 {
    let number = data.get("number").and_then(|number| number.as_u64());
    number.and_then(|number| number.try_into().ok()).expect("metadata of a number")
}

pub fn action(number: u32) -> Action {
    Action::from([number as f32])
}

/// # Panics
/// When it is not an [`action`] of a number.
pub fn number_of(action: &Action) -> u32 {
    action.to_f32()[0] as u32
}

/// A message that no honest peer would send, or not now.
#[derive(Debug, Clone, Arbitrary)]
pub enum Hostile {
    Bytes(Vec<u8>),
    /// As the header, announced as long as it is.
    Header(Vec<u8>),
    /// An honest message of this kind with one byte changed.
    Bent {
        kind: Kind,
        at: u16,
        to: u8,
    },
}

impl Hostile {
    /// The message; `honest` makes those that are bent.
    pub fn message(self, honest: impl FnOnce(Kind) -> Frame) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.into(),
            Self::Header(header) => {
                [&(header.len() as u32).to_le_bytes(), &header[..]].concat().into()
            }
            Self::Bent { kind, at, to } => {
                let mut bytes = Vec::from(honest(kind).to_bytes());
                let at = usize::from(at) % bytes.len();
                bytes[at] = to;
                bytes.into()
            }
        }
    }
}
