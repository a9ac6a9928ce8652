//! Robots and policies in processes of their own, on a Zenoh network that has its bad days.
//!
//! How long the many pairs share a router is set by `CHIRAL_NETWORK_SECONDS`; 10 s otherwise.

mod node;

use std::thread;
use std::time::{Duration, Instant};

use node::{Node, SOON, endpoint};

/// How soon the other side hears that a process is gone, with which its connections end.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How soon it hears when the network is gone: the lease.
const LEASE: Duration = Duration::from_secs(5);
/// How much later it may hear when a message was just being sent.
const UNSENT: Duration = Duration::from_secs(6);
/// How soon a robot is free for the next policy.
const FREE: Duration = Duration::from_secs(5);

/// The URI of a robot behind a router, for both sides.
fn behind(router: &str, number: u8) -> String {
    format!("zenoh:?robot=arm-{number}&connect={router}")
}

/// Waits until a policy has connected and its stream goes on.
#[track_caller]
fn assert_streams(policy: &Node, limit: Duration) {
    policy.until("connected", limit);
    policy.until("seen ", SOON);
}

#[test]
fn three_pairs_sharing_a_router_are_isolated() {
    let seconds = std::env::var("CHIRAL_NETWORK_SECONDS").map_or(10, |seconds| {
        seconds.parse().expect("CHIRAL_NETWORK_SECONDS is a number of seconds")
    });
    let endpoint = endpoint();
    let router = Node::router(&endpoint);
    let robots = [1, 2, 3].map(|number| Node::robot(&behind(&endpoint, number), number, 1).0);
    let policies = [1, 2, 3].map(|number| Node::policy(&behind(&endpoint, number), number, 50));
    for policy in &policies {
        assert_streams(policy, SOON);
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(500));
        for node in policies.iter().chain(&robots) {
            let bad = |line: &String| !line.starts_with("seen ") && line != "connected";
            assert_eq!(node.unread_lines().into_iter().find(bad), None);
        }
    }
    let policies = policies.map(Node::finish);
    let robots = robots.map(Node::finish);
    eprintln!("{seconds} s on one router:");
    for (policy, robot) in policies.iter().zip(&robots) {
        eprintln!("  policy {policy:?}\n  robot {robot:?}");
    }
    for (policy, robot) in policies.iter().zip(&robots) {
        policy.assert_clean();
        robot.assert_clean();
        assert_eq!((policy.of("connections"), robot.of("connections")), (1, 1));
        assert_eq!(policy.of("actions"), robot.of("actions"));
        // The grid is of 50 Hz; a busy machine misses some of its ticks.
        assert!(policy.of("observations") > seconds * 10, "{policy:?}");
    }
    drop(router);
}

#[test]
fn a_stalling_policy_loses_no_data_of_eight_cameras() {
    let (robot, uri) = Node::robot("zenoh:tcp/127.0.0.1:0?robot=arm-1", 1, 8);
    let policy = Node::policy(&uri, 1, 20);
    assert_streams(&policy, SOON);
    for _ in 0..5 {
        policy.stall(Duration::from_millis(300));
        // Somewhere in the middle of an observation, mostly.
        thread::sleep(Duration::from_millis(100));
    }
    policy.unread_lines();
    policy.until("seen ", SOON);
    policy.until("seen ", SOON);
    let policy = policy.finish();
    let robot = robot.finish();
    policy.assert_clean();
    robot.assert_clean();
    assert_eq!((policy.of("connections"), robot.of("connections")), (1, 1));
    assert_eq!(policy.of("actions"), robot.of("actions"));
}

/// Kills a robot and starts it again; `router` is there for both of its lives.
fn kill_the_robot(address: &str) {
    let (robot, uri) = Node::robot(address, 1, 1);
    let policy = Node::policy(&uri, 1, 50);
    assert_streams(&policy, SOON);
    robot.kill();
    policy.until("disconnected ", AT_ONCE);
    let (robot, _) = Node::robot(address, 1, 1);
    assert_streams(&policy, SOON);
    let policy = policy.finish();
    let robot = robot.finish();
    policy.assert_clean();
    robot.assert_clean();
    assert_eq!((policy.of("connections"), robot.of("connections")), (2, 1));
}

#[test]
fn a_killed_robot_is_noticed_and_can_return() {
    kill_the_robot(&endpoint());
}

#[test]
fn a_killed_robot_behind_a_router_is_noticed_and_can_return() {
    let endpoint = endpoint();
    let _router = Node::router(&endpoint);
    kill_the_robot(&behind(&endpoint, 1));
}

/// Kills a policy; the next one gets the robot.
fn kill_the_policy(address: &str) {
    let (robot, uri) = Node::robot(address, 1, 1);
    let policy = Node::policy(&uri, 1, 50);
    assert_streams(&policy, SOON);
    policy.kill();
    robot.until("disconnected ", AT_ONCE);
    let policy = Node::policy(&uri, 1, 50);
    assert_streams(&policy, FREE);
    let policy = policy.finish();
    let robot = robot.finish();
    policy.assert_clean();
    robot.assert_clean();
    assert_eq!((policy.of("connections"), robot.of("connections")), (1, 2));
}

#[test]
fn a_killed_policy_frees_its_robot() {
    kill_the_policy(&endpoint());
}

#[test]
fn a_killed_policy_behind_a_router_frees_its_robot() {
    let endpoint = endpoint();
    let _router = Node::router(&endpoint);
    kill_the_policy(&behind(&endpoint, 1));
}

#[test]
fn a_policy_killed_during_large_observations_frees_the_robot() {
    let (robot, uri) = Node::robot("zenoh:tcp/127.0.0.1:0?robot=arm-1", 1, 8);
    for round in 0..6 {
        let policy = Node::policy(&uri, 1, 100);
        assert_streams(&policy, SOON);
        if round % 2 == 0 {
            policy.kill();
        } else {
            policy.finish().assert_clean();
        }
        robot.until("disconnected ", AT_ONCE + UNSENT);
    }
    let robot = robot.finish();
    robot.assert_clean();
    assert_eq!(robot.of("connections"), 6);
}

#[test]
fn a_policy_silent_during_large_observations_frees_the_robot() {
    let (robot, uri) = Node::robot("zenoh:tcp/127.0.0.1:0?robot=arm-1", 1, 8);
    let silent = Node::policy(&uri, 1, 100);
    assert_streams(&silent, SOON);
    silent.stop();
    robot.until("disconnected ", UNSENT + AT_ONCE);
    let next = Node::policy(&uri, 1, 100);
    assert_streams(&next, SOON);
    next.finish().assert_clean();
    robot.finish().assert_clean();
}

#[test]
fn a_killed_router_is_noticed_by_both_sides_and_can_return() {
    let endpoint = endpoint();
    let router = Node::router(&endpoint);
    let (robot, uri) = Node::robot(&behind(&endpoint, 1), 1, 1);
    let policy = Node::policy(&uri, 1, 50);
    assert_streams(&policy, SOON);
    let killed = Instant::now();
    router.kill();
    policy.until("disconnected ", LEASE);
    robot.until("disconnected ", LEASE.saturating_sub(killed.elapsed()));
    let _router = Node::router(&endpoint);
    // The robot goes back to its router by itself.
    assert_streams(&policy, 2 * SOON);
    let policy = policy.finish();
    let robot = robot.finish();
    policy.assert_clean();
    robot.assert_clean();
    assert_eq!((policy.of("connections"), robot.of("connections")), (2, 2));
}
