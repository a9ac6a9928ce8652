//! Named robots, which share a network under separate keys.

use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::wire::ServerMessage;
use chiral_zenoh::driver::Transport;
use chiral_zenoh::{Config, Error, Listener};

use zenoh::Wait as _;

use crate::network::{Proxy, router};
use crate::pair::{Policy, Robot, SOON, Seen, image, metadata, receive, send, wait_for};

const PIXELS: [usize; 3] = [48, 64, 3];

fn named(robot: &str, endpoint: &str) -> String {
    format!("zenoh:?robot={robot}&connect={endpoint}")
}

#[test]
fn a_policy_connects_directly_to_a_robot_without_a_router() {
    let robot = Robot::serve("zenoh:tcp/127.0.0.1:0?robot=arm", "arm", PIXELS);
    let mut policy = Policy::connect(&robot.config);
    assert_eq!(policy.metadata(), metadata("arm"));
    policy.act(&[1.5]);
    policy.reset();
    assert_eq!(robot.sees(), Seen::Policy);
    assert_eq!(robot.sees(), Seen::Action(vec![1.5]));
    assert_eq!(robot.sees(), Seen::Reset);
}

#[test]
fn pairs_sharing_a_router_are_isolated() {
    let (_router, endpoint) = router();
    let names = ["arm-1", "arm-2", "arm-3"];
    let robots = names.map(|name| Robot::serve(&named(name, &endpoint), name, PIXELS));
    let mut policies = names.map(|name| {
        let config: Config = named(name, &endpoint).parse().expect("a URI");
        Policy::connect(&config)
    });
    for (policy, name) in policies.iter_mut().zip(names) {
        assert_eq!(policy.metadata(), metadata(name));
    }
    for round in 0..20 {
        for (index, (policy, name)) in policies.iter_mut().zip(names).enumerate() {
            policy.act(&[index as f32, round as f32]);
            let seen = policy.observe();
            assert_eq!(*seen["cam"].image.bytes(), image(name, PIXELS.iter().product()));
        }
    }
    for (index, robot) in robots.iter().enumerate() {
        assert_eq!(robot.sees(), Seen::Policy);
        for round in 0..20 {
            assert_eq!(robot.sees(), Seen::Action(vec![index as f32, round as f32]));
        }
    }
}

#[test]
fn a_request_of_nobody_does_not_hold_the_robot() {
    let (router, endpoint) = router();
    let robot = Robot::serve(&named("arm", &endpoint), "arm", PIXELS);
    let start = Instant::now();
    // Until the router knows the robot.
    let refusal = loop {
        assert!(start.elapsed() < SOON, "the robot does not answer");
        let replies = router.get("chiral/arm/ask").payload("stranger").wait().expect("a query");
        if let Ok(reply) = replies.recv() {
            let refusal = reply.into_result().expect_err("it is not let in");
            break String::from_utf8_lossy(&refusal.payload().to_bytes()).into_owned();
        }
    };
    assert!(refusal.contains("expected one of version 2"), "{refusal}");
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let mut policy = Policy::connect(&config);
    assert_eq!(policy.metadata(), metadata("arm"));
    assert_eq!(robot.sees(), Seen::Policy);
}

#[test]
fn a_second_policy_waits_and_is_refused_as_busy_at_its_timeout() {
    let (_router, endpoint) = router();
    let robot = Robot::serve(&named("arm", &endpoint), "arm", PIXELS);
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let mut first = Policy::connect(&config);
    let second = chiral_zenoh::connect(config.clone(), Some(Duration::from_secs(1))).wait();
    let busy = Error::Busy("`arm` is driven by another policy".to_owned());
    assert_eq!(second.err(), Some(busy));
    assert_eq!(first.metadata(), metadata("arm"), "the first is not disturbed");
    first.close();
    let mut third = Policy::connect(&config);
    assert_eq!(third.metadata(), metadata("arm"));
    assert_eq!(robot.sees(), Seen::Policy);
    assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::ClosedByPeer { .. })));
    assert_eq!(robot.sees(), Seen::Policy);
}

#[test]
fn a_closed_listener_keeps_the_accepted_link() {
    let (_router, endpoint) = router();
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let listener = Listener::open(config.clone()).wait().expect("it can be opened");
    let mut policy = chiral_zenoh::connect(config, Some(SOON)).wait().expect("the robot is there");
    let mut robot = wait_for(SOON, |cx| listener.poll_accept(cx)).expect("the policy is there");
    drop(listener);
    let pause = Duration::from_millis(500);
    let end = wait_for(pause, |cx| policy.poll_receive(cx, Instant::now()));
    assert!(end.is_none(), "{end:?}");
    let answer = ServerMessage::Metadata(metadata("arm")).encode();
    assert!(send(&mut robot, answer.clone()));
    assert_eq!(receive(&mut policy), Ok(answer.to_bytes()));
}

#[test]
fn a_vanished_policy_frees_the_robot() {
    let (_router, endpoint) = router();
    let lease = Duration::from_secs(1);
    let robot = Robot::serve(&named("arm", &endpoint), "arm", PIXELS);
    let proxy = Proxy::to(endpoint.trim_start_matches("tcp/"));
    let config: Config = named("arm", &proxy.endpoint).parse().expect("a URI");
    let mut first = Policy::connect(&config.with_lease(lease));
    assert_eq!(robot.sees(), Seen::Policy);
    assert_eq!(first.metadata(), metadata("arm"));
    proxy.freeze();
    let start = Instant::now();
    assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
    assert!(start.elapsed() < lease * 3, "{:?}", start.elapsed());
    let direct: Config = named("arm", &endpoint).parse().expect("a URI");
    let mut second = Policy::connect(&direct);
    assert_eq!(second.metadata(), metadata("arm"));
}

#[test]
fn a_vanished_robot_ends_the_link_of_its_policy() {
    let (_router, endpoint) = router();
    let proxy = Proxy::to(endpoint.trim_start_matches("tcp/"));
    let robot = Robot::serve(&named("arm", &proxy.endpoint), "arm", PIXELS);
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let mut policy = Policy::connect(&config);
    assert_eq!(policy.metadata(), metadata("arm"));
    let start = Instant::now();
    proxy.cut();
    assert!(matches!(policy.end(), ConnectionError::Lost(_)));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(robot.sees(), Seen::Policy);
    assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
    // The robot reconnects to the router.
    let mut policy = Policy::connect(&config);
    assert_eq!(policy.metadata(), metadata("arm"));
}

#[test]
fn a_killed_router_ends_both_sides() {
    let (router, endpoint) = router();
    let robot = Robot::serve(&named("arm", &endpoint), "arm", PIXELS);
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let mut policy = Policy::connect(&config);
    assert_eq!(policy.metadata(), metadata("arm"));
    assert_eq!(robot.sees(), Seen::Policy);
    drop(router);
    assert!(matches!(policy.end(), ConnectionError::Lost(_)));
    assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
}

#[test]
fn robots_are_listed_with_their_metadata() {
    let (_router, endpoint) = router();
    let config: Config = format!("zenoh:?connect={endpoint}").parse().expect("a URI");
    let list = || {
        let robots = chiral_zenoh::robots(config.clone(), Duration::from_secs(5)).wait();
        let robots = robots.expect("the router is there").into_iter();
        robots.map(|robot| (robot.name.to_string(), robot.metadata)).collect::<Vec<_>>()
    };
    assert_eq!(list(), []);
    let _arms = ["arm-2", "arm-1"].map(|name| Robot::serve(&named(name, &endpoint), name, PIXELS));
    let expected = ["arm-1", "arm-2"].map(|name| (name.to_owned(), Some(metadata(name))));
    assert_eq!(list(), expected);
}

#[test]
fn a_robot_name_can_be_used_only_once() {
    let (_router, endpoint) = router();
    let lease = Duration::from_millis(500);
    let first = Robot::serve(&named("arm", &endpoint), "arm", PIXELS);
    let config: Config = named("arm", &endpoint).parse().expect("a URI");
    let second = Listener::open(config.clone().with_lease(lease)).wait();
    assert_eq!(second.err(), Some(Error::NameTaken("arm".to_owned())));
    drop(first);
    assert!(Listener::open(config.with_lease(lease)).wait().is_ok());
}
