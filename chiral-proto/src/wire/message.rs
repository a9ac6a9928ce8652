use super::error::{ErrorKind, WireError};
use super::frame::Frame;
use super::limits::Limits;
use super::message_type::MessageType;
use super::{decode, encode};
use crate::{Action, Map, Observation, ResetResult, StepResult};

/// What a policy client sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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
#[non_exhaustive]
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

impl ClientMessage {
    /// The message's `type`.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Metadata => MessageType::Metadata,
            Self::Reset => MessageType::Reset,
            Self::Observe => MessageType::Observe,
            Self::ApplyAction(_) => MessageType::ApplyAction,
            Self::Step(_) => MessageType::Step,
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
        match Message::decode_one_of(frame, limits, MessageType::is_from_client)? {
            Message::Client(message) => Ok(message),
            Message::Server(_) => unreachable!("only the client's types are admitted"),
        }
    }
}

impl ServerMessage {
    /// The message's `type`.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Metadata(_) => MessageType::MetadataResponse,
            Self::Reset(_) => MessageType::ResetResponse,
            Self::Observation(_) => MessageType::ObservationResponse,
            Self::Step(_) => MessageType::StepResponse,
        }
    }

    /// The observation that the message carries.
    pub(crate) fn observation_mut(&mut self) -> Option<&mut Observation> {
        match self {
            Self::Metadata(_) => None,
            Self::Observation(observation)
            | Self::Reset(ResetResult { observation, .. })
            | Self::Step(StepResult { observation, .. }) => Some(observation),
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
        match Message::decode_one_of(frame, limits, |found| !found.is_from_client())? {
            Message::Server(message) => Ok(message),
            Message::Client(_) => unreachable!("only the server's types are admitted"),
        }
    }
}

impl Message {
    /// Reads a frame of either direction.
    ///
    /// # Errors
    /// When the frame is not a well-formed message, or exceeds the limits.
    pub fn decode(frame: &Frame, limits: &Limits) -> Result<Self, WireError> {
        Self::decode_one_of(frame, limits, |_| true)
    }

    /// The message's `type`.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Client(message) => message.message_type(),
            Self::Server(message) => message.message_type(),
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
        is_admitted: impl Fn(MessageType) -> bool,
    ) -> Result<Self, WireError> {
        let header = decode::Header::scan(frame, limits)?;
        let (found, offset) = header.message_type()?;
        let known = MessageType::from_name(found).filter(|&known| is_admitted(known));
        let Some(message_type) = known else {
            let admitted = MessageType::ALL.into_iter().filter(|&known| is_admitted(known));
            let names: Vec<_> = admitted.map(MessageType::name).collect();
            return Err(WireError::at(ErrorKind::UnknownType, "type", offset)
                .found(format_args!("{found:?}"))
                .expected(format_args!("one of {}", names.join(", "))));
        };
        header.decode(message_type).map_err(|error| error.in_message(message_type))
    }
}
