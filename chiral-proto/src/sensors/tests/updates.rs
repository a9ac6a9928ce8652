use super::*;
use crate::Dtype;

#[test]
fn each_update_changes_only_its_own_field() {
    let sensors = arm();
    let mut expected = cam(&sensors);

    sensors.update_image_at("cam", &[7_u8; 18], 1.5).unwrap();
    expected.image = Array::from_slice([2, 3, 3], &[7_u8; 18]).unwrap();
    expected.timestamp = 1.5;
    assert_eq!(cam(&sensors), expected);

    sensors.update_depth("cam", &[0.5_f32; 4]).unwrap();
    expected.depth = Some(Array::from_slice([2, 2], &[0.5_f32; 4]).unwrap());
    assert_eq!(cam(&sensors), expected);

    sensors.update_intrinsics("cam", Matrix3::from_element(3.0)).unwrap();
    expected.intrinsics = Matrix3::from_element(3.0);
    assert_eq!(cam(&sensors), expected);

    sensors.update_extrinsics("cam", Matrix4::from_element(4.0)).unwrap();
    expected.extrinsics = Matrix4::from_element(4.0);
    assert_eq!(cam(&sensors), expected);

    assert_eq!(joints(&sensors), [0.0; 3]);
    sensors.update_proprio("joints", &[0.1_f32, 0.2, 0.3]).unwrap();
    assert_eq!(joints(&sensors), [0.1, 0.2, 0.3]);
    assert_eq!(cam(&sensors), expected);
}

#[test]
fn a_frame_publishes_only_the_parts_it_contains() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();
    let k = Matrix3::from_element(2.0);
    let frame = CameraFrame::new().image(&[1_u8; 18]).depth(&[1_f32; 4]).intrinsics(k);
    camera.publish(frame.captured_at(1.0)).unwrap();
    let published = cam(&sensors);
    assert_eq!((published.timestamp, published.intrinsics), (1.0, k));
    assert_eq!(depth(&published), [1.0; 4]);
    assert_eq!(published.extrinsics, Matrix4::identity());

    // No image: the stamp stays unless it is given, and no clock is needed.
    camera.publish(CameraFrame::new().depth(&[2_f32; 4])).unwrap();
    assert_eq!((cam(&sensors).timestamp, depth(&cam(&sensors))), (1.0, vec![2.0; 4]));
    camera.publish(CameraFrame::new().extrinsics(Matrix4::zeros()).captured_at(3.0)).unwrap();
    assert_eq!((cam(&sensors).timestamp, cam(&sensors).extrinsics), (3.0, Matrix4::zeros()));
    assert_eq!(cam(&sensors).image, published.image);

    let before = cam(&sensors);
    camera.publish(CameraFrame::new()).unwrap();
    assert_eq!(cam(&sensors), before);
    assert_eq!(camera.sequence(), 1, "one image was published");
}

#[test]
fn the_clock_stamps_only_images_without_a_timestamp() {
    let (sensors, millis) = arm_with_clock();
    let camera = sensors.camera("cam").unwrap();
    let stamp = || cam(&sensors).timestamp;
    millis.store(1_000, Ordering::SeqCst);
    camera.update_image(&[0_u8; 18]).unwrap();
    assert_eq!(stamp(), 1.0);

    millis.store(2_000, Ordering::SeqCst);
    camera.update_depth(&[0_f32; 4]).unwrap();
    camera.update_intrinsics(Matrix3::zeros());
    camera.update_extrinsics(Matrix4::zeros());
    camera.publish(CameraFrame::new().depth(&[0_f32; 4])).unwrap();
    assert_eq!(stamp(), 1.0);

    sensors.update_image("cam", &[0_u8; 18]).unwrap();
    assert_eq!(stamp(), 2.0);
    camera.publish(CameraFrame::new().image(&[0_u8; 18]).captured_at(1.75)).unwrap();
    assert_eq!(stamp(), 1.75);
    millis.store(3_000, Ordering::SeqCst);
    camera.publish(CameraFrame::new().image(&[0_u8; 18])).unwrap();
    assert_eq!(stamp(), 3.0);
}

#[test]
fn an_image_without_a_timestamp_needs_a_clock() {
    let sensors = arm();
    let before = cam(&sensors);
    let error = sensors.update_image("cam", &[1_u8; 18]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the image of camera "cam" came without a capture time, and the sensors have no clock: give the time (`update_image_at`, `CameraFrame::captured_at`), or build them with `Sensors::with_clock`"#
    );
    let frame = CameraFrame::new().image(&[1_u8; 18]).depth(&[1_f32; 4]);
    assert!(matches!(sensors.publish("cam", frame), Err(SensorError::NoClock { .. })));
    assert_eq!(cam(&sensors), before);
}

#[test]
fn data_of_the_wrong_size_is_rejected_with_a_reason() {
    let sensors = arm();
    let message = |result: Result<(), SensorError>| result.unwrap_err().to_string();
    assert_eq!(
        message(sensors.update_image_at("cam", &[0_f32; 18], 1.0)),
        r#"the image of camera "cam" takes uint8, found float32: convert the elements (raw bytes: wrap them in an `Array` of uint8), or declare the sensor as float32"#
    );
    assert_eq!(
        message(sensors.update_image_at("cam", &[0_u8; 17], 1.0)),
        r#"the image of camera "cam" takes 18 elements, shape [2, 3, 3], found 17: give one whole frame, row-major"#
    );
    let turned = Array::zeros(Dtype::U8, [3, 2, 3]).unwrap();
    assert_eq!(
        message(sensors.update_image_at("cam", turned, 1.0)),
        r#"the image of camera "cam" has shape [2, 3, 3], found an array of shape [3, 2, 3]: reshape the array, or declare the sensor with its shape"#
    );
    assert_eq!(
        message(sensors.update_depth("cam", vec![0_u16; 4])),
        r#"the depth map of camera "cam" takes float32, found uint16: convert the elements (raw bytes: wrap them in an `Array` of float32), or declare the sensor as uint16"#
    );
    assert_eq!(
        message(sensors.update_proprio("joints", &[0_f32; 4])),
        r#"proprio "joints" takes 3 elements, shape [3], found 4: give one whole frame, row-major"#
    );

    let gray = Sensors::new([CameraConfig::new("gray", [2, 2])], []).unwrap();
    assert_eq!(
        message(gray.update_depth("gray", &[0_f32; 4])),
        r#"camera "gray" has no depth map to write: declare it with `CameraConfig::depth`, or leave the depth out"#
    );
    assert!(gray.camera("gray").unwrap().depth_buffer::<f32>().is_err());
    assert!(gray.camera("gray").unwrap().image_buffer::<i8>().is_err());
}

#[test]
fn a_rejected_frame_publishes_nothing() {
    let (sensors, _) = arm_with_clock();
    let camera = sensors.camera("cam").unwrap();
    let before = cam(&sensors);
    let whole = || CameraFrame::new().intrinsics(Matrix3::zeros()).extrinsics(Matrix4::zeros());
    for frame in [
        whole().image(&[1_u8; 18]).depth(&[1_f32; 3]).captured_at(1.0),
        whole().image(&[1_u8; 17]).depth(&[1_f32; 4]).captured_at(1.0),
        whole().image(&[1_u8; 18]).depth(&[1_f64; 4]),
        whole().image(vec![1_i8; 18]).depth(vec![1_f32; 4]),
    ] {
        assert!(camera.publish(frame).is_err());
        assert_eq!((cam(&sensors), camera.sequence()), (before.clone(), 0));
    }
}

#[test]
fn sequence_numbers_count_published_frames() {
    let sensors = arm();
    let (camera, joints) = (sensors.camera("cam").unwrap(), sensors.proprio("joints").unwrap());
    for count in 1..=3 {
        camera.update_image_at(&[0_u8; 18], 0.0).unwrap();
        camera.update_depth(&[0_f32; 4]).unwrap();
        camera.update_image_at(&[0_u8; 1], 0.0).unwrap_err();
        joints.update(&[0_f32; 3]).unwrap();
        joints.update(&[0_f32; 2]).unwrap_err();
        assert_eq!((camera.sequence(), joints.sequence()), (count, count));
    }
}

#[test]
fn an_owned_buffer_is_published_without_a_copy() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();

    let image = vec![5_u8; 18];
    let memory = image.as_ptr();
    camera.update_image_at(image, 1.0).unwrap();
    assert_eq!(cam(&sensors).image.bytes().as_ptr(), memory);

    let metres = vec![0.5_f32; 4];
    let memory = metres.as_ptr().cast();
    camera.publish(CameraFrame::new().depth(metres)).unwrap();
    assert_eq!(cam(&sensors).depth.unwrap().bytes().as_ptr(), memory);

    let array = Array::new(Dtype::U8, [2, 3, 3], vec![6; 18]).unwrap();
    camera.update_image_at(array.clone(), 2.0).unwrap();
    assert_eq!(cam(&sensors).image.bytes().as_ptr(), array.bytes().as_ptr());

    let values = vec![1_f32; 3];
    let memory = values.as_ptr().cast();
    sensors.update_proprio("joints", values).unwrap();
    assert_eq!(sensors.snapshot(0.0).proprios[0].values.bytes().as_ptr(), memory);
}

#[test]
fn a_pooled_buffer_is_published_without_a_copy() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();
    let mut image = camera.image_buffer::<u8>().unwrap();
    let mut metres = camera.depth_buffer::<f32>().unwrap();
    assert_eq!((image.len(), metres.len()), (18, 4));
    image.copy_from_slice(&std::array::from_fn::<u8, 18, _>(|index| index as u8));
    metres.copy_from_slice(&[0.25, 0.5, 1.0, 2.0]);
    let memory = (image.as_ptr(), metres.as_ptr().cast::<u8>());
    camera.publish(CameraFrame::new().image(image).depth(metres).captured_at(1.0)).unwrap();

    let published = cam(&sensors);
    assert_eq!(published.image.bytes()[..], std::array::from_fn::<u8, 18, _>(|i| i as u8));
    assert_eq!(depth(&published), [0.25, 0.5, 1.0, 2.0]);
    let depth_memory = published.depth.as_ref().unwrap().bytes().as_ptr();
    assert_eq!((published.image.bytes().as_ptr(), depth_memory), memory);

    let joints = sensors.proprio("joints").unwrap();
    let mut values = joints.buffer::<f32>().unwrap();
    values.copy_from_slice(&[1.0, 2.0, 3.0]);
    joints.update(values).unwrap();
    assert_eq!(super::joints(&sensors), [1.0, 2.0, 3.0]);
    assert!(joints.buffer::<f64>().is_err());
}

#[test]
fn untyped_buffers_are_published_as_the_declared_arrays() {
    let sensors = arm();
    let camera = sensors.camera("cam").unwrap();
    let mut image = camera.untyped_image_buffer().unwrap();
    let mut metres = camera.untyped_depth_buffer().unwrap();
    let mut joints_buffer = sensors.proprio("joints").unwrap().untyped_buffer().unwrap();
    assert_eq!((image.dtype(), &image.shape()[..], image.len()), (Dtype::U8, &[2, 3, 3][..], 18));
    assert_eq!((metres.dtype(), metres.len(), joints_buffer.len()), (Dtype::F32, 16, 12));
    image.fill(9);
    metres.chunks_exact_mut(4).for_each(|metre| metre.copy_from_slice(&1.5_f32.to_le_bytes()));
    joints_buffer.fill(0);
    let memory = image.as_ptr();
    camera.publish(CameraFrame::new().image(image).depth(metres).captured_at(1.0)).unwrap();
    sensors.update_proprio("joints", joints_buffer).unwrap();

    let published = cam(&sensors);
    assert_eq!(published.image, Array::from_slice([2, 3, 3], &[9_u8; 18]).unwrap());
    assert_eq!(published.image.bytes().as_ptr(), memory, "it is not copied");
    assert_eq!(depth(&published), [1.5; 4]);
    assert_eq!(joints(&sensors), [0.0; 3]);

    // One that was made an array first, and one of another sensor.
    let image = camera.untyped_image_buffer().unwrap().into_array();
    camera.update_image_at(image, 2.0).unwrap();
    let other = sensors.proprio("joints").unwrap().untyped_buffer().unwrap();
    assert!(matches!(camera.update_image_at(other, 3.0), Err(SensorError::Dtype { .. })));
}
