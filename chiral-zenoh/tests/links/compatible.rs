//! The mode of peers that know two keys and nothing else.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_zenoh::{Config, Error};

use crate::network::Wire;
use crate::pair::{Policy, Robot, Seen, image, metadata};

const LOOPBACK: &str = "tcp/127.0.0.1:0";
const PIXELS: [usize; 3] = [48, 64, 3];

#[test]
fn every_request_is_answered() {
    let robot = Robot::serve(LOOPBACK, "arm", PIXELS);
    let mut policy = Policy::connect(&robot.config);
    assert_eq!(robot.sees(), Seen::Policy);
    assert_eq!(policy.metadata(), metadata("arm"));
    let observation = policy.observe();
    assert_eq!(*observation["cam"].image.bytes(), image("arm", PIXELS.iter().product()));
    policy.act(&[0.25, -0.5]);
    policy.reset();
    assert_eq!(robot.sees(), Seen::Action(vec![0.25, -0.5]));
    assert_eq!(robot.sees(), Seen::Reset);
    policy.close();
    let closed = ConnectionError::ClosedByPeer {
        code: Some(1000),
        reason: "closed by this side".to_owned(),
    };
    assert_eq!(robot.sees(), Seen::Gone(closed));
}

#[test]
fn actions_and_resets_keep_their_order() {
    let robot = Robot::serve(LOOPBACK, "arm", PIXELS);
    let mut policy = Policy::connect(&robot.config);
    assert_eq!(robot.sees(), Seen::Policy);
    for round in 0..50 {
        let round = round as f32;
        policy.act(&[round, 0.0]);
        policy.act(&[round, 1.0]);
        policy.reset();
        assert_eq!(robot.sees(), Seen::Action(vec![round, 0.0]));
        assert_eq!(robot.sees(), Seen::Action(vec![round, 1.0]));
        assert_eq!(robot.sees(), Seen::Reset);
    }
}

#[test]
fn a_robot_shutting_down_sends_a_goodbye() {
    let mut robot = Robot::serve(LOOPBACK, "arm", PIXELS);
    let mut policy = Policy::connect(&robot.config);
    assert_eq!(policy.metadata(), metadata("arm"));
    let ends = std::thread::spawn(move || policy.end());
    robot.stop();
    let closed = ConnectionError::ClosedByPeer {
        code: Some(1001),
        reason: "the robot's server is shutting down".to_owned(),
    };
    assert_eq!(ends.join().expect("no panic"), closed);
}

#[test]
fn eight_cameras_arrive_intact_while_the_policy_stalls() {
    const LARGE: [usize; 3] = [480 * 8, 640, 7];
    let robot = Robot::serve(LOOPBACK, "arm", LARGE);
    let wire = Wire::to(robot.config.to_string().trim_start_matches("tcp/"));
    let config: Config = wire.endpoint.parse().expect("an endpoint");
    let mut policy = Policy::connect(&config);
    let expected = image("arm", LARGE.iter().product());
    for _ in 0..5 {
        wire.freeze();
        policy.act(&[1.0]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The stall itself, not a wait for anything.
                std::thread::sleep(Duration::from_millis(300));
                wire.thaw();
            });
            assert!(*policy.observe()["cam"].image.bytes() == expected);
        });
    }
    assert_eq!(robot.sees(), Seen::Policy);
    for _ in 0..5 {
        assert_eq!(robot.sees(), Seen::Action(vec![1.0]));
    }
}

#[test]
fn a_second_policy_is_admitted_only_after_the_first_leaves() {
    let robot = Robot::serve(LOOPBACK, "arm", PIXELS);
    let mut first = Policy::connect(&robot.config);
    assert_eq!(robot.sees(), Seen::Policy);
    let second = chiral_zenoh::connect(robot.config.clone(), Some(Duration::from_secs(2))).wait();
    match second {
        Err(Error::NoRobot { last, .. }) => {
            assert!(last.contains("does another policy drive the robot"), "{last}");
            assert!(!last.contains(".rs:"), "{last}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(first.metadata(), metadata("arm"));
    drop(first);
    assert!(matches!(robot.sees(), Seen::Gone(_)));
    let mut third = Policy::connect(&robot.config);
    assert_eq!(robot.sees(), Seen::Policy);
    assert_eq!(third.metadata(), metadata("arm"));
}

#[test]
fn a_broken_connection_is_noticed_on_both_sides_and_reestablished() {
    let robot = Robot::serve(LOOPBACK, "arm", PIXELS);
    let wire = Wire::to(robot.config.to_string().trim_start_matches("tcp/"));
    let config: Config = wire.endpoint.parse().expect("an endpoint");
    for _ in 0..3 {
        let mut policy = Policy::connect(&config);
        assert_eq!(robot.sees(), Seen::Policy);
        assert_eq!(policy.metadata(), metadata("arm"));
        let start = Instant::now();
        wire.cut();
        assert!(matches!(policy.end(), ConnectionError::Lost(_)));
        assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[test]
fn a_silent_network_is_noticed_within_the_lease() {
    let lease = Duration::from_secs(1);
    let config: Config = LOOPBACK.parse().expect("an endpoint");
    let robot = Robot::serve_with(config.with_lease(lease), "arm", PIXELS);
    let wire = Wire::to(robot.config.to_string().trim_start_matches("tcp/"));
    let config: Config = wire.endpoint.parse().expect("an endpoint");
    let mut policy = Policy::connect(&config.with_lease(lease));
    assert_eq!(robot.sees(), Seen::Policy);
    assert_eq!(policy.metadata(), metadata("arm"));
    let start = Instant::now();
    wire.freeze();
    assert!(matches!(policy.end(), ConnectionError::Lost(_)));
    assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
    assert!(start.elapsed() < lease * 3, "{:?}", start.elapsed());
}

#[test]
fn connecting_to_no_robot_times_out() {
    let config: Config = "tcp/127.0.0.1:1".parse().expect("an endpoint");
    let start = Instant::now();
    let error = chiral_zenoh::connect(config, Some(Duration::from_millis(500))).wait();
    let error = error.expect_err("nobody is there").to_string();
    assert!(error.contains("no robot answered within") && error.contains("tcp/127.0.0.1:1"));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_endpoint_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let uri = format!("tcp/{}", taken.local_addr().expect("it is bound"));
    let config: Config = uri.parse().expect("an endpoint");
    let error = chiral_zenoh::Listener::open(config).wait().expect_err("it is taken");
    assert!(matches!(&error, Error::Open { .. }) && error.to_string().contains(&uri), "{error}");
}
