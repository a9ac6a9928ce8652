//! What reading and writing cost in memory, counted by the allocator: for hostile frames a small
//! multiple of their length, for honest ones a few allocations and never a copy of the pixels.

mod error_texts;
mod hostile;
mod pack;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use chiral_proto::wire::{ClientMessage, Frame, Limits, Message, ServerMessage, WireError};
use chiral_proto::{Array, Camera, Dtype, Observation, Proprio};
use nalgebra::{Matrix3, Matrix4};

/// Bytes allocated altogether to read a frame are at most `PER_BYTE` times its length and `BASE`.
///
/// The most for each byte are 9.9, of cameras whose arrays have 32 dimensions; `BASE` is for the
/// timestamps of 256 cameras, whose names may be shorter than their entries in memory.
const PER_BYTE: u64 = 12;
const BASE: u64 = 32 << 10;

/// Of a frame in segments, header and payload are gathered at most twice; each segment has an
/// entry in a list, which grows by doubling.
const PER_BYTE_OF_SEGMENTS: u64 = PER_BYTE + 2;
const PER_SEGMENT: u64 = 4 * size_of::<Bytes>() as u64;

type Decode = fn(&Frame, &Limits) -> Result<(), WireError>;

fn counted<T>(run: impl FnOnce() -> T) -> (T, AllocationInfo) {
    let mut result = None;
    let allocated = measure(|| result = Some(run()));
    (result.expect("it ran"), allocated)
}

fn assert_bounded(name: &str, allocated: &AllocationInfo, bound: u64) {
    assert!(
        allocated.bytes_total <= bound,
        "{name}: {} bytes in {} allocations, allowed are {bound}",
        allocated.bytes_total,
        allocated.count_total,
    );
}

#[test]
fn hostile_frames_are_rejected_without_allocating() {
    let limits = Limits::default();
    let decoders: [Decode; 3] = [
        |frame, limits| Message::decode(frame, limits).map(drop),
        |frame, limits| ClientMessage::decode(frame, limits).map(drop),
        |frame, limits| ServerMessage::decode(frame, limits).map(drop),
    ];
    let frames = hostile::frames();
    assert!(frames.len() > 200, "only {} frames", frames.len());
    for hostile::Hostile { name, frame, fault } in frames {
        let bytes = Bytes::from(frame);
        let bound = PER_BYTE * bytes.len() as u64 + BASE;
        for decode in decoders {
            let read = || Frame::parse(bytes.clone(), &limits).and_then(|f| decode(&f, &limits));
            let (_, allocated) = counted(read);
            assert_bounded(&name, &allocated, bound);
        }
        let message =
            Frame::parse(bytes.clone(), &limits).and_then(|f| Message::decode(&f, &limits));
        assert_eq!(message.as_ref().err().map(WireError::kind), fault, "{name}: {message:?}");

        // Cut so that many buffers lie across a border.
        let piece = (bytes.len() / 50).max(3);
        let pieces: Vec<_> = (0..bytes.len())
            .step_by(piece)
            .map(|at| bytes.slice(at..bytes.len().min(at + piece)))
            .collect();
        let bound =
            PER_BYTE_OF_SEGMENTS * bytes.len() as u64 + PER_SEGMENT * pieces.len() as u64 + BASE;
        let (cut, allocated) = counted(|| {
            Frame::parse_segments(pieces, &limits).and_then(|f| Message::decode(&f, &limits))
        });
        assert_bounded(&name, &allocated, bound);
        assert_eq!(cut.err(), message.err(), "{name}");
    }
}

#[test]
fn overlapping_buffers_across_segments_share_one_copy() {
    const CAMERAS: usize = 256;
    const SIDE: u64 = 1000;
    let camera = pack::camera(&[
        ("image_shape", pack::ints(&[SIDE, SIDE])),
        ("image_size", pack::int(SIDE * SIDE)),
    ]);
    let header = pack::map(&[
        ("type", pack::text("obs_response")),
        ("timestamp", pack::float(0.0)),
        ("cameras", pack::array(&vec![camera; CAMERAS])),
    ]);
    let frame = Bytes::from(pack::frame(&header, &vec![5; (SIDE * SIDE) as usize]));
    let border = frame.len() - 1000;
    let segments = [frame.slice(..border), frame.slice(border..)];
    let (message, allocated) = counted(|| {
        let frame = Frame::parse_segments(segments, &Limits::default()).unwrap();
        ServerMessage::decode(&frame, &Limits::default()).unwrap()
    });
    let ServerMessage::Observation(observation) = message else { panic!("{message:?}") };
    let images: Vec<_> = observation.cameras.iter().map(|c| c.image.bytes().as_ptr()).collect();
    assert_eq!(images[2..], vec![images[1]; CAMERAS - 2], "all but the first share one copy");
    let bound = 2 * SIDE * SIDE + PER_BYTE_OF_SEGMENTS * header.len() as u64 + BASE;
    assert_bounded("two copies of the image", &allocated, bound);
}

#[test]
fn an_oversized_frame_is_rejected_before_copying() {
    let limits = Limits { frame_len: 1 << 20, ..Limits::default() };
    let bytes = Bytes::from(vec![0; (1 << 20) + 1]);
    let (refused, allocated) = counted(|| Frame::parse(bytes, &limits));
    assert_eq!(refused.unwrap_err().field(), "");
    assert_bounded("a refusal", &allocated, 1 << 10);
}

const CAMERAS: usize = 8;
const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

/// Eight RGB-D cameras and two streams, in buffers that are shared already, as the sensors' are.
fn rgbd_observation() -> Observation {
    let array = |dtype: Dtype, shape: &[usize]| {
        let len = shape.iter().product::<usize>() * dtype.size();
        Array::new(dtype, shape, Bytes::from_owner(vec![1; len])).unwrap()
    };
    let cameras = (0..CAMERAS).map(|index| Camera {
        name: format!("camera_{index}").into(),
        timestamp: 12.25,
        intrinsics: Matrix3::identity(),
        extrinsics: Matrix4::identity(),
        image: array(Dtype::U8, &[HEIGHT, WIDTH, 3]),
        depth: Some(array(Dtype::F32, &[HEIGHT, WIDTH])),
    });
    let proprio =
        |name: &'static str| Proprio { name: name.into(), values: array(Dtype::F32, &[7]) };
    Observation {
        timestamp: 12.5,
        cameras: cameras.collect(),
        proprios: vec![proprio("joint_pos"), proprio("joint_vel")],
        ..Observation::default()
    }
}

#[test]
fn encoding_an_observation_does_not_copy_pixels() {
    let message = ServerMessage::Observation(rgbd_observation());
    let (frame, allocated) = counted(|| message.encode());
    // The head, its sharing, and the list of segments.
    assert_eq!(allocated.count_total, 3, "{allocated:?}");
    assert!(allocated.bytes_total < 8 << 10, "{allocated:?}");
    assert_eq!(frame.segments().count(), 1 + 2 * CAMERAS + 2);

    let (_, allocated) = counted(|| frame.chunks().map(<[u8]>::len).sum::<usize>());
    assert_eq!(allocated.count_total, 0, "the slices of a gather write");
}

#[test]
fn decoding_an_observation_does_not_copy_pixels() {
    let observation = rgbd_observation();
    let received = ServerMessage::Observation(observation.clone()).encode().to_bytes();
    let start = received.as_ptr().addr();
    let end = start + received.len();
    // As a transport's recycled buffer: shared already.
    let received = Bytes::from_owner(received);
    let (message, allocated) = counted(|| {
        let frame = Frame::parse(received, &Limits::default()).unwrap();
        ServerMessage::decode(&frame, &Limits::default()).unwrap()
    });
    // The head, its sharing, the payload's list of one segment, the cameras and the streams.
    assert_eq!(allocated.count_total, 5, "{allocated:?}");
    assert!(allocated.bytes_total < 16 << 10, "{allocated:?}");

    let ServerMessage::Observation(received) = message else { panic!("{message:?}") };
    let pixels = received.cameras.iter().flat_map(|c| [Some(&c.image), c.depth.as_ref()]).flatten();
    for array in pixels.chain(received.proprios.iter().map(|proprio| &proprio.values)) {
        assert!((start..end).contains(&array.bytes().as_ptr().addr()), "{array:?} is a copy");
    }
    assert_eq!(received, observation);
}
