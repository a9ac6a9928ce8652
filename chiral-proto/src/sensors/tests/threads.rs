use std::sync::atomic::AtomicU32;

use super::*;

/// Different frames that the watching thread has to see.
const SEEN: u32 = 2_000;

fn frame(value: u32) -> CameraFrame<'static> {
    let wide = f64::from(value);
    CameraFrame::new()
        .depth(vec![value as f32; 4])
        .intrinsics(Matrix3::from_element(wide))
        .extrinsics(Matrix4::from_element(wide))
        .captured_at(wide)
}

fn is_whole(camera: &Camera) -> bool {
    let value = camera.timestamp;
    camera.intrinsics == Matrix3::from_element(value)
        && camera.extrinsics == Matrix4::from_element(value)
        && depth(camera).iter().all(|&metres| metres == value as f32)
        && camera.image.to_f64().iter().all(|&pixel| pixel == value % 256.0)
}

/// Two threads publish to one camera, by copy and in place, until a third has seen enough of it.
#[test]
fn snapshots_never_mix_two_frames() {
    let zero = small("cam").intrinsics(Matrix3::zeros()).extrinsics(Matrix4::zeros());
    let sensors = Sensors::new([zero], []).unwrap();
    let seen = AtomicU32::new(0);
    let (published, kept) = std::thread::scope(|threads| {
        let watching = threads.spawn(|| {
            let mut kept = vec![cam(&sensors)];
            while seen.load(Ordering::SeqCst) < SEEN {
                let camera = cam(&sensors);
                if !is_whole(&camera) {
                    seen.store(SEEN, Ordering::SeqCst); // lets the writers go before it fails
                    panic!("torn: {camera:?}");
                }
                if camera.timestamp != kept[kept.len() - 1].timestamp {
                    seen.fetch_add(1, Ordering::SeqCst);
                    kept.push(camera);
                    kept.truncate(100);
                }
            }
            kept
        });
        let writers = [1, 2].map(|first: u32| {
            let camera = sensors.camera("cam").unwrap();
            let seen = &seen;
            threads.spawn(move || {
                let mut published = 0;
                for value in (first..).step_by(2) {
                    if seen.load(Ordering::SeqCst) >= SEEN {
                        break;
                    }
                    let pixels = [value as u8; 18];
                    if value % 4 < 2 {
                        camera.publish(frame(value).image(&pixels)).unwrap();
                    } else {
                        let mut image = camera.image_buffer::<u8>().unwrap();
                        image.copy_from_slice(&pixels);
                        camera.publish(frame(value).image(image)).unwrap();
                    }
                    published += 1;
                }
                published
            })
        });
        let published: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        (published, watching.join().unwrap())
    });
    assert_eq!(kept.len(), 100);
    assert!(kept.iter().all(is_whole), "a kept snapshot was overwritten");
    assert_eq!(sensors.camera("cam").unwrap().sequence(), published);
}

/// A clock that panics takes its own thread down and nothing else.
#[test]
fn a_panicking_clock_leaves_the_camera_usable() {
    let works = Arc::new(AtomicU32::new(0));
    let clock = works.clone();
    let now = move || if clock.load(Ordering::SeqCst) == 0 { panic!("no time") } else { 1.0 };
    let sensors = Sensors::with_clock([small("cam")], [], now).unwrap();
    let camera = sensors.camera("cam").unwrap();
    let result =
        std::thread::scope(|threads| threads.spawn(|| camera.update_image(&[1_u8; 18])).join());
    assert!(result.is_err());
    works.store(1, Ordering::SeqCst);
    camera.update_image_at(&[2_u8; 18], 1.0).unwrap();
    assert_eq!(cam(&sensors).image.bytes()[..], [2; 18]);
}
