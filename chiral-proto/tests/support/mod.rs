//! What the tests of the machines share: a beginning of time, and messages that tell themselves
//! apart.

use std::time::{Duration, Instant};

use chiral_proto::{Action, Array, Camera, Map, Observation, ResetResult, StepResult, Timestamps};
use nalgebra::{Matrix3, Matrix4};

/// Where the tests' clocks begin; only differences count.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An observation that is known by its number: the timestamp, also of its camera.
pub(crate) fn observation(number: u32) -> Observation {
    let camera = Camera {
        name: "cam".into(),
        timestamp: f64::from(number),
        intrinsics: Matrix3::identity(),
        extrinsics: Matrix4::identity(),
        image: Array::from_slice([1, 1, 3], &[7_u8; 3]).expect("one pixel"),
        depth: None,
    };
    Observation { timestamp: f64::from(number), cameras: vec![camera], ..Observation::default() }
}

/// What an action decided on [`observation`] of that number carries.
pub(crate) fn stamped(number: u32) -> Timestamps {
    [("cam", f64::from(number))].into_iter().collect()
}

pub(crate) fn action(number: u32) -> Action {
    Action::from([number as f32])
}

/// The number of an [`action`].
pub(crate) fn number_of(action: &Action) -> u32 {
    action.to_f32()[0] as u32
}

pub(crate) fn metadata(number: u32) -> Map {
    Map::new().with("number", number)
}

pub(crate) fn reset(number: u32) -> ResetResult {
    ResetResult { observation: observation(number), info: metadata(number) }
}

pub(crate) fn step(number: u32) -> StepResult {
    StepResult {
        observation: observation(number),
        reward: f64::from(number),
        info: metadata(number),
        ..StepResult::default()
    }
}
