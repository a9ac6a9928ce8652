#![allow(clippy::float_cmp, reason = "numbers come out exactly as they went in")]

mod ages;
mod declarations;
mod properties;
mod recycling;
mod threads;
mod updates;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{Array, Camera};

/// A camera with 2×3 RGB images and 2×2 depth.
fn small(name: &'static str) -> CameraConfig {
    CameraConfig::new(name, [2, 3, 3]).depth([2, 2])
}

/// One such camera, called "cam", and a stream of 3 joints; no clock.
fn arm() -> Sensors {
    Sensors::new([small("cam")], [ProprioConfig::new("joints", 3)]).unwrap()
}

/// As [`arm`], with a clock that the test moves, in milliseconds.
fn arm_with_clock() -> (Sensors, Arc<AtomicU64>) {
    let millis = Arc::new(AtomicU64::new(0));
    let clock = millis.clone();
    let now = move || clock.load(Ordering::SeqCst) as f64 / 1e3;
    let joints = ProprioConfig::new("joints", 3);
    (Sensors::with_clock([small("cam")], [joints], now).unwrap(), millis)
}

fn cam(sensors: &Sensors) -> Camera {
    sensors.snapshot(0.0).cameras.swap_remove(0)
}

fn depth(camera: &Camera) -> Vec<f32> {
    camera.depth.as_ref().expect("the camera has depth").to_f32().into_owned()
}

fn joints(sensors: &Sensors) -> Vec<f32> {
    sensors.snapshot(0.0).proprios[0].values.to_f32().into_owned()
}
