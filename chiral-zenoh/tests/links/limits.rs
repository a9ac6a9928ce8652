//! Peers that send more than is taken.

use std::time::Duration;

use chiral_proto::wire::{ClientMessage, Limits};
use chiral_proto::{Action, ConnectionError};
use chiral_zenoh::{Config, Link, Listener};
use futures_lite::future::block_on;

use crate::pair::{SOON, wait_for};

/// A policy's link and a robot's, of which nobody takes anything.
fn pair(name: &str, limits: Limits) -> (Listener, Link, Link) {
    let uri = format!("zenoh:tcp/127.0.0.1:0?robot={name}");
    let config: Config = uri.parse().expect("a URI");
    let listener = Listener::open(config.with_limits(limits)).wait().expect("it can be opened");
    let uri = format!("zenoh:{}?robot={name}", listener.endpoints()[0]);
    let policy = chiral_zenoh::connect(uri.parse().expect("a URI"), Some(SOON)).wait();
    let robot = wait_for(SOON, |cx| listener.poll_accept(cx)).expect("it comes soon");
    (listener, policy.expect("it can connect"), robot)
}

fn action(values: usize) -> chiral_proto::wire::Frame {
    ClientMessage::ApplyAction(Action::from(vec![0.5; values])).encode()
}

#[test]
fn a_full_receive_queue_ends_the_link_on_both_sides() {
    let (_listener, policy, robot) = pair("flooded", Limits::default());
    let mut sent = 0;
    while block_on(policy.send(action(7))).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "nobody stops it");
    }
    let told = wait_for(SOON, |cx| policy.poll_recv(cx)).expect("it is told soon");
    match told {
        Err(ConnectionError::ClosedByPeer { code: Some(1008), reason }) => {
            assert!(reason.contains("expected at most 4096"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // What had come before is not lost.
    for _ in 0..4096 {
        assert!(block_on(robot.recv()).is_ok());
    }
    let end = block_on(robot.recv()).expect_err("the link has ended");
    assert!(matches!(end, ConnectionError::BadTransport(_)), "{end}");
    let finished = wait_for(SOON, |cx| {
        let _ = robot.poll_written(cx);
        if robot.is_finished() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    assert_eq!(finished, Some(()));
}

#[test]
fn an_oversized_frame_is_rejected_with_the_error_of_the_core() {
    let limits = Limits { frame_len: 1000, ..Limits::default() };
    let (_listener, policy, robot) = pair("narrow", limits);
    block_on(policy.send(action(7))).expect("the link is up");
    block_on(policy.send(action(400))).expect("the link is up");
    assert!(block_on(robot.recv()).is_ok());
    match block_on(robot.recv()) {
        Err(ConnectionError::BadFrame(error)) => {
            let error = error.to_string();
            assert!(error.contains("at most 1000 (`Limits::frame_len`)"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_close_is_acknowledged_automatically() {
    let (_listener, policy, robot) = pair("deaf", Limits::default());
    let now = std::time::Instant::now();
    policy.close(now, 1000, "done");
    let due = policy.poll_timeout().expect("it waits for an answer, or has it by now");
    assert_eq!(due, now + Duration::from_secs(1));
    // The other side answers by itself, whoever holds it.
    let finished = wait_for(SOON, |cx| {
        let _ = policy.poll_written(cx);
        if policy.is_finished() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    assert_eq!(finished, Some(()));
    assert_eq!(policy.poll_timeout(), None);
    let end = block_on(robot.recv()).expect_err("it was closed");
    let closed = ConnectionError::ClosedByPeer { code: Some(1000), reason: "done".to_owned() };
    assert_eq!(end, closed);
}
