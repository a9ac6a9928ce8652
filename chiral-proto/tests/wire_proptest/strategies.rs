//! Arbitrary messages: everything that the types can hold, oddities included.
//!
//! The larger strategies are boxed: proptest keeps the others by value, which a debug build moves
//! over the test thread's small stack.

use std::time::Duration;

use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_proto::{
    Action, Array, Camera, Dtype, Map, Observation, Proprio, ResetResult, Sent, Shape, StepResult,
    Timestamps, Value,
};
use nalgebra::{Matrix3, Matrix4};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::rng::Rng;

/// Any bit pattern, whole numbers and the usual suspects more often than chance has them.
fn float() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 1.0, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE, 1e300];
    prop_oneof![
        3 => any::<u64>().prop_map(f64::from_bits),
        3 => any::<i32>().prop_map(f64::from),
        2 => any::<f32>().prop_map(f64::from),
        1 => any::<i64>().prop_map(|whole| whole as f64),
        3 => prop::sample::select(special.to_vec()),
    ]
}

/// Few enough names that two cameras often bear the same; some empty, long or not ASCII.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["wrist", "left", "right", "", "手首"]).prop_map(Into::into),
        4 => ".{0,40}",
        1 => (30_usize..70_000).prop_map(|len| "n".repeat(len)),
    ]
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

fn array_of(dtype: Dtype, shape: impl Into<Shape>, seed: u64) -> Array {
    let shape = shape.into();
    let bytes = shape.element_count().unwrap() * dtype.size();
    Array::new(dtype, shape, Rng::new(seed).bytes(bytes)).unwrap()
}

/// Rank 0 to 5, often of size zero, at times with large ones that only a zero makes harmless.
fn array() -> BoxedStrategy<Array> {
    let dims = prop_oneof![
        8 => vec(prop_oneof![1 => Just(0_usize), 9 => 1_usize..5], 0..=5),
        1 => vec(prop::sample::select(vec![1 << 20, 70_000]), 1..3)
            .prop_map(|dims| [dims, vec![0]].concat()),
    ];
    (dtype(), dims, any::<u64>())
        .prop_map(|(dtype, dims, seed)| array_of(dtype, dims, seed))
        .boxed()
}

fn camera() -> BoxedStrategy<Camera> {
    let matrices = (vec(float(), 9), vec(float(), 16));
    let buffers = (array(), prop::option::of(array()));
    (name(), float(), matrices, buffers)
        .prop_map(|(name, timestamp, (k, t), (image, depth))| {
            let intrinsics = Matrix3::from_row_slice(&k);
            let extrinsics = Matrix4::from_row_slice(&t);
            Camera { name: name.into(), timestamp, intrinsics, extrinsics, image, depth }
        })
        .boxed()
}

fn proprio() -> impl Strategy<Value = Proprio> {
    (name(), dtype(), 0_usize..20, any::<u64>()).prop_map(|(name, dtype, len, seed)| Proprio {
        name: name.into(),
        values: array_of(dtype, len, seed),
    })
}

/// Every kind that msgpack has, nested, with maps whose keys are anything.
pub(crate) fn value() -> BoxedStrategy<Value> {
    let integer = |integer: i64| Value::from(integer >> (integer & 63));
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(integer),
        any::<u64>().prop_map(Value::from),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        float().prop_map(Value::F64),
        name().prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        (any::<i8>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| Value::Ext(kind, data)),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Array),
            vec((inner.clone(), inner), 0..5).prop_map(Value::Map),
        ]
    })
    .boxed()
}

fn map() -> BoxedStrategy<Map> {
    prop_oneof![
        1 => Just(Map::new()),
        2 => vec((name(), value()), 0..5).prop_map(|entries| entries.into_iter().collect()),
    ]
    .boxed()
}

fn observation() -> BoxedStrategy<Observation> {
    let cameras = vec(camera(), 0..4);
    let proprios = vec(proprio(), 0..4);
    (float(), cameras, proprios, map())
        .prop_map(|(timestamp, cameras, proprios, extra)| Observation {
            timestamp,
            cameras,
            proprios,
            extra,
            ..Observation::default()
        })
        .boxed()
}

fn action() -> impl Strategy<Value = Action> {
    // Nanoseconds of a month, which a float of seconds can tell apart.
    let time = || prop::option::of((0_u64..1 << 51).prop_map(Duration::from_nanos));
    let timestamps = (vec((name(), float()), 0..20), time())
        .prop_map(|(times, snap)| Timestamps::from_iter(times).with_snap(snap));
    let sent = (any::<u64>(), time()).prop_map(|(seq, hold)| Sent { seq, hold });
    (array(), prop::option::of(timestamps), prop::option::of(sent)).prop_map(
        |(values, obs_timestamps, sent)| Action { obs_timestamps, sent, ..Action::new(values) },
    )
}

pub(crate) fn client_message() -> BoxedStrategy<ClientMessage> {
    prop_oneof![
        1 => Just(ClientMessage::Metadata),
        1 => Just(ClientMessage::Reset),
        1 => Just(ClientMessage::Observe),
        5 => action().prop_map(ClientMessage::ApplyAction),
        3 => action().prop_map(ClientMessage::Step),
    ]
    .boxed()
}

pub(crate) fn server_message() -> BoxedStrategy<ServerMessage> {
    let reset = (observation(), map())
        .prop_map(|(observation, info)| ResetResult { observation, info })
        .prop_map(ServerMessage::Reset);
    let step = (observation(), float(), any::<[bool; 2]>(), map())
        .prop_map(|(observation, reward, [terminated, truncated], info)| StepResult {
            observation,
            reward,
            terminated,
            truncated,
            info,
        })
        .prop_map(ServerMessage::Step);
    prop_oneof![
        1 => map().prop_map(ServerMessage::Metadata),
        2 => observation().prop_map(ServerMessage::Observation),
        1 => reset,
        1 => step,
    ]
    .boxed()
}
