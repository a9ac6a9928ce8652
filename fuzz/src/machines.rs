//! What the fuzz targets of the two machines share: numbered messages, and messages that no correct
//! peer would send.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use chiral_proto::server::Config;
use chiral_proto::wire::{ClientMessage, Frame, ServerMessage};
use chiral_proto::{Action, ActionSpec, Arming, Map, Observation, Rate, ResetResult, StepResult};

/// The start of the machines' clocks.
pub fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

/// A time to wait: mostly short, sometimes days.
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

/// A kind of request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Kind {
    Metadata,
    Reset,
    Observe,
    Step,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Reset, Self::Observe, Self::Step];

    /// The request of this kind; the action of a step is numbered.
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
            other => panic!("a {} is not known here", other.message_type()),
        }
    }
}

/// How many bytes of actions and steps may wait: so few that they do not have room, or the default.
pub fn queue_bytes(few: u8) -> usize {
    if few == 0 { Config::default().queue_bytes } else { usize::from(few) * 4 }
}

pub fn observation(number: u32) -> Observation {
    Observation { timestamp: number.into(), ..Observation::default() }
}

/// Metadata that is known by its number. Some of it declares a contract, and not always the same;
/// none that clamps, which would change the numbers of actions.
pub fn metadata(number: u32) -> Map {
    let spec = ActionSpec::vector(1).bounds(0.0, 200.0).max_step(40.0).stop_after(5);
    let rate = |hz: u32| Rate::hz(hz).expect("a rate");
    let declared = match number % 4 {
        1 => spec.rate(rate(50)).to_metadata(),
        3 => spec.rate(rate(20)).arming(Arming::OnReset).to_metadata(),
        _ => Map::new(),
    };
    declared.with("number", number)
}

/// The number of [`metadata`], if it is that.
pub fn number_in(data: &Map) -> Option<u32> {
    data.get("number")?.as_u64()?.try_into().ok()
}

/// # Panics
/// When it is not [`metadata`] of a number.
pub fn number_of_metadata(data: &Map) -> u32 {
    number_in(data).expect("metadata of a number")
}

pub fn action(number: u32) -> Action {
    Action::from([number as f32])
}

/// # Panics
/// When it is not an [`action`] of a number.
pub fn number_of(action: &Action) -> u32 {
    action.to_f32()[0] as u32
}

/// A rate of any size that is one.
pub fn hz(rate: u16) -> Rate {
    Rate::hz(f64::from(rate).max(0.1) * 1.5).expect("a sensible rate")
}

/// A message that no correct peer would send, or would not send now.
#[derive(Debug, Clone, Arbitrary)]
pub enum Hostile {
    Bytes(Vec<u8>),
    /// A header, with its true length in front.
    Header(Vec<u8>),
    /// A valid message of this kind with one byte changed.
    Bent {
        kind: Kind,
        at: u16,
        to: u8,
    },
}

impl Hostile {
    /// The message; `honest` makes the valid ones that are corrupted.
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
