use zenoh::bytes::ZBytes;

/// Bytes of the longest reason that is passed on.
const MAX_REASON: usize = 1024;

/// What a side sends when it ends a connection, and in answer to the other side's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CloseMessage {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl CloseMessage {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.code.to_le_bytes(), self.reason.as_bytes()].concat()
    }

    pub(super) fn decode(bytes: &ZBytes) -> Self {
        let bytes: Vec<u8> = bytes.slices().flatten().take(2 + MAX_REASON).copied().collect();
        let (code, reason) = bytes.split_first_chunk().unwrap_or((&[0; 2], &[]));
        let reason = String::from_utf8_lossy(reason).into_owned();
        Self { code: u16::from_le_bytes(*code), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_messages_round_trip() {
        let message = CloseMessage { code: 1001, reason: "grüß dich".to_owned() };
        assert_eq!(CloseMessage::decode(&message.encode().into()), message);
    }

    #[test]
    fn too_short_and_too_long_close_messages_are_tolerated() {
        let empty = CloseMessage { code: 0, reason: String::new() };
        assert_eq!(CloseMessage::decode(&ZBytes::from("x")), empty);
        let endless = ZBytes::from(vec![0xff_u8; 1 << 20]);
        assert_eq!(CloseMessage::decode(&endless).reason.chars().count(), MAX_REASON);
    }
}
