use super::error::{ErrorKind, WireError};
use super::frame::Frame;
use super::limits::Limits;
use super::{decode, encode};
use crate::{Action, Map, Observation, ResetResult, StepResult};

/// What a policy client sends.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// `metadata`: asks for the robot's metadata.
    Metadata,
    /// `reset`: asks for a reset of the robot.
    Reset,
    /// `obs_request`: asks for an observation.
    Observe,
    /// `apply_action`: an action; nothing answers it.
    ApplyAction(Action),
    /// `action`, the legacy coupled step: an action answered by a [`StepResult`].
    Step(Action),
}

/// What a robot server sends.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// `metadata_response`.
    Metadata(Map),
    /// `reset_response`.
    Reset(ResetResult),
    /// `obs_response`.
    Observation(Observation),
    /// `step_response`, the answer of the legacy step.
    Step(StepResult),
}

/// A message of either direction, for tools that do not know which side wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// From a policy client.
    Client(ClientMessage),
    /// From a robot server.
    Server(ServerMessage),
}

pub(super) const CLIENT_TYPES: [&str; 5] =
    ["metadata", "reset", "obs_request", "apply_action", "action"];
pub(super) const SERVER_TYPES: [&str; 4] =
    ["metadata_response", "reset_response", "obs_response", "step_response"];

impl ClientMessage {
    /// The message's `type` on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Reset => "reset",
            Self::Observe => "obs_request",
            Self::ApplyAction(_) => "apply_action",
            Self::Step(_) => "action",
        }
    }

    /// The frame of the message. An action's values are shared, not copied.
    pub fn encode(&self) -> Frame {
        encode::client_message(self)
    }

    /// Reads a frame. An action's values are a slice of it.
    ///
    /// # Errors
    /// When the frame is not a well-formed message of a client, or exceeds the limits.
    pub fn decode(frame: &Frame, limits: &Limits) -> Result<Self, WireError> {
        match Message::decode_one_of(frame, limits, &CLIENT_TYPES)? {
            Message::Client(message) => Ok(message),
            Message::Server(_) => unreachable!("only the client's types were admitted"),
        }
    }
}

impl ServerMessage {
    /// The message's `type` on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Metadata(_) => "metadata_response",
            Self::Reset(_) => "reset_response",
            Self::Observation(_) => "obs_response",
            Self::Step(_) => "step_response",
        }
    }

    /// The frame of the message. Images, depth maps and proprioception are shared, not copied.
    pub fn encode(&self) -> Frame {
        encode::server_message(self)
    }

    /// Reads a frame. Images, depth maps and proprioception are slices of it.
    ///
    /// # Errors
    /// When the frame is not a well-formed message of a server, or exceeds the limits.
    pub fn decode(frame: &Frame, limits: &Limits) -> Result<Self, WireError> {
        match Message::decode_one_of(frame, limits, &SERVER_TYPES)? {
            Message::Server(message) => Ok(message),
            Message::Client(_) => unreachable!("only the server's types were admitted"),
        }
    }
}

impl Message {
    /// Reads a frame of either direction.
    ///
    /// # Errors
    /// When the frame is not a well-formed message, or exceeds the limits.
    pub fn decode(frame: &Frame, limits: &Limits) -> Result<Self, WireError> {
        let all: Vec<_> = CLIENT_TYPES.into_iter().chain(SERVER_TYPES).collect();
        Self::decode_one_of(frame, limits, &all)
    }

    /// The message's `type` on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Client(message) => message.type_name(),
            Self::Server(message) => message.type_name(),
        }
    }

    /// The frame of the message.
    pub fn encode(&self) -> Frame {
        match self {
            Self::Client(message) => message.encode(),
            Self::Server(message) => message.encode(),
        }
    }

    fn decode_one_of(
        frame: &Frame,
        limits: &Limits,
        types: &[&'static str],
    ) -> Result<Self, WireError> {
        let header = decode::Header::scan(frame, limits)?;
        let (found, offset) = header.message_type()?;
        let Some(&message) = types.iter().find(|known| **known == found) else {
            return Err(WireError::at(ErrorKind::UnknownType, "type", offset)
                .found(format_args!("{found:?}"))
                .expected(format_args!("one of {}", types.join(", "))));
        };
        header.decode(message).map_err(|error| error.in_message(message))
    }
}
