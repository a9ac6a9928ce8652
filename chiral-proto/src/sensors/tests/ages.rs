use std::time::Duration;

use super::*;
use crate::pool::{BufferMemory, BufferSource};
use crate::{Value, WhenStale};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Two cameras, of which "cam" goes stale after half a second, and the clock in milliseconds.
fn aging(when_stale: WhenStale) -> (Sensors, Arc<AtomicU64>) {
    let millis = Arc::new(AtomicU64::new(1000));
    let clock = millis.clone();
    let sensors = Sensors::builder()
        .camera(small("cam").max_age(HALF_A_SECOND, when_stale))
        .camera(small("other"))
        .clock(move || clock.load(Ordering::SeqCst) as f64 / 1e3)
        .build();
    (sensors.unwrap(), millis)
}

fn names(observation: &Observation) -> Vec<&str> {
    observation.cameras.iter().map(|camera| &*camera.name).collect()
}

fn stats(sensors: &Sensors) -> CameraStats {
    sensors.camera_stats().swap_remove(0)
}

#[test]
fn by_default_a_stale_camera_is_kept_and_counted() {
    let (sensors, millis) = aging(WhenStale::Hold);
    sensors.update_image("cam", &[1_u8; 18]).unwrap();
    millis.store(1500, Ordering::SeqCst);
    assert_eq!(names(&sensors.snapshot_now()), ["cam", "other"]);
    assert_eq!((stats(&sensors).state, stats(&sensors).stale), (CameraState::Live, 0));
    millis.store(1501, Ordering::SeqCst);
    let observation = sensors.try_snapshot_now().unwrap();
    assert_eq!(observation["cam"].image.bytes()[..], [1; 18]);
    assert!(observation.extra.is_empty());
    assert_eq!((stats(&sensors).state, stats(&sensors).stale), (CameraState::Stale, 1));
    sensors.update_image("cam", &[2_u8; 18]).unwrap();
    assert_eq!(stats(&sensors).state, CameraState::Live);
}

#[test]
fn a_stale_camera_can_be_left_out() {
    let (sensors, millis) = aging(WhenStale::Omit);
    millis.store(1600, Ordering::SeqCst);
    assert_eq!(names(&sensors.snapshot_now()), ["other"], "no image came since the beginning");
    sensors.update_image("cam", &[1_u8; 18]).unwrap();
    assert_eq!(names(&sensors.snapshot_now()), ["cam", "other"]);
    millis.store(2200, Ordering::SeqCst);
    assert_eq!(names(&sensors.snapshot_now()), ["other"]);
    assert_eq!((stats(&sensors).stale, stats(&sensors).repeated), (2, 0), "it was shown once");
}

#[test]
fn a_stale_camera_can_be_flagged() {
    let (sensors, millis) = aging(WhenStale::Flag);
    sensors.update_image("cam", &[1_u8; 18]).unwrap();
    millis.store(3000, Ordering::SeqCst);
    let observation = sensors.try_snapshot_now().unwrap();
    assert_eq!(names(&observation), ["cam", "other"]);
    let flagged = observation.extra.get("stale_cameras").unwrap();
    assert_eq!(flagged, Value::Map(vec![("cam".into(), 2.0.into())]));
    sensors.set_extra(crate::map! { "phase" => "lift" });
    let extra = sensors.snapshot_now().extra;
    assert_eq!(extra, crate::map! { "phase" => "lift", "stale_cameras" => flagged });
}

#[test]
fn a_stale_camera_can_fail_the_observation() {
    let (sensors, millis) = aging(WhenStale::Fail);
    sensors.update_image("cam", &[1_u8; 18]).unwrap();
    assert!(sensors.try_snapshot_now().is_ok());
    millis.store(3000, Ordering::SeqCst);
    assert_eq!(
        sensors.try_snapshot(3.0).unwrap_err().to_string(),
        r#"camera "cam" has published no image for 2.0s, over the 500.0ms of its `max_age`"#
    );
    // Where it cannot fail it is flagged.
    let observation = sensors.snapshot_now();
    assert_eq!(names(&observation), ["cam", "other"]);
    assert!(observation.extra.get("stale_cameras").is_some());
}

#[test]
fn a_maximum_age_needs_a_clock() {
    let error = Sensors::new([small("cam").max_age(HALF_A_SECOND, WhenStale::Hold)], []);
    assert_eq!(
        error.unwrap_err().to_string(),
        r#"camera "cam" has a `max_age`, and the sensors have no clock: build them with `Sensors::with_clock`, or declare the camera without"#
    );
}

#[test]
fn camera_age_and_repeated_images_are_reported() {
    let (sensors, millis) = arm_with_clock();
    let waiting = stats(&sensors);
    assert_eq!((waiting.state, waiting.age, waiting.images), (CameraState::Waiting, None, 0));
    millis.store(1000, Ordering::SeqCst);
    sensors.update_image_at("cam", &[0_u8; 18], 123.0).unwrap();
    millis.store(1250, Ordering::SeqCst);
    for _ in 0..121 {
        sensors.snapshot_now();
    }
    let live = stats(&sensors);
    assert_eq!(live.age, Some(Duration::from_millis(250)), "since it was published");
    assert_eq!((live.state, live.images, live.repeated), (CameraState::Live, 1, 120));
    assert_eq!(
        live.to_string(),
        r#""cam" live, 1 images, the latest 250.0ms ago, shown again 120 times"#
    );
    sensors.update_image("cam", &[0_u8; 18]).unwrap();
    sensors.snapshot_now();
    assert_eq!(stats(&sensors).repeated, 120);

    assert_eq!(stats(&arm()).age, None, "there is no clock");
}

#[test]
fn a_camera_without_writers_is_reported_as_stopped() {
    let sensors = arm();
    let state = || stats(&sensors).state;
    drop(sensors.camera("cam").unwrap());
    assert_eq!(state(), CameraState::Waiting, "it had published nothing");

    let writer = sensors.camera("cam").unwrap();
    let other = writer.clone();
    writer.update_image_at(&[0_u8; 18], 1.0).unwrap();
    other.update_image_at(&[0_u8; 18], 2.0).unwrap();
    drop(writer);
    assert_eq!(state(), CameraState::Live);
    assert_eq!(sensors.camera("cam").unwrap().sequence(), 2);
    assert_eq!(state(), CameraState::Live, "who only looks is no writer");
    drop(other);
    assert_eq!(state(), CameraState::Stopped);

    // A thread that panics ends, too.
    let writer = sensors.camera("cam").unwrap();
    writer.update_image_at(&[0_u8; 18], 3.0).unwrap();
    assert_eq!(state(), CameraState::Live);
    std::thread::scope(|threads| {
        let camera_thread = threads.spawn(move || {
            let _writer = writer;
            panic!("the cable was pulled");
        });
        camera_thread.join().unwrap_err();
    });
    assert_eq!(state(), CameraState::Stopped);

    // Updates by name need no writer.
    sensors.update_image_at("cam", &[0_u8; 18], 4.0).unwrap();
    assert_eq!(state(), CameraState::Live);
    sensors.update_depth("cam", &[0_f32; 4]).unwrap();
    assert_eq!(state(), CameraState::Live);
}

/// A source of so many blocks.
struct Few(AtomicU64);

impl BufferSource for Few {
    fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
        let take = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
        Some(Box::new(vec![7_u8; len + 64]))
    }
}

#[test]
fn sensors_report_an_exhausted_memory_source() {
    let source = Few(AtomicU64::new(2));
    let camera = CameraConfig::new("cam", [2, 3, 3]);
    let sensors = Sensors::builder().camera(camera).memory(source).build().unwrap();
    assert_eq!(cam(&sensors).image.bytes()[..], [0; 18]);
    sensors.update_image_at("cam", &[1_u8; 18], 1.0).unwrap();
    let kept = cam(&sensors);
    sensors.update_image_at("cam", &[2_u8; 18], 2.0).unwrap();
    let error = sensors.update_image_at("cam", &[3_u8; 18], 3.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"there is no memory for the image of camera "cam", 18 bytes: let go of older observations, or give the source of the sensors' memory more"#
    );
    assert_eq!(cam(&sensors).image.bytes()[..], [2; 18], "the old frame stays");
    drop(kept);
    sensors.update_image_at("cam", &[3_u8; 18], 3.0).unwrap();

    let camera = CameraConfig::new("cam", [2, 3, 3]);
    let none = Sensors::builder().camera(camera).memory(Few(AtomicU64::new(0))).build();
    assert!(matches!(none, Err(SensorError::TooLarge { .. })));
}

#[test]
fn frames_are_aligned_to_64_bytes() {
    let sensors = arm();
    sensors.update_image_at("cam", &[1_u8; 18], 1.0).unwrap();
    sensors.update_depth("cam", &[1_f32; 4]).unwrap();
    let observation = sensors.snapshot(0.0);
    let camera = &observation["cam"];
    let arrays = [&camera.image, camera.depth.as_ref().unwrap(), &observation.proprios[0].values];
    for array in arrays {
        assert!(array.bytes().as_ptr().addr().is_multiple_of(64), "{array:?}");
    }
}

#[test]
fn a_shape_of_terabytes_is_an_error() {
    for shape in [[1 << 20, 1 << 20, 1 << 10], [1 << 24, 1 << 20, 3]] {
        let error = Sensors::new([CameraConfig::new("cam", shape)], []).unwrap_err();
        assert!(matches!(error, SensorError::TooLarge { part: Part::Image, .. }), "{error}");
    }
}
