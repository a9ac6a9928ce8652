use std::time::Duration;

use super::close::CloseCode;
use crate::text::printable;

/// Why a session ended. Each says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer closed the session, for the reason it gives.
    #[error("the peer closed the session: {code}{}{}", if reason.is_empty() { "" } else { ": " },
        printable(reason, 123))]
    Closed {
        /// The peer's code; [`CloseCode::NO_STATUS`] when it gave none.
        code: CloseCode,
        /// The peer's reason, at most 123 bytes; often empty.
        reason: String,
    },
    /// The stream ended without a close frame: the peer crashed, or the network broke.
    #[error("the stream ended without a close frame{}",
        if *inside_message { ", in the middle of a message" } else { "" })]
    Lost {
        /// Whether a part of a message had arrived.
        inside_message: bool,
    },
    /// The peer answers no ping and neither sends nor takes a byte.
    #[error("the peer is unresponsive: no sign of life for {silence:?} after a ping")]
    Unresponsive {
        /// How long it was given: [`Keepalive::timeout`](super::Keepalive::timeout), or what
        /// [`Writer::probe`](super::Writer::probe) allowed.
        silence: Duration,
    },
    /// The closing handshake did not complete in time.
    #[error("the peer did not complete the closing handshake within {timeout:?}")]
    CloseTimeout {
        /// How long it was given: [`Config::close_timeout`](super::Config::close_timeout).
        timeout: Duration,
    },
    /// A message is over the limit.
    #[error(
        "message too long: {len} bytes announced, at most {limit} allowed (`Limits::frame_len`)"
    )]
    TooLong {
        /// Bytes of the message as announced so far, over all its fragments.
        len: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// A text message came.
    #[error(
        "found a text message, expected binary ones only, as chiral frames are: what the peer speaks is another protocol"
    )]
    Text,
    /// A frame has reserved bits set.
    #[error(
        "found reserved bits {bits:#05b} in a frame's header, expected none: no extension is in use"
    )]
    ReservedBits {
        /// RSV1, RSV2 and RSV3, as the bits 2, 1 and 0.
        bits: u8,
    },
    /// A frame is of a kind that does not exist.
    #[error("found a frame with the reserved opcode {0:#x}, expected 0x0, 0x2, 0x8, 0x9 or 0xa")]
    ReservedOpcode(u8),
    /// A client sent a frame without a mask.
    #[error("found a frame without a mask, expected all frames of a client masked")]
    Unmasked,
    /// A server sent a masked frame.
    #[error("found a masked frame, expected none of a server masked")]
    Masked,
    /// A frame's length is written in more bytes than it needs.
    #[error("found the length {0} in a longer form than it needs, expected the shortest")]
    LengthNotMinimal(u64),
    /// A frame's 64-bit length has its top bit set.
    #[error("found the length {0:#x} with its top bit set, expected at most 63 bits")]
    LengthOverflow(u64),
    /// A ping, pong or close was fragmented.
    #[error("found a fragmented control frame, expected control frames whole")]
    FragmentedControl,
    /// A ping, pong or close is too long.
    #[error("found a control frame of {0} bytes, expected at most 125")]
    LongControl(u64),
    /// A message was continued that had not begun.
    #[error("found a continuation, expected a new message: none is unfinished")]
    UnexpectedContinuation,
    /// A message began before the one before it was complete.
    #[error("found a new message, expected a continuation: the last message is unfinished")]
    ExpectedContinuation,
    /// A close frame is too short for its code.
    #[error("found a close frame of one byte, expected none or at least two")]
    ShortClose,
    /// A close frame carries a code that may not be sent.
    #[error("found the close code {0}, expected 1000-1003, 1007-1014 or 3000-4999")]
    InvalidCloseCode(u16),
    /// A close frame's reason is not UTF-8.
    #[error("found a close reason that is not UTF-8 from byte {valid_up_to}, expected UTF-8")]
    InvalidCloseReason {
        /// Bytes of the reason that are.
        valid_up_to: usize,
    },
}

impl Error {
    /// The code that stands for this error in a close frame, or the one that the peer sent. An
    /// [`ABNORMAL`](CloseCode::ABNORMAL) one never travels: there was nobody to send it to.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Lost { .. } | Self::Unresponsive { .. } | Self::CloseTimeout { .. } => {
                CloseCode::ABNORMAL
            }
            Self::TooLong { .. } => CloseCode::TOO_BIG,
            Self::Text => CloseCode::UNSUPPORTED,
            Self::InvalidCloseReason { .. } => CloseCode::INVALID_TEXT,
            Self::ReservedBits { .. }
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal(_)
            | Self::LengthOverflow(_)
            | Self::FragmentedControl
            | Self::LongControl(_)
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::ShortClose
            | Self::InvalidCloseCode(_) => CloseCode::PROTOCOL,
        }
    }

    /// Whether the peer took its leave in order, with [`NORMAL`](CloseCode::NORMAL),
    /// [`GOING_AWAY`](CloseCode::GOING_AWAY) or no code at all.
    pub fn is_orderly(&self) -> bool {
        let orderly = [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::NO_STATUS];
        matches!(self, Self::Closed { code, .. } if orderly.contains(code))
    }
}
