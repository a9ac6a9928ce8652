//! Clients that break the rules: each is told its fault and let go, and the robot goes on.

use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{ConnectionError, Observation};
use chiral_tests::{Entry, Opcode, Raw, Recorder, Work, message};

use crate::malformed::{assert_told, frame, map, messages, text};
use crate::pair::{Served, Server, action as good_action};

/// An action of four bytes that claims any shape and dtype.
fn action(shape: &[u8], dtype: &str) -> Vec<u8> {
    let header = map(&[("type", &text("apply_action")), ("shape", shape), ("dtype", &text(dtype))]);
    frame(&header, &[0; 4])
}

/// Asserts that so many policies have come to a robot, and that it still takes another one.
#[track_caller]
fn assert_still_serves(served: &Served, policies: usize) {
    let mut raw = Raw::complete_handshake(served.socket());
    raw.send_message(Opcode::Binary, &ClientMessage::Observe.encode().to_bytes());
    assert_eq!(raw.frame().expect("it answers").0, Opcode::Binary);
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), policies + 1);
    assert!(served.robot.applied().is_empty());
}

pub(crate) fn bad_messages_close_the_connection_with_a_reason(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let observation = ServerMessage::Observation(Observation::default()).encode().to_bytes();
    let mut messages = messages();
    messages.extend([
        (observation.to_vec(), 1007, "obs_response"),
        (action(&[0x92, 2, 3], "float32"), 1007, "shape [2, 3] and 4 bytes"),
        (action(&[0x91, 2], "float32"), 1007, "shape [2] and 4 bytes"),
        (action(&[0x91, 0xff], "float32"), 1007, "field `shape` at byte"),
        (action(&text("7"), "float32"), 1007, "field `shape` at byte"),
        (
            action(&[0x92, 0xce, 255, 255, 255, 255, 0xce, 255, 255, 255, 255], "float64"),
            1007,
            "field `shape` at byte",
        ),
        (action(&[0x91, 1], "complex64"), 1007, "complex64"),
        (frame(&map(&[("type", &text("apply_action"))]), &[0; 4]), 1007, "field `shape` at byte"),
    ]);
    let count = messages.len();
    for (index, (bad, code, why)) in messages.into_iter().enumerate() {
        let mut raw = Raw::complete_handshake(served.socket());
        raw.send_message(Opcode::Binary, &bad);
        assert_told(raw.closed(), code, why);
        let reason = served.robot.wait_for_disconnects(index + 1);
        assert!(matches!(reason, ConnectionError::BadFrame(_)), "{reason:?}");
    }
    assert_still_serves(&served, count);
}

pub(crate) fn websocket_violations_close_the_connection_with_a_reason(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let metadata = ClientMessage::Metadata.encode().to_bytes();
    let masked = |head: &[u8], payload: &[u8]| [head, &[0; 4], payload].concat();
    let gigabyte = [&[0x82, 0xff][..], &(1_u64 << 30).to_be_bytes()].concat();
    let cases = [
        (message(Opcode::Text, b"{\"type\": \"metadata\"}", true), 1003, "text message"),
        (message(Opcode::Binary, &metadata, false), 1002, "without a mask"),
        (masked(&gigabyte, &[]), 1009, "1073741824 bytes announced"),
        (masked(&[0xc2, 0x80], &[]), 1002, "reserved bits"),
        (masked(&[0x83, 0x80], &[]), 1002, "reserved opcode 0x3"),
        (masked(&[0x80, 0x80], &[]), 1002, "found a continuation"),
        ([masked(&[0x02, 0x80], &[]), masked(&[0x82, 0x80], &[])].concat(), 1002, "unfinished"),
        (masked(&[0x09, 0x80], &[]), 1002, "fragmented control"),
        (masked(&[0x89, 0xfe, 0, 126], &[0; 126]), 1002, "control frame of 126 bytes"),
        (masked(&[0x82, 0xfe, 0, 5], &[0; 5]), 1002, "shortest"),
        (masked(&[0x88, 0x81], &[3]), 1002, "close frame of one byte"),
        (masked(&[0x88, 0x82], &[0x03, 0xed]), 1002, "close code 1005"),
        (masked(&[0x88, 0x83], &[0x03, 0xe8, 0xff]), 1007, "not UTF-8"),
    ];
    let count = cases.len();
    for (index, (bad, code, why)) in cases.into_iter().enumerate() {
        let mut raw = Raw::complete_handshake(served.socket());
        raw.send(&bad);
        assert_told(raw.closed(), code, why);
        raw.to_end();
        let reason = served.robot.wait_for_disconnects(index + 1);
        assert!(matches!(reason, ConnectionError::TransportViolation(_)), "{reason:?}");
    }
    assert_still_serves(&served, count);
}

pub(crate) fn messages_after_a_bad_one_do_not_reach_the_robot(adapter: Server) {
    let served = adapter.serve(Recorder::small().held(Work::Observe));
    let observe = ClientMessage::Observe.encode().to_bytes();
    let good = ClientMessage::ApplyAction(good_action(1)).encode().to_bytes();
    let mut raw = Raw::complete_handshake(served.socket());
    // In one packet: the good one before the fault may still count, the one behind it does not.
    let all = [
        message(Opcode::Binary, &observe, true),
        message(Opcode::Binary, &good, true),
        message(Opcode::Binary, b"nonsense", true),
        message(Opcode::Binary, &good, true),
    ];
    raw.send(&all.concat());
    assert_eq!(raw.closed().0, 1009);
    served.robot.release(Work::Observe);
    served.robot.wait_for_disconnects(1);
    assert!(served.robot.applied().len() <= 1);
}

pub(crate) fn a_client_that_disconnects_at_any_byte_is_noticed(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let action = ClientMessage::ApplyAction(good_action(1)).encode().to_bytes();
    let whole = message(Opcode::Binary, &action, true);
    // In the head, in the mask, in the message.
    let cuts = [0, 1, 4, 9, whole.len() - 1];
    for (index, sent) in cuts.into_iter().enumerate() {
        let mut raw = Raw::complete_handshake(served.socket());
        raw.send(&whole[..sent]);
        drop(raw);
        let reason = served.robot.wait_for_disconnects(index + 1);
        assert!(reason.is_lost(), "{reason:?}");
    }
    assert_still_serves(&served, cuts.len());
}
