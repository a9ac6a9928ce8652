//! `chiral inspect`, as a program: on the golden frames of both peers, on malformed ones, and on
//! pipes that end early.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use chiral_proto::wire::ServerMessage;
use chiral_proto::{
    Array, Camera, Map as ProtoMap, Observation, StepResult, Value as MsgpackValue,
};
use serde_json::{Map, Value, json};

fn chiral() -> Command {
    Command::new(env!("CARGO_BIN_EXE_chiral"))
}

fn inspect_stdin(frame: &[u8], arguments: &[&str]) -> Output {
    let mut child = chiral()
        .args(["inspect", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(frame).expect("the program reads its input to the end");
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// The frames of one of the two peers, with their descriptions.
fn golden(peer: &str) -> Vec<(PathBuf, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(peer);
    let files = fs::read_dir(folder).expect("the golden frames are there");
    let mut frames: Vec<PathBuf> =
        files.map(|file| file.expect("it can be listed").path()).collect();
    frames.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    frames.sort();
    let described = |path: PathBuf| {
        let json = fs::read_to_string(path.with_extension("json")).expect("it is described");
        (path, serde_json::from_str(&json).expect("it is JSON"))
    };
    frames.into_iter().map(described).collect()
}

// ---- what a golden frame's description makes one expect ----------------------------------------

fn expected(description: &Value) -> Value {
    let mut expected = Map::new();
    for key in ["type", "header_len", "payload_len"] {
        expected.insert(key.to_owned(), description[key].clone());
    }
    for (key, value) in description["expect"].as_object().expect("it is an object") {
        let value = match key.as_str() {
            "cameras" => each(value, camera),
            "proprios" => each(value, |proprio| {
                picked(proprio, &["name", "dtype", "count", "size", "sha256"])
            }),
            "action" => digest(value),
            "timestamp" | "reward" => number(value),
            "obs_timestamps" => {
                let stamps = value.as_object().expect("it is an object");
                stamps.iter().map(|(name, stamp)| (name.clone(), number(stamp))).collect()
            }
            _ => untagged(value),
        };
        expected.insert(key.clone(), value);
    }
    expected.into()
}

fn each(array: &Value, map: impl Fn(&Value) -> Value) -> Value {
    array.as_array().expect("it is an array").iter().map(map).collect()
}

fn picked(object: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|&key| (key.to_owned(), object[key].clone())).collect()
}

fn digest(array: &Value) -> Value {
    picked(array, &["shape", "dtype", "size", "sha256"])
}

fn camera(camera: &Value) -> Value {
    let mut expected = picked(camera, &["name", "intrinsics", "extrinsics"]);
    expected["timestamp"] = number(&camera["timestamp"]);
    expected["image"] = digest(&camera["image"]);
    expected["depth"] =
        if camera["depth"].is_null() { Value::Null } else { digest(&camera["depth"]) };
    expected
}

/// A number where the protocol wants a float: an integer on the wire is one too.
fn number(tagged: &Value) -> Value {
    match tagged["int"].as_str() {
        Some(integer) => json!(integer.parse::<i64>().expect("it is an integer") as f64),
        None => float(tagged),
    }
}

fn float(tagged: &Value) -> Value {
    if tagged["float"].is_string() {
        return tagged["float"].clone();
    }
    let bits = tagged["bits"].as_str().expect("the bits are in hex");
    json!(f64::from_bits(u64::from_str_radix(bits, 16).expect("the bits are in hex")))
}

/// A free-form value; every map in the golden frames has string keys.
fn untagged(tagged: &Value) -> Value {
    let Some((tag, value)) = tagged.as_object().and_then(|object| object.iter().next()) else {
        return tagged.clone();
    };
    if tagged.get("float").is_some() {
        return float(tagged);
    }
    match tag.as_str() {
        "map" => {
            let pairs = value.as_array().expect("it is an array");
            let pair = |pair: &Value| {
                let key = untagged(&pair[0]);
                (key.as_str().expect("it is a string").to_owned(), untagged(&pair[1]))
            };
            pairs.iter().map(pair).collect()
        }
        "arr" => each(value, untagged),
        "int" => {
            serde_json::from_str(value.as_str().expect("it is in a string")).expect("it is one")
        }
        "bin" | "ext" => tagged.clone(),
        "str" | "bool" | "nil" => value.clone(),
        other => panic!("{other} is no tag"),
    }
}

// ---- the tests ---------------------------------------------------------------------------------

#[test]
fn every_golden_frame_decodes_as_its_json_says() {
    let mut count = 0;
    for (frame, description) in golden("python").into_iter().chain(golden("cpp")) {
        let output = chiral().args(["inspect", "--json"]).arg(&frame).output().expect("it runs");
        assert!(output.status.success(), "{}: {output:?}", frame.display());
        let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let expected = expected(&description);
        assert_eq!(found, expected, "{}", frame.display());
        if description["encoder"] == "python" {
            // `==` takes -0.0 for 0.0, the text does not. The C++ peer wrote 0 for -0.0.
            assert_eq!(found.to_string(), expected.to_string(), "{}", frame.display());
        }
        count += 1;
    }
    assert!(count >= 39, "only {count} golden frames were found");
}

#[test]
fn the_table_of_every_golden_frame_names_its_type() {
    for (frame, description) in golden("python").into_iter().chain(golden("cpp")) {
        let output = chiral().arg("inspect").arg(&frame).output().expect("it runs");
        assert!(output.status.success(), "{}: {output:?}", frame.display());
        let table = String::from_utf8(output.stdout).expect("it is text");
        let message_type = description["type"].as_str().expect("it is a string");
        assert!(table.starts_with(&format!("{message_type}: ")), "{table}");
    }
}

#[test]
fn json_keys_are_in_the_documented_order() {
    let frame = ServerMessage::Step(StepResult::default()).encode();
    let output = inspect_stdin(&frame.to_bytes(), &["--json"]);
    let json = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(
        json,
        format!(
            "{{\"type\":\"step_response\",\"header_len\":{},\"payload_len\":0,\"timestamp\":0.0,\
             \"cameras\":[],\"proprios\":[],\"extra\":{{}},\"info\":{{}},\"reward\":0.0,\
             \"terminated\":false,\"truncated\":false}}\n",
            frame.header().len()
        )
    );
}

#[test]
fn json_output_tags_values_that_json_lacks() {
    let odd_map = MsgpackValue::Map(vec![(1.into(), MsgpackValue::Nil)]);
    let data = ProtoMap::new()
        .with("nan", f64::NAN)
        .with("f32", 0.5_f32)
        .with("bin", MsgpackValue::Binary(vec![0xab]))
        .with("ext", MsgpackValue::Ext(-5, vec![1, 2]))
        .with("odd", odd_map);
    let frame = ServerMessage::Metadata(data).encode();
    let output = inspect_stdin(&frame.to_bytes(), &["--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let expected = json!({
        "nan": "nan",
        "f32": 0.5,
        "bin": {"bin": "ab"},
        "ext": {"ext": [-5, "0102"]},
        "odd": {"map": [[1, null]]},
    });
    assert_eq!(found["data"], expected);
}

#[test]
fn a_malformed_frame_is_reported_on_stderr() {
    let valid = ServerMessage::Metadata(ProtoMap::new().with("robot", "arm")).encode().to_bytes();
    let unknown_type = [b"\x0e\0\0\0\x81\xa4type\xa7".as_slice(), b"\x1b[2Jabc"].concat();
    let cases: [(&[u8], &str); 5] = [
        (b"", "expected at least 4"),
        (&valid[..valid.len() - 1], "a header of"),
        (b"\xff\xff\xff\xff", "Limits::header_len"),
        (b"\x01\0\0\0\xc1", "at byte 4"),
        (&unknown_type, "one of metadata, reset"),
    ];
    for (bytes, fault) in cases {
        for arguments in [&["--json"][..], &[]] {
            let output = inspect_stdin(bytes, arguments);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            let error = String::from_utf8(output.stderr).expect("it is text");
            assert!(error.contains("standard input is no frame"), "{error}");
            assert!(error.contains(fault), "{error}");
            assert!(!error.trim_end().contains(char::is_control), "{error:?}");
        }
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let output = chiral().args(["inspect", "no/such.bin"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains("cannot read no/such.bin"), "{error}");
}

#[test]
fn control_characters_in_names_are_escaped() {
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}cam";
    let camera = Camera {
        name: hostile.to_owned().into(),
        timestamp: f64::INFINITY,
        intrinsics: nalgebra::Matrix3::identity(),
        extrinsics: nalgebra::Matrix4::identity(),
        image: Array::vector(vec![0_u8]),
        depth: None,
    };
    let observation = Observation {
        cameras: vec![camera],
        extra: ProtoMap::new().with(hostile, hostile),
        ..Observation::default()
    };
    let frame = ServerMessage::Observation(observation).encode().to_bytes();
    for arguments in [&["--json"][..], &[]] {
        let output = inspect_stdin(&frame, arguments);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("it is text");
        let shown = |character: &char| character.is_control() && *character != '\n';
        assert_eq!(text.chars().find(shown), None, "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("owned"), "{text}");
    }
}

/// Metadata whose description is longer than any pipe's buffer.
fn long_frame() -> Vec<u8> {
    let data = ProtoMap::new().with("items", (0..100_000).collect::<MsgpackValue>());
    ServerMessage::Metadata(data).encode().to_bytes().to_vec()
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    for arguments in [&["--json"][..], &[]] {
        let mut child = chiral()
            .args(["inspect", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(&long_frame()).expect("the program reads its input to the end");
        drop(stdin);
        let output = child.wait_with_output().expect("the program ends");
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let (frame, _) = golden("python").swap_remove(0);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = chiral().arg("inspect").arg(frame).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains("cannot write to standard output"), "{error}");
}
