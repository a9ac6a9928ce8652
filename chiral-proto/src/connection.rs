use std::io;
use std::time::Duration;

use crate::text::{for_peer, printable};
use crate::wire::{ErrorKind, MessageType, RequestKind, WireError};
use crate::{ActionError, ArmingState};

/// Why a connection ended. Each connection ends once, for one reason.
///
/// In four groups: this side ended it because of what the peer sent ([`BadFrame`](Self::BadFrame),
/// [`UnexpectedReply`](Self::UnexpectedReply), [`TooManyRequests`](Self::TooManyRequests),
/// [`TooManyBytes`](Self::TooManyBytes), [`RefusedStep`](Self::RefusedStep),
/// [`NotArmed`](Self::NotArmed),
/// [`TransportViolation`](Self::TransportViolation)); this side ended it by its own will
/// ([`ClosedLocally`](Self::ClosedLocally), [`ShutDown`](Self::ShutDown),
/// [`TakenOver`](Self::TakenOver)) or fault
/// ([`Unanswered`](Self::Unanswered), [`RobotFailed`](Self::RobotFailed)); the peer closed it
/// ([`ClosedByPeer`](Self::ClosedByPeer)); nobody did, it [was lost](Self::is_lost).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a frame that cannot be read.
    #[error("the peer sent a frame that cannot be read: {0}")]
    BadFrame(WireError),
    /// The server sent an answer that was not asked for, or in another order.
    #[error("the server sent {found}, expected {}: answers must come in the order of the requests",
        expected_reply(*.expected))]
    UnexpectedReply {
        /// What came.
        found: MessageType,
        /// What was due; `None` when no request was waiting.
        expected: Option<MessageType>,
    },
    /// The client sent more requests than the server keeps waiting.
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
    /// The client sent a step while the robot was not armed. Seen by the server.
    #[error("the robot is {state}, expected it to be armed before a step")]
    NotArmed {
        /// What the robot was.
        state: ArmingState,
    },
    /// The robot let go of a request without answering it; the protocol has no way to say so.
    #[error("the robot dropped a {request} request unanswered")]
    Unanswered {
        /// The request.
        request: RequestKind,
    },
    /// The robot could not do what was asked.
    #[error("the robot failed: {0}")]
    RobotFailed(String),
    /// This side closed the connection.
    #[error("this side closed the connection")]
    ClosedLocally,
    /// The connection was lost, and could not be made again.
    #[error("the connection could not be made again: {found}; it had ended with: {lost}")]
    NotReconnected {
        /// Why it was lost.
        lost: Box<ConnectionError>,
        /// What stood in the way when it was given up.
        found: String,
    },
    /// This side's robot is going out of service.
    #[error("the robot's server is shutting down")]
    ShutDown,
    /// Another policy gets this side's robot.
    #[error("another policy has taken the robot over")]
    TakenOver,
    /// The peer broke the rules of the transport, which has told it so.
    #[error("the peer broke the transport's rules: {0}")]
    TransportViolation(String),
    /// The peer closed the connection in an orderly way.
    #[error("the peer closed the connection{}", closing(*.code, .reason))]
    ClosedByPeer {
        /// The transport's code: of a WebSocket, its close code.
        code: Option<u16>,
        /// The peer's words; may be empty. They are the peer's: escape them before they are
        /// printed, as this error's own text does.
        reason: String,
    },
    /// The connection was reset: the peer's process ended, or a machine between the two dropped
    /// the connection.
    #[error("the connection was reset: the peer's process has ended, or the network dropped it")]
    Reset,
    /// The stream ended without a close: the peer's process ended, or the network dropped it.
    #[error("the stream ended without a close{}: the peer's process has ended",
        if *.inside_message { ", in the middle of a message" } else { "" })]
    EndOfStream {
        /// Whether a part of a message had arrived.
        inside_message: bool,
    },
    /// The operating system's network stack gave up: nothing that it sent was acknowledged.
    #[error("the connection timed out: the peer's machine acknowledged nothing any more")]
    TimedOut,
    /// The peer gave no sign of life, although it was asked for one.
    #[error("the peer is unresponsive: no sign of life for {silence:?} after a ping")]
    Unresponsive {
        /// How long it was silent.
        silence: Duration,
    },
    /// The peer did not complete the closing handshake in time.
    #[error("the peer did not complete the closing handshake within {timeout:?}")]
    CloseTimeout {
        /// How long it was given.
        timeout: Duration,
    },
    /// The transport failed in another way.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl ConnectionError {
    /// What an error of reading or writing a socket means for the connection.
    ///
    /// ```
    /// use std::io;
    /// use chiral_proto::ConnectionError;
    ///
    /// let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    /// assert_eq!(ConnectionError::from_io(&reset), ConnectionError::Reset);
    /// assert!(ConnectionError::from_io(&io::Error::other("cable")).is_lost());
    /// ```
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::EndOfStream { inside_message: false },
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Lost(error.to_string()),
        }
    }

    /// The WebSocket close code with which to tell the peer.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::BadFrame(error) if error.kind() == ErrorKind::Limit => 1009,
            Self::BadFrame(_) => 1007,
            Self::UnexpectedReply { .. }
            | Self::TooManyRequests { .. }
            | Self::TooManyBytes { .. }
            | Self::RefusedStep(_)
            | Self::NotArmed { .. } => 1008,
            Self::Unanswered { .. } | Self::RobotFailed(_) | Self::Unresponsive { .. } => 1011,
            Self::ShutDown => 1001,
            Self::TakenOver => 1013,
            Self::TransportViolation(_) => 1002,
            Self::ClosedLocally
            | Self::NotReconnected { .. }
            | Self::ClosedByPeer { .. }
            | Self::Reset
            | Self::EndOfStream { .. }
            | Self::TimedOut
            | Self::CloseTimeout { .. }
            | Self::Lost(_) => 1000,
        }
    }

    /// The words with which to tell the peer, beside the code; empty where the code says it all.
    /// A WebSocket has room for 123 bytes, so it gets the fault itself.
    pub fn close_reason(&self) -> String {
        match self {
            Self::ClosedLocally | Self::ClosedByPeer { .. } => String::new(),
            Self::BadFrame(error) => for_peer(&error.to_string()),
            Self::Unresponsive { silence } => format!("no sign of life for {silence:?}"),
            other => other.to_string(),
        }
    }

    /// Whether this side ended the connection, and the peer is still to be told.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::BadFrame(_)
                | Self::UnexpectedReply { .. }
                | Self::TooManyRequests { .. }
                | Self::TooManyBytes { .. }
                | Self::RefusedStep(_)
                | Self::NotArmed { .. }
                | Self::Unanswered { .. }
                | Self::RobotFailed(_)
                | Self::ClosedLocally
                | Self::ShutDown
                | Self::TakenOver
        )
    }

    /// Whether the connection broke: neither side closed it. The peer cannot be told any more, or
    /// only with luck.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Reset
                | Self::EndOfStream { .. }
                | Self::TimedOut
                | Self::Unresponsive { .. }
                | Self::CloseTimeout { .. }
                | Self::Lost(_)
        )
    }

    /// Whether another connection to the same robot may last where this one did not: it broke, or the
    /// server has closed it for a reason that may pass.
    ///
    /// A server that goes or restarts (close codes 1000, 1001, 1012, 1014, or none), and a robot that
    /// has failed (1011), may come back. A server for which this side has broken the rules (1002 to
    /// 1010) would do the same again. A robot that another policy was given (1013) is not taken
    /// back: two clients would take it from each other for ever.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::ClosedByPeer { code, .. } => {
                matches!(code, None | Some(1000 | 1001 | 1011 | 1012 | 1014))
            }
            other => other.is_lost(),
        }
    }
}

// Its text is a part of the connection error's: as a source too, it would be printed twice.
impl From<WireError> for ConnectionError {
    fn from(error: WireError) -> Self {
        Self::BadFrame(error)
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::from_io(&error)
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
            Error::Lost { inside_message } => Self::EndOfStream { inside_message },
            Error::Unresponsive { silence } => Self::Unresponsive { silence },
            Error::CloseTimeout { timeout } => Self::CloseTimeout { timeout },
            violation => Self::TransportViolation(violation.to_string()),
        }
    }
}

fn expected_reply(expected: Option<MessageType>) -> &'static str {
    expected.map_or("nothing, as no request was waiting", MessageType::name)
}

/// The longest reason of a close frame.
const LONGEST_REASON: usize = 123;

fn closing(code: Option<u16>, reason: &str) -> String {
    let reason = printable(reason, LONGEST_REASON);
    match (code, &reason[..]) {
        (None | Some(1000), "") => String::new(),
        (None | Some(1000), reason) => format!(": {reason}"),
        (Some(code), "") => format!(" (code {code})"),
        (Some(code), reason) => format!(" (code {code}): {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed_by_peer(code: Option<u16>, reason: &str) -> ConnectionError {
        ConnectionError::ClosedByPeer { code, reason: reason.to_owned() }
    }

    #[test]
    fn close_codes_and_reasons_read_well_at_the_peer() {
        for (ended, text) in [
            (ConnectionError::ClosedLocally, "the peer closed the connection"),
            (
                ConnectionError::ShutDown,
                "the peer closed the connection (code 1001): the robot's server is shutting down",
            ),
            (
                ConnectionError::TakenOver,
                "the peer closed the connection (code 1013): another policy has taken the robot over",
            ),
            (
                ConnectionError::RobotFailed("joint 3".to_owned()),
                "the peer closed the connection (code 1011): the robot failed: joint 3",
            ),
            (
                ConnectionError::Unresponsive { silence: Duration::from_secs(20) },
                "the peer closed the connection (code 1011): no sign of life for 20s",
            ),
        ] {
            let told = closed_by_peer(Some(ended.close_code()), &ended.close_reason());
            assert_eq!(told.to_string(), text);
        }
    }

    #[test]
    fn a_close_reason_is_escaped_when_printed() {
        let error = closed_by_peer(Some(4000), "bye\r\nERROR: \x1b[2Jfake");
        let text = "the peer closed the connection (code 4000): bye\\r\\nERROR: \\u{1b}[2Jfake";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn io_errors_are_told_apart() {
        use io::ErrorKind;
        let from = |kind: ErrorKind| ConnectionError::from_io(&kind.into());
        assert_eq!(from(ErrorKind::ConnectionReset), ConnectionError::Reset);
        assert_eq!(from(ErrorKind::BrokenPipe), ConnectionError::Reset);
        assert_eq!(from(ErrorKind::TimedOut), ConnectionError::TimedOut);
        let ended = ConnectionError::EndOfStream { inside_message: false };
        assert_eq!(from(ErrorKind::UnexpectedEof), ended);
        assert!(matches!(from(ErrorKind::PermissionDenied), ConnectionError::Lost(_)));
        for kind in [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::Other] {
            assert!(from(kind).is_lost() && !from(kind).is_ours());
        }
    }
}
