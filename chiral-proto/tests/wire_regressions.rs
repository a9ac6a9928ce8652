//! Faults of the wire that were found and mended, each with the smallest frame that shows it.

use bytes::Bytes;
use chiral_proto::wire::{ErrorKind, Frame, Limits, ServerMessage, WireError};
use chiral_proto::{Array, Map, Observation, Proprio, Value};

fn decode(header: &[u8], limits: &Limits) -> Result<ServerMessage, WireError> {
    let prefix = (header.len() as u32).to_le_bytes();
    let frame = Frame::parse([&prefix, header, &[0; 8]].concat().into(), limits)?;
    ServerMessage::decode(&frame, limits)
}

/// It was called a field of the wrong type.
#[test]
fn a_header_that_is_no_map_is_no_header() {
    for header in [&[0x90][..], &[0xa1, b'x'], &[0xc0]] {
        let error = decode(header, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotMsgpack, "{error}");
    }
}

/// The error named the limit that was asked for, not the one in force.
#[test]
fn a_depth_limit_out_of_reach_is_not_reported() {
    let limits = Limits { depth: 1000, ..Limits::default() };
    let header = [&[0x81][..], &[0x91; 200], &[0xc0]].concat();
    let error = decode(&header, &limits).unwrap_err();
    assert_eq!(error.expected_text(), "at most 128 (`Limits::depth`)");
}
