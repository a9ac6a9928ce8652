//! What a user reads when a peer's frame is wrong.

use chiral_proto::wire::{ClientMessage, Frame, Limits, MessageType, ServerMessage, WireError};

use crate::pack::{
    action, array, camera, float, frame, int, map, negative, observation, one_camera, one_proprio,
    step, text,
};

fn server_error(bytes: Vec<u8>) -> WireError {
    let limits = Limits::default();
    let frame = Frame::parse(bytes.into(), &limits);
    frame.and_then(|frame| ServerMessage::decode(&frame, &limits)).unwrap_err()
}

fn client_error(bytes: Vec<u8>) -> WireError {
    let limits = Limits::default();
    let frame = Frame::parse(bytes.into(), &limits);
    frame.and_then(|frame| ClientMessage::decode(&frame, &limits)).unwrap_err()
}

/// The parts of the error and its whole text, which is made of them.
fn assert_error(
    error: &WireError,
    message: Option<&str>,
    field: &str,
    offset: usize,
    [found, expected]: [&str; 2],
) {
    let place = match (message, field) {
        (None, "") => "frame".to_owned(),
        (None, field) => format!("field `{field}`"),
        (Some(message), field) => format!("{message}: field `{field}`"),
    };
    let text = format!("{place} at byte {offset}: found {found}, expected {expected}");
    assert_eq!(error.to_string(), text);
    assert_eq!(error.message().map(MessageType::name), message, "{text}");
    assert_eq!(error.field(), field, "{text}");
    assert_eq!(error.offset(), offset, "{text}");
    assert_eq!(error.found_text(), found, "{text}");
    assert_eq!(error.expected_text(), expected, "{text}");
}

#[test]
fn frame_error_texts() {
    assert_error(
        &server_error(vec![1, 2]),
        None,
        "",
        0,
        ["a frame of 2 bytes", "at least 4, the header's length"],
    );
    assert_error(
        &server_error(vec![200, 0, 0, 0, 0x80]),
        None,
        "",
        0,
        ["a header of 200 bytes announced", "at most the 1 that follow"],
    );
    assert_error(
        &server_error(vec![0xff, 0xff, 0xff, 0xff, 0x80]),
        None,
        "",
        0,
        ["a header of 4294967295 bytes", "at most 16777216 (`Limits::header_len`)"],
    );
    assert_error(&server_error(frame(&array(&[]), &[])), None, "", 4, ["an array", "a map"]);
    assert_error(
        &server_error(observation(&[("unknown", [vec![0x91; 100], vec![0]].concat())])),
        None,
        "",
        166,
        ["values nested 65 deep", "at most 64 (`Limits::depth`)"],
    );
}

#[test]
fn message_type_error_texts() {
    assert_error(
        &client_error(observation(&[])),
        None,
        "type",
        16,
        ["\"obs_response\"", "one of metadata, reset, obs_request, apply_action, action"],
    );
    let long = format!("\"{}…", "x".repeat(119));
    let ours = "one of metadata_response, reset_response, obs_response, step_response";
    assert_error(
        &server_error(observation(&[("type", text(&"x".repeat(1000)))])),
        None,
        "type",
        16,
        [&long, ours],
    );
}

#[test]
fn observation_error_texts() {
    let message = Some("obs_response");
    assert_error(
        &server_error(one_camera(&[("intrinsics", vec![])])),
        message,
        "cameras[0].intrinsics",
        73,
        ["no such key in the map", "the key"],
    );
    let cameras = array(&[camera(&[]), camera(&[("image_size", int(60))])]);
    assert_error(
        &server_error(observation(&[("cameras", cameras)])),
        message,
        "cameras[1].image_shape",
        833,
        [
            "uint8 of shape [1, 2, 3] in 60 bytes",
            "a shape whose elements fill the buffer, `image_size`",
        ],
    );
    assert_error(
        &server_error(one_camera(&[("intrinsics", array(&[float(1.0), float(2.0)]))])),
        message,
        "cameras[0].intrinsics",
        133,
        ["2 numbers", "9, row-major"],
    );
    assert_error(
        &server_error(one_camera(&[("image_dtype", text("uint128"))])),
        message,
        "cameras[0].image_dtype",
        447,
        ["\"uint128\"", "one of bool, int8 to int64, uint8 to uint64, float16, float32, float64"],
    );
    let size = "a whole number that is not negative and fits the memory";
    assert_error(
        &server_error(one_camera(&[("image_offset", negative(-1))])),
        message,
        "cameras[0].image_offset",
        474,
        ["the integer -1", size],
    );
    assert_error(
        &server_error(one_camera(&[("image_size", float(1.5))])),
        message,
        "cameras[0].image_size",
        498,
        ["the float 1.5", size],
    );
    assert_error(
        &server_error(one_proprio(&[("size", int(6))])),
        message,
        "proprios[0].size",
        160,
        ["6 bytes of float32", "a multiple of the element's 4 bytes"],
    );
    assert_error(
        &server_error(one_proprio(&[("offset", int(u64::MAX))])),
        message,
        "proprios[0].offset",
        142,
        ["a buffer of 4 bytes at offset 18446744073709551615", "it within the payload's 8 bytes"],
    );
}

#[test]
fn step_and_action_error_texts() {
    assert_error(
        &server_error(step(&[("terminated", text("yes"))])),
        Some("step_response"),
        "terminated",
        109,
        ["a string", "a bool"],
    );
    let message = Some("apply_action");
    assert_error(
        &client_error(action(&[("dtype", text("float64"))])),
        message,
        "shape",
        43,
        ["float64 of shape [2] and 8 bytes of payload", "a payload of exactly the action's size"],
    );
    assert_error(
        &client_error(action(&[("obs_timestamps", map(&[("wrist", text("now"))]))])),
        message,
        "obs_timestamps",
        111,
        ["a string", "a number"],
    );
}

/// What the servers of other protocols say first.
#[test]
fn other_protocol_error_texts() {
    let expected = "a chiral frame: the peer speaks another protocol";
    let map = "a msgpack map without its length in front, as openpi's servers send it";
    for (message, found) in [
        (&b"\x81\xaareset_pose\x90"[..], map),
        (b"\xde\x00\x11\xa4name\xa3arm", map),
        (br#"{"op":"serverInfo","name":"foxglove_bridge"}"#, "what looks like JSON"),
    ] {
        assert_error(&server_error(message.to_vec()), None, "", 0, [found, expected]);
    }
}
