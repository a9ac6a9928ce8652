//! Observations that are read where the robot wrote them.

use chiral_zenoh::Config;

use crate::network::Wire;
use crate::pair::{Policy, Robot, image};

/// As many bytes as 8 RGB-D cameras of 640×480.
const LARGE: [usize; 3] = [480 * 8, 640, 7];

#[test]
fn a_large_observation_comes_through_shared_memory() {
    let robot = Robot::serve("zenoh:tcp/127.0.0.1:0?shm=on", "arm", LARGE);
    let mut policy = Policy::connect(&robot.config);
    let expected = image("arm", LARGE.iter().product());
    // More than fit at once: what the policy lets go is used again.
    for _ in 0..20 {
        assert!(*policy.observe()["cam"].image.bytes() == expected);
    }
    let stats = policy.link.stats();
    assert_eq!((stats.frames_received, stats.frames_received_shared), (21, 20), "{stats:?}");
    assert!(stats.uses_shared_memory());
}

#[test]
fn a_policy_without_shared_memory_uses_the_network() {
    let robot = Robot::serve("zenoh:tcp/127.0.0.1:0?shm=on", "arm", LARGE);
    let config = robot.config.clone().with_shared_memory(false);
    let mut policy = Policy::connect(&config);
    let expected = image("arm", LARGE.iter().product());
    assert!(*policy.observe()["cam"].image.bytes() == expected);
    assert!(!policy.link.stats().uses_shared_memory());
}

#[test]
fn exhausted_shared_memory_falls_back_to_the_network() {
    let config: Config = "zenoh:tcp/127.0.0.1:0?shm=on".parse().expect("a URI");
    let config = config.with_shared_memory_len(40 << 20);
    let robot = Robot::serve_with(config, "arm", LARGE);
    let mut policy = Policy::connect(&robot.config);
    let expected = image("arm", LARGE.iter().product());
    let kept: Vec<_> = (0..4).map(|_| policy.observe_in_place()).collect();
    assert!(kept.iter().all(|kept| *kept["cam"].image.bytes() == expected));
    let stats = policy.link.stats();
    assert!((1..=2).contains(&stats.frames_received_shared), "{stats:?}");
    drop(kept);
    let before = policy.link.stats().frames_received_shared;
    assert!(*policy.observe_in_place()["cam"].image.bytes() == expected);
    assert_eq!(policy.link.stats().frames_received_shared, before + 1);
}

#[test]
fn shared_memory_works_through_a_local_tcp_forwarder() {
    let robot = Robot::serve("zenoh:tcp/127.0.0.1:0?shm=on&robot=arm", "arm", LARGE);
    let uri = robot.config.to_string();
    let address = uri.trim_start_matches("zenoh:tcp/").split('?').next().expect("an address");
    let wire = Wire::to(address);
    let config: Config =
        format!("zenoh:{}?shm=on&robot=arm", wire.endpoint).parse().expect("a URI");
    let mut policy = Policy::connect(&config);
    assert_eq!(policy.observe()["cam"].image.bytes().len(), LARGE.iter().product::<usize>());
    assert!(policy.link.stats().uses_shared_memory());
}
