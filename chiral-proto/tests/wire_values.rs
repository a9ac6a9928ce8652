//! What values mean that are missing, nil or of a neighbouring kind, as `docs/PROTOCOL.md` has them.

use bytes::Bytes;
use chiral_proto::wire::{
    ClientMessage, ErrorKind, Frame, Limits, Message, ServerMessage, WireError,
};
use chiral_proto::{Map, Observation, ResetResult, StepResult, Value, map};

/// A frame of this header, and what it decodes to.
fn decode(header: &Map, payload: &[u8]) -> Result<Message, WireError> {
    let header = header.encode();
    let prefix = (header.len() as u32).to_le_bytes();
    let frame = Bytes::from([&prefix[..], &header, payload].concat());
    Message::decode(&Frame::parse(frame, &Limits::default())?, &Limits::default())
}

fn server(header: &Map) -> ServerMessage {
    match decode(header, &[0; 12]) {
        Ok(Message::Server(message)) => message,
        other => panic!("{header:?}: {other:?}"),
    }
}

fn step(header: &Map) -> StepResult {
    match server(header) {
        ServerMessage::Step(step) => step,
        other => panic!("{header:?}: {other:?}"),
    }
}

fn observation(header: &Map) -> Observation {
    match server(header) {
        ServerMessage::Observation(observation) => observation,
        other => panic!("{header:?}: {other:?}"),
    }
}

/// Two ways to say nothing: without the key, and with nil.
fn without(header: &Map, key: &str) -> [Map; 2] {
    let left_out = header.iter().filter(|(found, _)| found != key).collect();
    [left_out, header.clone().with(key, Value::Nil)]
}

fn camera() -> Map {
    map! {
        "name" => "cam",
        "timestamp" => 1.5,
        "intrinsics" => [1.0; 9],
        "extrinsics" => [1.0; 16],
        "image_shape" => [2, 2, 3],
        "image_dtype" => "uint8",
        "image_offset" => 0,
        "image_size" => 12,
    }
}

fn of_camera(camera: Map) -> Map {
    map! { "type" => "obs_response", "cameras" => [camera] }
}

#[test]
fn free_form_maps_are_empty_where_they_are_missing_or_nil() {
    let metadata = map! { "type" => "metadata_response", "data" => map! { "a" => 1 } };
    for header in without(&metadata, "data") {
        assert_eq!(server(&header), ServerMessage::Metadata(Map::new()), "{header:?}");
    }
    for key in ["info", "extra"] {
        let full = map! { "type" => "reset_response", key => map! { "a" => 1 } };
        for header in without(&full, key) {
            assert_eq!(server(&header), ServerMessage::Reset(ResetResult::default()), "{header:?}");
        }
    }
    for wrong in [Value::from(0), false.into(), "".into(), Value::Array(vec![])] {
        let error = decode(&metadata.clone().with("data", wrong.clone()), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType, "{wrong:?}");
    }
}

#[test]
fn sensors_are_none_and_times_0_where_they_are_missing_or_nil() {
    let full = of_camera(camera()).with("timestamp", 7).with("proprios", Value::Array(vec![]));
    for key in ["cameras", "proprios", "timestamp"] {
        for header in without(&full, key) {
            let observation = observation(&header);
            assert_eq!(observation.cameras.len(), usize::from(key != "cameras"));
            assert!(observation.proprios.is_empty());
            let expected = if key == "timestamp" { 0.0_f64 } else { 7.0 };
            assert_eq!(observation.timestamp.to_bits(), expected.to_bits(), "{header:?}");
        }
    }
    for camera in without(&camera(), "timestamp") {
        assert_eq!(observation(&of_camera(camera)).cameras[0].timestamp.to_bits(), 0);
    }
}

#[test]
fn numbers_and_truth_values_stand_for_one_another() {
    let of = |key, value| step(&map! { "type" => "step_response" }.with(key, value));
    for (value, number) in [
        (Value::from(3), 3.0_f64),
        (2.5_f32.into(), 2.5),
        (u64::MAX.into(), 18_446_744_073_709_551_615.0),
        (true.into(), 1.0),
        (false.into(), 0.0),
        (Value::Nil, 0.0),
    ] {
        assert_eq!(of("reward", value.clone()).reward.to_bits(), number.to_bits(), "{value:?}");
        assert_eq!(of("timestamp", value).observation.timestamp.to_bits(), number.to_bits());
    }
    for (value, truth) in [
        (Value::from(true), true),
        (1.into(), true),
        (0.into(), false),
        ((-1).into(), true),
        (0.0.into(), false),
        (0.5.into(), true),
        (Value::Nil, false),
    ] {
        assert_eq!(of("terminated", value.clone()).terminated, truth, "{value:?}");
        assert_eq!(of("truncated", value.clone()).truncated, truth, "{value:?}");
    }
    for key in ["reward", "terminated", "truncated", "timestamp"] {
        let wrong = map! { "type" => "step_response" }.with(key, "1");
        assert_eq!(decode(&wrong, &[]).unwrap_err().kind(), ErrorKind::WrongType, "{key}");
    }
}

#[test]
fn an_observed_camera_without_a_time_is_left_out() {
    let header = map! {
        "type" => "apply_action",
        "shape" => [3.0],
        "dtype" => "float32",
        "obs_timestamps" => map! { "a" => 1, "b" => Value::Nil, "c" => true, "d" => 0.5 },
    };
    let timestamps = |header: &Map| match decode(header, &[0; 12]) {
        Ok(Message::Client(ClientMessage::ApplyAction(action))) => {
            let timestamps = action.obs_timestamps.expect("an action that came has some");
            timestamps.iter().map(|(name, time)| format!("{name} {time}")).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(timestamps(&header), ["a 1", "c 1", "d 0.5"]);
    for header in without(&header, "obs_timestamps") {
        assert!(timestamps(&header).is_empty());
    }
}

#[test]
fn what_says_where_and_what_the_bytes_are_must_be_there() {
    for key in ["name", "intrinsics", "extrinsics", "image_shape", "image_dtype", "image_offset"] {
        for camera in without(&camera(), key) {
            assert!(decode(&of_camera(camera.clone()), &[0; 12]).is_err(), "{camera:?}");
        }
        let camera = camera().with(key, true);
        assert!(decode(&of_camera(camera.clone()), &[0; 12]).is_err(), "{camera:?}");
    }
    let depth = ["depth_shape", "depth_dtype", "depth_offset", "depth_size"];
    let none = depth.into_iter().fold(camera(), |camera, key| camera.with(key, Value::Nil));
    assert!(observation(&of_camera(none)).cameras[0].depth.is_none());
    let some = camera().with("depth_size", 0);
    assert!(decode(&of_camera(some), &[0; 12]).is_err());
    // Elements of the matrices, and sizes.
    let mut matrix = vec![Value::from(true); 9];
    let camera_of = |matrix: &[Value]| of_camera(camera().with("intrinsics", matrix));
    assert_eq!(
        observation(&camera_of(&matrix)).cameras[0].intrinsics[0].to_bits(),
        1_f64.to_bits()
    );
    matrix[8] = Value::Nil;
    assert!(decode(&camera_of(&matrix), &[0; 12]).is_err());
    for (size, is_size) in [(12.0.into(), true), (12.5.into(), false), (true.into(), false)] {
        let size: Value = size;
        let header = of_camera(camera().with("image_size", size.clone()));
        assert_eq!(decode(&header, &[0; 12]).is_ok(), is_size, "{size:?}");
    }
}
