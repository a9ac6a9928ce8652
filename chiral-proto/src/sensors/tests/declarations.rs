use super::*;
use crate::{Dtype, Name};

#[test]
fn the_first_snapshot_is_zeros_and_declared_matrices_in_declaration_order() {
    let k = Matrix3::new(600.0, 0.0, 320.0, 0.0, 601.0, 240.0, 0.0, 0.0, 1.0);
    let t = Matrix4::new_scaling(2.0);
    let sensors = Sensors::new(
        [
            small("wrist").intrinsics(k).extrinsics(t),
            CameraConfig::new("top", [4, 5]).image_dtype(Dtype::U16),
            CameraConfig::new("empty", [0, 640, 3]),
        ],
        [ProprioConfig::new("q", 7), ProprioConfig::new("gripper", 1).dtype(Dtype::F64)],
    )
    .unwrap();
    let observation = sensors.snapshot(12.5);

    assert_eq!(observation.timestamp, 12.5);
    assert!(observation.extra.is_empty());
    let names: Vec<&str> = observation.cameras.iter().map(|camera| &*camera.name).collect();
    assert_eq!(names, ["wrist", "top", "empty"]);
    let names: Vec<&str> = observation.proprios.iter().map(|proprio| &*proprio.name).collect();
    assert_eq!(names, ["q", "gripper"]);

    let [wrist, top, empty] = &observation.cameras[..] else { panic!("three cameras") };
    assert_eq!((wrist.intrinsics, wrist.extrinsics), (k, t));
    assert_eq!(wrist.image, Array::zeros(Dtype::U8, [2, 3, 3]).unwrap());
    assert_eq!(wrist.depth, Some(Array::zeros(Dtype::F32, [2, 2]).unwrap()));
    assert_eq!(top.image, Array::zeros(Dtype::U16, [4, 5]).unwrap());
    assert_eq!((top.intrinsics, top.extrinsics), (Matrix3::identity(), Matrix4::identity()));
    assert_eq!(top.depth, None);
    assert_eq!(empty.image, Array::zeros(Dtype::U8, [0, 640, 3]).unwrap());
    assert!(observation.cameras.iter().all(|camera| camera.timestamp == 0.0));
    assert_eq!(observation.proprios[0].values, Array::zeros(Dtype::F32, 7).unwrap());
    assert_eq!(observation.proprios[1].values, Array::zeros(Dtype::F64, 1).unwrap());
    assert!(sensors.cameras().all(|camera| camera.sequence() == 0));
    assert!(sensors.proprios().all(|proprio| proprio.sequence() == 0));
}

#[test]
fn sensors_without_any_sensor_give_an_empty_observation() {
    let sensors = Sensors::new([], []).unwrap();
    let expected = Observation { timestamp: 1.0, ..Observation::default() };
    assert_eq!(sensors.snapshot(1.0), expected);
}

#[test]
fn lookup_by_name_finds_the_first_duplicate_and_by_index_either() {
    let sensors = Sensors::new(
        [small("cam"), small("other"), small("cam")],
        [ProprioConfig::new("q", 1), ProprioConfig::new("q", 2)],
    )
    .unwrap();
    sensors.update_image_at("cam", &[1_u8; 18], 1.0).unwrap();
    sensors.camera_at(2).unwrap().update_image_at(&[3_u8; 18], 3.0).unwrap();
    let stamps: Vec<f64> = sensors.snapshot(0.0).cameras.iter().map(|c| c.timestamp).collect();
    assert_eq!(stamps, [1.0, 0.0, 3.0]);
    assert!(sensors.camera_at(3).is_none());

    assert_eq!(sensors.proprio("q").unwrap().config().len, 1);
    assert_eq!(sensors.proprio_at(1).unwrap().config().len, 2);
    assert!(sensors.proprio_at(2).is_none());
    assert_eq!(sensors.cameras().len() + sensors.proprios().len(), 5);
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_known_names() {
    let sensors = arm();
    let error = sensors.update_image_at("wrist", &[0_u8; 18], 0.0).unwrap_err();
    assert_eq!(error.to_string(), r#"no camera is called "wrist"; there is "cam""#);
    let error = sensors.update_proprio("cam", &[0_f32; 3]).unwrap_err();
    assert_eq!(error.to_string(), r#"no proprio is called "cam"; there is "joints""#);
    assert_eq!(sensors.camera("wrist").unwrap_err().existing(), [Name::from("cam")]);
    assert!(sensors.proprio("cam").is_err());
    assert!(sensors.update_depth("x", &[0_f32; 4]).is_err());
    assert!(sensors.update_intrinsics("x", Matrix3::identity()).is_err());
    assert!(sensors.update_extrinsics("x", Matrix4::identity()).is_err());
    assert!(sensors.publish("x", CameraFrame::new()).is_err());
}

#[test]
fn a_shape_larger_than_memory_is_refused() {
    let max = usize::MAX;
    let part = |cameras: Option<CameraConfig>, proprios: Option<ProprioConfig>| match Sensors::new(
        cameras, proprios,
    ) {
        Err(SensorError::TooLarge { part, .. }) => part,
        other => panic!("{other:?}"),
    };
    assert_eq!(part(Some(CameraConfig::new("c", [max, 2])), None), Part::Image);
    assert_eq!(part(Some(CameraConfig::new("c", isize::MAX as usize)), None), Part::Image);
    assert_eq!(part(Some(small("c").depth([max / 2])), None), Part::Depth);
    assert_eq!(part(None, Some(ProprioConfig::new("p", max / 4 + 1))), Part::Proprio);

    let error = Sensors::new([small("c").depth([max, 2])], []).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            r#"the depth map of camera "c" would be float32 of shape [{max}, 2], more than memory can hold: declare smaller dimensions"#
        )
    );
}

#[test]
fn writer_handles_are_shareable_and_debug_print_only_names() {
    fn shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let sensors = arm();
    let (camera, proprio) = (sensors.camera("cam").unwrap(), sensors.proprio("joints").unwrap());
    shareable(&sensors);
    shareable(&camera);
    shareable(&proprio);
    assert_eq!(format!("{sensors:?}"), r#"Sensors { cameras: ["cam"], proprios: ["joints"], .. }"#);
    assert_eq!(format!("{camera:?} {proprio:?}"), r#"CameraWriter("cam") ProprioWriter("joints")"#);
    assert_eq!(*camera.config(), small("cam"));
}
