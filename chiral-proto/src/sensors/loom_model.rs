//! Every interleaving of writers and a snapshot, checked by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test -p chiral-proto --release --lib sensors::loom_model
//! ```
//!
//! The locks of the slots and of the buffer pools are loom's here. The reference counts of `Bytes`
//! are not (its own crate checks those with loom); each that ends is followed by the lock of the
//! pool that gets the memory.

#![allow(clippy::float_cmp, reason = "numbers come out exactly as they went in")]

use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::*;
use crate::Camera;

/// One camera whose every part, in all its elements, says which frame it is of: at first 0.
fn sensors() -> Sensors {
    let config = CameraConfig::new("cam", [2])
        .depth([2])
        .intrinsics(Matrix3::zeros())
        .extrinsics(Matrix4::zeros());
    Sensors::new([config], [ProprioConfig::new("q", 2)]).unwrap()
}

fn frame(value: u8) -> CameraFrame<'static> {
    let wide = f64::from(value);
    CameraFrame::new()
        .intrinsics(Matrix3::from_element(wide))
        .extrinsics(Matrix4::from_element(wide))
        .captured_at(wide)
}

fn publish_copies(camera: &CameraWriter, value: u8) {
    camera.publish(frame(value).image(&[value; 2]).depth(&[f32::from(value); 2])).unwrap();
}

/// Which frame the camera shows; panics when its parts are of different ones.
fn shown(camera: &Camera) -> f64 {
    let value = camera.timestamp;
    assert_eq!(camera.intrinsics, Matrix3::from_element(value), "torn K");
    assert_eq!(camera.extrinsics, Matrix4::from_element(value), "torn T");
    assert_eq!(camera.image.to_f64()[..], [value; 2], "torn image");
    let depth = camera.depth.as_ref().expect("the camera has depth");
    assert_eq!(depth.to_f64()[..], [value; 2], "torn depth");
    value
}

#[test]
fn snapshots_are_never_torn_between_two_writers() {
    loom::model(|| {
        let sensors = sensors();
        let writers = [1, 2].map(|value| {
            let camera = sensors.camera("cam").unwrap();
            thread::spawn(move || publish_copies(&camera, value))
        });
        let observation = sensors.snapshot(0.0);
        let first = shown(&observation.cameras[0]);
        writers.into_iter().for_each(|writer| writer.join().unwrap());

        assert_eq!(shown(&observation.cameras[0]), first, "a snapshot changed afterwards");
        assert!(shown(&sensors.snapshot(1.0).cameras[0]) > 0.0, "a published frame was lost");
        assert_eq!(sensors.camera("cam").unwrap().sequence(), 2);
    });
}

#[test]
fn a_snapshot_stays_valid_while_older_buffers_are_recycled() {
    // Over all interleavings: how often the last frame lies where the first snapshot's lay.
    static RECYCLED: AtomicUsize = AtomicUsize::new(0);
    loom::model(|| {
        let sensors = sensors();
        let camera = sensors.camera("cam").unwrap();
        let writing =
            thread::spawn(move || (1..=2).for_each(|value| publish_copies(&camera, value)));
        let mut observation = sensors.snapshot(0.0);
        let first = shown(&observation.cameras[0]);
        let place = observation.cameras[0].image.bytes().as_ptr() as usize;
        // What the first one held may go to the writer while the second is taken.
        sensors.snapshot_into(1.0, &mut observation);
        let second = shown(&observation.cameras[0]);
        writing.join().unwrap();

        assert!(first <= second, "the frames of one writer are seen in their order");
        assert_eq!(shown(&observation.cameras[0]), second, "a snapshot changed afterwards");
        let last = sensors.snapshot(2.0).cameras.swap_remove(0);
        assert_eq!(shown(&last), 2.0);
        let again = last.image.bytes().as_ptr() as usize == place;
        RECYCLED.fetch_add(usize::from(first == 0.0 && again), Ordering::Relaxed);
    });
    assert!(RECYCLED.load(Ordering::Relaxed) > 0, "no interleaving used the memory again");
}

#[test]
fn a_pooled_buffer_has_one_owner_at_a_time() {
    loom::model(|| {
        let sensors = sensors();
        // The one that writes twice may get the memory that the other's frame just left.
        let writers = [&[1, 2][..], &[3]].map(|values| {
            let camera = sensors.camera("cam").unwrap();
            thread::spawn(move || {
                for &value in values {
                    let mut image = camera.image_buffer::<u8>().unwrap();
                    image.fill(value);
                    thread::yield_now();
                    assert_eq!(image[..], [value; 2], "another writer had the same memory");
                    camera.update_image_at(image, f64::from(value)).unwrap();
                }
            })
        });
        let camera = sensors.snapshot(0.0).cameras.swap_remove(0);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(camera.image.to_f64()[..], [camera.timestamp; 2], "a snapshot changed");
    });
}

#[test]
fn values_and_sequence_number_change_together() {
    loom::model(|| {
        let sensors = sensors();
        let writers = [1_u8, 2].map(|value| {
            let stream = sensors.proprio("q").unwrap();
            thread::spawn(move || stream.update(&[f32::from(value); 2]).unwrap())
        });
        let sequence = sensors.proprio("q").unwrap().sequence();
        let values = sensors.snapshot(0.0).proprios.swap_remove(0).values.to_f32().into_owned();
        assert!(values[0] == values[1] && (sequence == 0 || values[0] > 0.0));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(sensors.proprio("q").unwrap().sequence(), 2);
    });
}
