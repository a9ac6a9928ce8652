//! How sessions are closed: codes and reasons (RFC 6455, sections 5.5.1 and 7.4).

use std::fmt;

/// Why a session was closed, as a number that travels in the close frame.
///
/// ```
/// use chiral_proto::ws::CloseCode;
///
/// assert_eq!(CloseCode::TOO_BIG.to_string(), "1009 (message too big)");
/// assert_eq!(CloseCode(4000).to_string(), "4000");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(
    /// The number.
    pub u16,
);

impl CloseCode {
    /// The session has served its purpose.
    pub const NORMAL: Self = Self(1000);
    /// The process goes: a server shuts down, a client exits.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer sent a kind of message that is not spoken here: text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Never sent: stands for a close frame without a code.
    pub const NO_STATUS: Self = Self(1005);
    /// Never sent: stands for a connection that broke without a close frame.
    pub const ABNORMAL: Self = Self(1006);
    /// The peer sent text that is not UTF-8.
    pub const INVALID_TEXT: Self = Self(1007);
    /// The peer did what it is not allowed to.
    pub const POLICY: Self = Self(1008);
    /// The peer sent a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// Something went wrong on this side.
    pub const INTERNAL: Self = Self(1011);
    /// The server is there, and cannot take another client now.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Whether a close frame may carry this code.
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match *self {
            Self::NORMAL => "normal closure",
            Self::GOING_AWAY => "going away",
            Self::PROTOCOL => "protocol error",
            Self::UNSUPPORTED => "unsupported data",
            Self::NO_STATUS => "no code given",
            Self::ABNORMAL => "connection lost",
            Self::INVALID_TEXT => "invalid text",
            Self::POLICY => "policy violation",
            Self::TOO_BIG => "message too big",
            Self::INTERNAL => "internal error",
            Self(code) => return write!(f, "{code}"),
        };
        write!(f, "{} ({meaning})", self.0)
    }
}

/// The longest reason that fits into a close frame beside the code.
const MAX_REASON: usize = super::head::MAX_CONTROL - size_of::<u16>();

/// The payload of a close frame; empty for a code that may not be sent.
pub(super) fn payload(code: CloseCode, reason: &str) -> Vec<u8> {
    if !code.may_be_sent() {
        return Vec::new();
    }
    let mut payload = code.0.to_be_bytes().to_vec();
    let longest = reason.len().min(MAX_REASON);
    let end = (0..=longest).rfind(|&end| reason.is_char_boundary(end)).unwrap_or_default();
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_close_reason_is_truncated_at_a_character_boundary() {
        let payload = payload(CloseCode::NORMAL, &"ü".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(std::str::from_utf8(&payload[2..]), Ok("ü".repeat(61).as_str()));
    }

    #[test]
    fn unsendable_close_codes_give_an_empty_payload() {
        for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode(999), CloseCode(5000)] {
            assert!(payload(code, "why").is_empty());
        }
    }
}
