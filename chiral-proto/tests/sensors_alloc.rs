//! What publishing and snapshots allocate in the steady state: exact counts, the same at every
//! resolution.

use allocation_counter::{AllocationInfo, measure};
use chiral_proto::sensors::{CameraFrame, CameraWriter, Sensors};
use chiral_proto::{Array, CameraConfig, Dtype, Observation, ProprioConfig};
use nalgebra::{Matrix3, Matrix4};

const RESOLUTIONS: [[usize; 2]; 3] = [[48, 64], [480, 640], [720, 1280]];

/// Eight RGB-D cameras and two proprioception streams.
fn robot([height, width]: [usize; 2]) -> Sensors {
    let cameras = (0..8).map(|index| {
        CameraConfig::new(format!("camera_{index}"), [height, width, 3]).depth([height, width])
    });
    Sensors::new(cameras, [ProprioConfig::new("joints", 7), ProprioConfig::new("gripper", 1)])
        .expect("the buffers fit into memory")
}

/// A new frame, written in place, from every camera.
fn publish_all(sensors: &Sensors) {
    for camera in sensors.cameras() {
        let image = camera.image_buffer::<u8>().expect("the images are u8");
        let depth = camera.depth_buffer::<f32>().expect("the cameras have f32 depth");
        let frame = CameraFrame::new().image(image).depth(depth).captured_at(1.0);
        camera.publish(frame).expect("it fits");
    }
}

/// Measures one cycle of a robot after some that warm it up: its cameras publish, and a client
/// holds the observation before the latest.
fn steady(
    sensors: &Sensors,
    publish: impl Fn(),
    measured: impl FnOnce(&mut Observation),
) -> AllocationInfo {
    let mut observations = [sensors.snapshot(0.0), sensors.snapshot(0.0)];
    for _ in 0..4 {
        publish();
        observations.swap(0, 1);
        sensors.snapshot_into(1.0, &mut observations[0]);
    }
    measure(|| measured(&mut observations[1]))
}

/// The measurement at every resolution: it must be the same.
fn same_at_every_resolution(measure: impl Fn([usize; 2]) -> AllocationInfo) -> AllocationInfo {
    let [low, middle, high] = RESOLUTIONS.map(measure);
    assert_eq!(low, middle);
    assert_eq!(low, high);
    low
}

#[test]
fn a_snapshot_allocates_two_vectors() {
    let info = same_at_every_resolution(|resolution| {
        let sensors = robot(resolution);
        steady(&sensors, || publish_all(&sensors), |_| drop(sensors.snapshot(2.0)))
    });
    assert_eq!((info.count_total, info.count_current), (2, 0));
    assert!(info.bytes_total < 8 * 1024, "{info:?}");
}

#[test]
fn a_snapshot_into_an_old_one_allocates_nothing() {
    let info = same_at_every_resolution(|resolution| {
        let sensors = robot(resolution);
        let into = |observation: &mut Observation| sensors.snapshot_into(2.0, observation);
        steady(&sensors, || publish_all(&sensors), into)
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0));
}

/// What one publication allocates, at every resolution, when the same was published before.
fn publication(publisher: impl Fn(CameraWriter, [usize; 2]) -> Box<dyn Fn()>) -> AllocationInfo {
    same_at_every_resolution(|resolution| {
        let sensors = robot(resolution);
        let publish = publisher(sensors.camera("camera_3").expect("it was declared"), resolution);
        steady(&sensors, &publish, |_| publish())
    })
}

/// One small allocation per buffer: the count of its references. No pixel memory.
fn assert_counts_references(info: AllocationInfo, buffers: u64) {
    assert_eq!(info.count_total, buffers, "{info:?}");
    assert!(info.bytes_total <= 128 * buffers, "{info:?}");
}

#[test]
fn a_copied_image_allocates_only_its_reference_count() {
    let info = publication(|camera, [height, width]| {
        let pixels = vec![1_u8; height * width * 3];
        Box::new(move || camera.update_image_at(&pixels, 1.0).expect("it fits"))
    });
    assert_counts_references(info, 1);
}

#[test]
fn a_frame_with_depth_allocates_two_reference_counts() {
    let info = publication(|camera, [height, width]| {
        let count = height * width;
        let (pixels, metres) = (vec![1_u8; count * 3], vec![1_f32; count]);
        Box::new(move || {
            let frame = CameraFrame::new().image(&pixels).depth(&metres).captured_at(1.0);
            let frame = frame.intrinsics(Matrix3::identity()).extrinsics(Matrix4::identity());
            camera.publish(frame).expect("it fits");
        })
    });
    assert_counts_references(info, 2);
}

#[test]
fn an_image_written_in_place_allocates_only_its_reference_count() {
    let info = publication(|camera, _| {
        Box::new(move || {
            let mut image = camera.image_buffer::<u8>().expect("the images are u8");
            image.fill(1);
            camera.update_image_at(image, 1.0).expect("it fits");
        })
    });
    assert_counts_references(info, 1);
}

#[test]
fn an_owned_array_and_new_matrices_allocate_nothing() {
    let info = publication(|camera, [height, width]| {
        let image = Array::zeros(Dtype::U8, [height, width, 3]).expect("it fits into memory");
        Box::new(move || {
            camera.update_image_at(image.clone(), 1.0).expect("it fits");
            camera.update_intrinsics(Matrix3::identity());
            camera.update_extrinsics(Matrix4::identity());
        })
    });
    assert_eq!(info, AllocationInfo::default());
}

#[test]
fn proprioception_allocates_only_its_reference_count() {
    let sensors = robot(RESOLUTIONS[0]);
    let update = || sensors.update_proprio("joints", &[1_f32; 7]).expect("it fits");
    assert_counts_references(steady(&sensors, update, |_| update()), 1);
}
