//! Peers that send more than is read.

use std::task::Poll;
use std::time::{Duration, Instant};

use chiral_proto::wire::{ClientMessage, Limits};
use chiral_proto::ws::CloseCode;
use chiral_proto::{Action, ConnectionError};
use chiral_zenoh::driver::Transport;
use chiral_zenoh::{Config, Listener, ZenohTransport};

use crate::pair::{SOON, receive, send, wait_for};

/// A policy's and a robot's end of a connection, which nobody reads.
fn pair(name: &str, limits: Limits) -> (Listener, ZenohTransport, ZenohTransport) {
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

#[track_caller]
fn wait_until_closed(transport: &mut ZenohTransport) {
    let closed = wait_for(SOON, |cx| {
        let _ = transport.poll_write(cx, Instant::now());
        if transport.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    });
    assert_eq!(closed, Some(()));
}

#[test]
fn unread_messages_beyond_the_limit_end_the_connection_on_both_sides() {
    let (_listener, mut policy, mut robot) = pair("flooded", Limits::default());
    let mut sent = 0;
    while send(&mut policy, action(7)) {
        sent += 1;
        assert!(sent < 100_000, "nobody stops it");
    }
    match receive(&mut policy) {
        Err(ConnectionError::ClosedByPeer { code: Some(1008), reason }) => {
            assert!(reason.contains("expected at most 4096"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // What arrived before is not lost.
    for _ in 0..4096 {
        assert!(receive(&mut robot).is_ok());
    }
    let end = receive(&mut robot).expect_err("the connection has ended");
    assert!(matches!(end, ConnectionError::TransportViolation(_)), "{end}");
    wait_until_closed(&mut robot);
}

#[test]
fn an_oversized_frame_is_rejected_naming_the_limit() {
    let limits = Limits { frame_len: 1000, ..Limits::default() };
    let (_listener, mut policy, mut robot) = pair("narrow", limits);
    assert!(send(&mut policy, action(7)));
    assert!(send(&mut policy, action(400)));
    assert!(receive(&mut robot).is_ok());
    match receive(&mut robot) {
        Err(ConnectionError::BadFrame(error)) => {
            let error = error.to_string();
            assert!(error.contains("at most 1000 (`Limits::frame_len`)"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_close_is_answered_even_if_nobody_reads() {
    let (_listener, mut policy, mut robot) = pair("deaf", Limits::default());
    let now = Instant::now();
    policy.close(now, CloseCode(1000), "done");
    let due = policy.poll_timeout().expect("it waits for an answer, or has it by now");
    assert_eq!(due, now + Duration::from_secs(1));
    // The other side answers by itself, whoever holds it.
    wait_until_closed(&mut policy);
    assert_eq!(policy.poll_timeout(), None);
    let end = receive(&mut robot).expect_err("it was closed");
    let closed = ConnectionError::ClosedByPeer { code: Some(1000), reason: "done".to_owned() };
    assert_eq!(end, closed);
}
