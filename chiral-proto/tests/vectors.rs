//! The golden frames of `tests/vectors`, written by the Python and the C++ peer: each decodes to
//! what its JSON says, from any segments, and is encoded again to the same bytes where our writer
//! writes numbers as that peer does.

use std::path::Path;

use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, Limits, Message, ServerMessage, WireError};
use chiral_proto::{Action, Array, Camera, Map, Observation, Proprio, Value};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

struct Vector {
    name: String,
    bytes: Bytes,
    json: Json,
}

impl Vector {
    fn frame(&self) -> Frame {
        Frame::parse(self.bytes.clone(), &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn decode(&self) -> Message {
        decode(&self.frame()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Every frame of one peer.
fn vectors(peer: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(peer);
    let mut frames: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    frames.sort();
    assert!(!frames.is_empty(), "no frames in {}", folder.display());
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    frames
        .iter()
        .map(|path| Vector {
            name: format!("{peer}/{}", path.file_stem().unwrap().display()),
            bytes: read(path).into(),
            json: serde_json::from_slice(&read(&path.with_extension("json"))).unwrap(),
        })
        .collect()
}

fn all_vectors() -> impl Iterator<Item = Vector> {
    ["python", "cpp"].into_iter().flat_map(vectors)
}

/// Decodes as the side that receives the message does, and checks that a tool for both sides
/// reads the same.
fn decode(frame: &Frame) -> Result<Message, WireError> {
    let limits = Limits::default();
    let either = Message::decode(frame, &limits)?;
    let one_side = match &either {
        Message::Client(_) => ClientMessage::decode(frame, &limits).map(Message::Client),
        Message::Server(_) => ServerMessage::decode(frame, &limits).map(Message::Server),
    };
    assert_eq!(one_side.unwrap().encode(), either.encode());
    Ok(either)
}

#[test]
fn every_golden_frame_decodes_to_its_expected_message() {
    for vector in all_vectors() {
        let Vector { name, bytes, json } = &vector;
        let frame = vector.frame();
        assert_eq!(json["frame_len"], bytes.len(), "{name}");
        assert_eq!(json["frame_sha256"], sha256(bytes), "{name}");
        assert_eq!(json["header_len"], frame.header().len(), "{name}");
        assert_eq!(json["payload_len"], frame.payload().len(), "{name}");
        assert_eq!(json["type"], vector.decode().message_type().name(), "{name}");

        let check = Check { name, frame: &frame, header: &json["header"] };
        let expected = &json["expect"];
        let mut keys: Vec<_> = expected.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let mut checked = match vector.decode() {
            Message::Client(ClientMessage::ApplyAction(action) | ClientMessage::Step(action)) => {
                check.action(&action, expected)
            }
            Message::Client(_) => vec![],
            Message::Server(ServerMessage::Metadata(data)) => {
                check.map(&data, "data", expected);
                vec!["data"]
            }
            Message::Server(ServerMessage::Observation(observation)) => {
                check.observation(&observation, expected)
            }
            Message::Server(ServerMessage::Reset(reset)) => {
                check.map(&reset.info, "info", expected);
                [check.observation(&reset.observation, expected), vec!["info"]].concat()
            }
            Message::Server(ServerMessage::Step(step)) => {
                check.map(&step.info, "info", expected);
                check.number(step.reward, &expected["reward"], on_wire(check.header, "reward"));
                assert_eq!(expected["terminated"]["bool"], step.terminated, "{name}");
                assert_eq!(expected["truncated"]["bool"], step.truncated, "{name}");
                let more = vec!["info", "reward", "terminated", "truncated"];
                [check.observation(&step.observation, expected), more].concat()
            }
            Message::Server(other) => panic!("{name}: a {} is not known", other.message_type()),
        };
        checked.sort_unstable();
        assert_eq!(checked, keys, "{name}: every expectation is looked at");
    }
}

struct Check<'a> {
    name: &'a str,
    frame: &'a Frame,
    header: &'a Json,
}

impl Check<'_> {
    fn action(&self, action: &Action, expected: &Json) -> Vec<&'static str> {
        let timestamps = action.obs_timestamps.as_ref().expect("a decoded action has them");
        let wire = on_wire(self.header, "obs_timestamps");
        let expected_timestamps = expected["obs_timestamps"].as_object().unwrap();
        assert_eq!(timestamps.len(), expected_timestamps.len(), "{}", self.name);
        for (camera, expected) in expected_timestamps {
            let found = timestamps.get(camera).unwrap_or_else(|| panic!("no {camera:?}"));
            self.number(found, expected, on_wire(wire, camera));
        }
        self.array(&action.values, &expected["action"]);
        vec!["action", "obs_timestamps"]
    }

    fn observation(&self, observation: &Observation, expected: &Json) -> Vec<&'static str> {
        let Observation { timestamp, cameras, proprios, extra, .. } = observation;
        self.number(*timestamp, &expected["timestamp"], on_wire(self.header, "timestamp"));
        let wire = on_wire(self.header, "cameras")["arr"].as_array().unwrap();
        let expected_cameras = expected["cameras"].as_array().unwrap();
        assert_eq!(cameras.len(), expected_cameras.len(), "{}", self.name);
        for ((camera, expected), wire) in cameras.iter().zip(expected_cameras).zip(wire) {
            self.camera(camera, expected, wire);
        }
        let expected_proprios = expected["proprios"].as_array().unwrap();
        assert_eq!(proprios.len(), expected_proprios.len(), "{}", self.name);
        for (Proprio { name, values }, expected) in proprios.iter().zip(expected_proprios) {
            assert_eq!(expected["name"], name.as_str(), "{}", self.name);
            assert_eq!(expected["count"], values.len(), "{}", self.name);
            self.array(values, expected);
        }
        self.map(extra, "extra", expected);
        vec!["timestamp", "cameras", "proprios", "extra"]
    }

    fn camera(&self, camera: &Camera, expected: &Json, wire: &Json) {
        let Camera { name, timestamp, intrinsics, extrinsics, image, depth } = camera;
        assert_eq!(expected["name"], name.as_str(), "{}", self.name);
        self.number(*timestamp, &expected["timestamp"], on_wire(wire, "timestamp"));
        // nalgebra iterates column by column, the expectation goes row by row.
        let matrix = |found: &[f64], field: &str| {
            let expected = expected[field].as_array().unwrap();
            let wire = on_wire(wire, field)["arr"].as_array().unwrap();
            assert_eq!(found.len(), expected.len(), "{} {field}", self.name);
            for ((found, expected), wire) in found.iter().zip(expected).zip(wire) {
                self.number(*found, expected, wire);
            }
        };
        matrix(intrinsics.transpose().as_slice(), "intrinsics");
        matrix(extrinsics.transpose().as_slice(), "extrinsics");
        self.array(image, &expected["image"]);
        match depth {
            Some(depth) => self.array(depth, &expected["depth"]),
            None => assert!(expected["depth"].is_null(), "{}: depth is missing", self.name),
        }
    }

    fn array(&self, array: &Array, expected: &Json) {
        let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
        assert_eq!(*array.shape(), shape[..], "{}", self.name);
        assert_eq!(expected["dtype"], array.dtype().name(), "{}", self.name);
        assert_eq!(expected["size"], array.bytes().len(), "{}", self.name);
        assert_eq!(expected["sha256"], sha256(array.bytes()), "{}", self.name);
        if !array.is_empty() {
            let payload = self.frame.payload().contiguous();
            let offset = array.bytes().as_ptr().addr() - payload.as_ptr().addr();
            assert_eq!(expected["offset"], offset, "{}: a slice of the payload", self.name);
        }
    }

    /// In the order of the wire, which for the C++ peer is not the one it was given.
    fn map(&self, map: &Map, field: &str, expected: &Json) {
        let name = self.name;
        let entries =
            map.iter().map(|(key, value)| serde_json::json!([{ "str": key }, tagged(&value)]));
        let wire = &on_wire(self.header, field)["map"];
        assert_eq!(entries.collect::<Json>(), without_wire(wire), "{name}: {field}");
        let expected = expected[field]["map"].as_array().unwrap();
        assert_eq!(map.len(), expected.len(), "{name}: {field}");
        for pair in expected {
            let key = pair[0]["str"].as_str().unwrap();
            let value = map.get(key).unwrap_or_else(|| panic!("{name}: no {key:?} in {field}"));
            assert_eq!(tagged(&value), without_wire(&pair[1]), "{name}: {field}, {key:?}");
        }
    }

    /// Equal to the bit, save where the peer's writer made an integer of a float and so lost the
    /// sign of a zero.
    fn number(&self, found: f64, expected: &Json, wire: &Json) {
        let name = self.name;
        let expected = number(expected);
        let unsigned_zero =
            |value: f64| if wire.get("int").is_some() { value + 0.0 } else { value };
        let (found_bits, expected_bits) =
            (unsigned_zero(found).to_bits(), unsigned_zero(expected).to_bits());
        assert_eq!(found_bits, expected_bits, "{name}: {found:?}, {expected:?}");
    }
}

/// A number of an expectation: bare, or tagged with its kind.
fn number(json: &Json) -> f64 {
    let text = |text: &Json| text.as_str().unwrap().parse::<f64>().unwrap();
    match (json.get("bits"), json.get("int")) {
        (Some(bits), _) => f64::from_bits(u64::from_str_radix(bits.as_str().unwrap(), 16).unwrap()),
        (_, Some(int)) => text(int),
        _ => json.as_f64().unwrap_or_else(|| text(json)),
    }
}

/// The value of a key in a tagged map of the header.
fn on_wire<'a>(map: &'a Json, key: &str) -> &'a Json {
    let pairs = map["map"].as_array().unwrap();
    let pair = pairs.iter().find(|pair| pair[0]["str"] == key);
    pair.map_or(&Json::Null, |pair| &pair[1])
}

/// A free-form value in the tagged vocabulary of the JSON files.
fn tagged(value: &Value) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().copied().flat_map(hex_digits).collect::<String>();
    let bits = |value: f64| serde_json::json!({ "bits": format!("{:016x}", value.to_bits()) });
    match value {
        Value::Nil => serde_json::json!({ "nil": null }),
        Value::Boolean(value) => serde_json::json!({ "bool": value }),
        Value::Integer(value) => serde_json::json!({ "int": value.to_string() }),
        Value::F32(value) => bits(f64::from(*value)),
        Value::F64(value) => bits(*value),
        Value::String(text) => serde_json::json!({ "str": text.as_str().unwrap() }),
        Value::Binary(bytes) => serde_json::json!({ "bin": hex(bytes) }),
        Value::Array(values) => {
            serde_json::json!({ "arr": values.iter().map(tagged).collect::<Vec<_>>() })
        }
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| [tagged(key), tagged(value)]);
            serde_json::json!({ "map": pairs.collect::<Vec<_>>() })
        }
        Value::Ext(kind, bytes) => serde_json::json!({ "ext": [kind, hex(bytes)] }),
    }
}

fn hex_digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap())
}

/// An expectation with its floats reduced to their bits.
fn without_wire(expected: &Json) -> Json {
    match expected {
        Json::Object(fields) if fields.contains_key("bits") => {
            serde_json::json!({ "bits": fields["bits"] })
        }
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), without_wire(value))).collect()
        }
        Json::Array(values) => values.iter().map(without_wire).collect(),
        other => other.clone(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[test]
fn python_frames_with_float_numbers_round_trip_to_the_same_bytes() {
    let (all_floats, with_integers): (Vec<_>, Vec<_>) =
        vectors("python").into_iter().partition(|vector| numbers_are_floats(&vector.json));
    for vector in &all_floats {
        assert_eq!(vector.decode().encode().to_bytes(), vector.bytes, "{}", vector.name);
    }
    for vector in &with_integers {
        assert_ne!(vector.decode().encode().to_bytes(), vector.bytes, "{}", vector.name);
    }
    let names: Vec<_> = with_integers.iter().map(|vector| &*vector.name).collect();
    assert_eq!(names, ["python/obs_int_matrices", "python/obs_timestamp_int0"]);
    assert_eq!(all_floats.len(), 29);
}

/// Whether every number that our writer writes as a float is a float64 in this header.
fn numbers_are_floats(json: &Json) -> bool {
    fn float(value: &Json) -> bool {
        value["wire"] == "f64"
    }
    fn floats(array: &Json) -> bool {
        array["arr"].as_array().unwrap().iter().all(float)
    }
    let header = &json["header"];
    header["map"].as_array().unwrap().iter().all(|pair| match pair[0]["str"].as_str() {
        Some("timestamp" | "reward") => float(&pair[1]),
        Some("obs_timestamps") => {
            pair[1]["map"].as_array().unwrap().iter().all(|pair| float(&pair[1]))
        }
        Some("cameras") => pair[1]["arr"].as_array().unwrap().iter().all(|camera| {
            float(on_wire(camera, "timestamp"))
                && floats(on_wire(camera, "intrinsics"))
                && floats(on_wire(camera, "extrinsics"))
        }),
        _ => true,
    })
}

#[test]
fn every_golden_frame_decodes_the_same_from_any_segments() {
    let mut cut = 0;
    for vector in all_vectors() {
        let Vector { name, bytes, .. } = &vector;
        let whole = vector.decode().encode();
        let check = |segments: Vec<Bytes>| {
            let frame = Frame::parse_segments(segments, &Limits::default()).unwrap();
            assert_eq!(frame, vector.frame(), "{name}");
            assert_eq!(decode(&frame).unwrap().encode(), whole, "{name}");
        };
        // The longest frames, one each of 5 and of 80 kB, are cut here and there.
        let step = if bytes.len() < 2000 { 1 } else { bytes.len() / 100 };
        for first in (0..=bytes.len()).step_by(step) {
            check(vec![bytes.slice(..first), bytes.slice(first..)]);
        }
        if bytes.len() < 100 {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    check(vec![
                        bytes.slice(..first),
                        bytes.slice(first..second),
                        bytes.slice(second..),
                    ]);
                }
            }
            cut += 1;
        }
        if bytes.len() < 5000 {
            check((0..bytes.len()).map(|at| bytes.slice(at..=at)).collect());
        }
    }
    assert!(cut > 10, "only {cut} frames were small enough to be cut in three everywhere");
}
