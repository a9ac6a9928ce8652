//! A WebSocket frame's header: tungstenite codes it, the checks of RFC 6455 are here.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::error::Error;
use super::mask::{self, Key};
use super::outgoing::Fragment;

/// The longest payload of a ping, pong or close.
pub(super) const MAX_CONTROL: usize = 125;

/// The header of a received frame that is in order as far as one frame can tell.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) opcode: OpCode,
    /// Whether the message ends with this frame.
    pub(super) is_final: bool,
    /// Present exactly when the peer must mask.
    pub(super) mask: Option<Key>,
    /// Bytes of the payload; below 2^63.
    pub(super) len: u64,
    /// Bytes of the header itself.
    pub(super) size: usize,
}

impl Head {
    /// Reads the header that `bytes` begin with; `None` when they hold only a part of it.
    pub(super) fn parse(bytes: &[u8], peer_masks: bool) -> Result<Option<Self>, Error> {
        let mut cursor = Cursor::new(bytes);
        let (header, len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            // Its one other reason to fail: reading from memory does not.
            Err(_) => return Err(Error::ReservedOpcode(bytes[0] & 0x0f)),
        };
        let size = cursor.position() as usize;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Error::ReservedBits { bits: bytes[0] >> 4 & 0b111 });
        }
        match (header.mask, peer_masks) {
            (None, true) => return Err(Error::Unmasked),
            (Some(_), false) => return Err(Error::Masked),
            (Some(_), true) | (None, false) => {}
        }
        if len >> 63 != 0 {
            return Err(Error::LengthOverflow(len));
        }
        if header.len(len) != size {
            return Err(Error::LengthNotMinimal(len));
        }
        if let OpCode::Control(_) = header.opcode {
            if !header.is_final {
                return Err(Error::FragmentedControl);
            }
            if len > MAX_CONTROL as u64 {
                return Err(Error::LongControl(len));
            }
        }
        let FrameHeader { opcode, is_final, mask, .. } = header;
        Ok(Some(Self { opcode, is_final, mask, len, size }))
    }
}

/// Appends the header of a message's fragment.
pub(super) fn put_fragment(out: &mut Vec<u8>, fragment: &Fragment, mask: Option<Key>) {
    let Fragment { len, is_first, is_last } = *fragment;
    let opcode = OpCode::Data(if is_first { Data::Binary } else { Data::Continue });
    put(out, &FrameHeader { is_final: is_last, opcode, mask, ..FrameHeader::default() }, len);
}

/// Appends a whole control frame.
pub(super) fn put_control(out: &mut Vec<u8>, kind: Control, payload: &[u8], mask: Option<Key>) {
    let opcode = OpCode::Control(kind);
    put(out, &FrameHeader { opcode, mask, ..FrameHeader::default() }, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key, 0);
    }
}

fn put(out: &mut Vec<u8>, header: &FrameHeader, len: usize) {
    header.format(len as u64, out).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<Head>, Error> {
        Head::parse(bytes, false)
    }

    #[test]
    fn non_minimal_length_encodings_are_rejected() {
        for (len, size) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (17 << 20, 10)] {
            let mut bytes = Vec::new();
            put_fragment(&mut bytes, &Fragment { len, is_first: true, is_last: true }, None);
            for end in 0..size {
                assert!(parse(&bytes[..end]).expect("no error yet").is_none());
            }
            let head = parse(&bytes).expect("in order").expect("whole");
            assert_eq!((head.len, head.size), (len as u64, size));
        }
        let error = parse(&[0x82, 126, 0, 125]).unwrap_err();
        assert_eq!(error, Error::LengthNotMinimal(125));
        let error = parse(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).unwrap_err();
        assert_eq!(error, Error::LengthNotMinimal(65535));
    }

    #[test]
    fn reserved_bits_and_opcodes_are_rejected() {
        for bits in 1..8 {
            assert_eq!(parse(&[0x82 | bits << 4, 0]).unwrap_err(), Error::ReservedBits { bits });
        }
        for opcode in (3..8).chain(11..16) {
            assert_eq!(parse(&[0x80 | opcode, 0]).unwrap_err(), Error::ReservedOpcode(opcode));
        }
    }
}
