use std::sync::Mutex;
use std::time::{Duration, Instant};

use chiral_blocking::Robot as _;
use chiral_proto::Observation;
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    spec: Spec,
}

fn spec(arguments: &str) -> Spec {
    Arguments::parse_from(["robot", "--size", "32x24"].into_iter().chain(arguments.split(' '))).spec
}

fn robot(arguments: &str) -> SimulatedRobot {
    SimulatedRobot::start(spec(arguments), ()).unwrap()
}

fn joints(observation: &Observation) -> Vec<f32> {
    observation.proprio("joint_pos").unwrap().values.to_f32().into_owned()
}

#[test]
fn the_first_observation_is_not_blank() {
    for scene in ["arm", "noise", "gradient"] {
        let robot = robot(&format!("--scene {scene} --cameras 4 --depth --proprio force:6"));
        let observation = robot.sensors.snapshot_now();
        assert_eq!(observation.cameras.len(), 4);
        for camera in &observation.cameras {
            assert!(camera.timestamp > 0.0, "{scene}: {}", camera.name);
            assert_eq!(*camera.image.shape(), [24, 32, 3]);
            assert!(camera.image.bytes().iter().any(|&byte| byte > 0), "{scene}");
            let depth = camera.depth.as_ref().unwrap();
            assert!(depth.to_f32().iter().any(|&metres| metres > 0.0), "{scene}");
            assert!(camera.intrinsics[(0, 0)] > 1.0, "{scene}");
        }
        assert!(observation.proprio("force").unwrap().values.to_f32().iter().any(|&v| v != 0.0));
    }
}

#[test]
fn sensors_keep_publishing() {
    for scene in ["arm", "noise", "gradient"] {
        let robot = robot(&format!("--scene {scene} --rate 500 --proprio force:6"));
        let camera = robot.sensors.camera_at(0).unwrap();
        let force = robot.sensors.proprio("force").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while camera.sequence() < 3 || force.sequence() < 3 {
            assert!(Instant::now() < deadline, "{scene}: the sensors do not deliver");
            std::thread::yield_now();
        }
    }
}

#[test]
fn each_reset_starts_a_new_scene() {
    let robot = robot("--seed 5");
    let before = monotonic_seconds();
    let first = robot.reset().unwrap();
    let second = robot.reset().unwrap();
    assert_eq!(first.info, Map::new().with("seed", 5_u64));
    assert_eq!(second.info, Map::new().with("seed", 6_u64));
    for (a, b) in first.observation.cameras.iter().zip(&second.observation.cameras) {
        assert!(before <= a.timestamp && a.timestamp < b.timestamp);
        assert_ne!(a.image, b.image, "{}", a.name);
    }
}

#[test]
fn a_step_moves_the_arm_and_returns_the_new_observation() {
    let robot = robot("--seed 5");
    let start = robot.reset().unwrap().observation;
    let target: Vec<f32> = joints(&start).iter().map(|angle| angle + 0.1).collect();
    let rows = chiral_proto::Array::from_vec([50, 7], target.repeat(50)).unwrap();
    let result = robot.step(rows.into()).unwrap();
    let reached = joints(&result.observation);
    for (reached, target) in reached.iter().zip(&target) {
        assert!((reached - target).abs() < 1e-3, "{reached} of {target}");
    }
    let wrist = |observation: &Observation| observation["wrist_cam"].clone();
    assert_ne!(wrist(&start).image, wrist(&result.observation).image);
    assert_ne!(wrist(&start).extrinsics, wrist(&result.observation).extrinsics);
    assert!(result.reward < 0.0 && !result.terminated);
}

#[test]
fn only_actions_of_seven_joints_are_accepted() {
    let robot = robot("--cameras 0");
    let error = robot.apply_action(vec![0.0; 5].into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "found an action of 5 values, expected 7 joint angles, or rows of them"
    );
    robot.apply_action(Vec::<f32>::new().into()).unwrap();
    robot.apply_action(vec![0.0; 7].into()).unwrap();
    robot.apply_action(vec![f32::NAN; 14].into()).unwrap();
}

#[test]
fn the_listener_is_told_of_ignored_actions() {
    #[derive(Default)]
    struct Ignored(Mutex<Vec<String>>);
    impl RobotListener for Arc<Ignored> {
        fn action_ignored(&self, why: &str) {
            self.0.lock().unwrap().push(why.to_owned());
        }
    }

    let ignored = |arguments: &str, action: Vec<f32>| {
        let listener = Arc::new(Ignored::default());
        let robot = SimulatedRobot::start(spec(arguments), Arc::clone(&listener)).unwrap();
        robot.apply_action(action.into()).unwrap();
        std::mem::take(&mut *listener.0.lock().unwrap())
    };
    assert_eq!(ignored("--cameras 0", vec![0.0; 7]).len(), 0);
    assert_eq!(ignored("--cameras 0", vec![]), ["it has no values"]);
    assert!(ignored("--cameras 0", vec![f32::NAN; 7])[0].contains("finite"));
    assert_eq!(ignored("--scene noise", vec![0.0; 3]), ["nothing in this scene moves"]);
}

#[test]
fn metadata_lists_cameras_and_streams() {
    let robot = robot("--cameras 2 --rate 12.5 --proprio force:6");
    let metadata = robot.metadata().unwrap();
    let get = |key| metadata.get(key).unwrap();
    assert_eq!(get("scene"), "arm".into());
    assert_eq!(get("cameras"), ["wrist_cam", "front_cam"].into());
    assert_eq!(get("sensor_hz"), 12.5.into());
    assert_eq!(get("proprios")["force"], 6.into());
    assert_eq!(get("action")["shape"][0], 7.into());
}

#[test]
fn observations_over_the_client_limit_are_refused() {
    for (arguments, fault) in [
        ("--cameras 257", "257 cameras"),
        ("--cameras 256 --size 1920x1080", "an observation would have"),
    ] {
        let spec = Arguments::parse_from(["robot"].into_iter().chain(arguments.split(' '))).spec;
        let error = SimulatedRobot::start(spec, ()).err().expect("it is too much").to_string();
        assert!(error.contains(fault), "{error}");
    }
}
