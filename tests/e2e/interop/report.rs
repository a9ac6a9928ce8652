//! Messages as JSON, in the format of the Python peer.

use chiral_proto::{Action, Array, Map, Observation, ResetResult, StepResult, Value as Free};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) fn metadata(data: &Map) -> Value {
    json!({"type": "metadata_response", "data": map(data)})
}

pub(crate) fn reset(result: &ResetResult) -> Value {
    let mut line = with_type("reset_response", &result.observation);
    line["info"] = map(&result.info);
    line
}

pub(crate) fn observation(observation: &Observation) -> Value {
    with_type("obs_response", observation)
}

pub(crate) fn step(result: &StepResult) -> Value {
    let mut line = with_type("step_response", &result.observation);
    line["reward"] = float(result.reward);
    line["terminated"] = result.terminated.into();
    line["truncated"] = result.truncated.into();
    line["info"] = map(&result.info);
    line
}

/// An action of either kind, `apply_action` or `action`.
pub(crate) fn action(kind: &str, action: &Action) -> Value {
    let stamps = action.obs_timestamps.iter().flat_map(chiral_proto::Timestamps::iter);
    let stamps: serde_json::Map<_, _> =
        stamps.map(|(name, stamp)| (name.to_string(), float(stamp))).collect();
    json!({"type": kind, "action": digest(&action.values), "obs_timestamps": stamps})
}

fn with_type(kind: &str, observation: &Observation) -> Value {
    let cameras = observation.cameras.iter().map(|camera| {
        json!({
            "name": camera.name.to_string(),
            "timestamp": float(camera.timestamp),
            // nalgebra is column-major.
            "intrinsics": floats(camera.intrinsics.transpose().iter()),
            "extrinsics": floats(camera.extrinsics.transpose().iter()),
            "image": digest(&camera.image),
            "depth": camera.depth.as_ref().map(digest),
        })
    });
    let proprios = observation.proprios.iter().map(|proprio| {
        let values = &proprio.values;
        json!({
            "name": proprio.name.to_string(),
            "dtype": values.dtype().to_string(),
            "count": values.len(),
            "size": values.bytes().len(),
            "sha256": sha256(values),
        })
    });
    json!({
        "type": kind,
        "timestamp": float(observation.timestamp),
        "cameras": cameras.collect::<Vec<_>>(),
        "proprios": proprios.collect::<Vec<_>>(),
        "extra": map(&observation.extra),
    })
}

fn digest(array: &Array) -> Value {
    json!({
        "shape": array.shape().to_vec(),
        "dtype": array.dtype().to_string(),
        "size": array.bytes().len(),
        "sha256": sha256(array),
    })
}

fn sha256(array: &Array) -> String {
    hex(&Sha256::digest(array.bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn float(number: f64) -> Value {
    if number.is_nan() {
        "nan".into()
    } else if number.is_infinite() {
        if number > 0.0 { "inf".into() } else { "-inf".into() }
    } else {
        number.into()
    }
}

fn floats<'a>(numbers: impl Iterator<Item = &'a f64>) -> Vec<Value> {
    numbers.map(|number| float(*number)).collect()
}

fn map(map: &Map) -> Value {
    map.iter().map(|(key, value)| (key, free(&value))).collect::<serde_json::Map<_, _>>().into()
}

fn free(value: &Free) -> Value {
    match value {
        Free::Nil => Value::Null,
        Free::Boolean(truth) => (*truth).into(),
        Free::Integer(number) => match u64::try_from(*number) {
            Ok(number) => number.into(),
            Err(_) => value.as_i64().into(),
        },
        Free::F32(number) => float(f64::from(*number)),
        Free::F64(number) => float(*number),
        Free::String(text) => text.as_str().into(),
        Free::Binary(bytes) => json!({"bin": hex(bytes)}),
        Free::Ext(kind, bytes) => json!({"ext": [kind, hex(bytes)]}),
        Free::Array(values) => values.iter().map(free).collect::<Vec<_>>().into(),
        Free::Map(entries) if entries.iter().all(|(key, _)| key.as_str().is_some()) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), free(value)));
            entries.collect::<serde_json::Map<_, _>>().into()
        }
        Free::Map(entries) => {
            let pairs: Vec<_> =
                entries.iter().map(|(key, value)| json!([free(key), free(value)])).collect();
            json!({"map": pairs})
        }
    }
}
