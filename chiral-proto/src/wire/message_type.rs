use std::fmt;

/// The `type` of a message: all nine that the protocol has.
///
/// This enum and [`RequestKind`] are the one place that says which messages exist, what they are
/// called on the wire, who sends them, and which response answers which request.
///
/// ```
/// use chiral_proto::wire::{MessageType, RequestKind};
///
/// assert_eq!(MessageType::from_name("obs_request"), Some(MessageType::Observe));
/// assert_eq!(MessageType::Observe.response(), Some(MessageType::ObservationResponse));
/// assert_eq!(MessageType::ApplyAction.response(), None);
/// assert_eq!(MessageType::StepResponse.answers(), Some(RequestKind::Step));
/// assert!(MessageType::Step.is_from_client());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageType {
    /// `metadata`, from the client: asks for the robot's metadata.
    Metadata,
    /// `reset`, from the client: asks for a reset of the robot.
    Reset,
    /// `obs_request`, from the client: asks for an observation.
    Observe,
    /// `apply_action`, from the client: an action; nothing answers it.
    ApplyAction,
    /// `action`, from the client: the legacy coupled step.
    Step,
    /// `metadata_response`, from the server.
    MetadataResponse,
    /// `reset_response`, from the server.
    ResetResponse,
    /// `obs_response`, from the server.
    ObservationResponse,
    /// `step_response`, from the server: the answer of the legacy step.
    StepResponse,
}

impl MessageType {
    /// Every message type, those of the client first.
    pub const ALL: [Self; 9] = [
        Self::Metadata,
        Self::Reset,
        Self::Observe,
        Self::ApplyAction,
        Self::Step,
        Self::MetadataResponse,
        Self::ResetResponse,
        Self::ObservationResponse,
        Self::StepResponse,
    ];

    /// The value of the header's key `type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Reset => "reset",
            Self::Observe => "obs_request",
            Self::ApplyAction => "apply_action",
            Self::Step => "action",
            Self::MetadataResponse => "metadata_response",
            Self::ResetResponse => "reset_response",
            Self::ObservationResponse => "obs_response",
            Self::StepResponse => "step_response",
        }
    }

    /// The message type of that name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether the policy client sends it; otherwise the robot server does.
    pub const fn is_from_client(self) -> bool {
        match self {
            Self::Metadata | Self::Reset | Self::Observe | Self::ApplyAction | Self::Step => true,
            Self::MetadataResponse
            | Self::ResetResponse
            | Self::ObservationResponse
            | Self::StepResponse => false,
        }
    }

    /// The response that answers it; `None` for a response, and for `apply_action`.
    pub fn response(self) -> Option<Self> {
        RequestKind::ALL.into_iter().find(|kind| kind.request() == self).map(RequestKind::response)
    }

    /// The request that it answers; `None` for what the client sends.
    pub fn answers(self) -> Option<RequestKind> {
        RequestKind::ALL.into_iter().find(|kind| kind.response() == self)
    }
}

/// The name on the wire.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a client can ask for: the messages that are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// The robot's metadata.
    Metadata,
    /// A reset of the robot.
    Reset,
    /// An observation.
    Observe,
    /// The legacy coupled step: an action, and the observation after it.
    Step,
}

impl RequestKind {
    /// Every kind of request.
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Reset, Self::Observe, Self::Step];

    /// The message that asks.
    pub const fn request(self) -> MessageType {
        match self {
            Self::Metadata => MessageType::Metadata,
            Self::Reset => MessageType::Reset,
            Self::Observe => MessageType::Observe,
            Self::Step => MessageType::Step,
        }
    }

    /// The message that answers.
    pub const fn response(self) -> MessageType {
        match self {
            Self::Metadata => MessageType::MetadataResponse,
            Self::Reset => MessageType::ResetResponse,
            Self::Observe => MessageType::ObservationResponse,
            Self::Step => MessageType::StepResponse,
        }
    }

    /// Whether it moves the robot: a reset or a step. It may take as long as the motion does,
    /// actions keep their order with it, and asking twice would move the robot twice.
    pub const fn moves_robot(self) -> bool {
        match self {
            Self::Reset | Self::Step => true,
            Self::Metadata | Self::Observe => false,
        }
    }
}

/// The request's name on the wire.
impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.request().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_type_names_are_unique_and_round_trip() {
        for message in MessageType::ALL {
            assert_eq!(MessageType::from_name(message.name()), Some(message));
        }
        assert_eq!(MessageType::from_name("observe"), None);
    }

    #[test]
    fn each_response_type_answers_one_request_type() {
        for kind in RequestKind::ALL {
            assert!(kind.request().is_from_client() && !kind.response().is_from_client());
            assert_eq!(kind.request().response(), Some(kind.response()));
            assert_eq!(kind.response().answers(), Some(kind));
        }
        for message in MessageType::ALL {
            assert_eq!(message.answers().is_none(), message.is_from_client());
        }
    }
}
