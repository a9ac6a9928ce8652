//! Waiting for what sensors deliver.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake, Waker};

use super::*;

/// Counts how often a task was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>, task: &Arc<Woken>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(task.clone())))
}

fn publish(sensors: &Sensors, pixel: u8, time: f64) {
    sensors.update_image_at("cam", &[pixel; 18], time).unwrap();
}

#[test]
fn the_next_frame_is_the_first_newer_one_or_the_latest() {
    let (sensors, task) = (arm(), Arc::new(Woken::default()));
    let mut next = pin!(sensors.next_frame("cam", 0).unwrap());
    assert!(poll(next.as_mut(), &task).is_pending());
    sensors.update_depth("cam", &[1.0_f32; 4]).unwrap();
    sensors.update_proprio("joints", &[1.0_f32; 3]).unwrap();
    assert_eq!(task.count(), 0, "no image");
    publish(&sensors, 1, 0.1);
    assert_eq!(task.count(), 1);
    publish(&sensors, 2, 0.2);
    assert_eq!(task.count(), 1, "nobody waits any more");
    let Poll::Ready(frame) = poll(next, &task) else { panic!("two have come") };
    assert_eq!((frame.number, frame.camera.timestamp), (2, 0.2));
    assert_eq!(frame.camera, cam(&sensors));

    let Poll::Ready(again) = poll(pin!(sensors.next_frame("cam", 1).unwrap()), &task) else {
        panic!("the second is newer than the first")
    };
    assert_eq!(again.number, 2);
    assert!(poll(pin!(sensors.next_frame("cam", 2).unwrap()), &task).is_pending());
}

#[test]
fn every_task_that_waits_is_woken_and_none_that_gave_up() {
    let (sensors, tasks) = (arm(), [(); 3].map(|()| Arc::new(Woken::default())));
    let mut first = pin!(sensors.next_frame("cam", 0).unwrap());
    let mut second = Box::pin(sensors.next_frame("cam", 0).unwrap());
    assert!(poll(first.as_mut(), &tasks[0]).is_pending());
    assert!(poll(second.as_mut(), &tasks[1]).is_pending());
    // It has moved to another task.
    assert!(poll(first.as_mut(), &tasks[2]).is_pending());
    drop(second);
    publish(&sensors, 1, 0.1);
    assert_eq!(tasks.map(|task| task.count()), [0, 0, 1]);
    assert!(poll(first, &Arc::default()).is_ready());
}

#[test]
fn waiting_without_end_leaves_nothing_behind() {
    let sensors = arm();
    for _ in 0..1000 {
        let task = Arc::new(Woken::default());
        assert!(poll(pin!(sensors.next_frame("cam", 0).unwrap()), &task).is_pending());
        assert!(poll(pin!(sensors.ready()), &task).is_pending());
        assert_eq!(Arc::strong_count(&task), 1);
    }
}

#[test]
fn sensors_are_ready_when_each_has_delivered() {
    let (sensors, task) = (arm(), Arc::new(Woken::default()));
    let mut ready = pin!(sensors.ready());
    assert_eq!(sensors.missing(), ["cam", "joints"]);
    assert!(poll(ready.as_mut(), &task).is_pending());
    sensors.update_proprio("joints", &[1.0_f32; 3]).unwrap();
    assert_eq!((task.count(), sensors.missing()), (0, vec!["cam".into()]));
    publish(&sensors, 1, 0.1);
    assert_eq!(task.count(), 1);
    assert!(poll(ready, &task).is_ready());
    assert!(sensors.missing().is_empty());

    let none = Sensors::new([], []).unwrap();
    assert!(poll(pin!(none.ready()), &task).is_ready());
    assert!(none.next_frame("cam", 0).unwrap_err().to_string().contains("no camera is called"));
}

#[test]
fn every_snapshot_has_the_extra_that_was_set() {
    let sensors = arm();
    assert!(sensors.snapshot_now().extra.is_empty());
    sensors.set_extra(crate::map! { "phase" => "grasp" });
    let mut observation = sensors.snapshot_now();
    assert_eq!(observation.extra, crate::map! { "phase" => "grasp" });
    sensors.set_extra(crate::map! { "phase" => "lift" });
    sensors.snapshot_into(1.0, &mut observation);
    assert_eq!(observation.extra, crate::map! { "phase" => "lift" });
}
