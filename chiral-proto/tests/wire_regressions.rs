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
fn a_header_that_is_not_a_map_is_rejected() {
    for header in [&[0x90][..], &[0xa1, b'x'], &[0xc0]] {
        let error = decode(header, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotMsgpack, "{error}");
    }
}

/// The error named the limit that was asked for, not the one in force.
#[test]
fn the_reported_depth_limit_is_the_effective_one() {
    let limits = Limits { depth: 1000, ..Limits::default() };
    let header = [&[0x81][..], &[0x91; 200], &[0xc0]].concat();
    let error = decode(&header, &limits).unwrap_err();
    assert_eq!(error.expected_text(), "at most 128 (`Limits::depth`)");
}

/// The error pointed at the start of the stream's map.
#[test]
fn a_size_not_divisible_by_the_element_is_reported_at_its_offset() {
    let stream = [("name", "q".into()), ("dtype", "float32".into()), ("offset", 0.into())];
    let entries = stream.into_iter().chain([("size", Value::from(7))]);
    let stream = Value::Map(entries.map(|(key, value)| (key.into(), value)).collect());
    let header = Map::from([("type", Value::from("obs_response")), ("timestamp", 0.into())])
        .with("cameras", Value::Array(vec![]))
        .with("proprios", Value::Array(vec![stream]))
        .encode();
    let error = decode(&header, &Limits::default()).unwrap_err();
    assert_eq!(error.field(), "proprios[0].size");
    assert_eq!(error.offset(), 4 + header.len() - 1, "the size is the header's last byte");
}

/// One buffer across a border made a copy of the whole payload.
#[test]
fn only_a_buffer_that_spans_segments_is_copied() {
    let streams = ["across", "behind"]
        .map(|name| Proprio { name: name.into(), values: Array::vector(vec![1.5_f64; 4]) });
    let sent = Observation { proprios: streams.into(), ..Observation::default() };
    let message = ServerMessage::Observation(sent.clone()).encode().to_bytes();
    let border = message.len() - 40;
    let segments: [Bytes; 2] = [message.slice(..border), message.slice(border..)];
    let frame = Frame::parse_segments(segments, &Limits::default()).unwrap();
    let ServerMessage::Observation(received) =
        ServerMessage::decode(&frame, &Limits::default()).unwrap()
    else {
        panic!("an observation was sent")
    };
    assert_eq!(received, sent);
    let place = |name: &str| received.proprio(name).unwrap().values.bytes().as_ptr().addr();
    let whole = message.as_ptr().addr()..message.as_ptr().addr() + message.len();
    assert!(!whole.contains(&place("across")));
    assert!(whole.contains(&place("behind")));
}
