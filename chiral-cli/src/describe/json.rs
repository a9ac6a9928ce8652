//! Cameras, proprioception and arrays as JSON.

use std::fmt::Write as _;

use chiral_proto::Array;
use nalgebra::{Matrix3, Matrix4};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::value::{Number, hex};
use crate::text::is_plain;

/// Whether arrays are described with the digest of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digests {
    Yes,
    No,
}

/// An array, without its contents.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    shape: Vec<usize>,
    dtype: &'static str,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Described {
    pub(super) fn new(array: &Array, digests: Digests) -> Self {
        Self {
            shape: array.shape().to_vec(),
            dtype: array.dtype().name(),
            size: array.bytes().len(),
            sha256: digest(array, digests),
        }
    }
}

fn digest(array: &Array, digests: Digests) -> Option<String> {
    (digests == Digests::Yes).then(|| hex(&Sha256::digest(array.bytes())))
}

/// A camera of an observation.
#[derive(Debug, Serialize)]
pub(crate) struct Camera {
    name: String,
    timestamp: Number,
    intrinsics: Vec<Number>,
    extrinsics: Vec<Number>,
    image: Described,
    depth: Option<Described>,
}

impl Camera {
    pub(crate) fn new(camera: &chiral_proto::Camera, digests: Digests) -> Self {
        Self {
            name: camera.name.to_string(),
            timestamp: Number(camera.timestamp),
            intrinsics: row_major3(&camera.intrinsics),
            extrinsics: row_major4(&camera.extrinsics),
            image: Described::new(&camera.image, digests),
            depth: camera.depth.as_ref().map(|depth| Described::new(depth, digests)),
        }
    }
}

/// A proprioception stream of an observation.
#[derive(Debug, Serialize)]
pub(crate) struct Proprio {
    name: String,
    dtype: &'static str,
    count: usize,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Proprio {
    pub(crate) fn new(proprio: &chiral_proto::Proprio, digests: Digests) -> Self {
        let values = &proprio.values;
        Self {
            name: proprio.name.to_string(),
            dtype: values.dtype().name(),
            count: values.len(),
            size: values.bytes().len(),
            sha256: digest(values, digests),
        }
    }
}

// nalgebra stores columns: the transpose's columns are the rows.
fn row_major3(matrix: &Matrix3<f64>) -> Vec<Number> {
    matrix.transpose().iter().copied().map(Number).collect()
}

fn row_major4(matrix: &Matrix4<f64>) -> Vec<Number> {
    matrix.transpose().iter().copied().map(Number).collect()
}

/// JSON on one line, or indented; either way without characters that could control a terminal.
pub(crate) fn to_json(value: &impl Serialize, indented: bool) -> anyhow::Result<String> {
    let json =
        if indented { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        // Only inside strings is there anything else than plain characters and line ends.
        if is_plain(character) || character == '\n' {
            plain.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(plain, "\\u{unit:04x}");
            }
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_output_escapes_control_characters_and_round_trips() {
        let hostile = "\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{e0001}\n手首 é";
        let json = to_json(&hostile, false).unwrap();
        assert!(json.chars().all(is_plain), "{json:?}");
        assert!(json.contains("手首 é"));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }

    #[test]
    fn matrices_are_written_in_row_major_order() {
        let matrix = Matrix3::new(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0);
        let json = to_json(&row_major3(&matrix), false).unwrap();
        assert_eq!(json, "[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0]");
    }
}
