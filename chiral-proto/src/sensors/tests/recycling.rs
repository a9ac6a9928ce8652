use std::collections::HashSet;

use super::*;

fn places(observation: &Observation) -> [*const u8; 3] {
    let camera = &observation.cameras[0];
    let depth = camera.depth.as_ref().expect("the camera has depth");
    let joints = &observation.proprios[0].values;
    [camera.image.bytes(), depth.bytes(), joints.bytes()].map(|bytes| bytes.as_ptr())
}

fn update_all(sensors: &Sensors, value: u8) {
    sensors.update_image_at("cam", &[value; 18], value.into()).unwrap();
    sensors.update_depth("cam", &[f32::from(value); 4]).unwrap();
    sensors.update_proprio("joints", &[f32::from(value); 3]).unwrap();
}

#[test]
fn repeated_updates_by_copy_reuse_memory() {
    let sensors = arm();
    let mut held = sensors.snapshot(0.0);
    let mut seen = [(); 3].map(|()| HashSet::new());
    for value in 0..100 {
        update_all(&sensors, value);
        held = sensors.snapshot(held.timestamp);
        for (seen, place) in seen.iter_mut().zip(places(&held)) {
            seen.insert(place);
        }
    }
    // The latest, the one that the snapshot still holds, and the one being written.
    assert!(seen.iter().all(|places| (2..=3).contains(&places.len())), "{seen:?}");
}

#[test]
fn repeated_updates_in_place_reuse_memory() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();
    let mut seen = HashSet::new();
    for value in 0..100 {
        let mut image = camera.image_buffer::<u8>().unwrap();
        seen.insert(image.as_ptr());
        image.fill(value);
        camera.update_image_at(image, 0.0).unwrap();
    }
    assert_eq!(seen.len(), 2, "two take turns");

    // One that is given up goes back as well.
    let given_up = camera.image_buffer::<u8>().unwrap().as_ptr();
    assert_eq!(camera.image_buffer::<u8>().unwrap().as_ptr(), given_up);
}

#[test]
fn a_rejected_update_returns_its_buffer() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();
    camera.update_image_at(&[1_u8; 18], 0.0).unwrap();
    let free = camera.image_buffer::<u8>().unwrap().as_ptr();
    camera.update_image_at(camera.image_buffer::<u8>().unwrap(), 0.0).unwrap();
    camera.publish(CameraFrame::new().image(&[1_u8; 18]).depth(&[0_f32; 5])).unwrap_err();
    camera.update_image_at(&[1_u8; 18], 0.0).unwrap();
    assert_eq!(camera.image_buffer::<u8>().unwrap().as_ptr(), free);
}

#[test]
fn a_snapshot_is_immutable() {
    let sensors = arm();
    let snapshots: Vec<Observation> = (0..20)
        .map(|value| {
            update_all(&sensors, value);
            sensors.snapshot(value.into())
        })
        .collect();
    update_all(&sensors, 255);
    for (observation, value) in snapshots.iter().zip(0_u8..) {
        let camera = &observation["cam"];
        assert_eq!(camera.image.bytes()[..], [value; 18]);
        assert_eq!(depth(camera), [f32::from(value); 4]);
        assert_eq!(*observation.proprios[0].values.to_f32(), [f32::from(value); 3]);
        assert_eq!(camera.timestamp, f64::from(value));
    }
}

#[test]
fn a_snapshot_does_not_copy_pixels() {
    let sensors = arm();
    update_all(&sensors, 1);
    let (first, second) = (sensors.snapshot(0.0), sensors.snapshot(1.0));
    assert_eq!(places(&first), places(&second));
}

#[test]
fn a_snapshot_into_an_old_one_is_equal_and_reuses_its_memory() {
    let sensors = arm();
    let mut observation = sensors.snapshot(0.0);
    observation.extra.insert("mood", "good");
    let lists = (observation.cameras.as_ptr(), observation.proprios.as_ptr());
    update_all(&sensors, 9);
    sensors.snapshot_into(2.0, &mut observation);
    assert_eq!(observation, sensors.snapshot(2.0));
    assert_eq!((observation.cameras.as_ptr(), observation.proprios.as_ptr()), lists);

    let other = Sensors::new([small("a"), small("b")], []).unwrap();
    other.snapshot_into(3.0, &mut observation);
    assert_eq!(observation, other.snapshot(3.0));
}
