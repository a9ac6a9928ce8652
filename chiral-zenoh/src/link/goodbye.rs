use zenoh::bytes::ZBytes;

/// Bytes of the longest reason that is passed on.
const MAX_REASON: usize = 1024;

/// The last word of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goodbye {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Goodbye {
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
    fn goodbyes_round_trip_and_long_reasons_are_truncated() {
        let goodbye = Goodbye { code: 1001, reason: "grüß dich".to_owned() };
        assert_eq!(Goodbye::decode(&goodbye.encode().into()), goodbye);
        let nothing = Goodbye { code: 0, reason: String::new() };
        assert_eq!(Goodbye::decode(&ZBytes::from("x")), nothing);
        let endless = ZBytes::from(vec![0xff_u8; 1 << 20]);
        assert_eq!(Goodbye::decode(&endless).reason.chars().count(), MAX_REASON);
    }
}
