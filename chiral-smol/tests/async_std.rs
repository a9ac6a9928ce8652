//! Robot and policy in tasks of async-std's executor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_std::future::timeout;
use async_std::task;
use chiral_smol::proto::sensors::{CameraFrame, Sensors};
use chiral_smol::proto::{Action, CameraConfig, Map, Rate};
use chiral_smol::{PolicyClient, PolicyServer, Robot, RobotError};

/// A robot that counts its actions.
struct Arm {
    sensors: Sensors,
    applied: AtomicUsize,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, action: Action) -> Result<(), RobotError> {
        assert_eq!(*action.to_f32(), [0.25, 0.5]);
        self.applied.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn metadata(&self) -> Result<Map, RobotError> {
        // The robot's code may use async-std as well.
        task::sleep(Duration::from_millis(1)).await;
        Ok(Map::new().with("robot", "arm"))
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("it happens soon")
}

/// Says that it is called in a task of async-std's.
fn assert_in_async_std() {
    let thread = std::thread::current();
    assert_eq!(thread.name(), Some("async-std/runtime"), "task {:?}", task::current().id());
}

async fn drive(uri: String, image: Vec<u8>) {
    assert_in_async_std();
    let robot = PolicyClient::connect(&uri).await.unwrap();
    assert_eq!(robot.metadata().await.unwrap().get("robot"), Some("arm".into()));
    robot.reset().await.unwrap();
    assert_eq!(robot.observe().await.unwrap()["wrist_cam"].image.as_slice::<u8>().unwrap(), image);
    robot.step([0.25, 0.5]).await.unwrap();

    robot.start_obs_stream(Rate::hz(100.0).unwrap()).unwrap();
    robot.start_action_dispatch(Rate::hz(500.0).unwrap()).unwrap();
    let mut last = robot.next_obs().await.unwrap();
    robot.put_chunk(&last, [[0.25, 0.5]; 20]).unwrap();
    while robot.stats().actions.count() < 20 {
        let next = robot.next_obs().await.unwrap();
        assert!(next.timestamp > last.timestamp, "never one twice");
        last = next;
    }
    assert_in_async_std();
    robot.close().await;
}

#[test]
fn robot_and_policy_run_in_async_std_tasks() {
    let image: Vec<u8> = (0..48 * 64 * 3).map(|at| at as u8).collect();
    let camera = CameraConfig::new("wrist_cam", [48, 64, 3]);
    let clock = chiral_smol::monotonic_seconds;
    let sensors = Sensors::with_clock([camera], [], clock).unwrap();
    let wrist = sensors.camera("wrist_cam").unwrap();
    wrist.publish(CameraFrame::new().image(image.clone())).unwrap();
    let arm = Arc::new(Arm { sensors, applied: AtomicUsize::new(0) });

    task::block_on(soon(async {
        let server = PolicyServer::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("ws://{}", server.local_addr().unwrap());
        let (handle, robot) = (server.clone(), Arc::clone(&arm));
        let serving = task::spawn(async move {
            assert_in_async_std();
            handle.serve(robot).await
        });
        task::spawn(drive(uri, image)).await;
        server.shutdown().await;
        serving.await.unwrap();
    }));
    assert_eq!(arm.applied.load(Ordering::Relaxed), 21);
}
