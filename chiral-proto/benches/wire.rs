//! Writing and reading an observation of RGB-D cameras, at three resolutions: what it costs must
//! not depend on the pixels. `cargo bench -p chiral-proto --bench wire`.
//!
//! How many allocations that makes is counted in `tests/wire_memory`.

use std::fmt;

use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, Limits, ServerMessage};
use chiral_proto::{Action, Array, Camera, Dtype, Observation, Proprio};
use divan::Bencher;
use nalgebra::{Matrix3, Matrix4};

fn main() {
    divan::main();
}

struct Resolution {
    width: usize,
    height: usize,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

const RESOLUTIONS: [Resolution; 3] = [
    Resolution { width: 64, height: 48 },
    Resolution { width: 640, height: 480 },
    Resolution { width: 1280, height: 720 },
];

/// Cameras with `uint8` RGB and `float32` depth, and the joints of an arm.
fn observation(cameras: usize, &Resolution { width, height }: &Resolution) -> Observation {
    let array = |dtype: Dtype, shape: &[usize]| {
        let len = shape.iter().product::<usize>() * dtype.size();
        Array::new(dtype, shape, Bytes::from_owner(vec![1; len])).expect("of this size")
    };
    let cameras = (0..cameras).map(|index| Camera {
        name: format!("camera_{index}").into(),
        timestamp: 12.25,
        intrinsics: Matrix3::identity(),
        extrinsics: Matrix4::identity(),
        image: array(Dtype::U8, &[height, width, 3]),
        depth: Some(array(Dtype::F32, &[height, width])),
    });
    let joints = Proprio { name: "joint_pos".into(), values: array(Dtype::F32, &[7]) };
    Observation {
        timestamp: 12.5,
        cameras: cameras.collect(),
        proprios: vec![joints],
        ..Observation::default()
    }
}

#[divan::bench(consts = [1, 8], args = &RESOLUTIONS)]
fn encode_observation<const CAMERAS: usize>(bencher: Bencher<'_, '_>, resolution: &Resolution) {
    let message = ServerMessage::Observation(observation(CAMERAS, resolution));
    bencher.bench(|| message.encode());
}

#[divan::bench(consts = [1, 8], args = &RESOLUTIONS)]
fn decode_observation<const CAMERAS: usize>(bencher: Bencher<'_, '_>, resolution: &Resolution) {
    let message = ServerMessage::Observation(observation(CAMERAS, resolution));
    let received = Bytes::from_owner(message.encode().to_bytes());
    let limits = Limits::default();
    bencher.bench(|| {
        let frame = Frame::parse(received.clone(), &limits).expect("a frame");
        ServerMessage::decode(&frame, &limits).expect("an observation")
    });
}

#[divan::bench]
fn encode_action(bencher: Bencher<'_, '_>) {
    let action = Action::from([0.5; 7]).decided_on(&observation(8, &RESOLUTIONS[0]));
    let message = ClientMessage::ApplyAction(action);
    bencher.bench(|| message.encode());
}

#[divan::bench]
fn decode_action(bencher: Bencher<'_, '_>) {
    let action = Action::from([0.5; 7]).decided_on(&observation(8, &RESOLUTIONS[0]));
    let received = Bytes::from_owner(ClientMessage::ApplyAction(action).encode().to_bytes());
    let limits = Limits::default();
    bencher.bench(|| {
        let frame = Frame::parse(received.clone(), &limits).expect("a frame");
        ClientMessage::decode(&frame, &limits).expect("an action")
    });
}
