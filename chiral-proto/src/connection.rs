use crate::ActionError;
use crate::wire::{ErrorKind, WireError};

/// Why a connection ended. Each connection ends once, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a frame that cannot be read.
    #[error("the peer sent a frame that cannot be read: {0}")]
    BadFrame(#[from] WireError),
    /// The server answered something that was not asked, or in another order.
    #[error(
        "the server sent {found} where {expected} was due: answers must come in the order of the requests"
    )]
    UnexpectedReply {
        /// The message's `type`.
        found: &'static str,
        /// What was due instead.
        expected: &'static str,
    },
    /// The client asked more than the server keeps waiting.
    #[error("the client has {limit} requests unanswered and sent another: wait for answers")]
    TooManyRequests {
        /// How many may wait.
        limit: usize,
    },
    /// The client's steps, untold, take more bytes than the server keeps waiting.
    #[error(
        "the client's steps take more than {limit} bytes while they wait: send smaller ones, or wait for answers"
    )]
    TooManyBytes {
        /// How many bytes may wait.
        limit: usize,
    },
    /// The client's step is not what the robot takes.
    #[error("a step was refused: {0}")]
    RefusedStep(ActionError),
    /// The robot let go of a request without answering it; the protocol has no way to say so.
    #[error("the robot dropped a {request} unanswered")]
    Unanswered {
        /// The request's `type`.
        request: &'static str,
    },
    /// The robot could not do what was asked.
    #[error("the robot failed: {0}")]
    RobotFailed(String),
    /// This side closed the connection.
    #[error("closed by this side")]
    ClosedLocally,
    /// This side's robot is going out of service.
    #[error("the robot's server is shutting down")]
    ShutDown,
    /// The peer broke the rules of the transport, which has told it so.
    #[error("the peer broke the transport's rules: {0}")]
    BadTransport(String),
    /// The peer closed the connection in an orderly way.
    #[error("closed by the peer ({})", closing(*.code, .reason))]
    ClosedByPeer {
        /// The transport's code: of a WebSocket, its close code.
        code: Option<u16>,
        /// The peer's words; may be empty.
        reason: String,
    },
    /// The transport failed.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl ConnectionError {
    /// The WebSocket close code with which to tell the peer.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::BadFrame(error) if error.kind() == ErrorKind::Limit => 1009,
            Self::BadFrame(_) => 1007,
            Self::UnexpectedReply { .. }
            | Self::TooManyRequests { .. }
            | Self::TooManyBytes { .. }
            | Self::RefusedStep(_) => 1008,
            Self::Unanswered { .. } | Self::RobotFailed(_) => 1011,
            Self::ShutDown => 1001,
            Self::BadTransport(_) => 1002,
            Self::ClosedLocally | Self::ClosedByPeer { .. } | Self::Lost(_) => 1000,
        }
    }

    /// The words with which to tell the peer, beside the code. A WebSocket has room for 123 bytes,
    /// so it gets the fault itself.
    pub fn close_reason(&self) -> String {
        match self {
            Self::BadFrame(error) => error.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether this side ended the connection, and the peer is still to be told.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::ClosedByPeer { .. } | Self::Lost(_) | Self::BadTransport(_))
    }
}

/// What a [WebSocket session](crate::ws)'s end means for the connection.
#[cfg(feature = "websocket")]
impl From<crate::ws::Error> for ConnectionError {
    fn from(error: crate::ws::Error) -> Self {
        use crate::ws::{CloseCode, Error};
        match error {
            Error::Closed { code, reason } => {
                let code = (code != CloseCode::NO_STATUS).then_some(code.0);
                Self::ClosedByPeer { code, reason }
            }
            lost @ (Error::Lost { .. }
            | Error::Unresponsive { .. }
            | Error::CloseTimeout { .. }) => Self::Lost(lost.to_string()),
            broken => Self::BadTransport(broken.to_string()),
        }
    }
}

fn closing(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, "") => "no reason given".to_owned(),
        (None, reason) => reason.to_owned(),
        (Some(code), "") => format!("code {code}"),
        (Some(code), reason) => format!("code {code}: {reason}"),
    }
}
