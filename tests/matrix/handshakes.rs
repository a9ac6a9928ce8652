//! How a server receives whoever comes: handshakes, refusals, pings.

use chiral_driver::Rejection;
use chiral_driver::server::Accept;
use chiral_proto::wire::ClientMessage;
use chiral_proto::{Action, Array, ConnectionError};
use chiral_tests::{Entry, Opcode, Raw, Recorder, Work, message};

use crate::adapter::ServerSettings;
use crate::pair::{Served, Server, action};
use crate::supervise::{aside, eventually};

fn metadata() -> Vec<u8> {
    ClientMessage::Metadata.encode().to_bytes().to_vec()
}

/// Asserts that a server lets a policy in, and answers it.
#[track_caller]
fn assert_admitted(served: &Served) -> Raw {
    let mut raw = Raw::complete_handshake(served.socket());
    raw.send_message(Opcode::Binary, &metadata());
    assert_eq!(raw.frame().expect("it answers").0, Opcode::Binary);
    raw
}

/// Reads what a server says to a client that it does not let in.
fn refusal(raw: &mut Raw) -> String {
    String::from_utf8(raw.to_end()).expect("it is HTTP")
}

pub(crate) fn the_refusal_reason_arrives_even_after_unread_data(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let mut first = assert_admitted(&served);
    let mut raw = Raw::connect(served.socket());
    raw.send(&[Raw::request(), &vec![0x82; 100_000]].concat());
    // The first one is asked whether it is still there.
    let (opcode, payload) = first.frame().expect("it is asked");
    assert_eq!(opcode, Opcode::Ping);
    first.send_message(Opcode::Pong, &payload);
    let refusal = refusal(&mut raw);
    assert!(refusal.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refusal}");
    assert!(refusal.ends_with("\r\n\r\nthis robot already has a policy; it takes one at a time"));
}

pub(crate) fn a_leaving_policy_frees_the_robot_immediately(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let cut = assert_admitted(&served);
    drop(cut);
    let mut rude = Raw::complete_handshake(served.socket());
    rude.send_message(Opcode::Binary, b"");
    assert_eq!(rude.closed().0, 1007);
    // It does not even answer the close.
    let _last = assert_admitted(&served);
    served.robot.wait_for_disconnects(2);
    let history = served.robot.history();
    assert!(matches!(&history[1], Entry::Disconnected(lost) if lost.is_lost()), "{history:?}");
    assert!(matches!(history[3], Entry::Disconnected(ConnectionError::BadFrame(_))), "{history:?}");
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 3);
}

pub(crate) fn a_hanging_robot_does_not_accumulate_policies(adapter: Server) {
    let served = adapter.serve(Recorder::small().held(Work::Apply));
    let act = ClientMessage::ApplyAction(action(1)).encode().to_bytes();
    let mut raw = Raw::complete_handshake(served.socket());
    raw.send_message(Opcode::Binary, &act);
    served.robot.wait_for_begun(Work::Apply, 1);
    raw.send_message(Opcode::Close, &[]);
    raw.to_end();
    for _ in 0..3 {
        let mut raw = Raw::connect(served.socket());
        raw.send(Raw::request());
        let refusal = refusal(&mut raw);
        assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
        assert!(
            refusal.ends_with("still busy with a policy that has gone; try again"),
            "{refusal}"
        );
    }
    served.robot.release(Work::Apply);
    served.robot.wait_for_disconnects(1);
    assert_admitted(&served);
}

pub(crate) fn unfinished_handshakes_block_nobody(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let mut loris = Vec::new();
    for index in 0..100 {
        let mut raw = Raw::connect(served.socket());
        raw.send(&Raw::request()[..index % Raw::request().len()]);
        loris.push(raw);
    }
    // Of too many the oldest are given up, well before it would be for their slowness.
    eventually(|| loris.iter().filter(|raw| raw.is_disconnected()).count() >= 100 - 64);
    assert_admitted(&served);
}

pub(crate) fn an_aborted_handshake_is_forgotten(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    for sent in [0, 1, Raw::request().len() / 2, Raw::request().len()] {
        let mut raw = Raw::connect(served.socket());
        raw.send(&Raw::request()[..sent]);
    }
    assert_admitted(&served);
}

pub(crate) fn frames_sent_right_after_the_handshake_are_not_lost(adapter: Server) {
    for action_len in [7, 5_000, 50_000] {
        let served = adapter.serve(Recorder::small());
        let values: Vec<f32> = (0..action_len).map(|n| n as f32).collect();
        let action = Action::new(Array::vector(values.clone()));
        let action = ClientMessage::ApplyAction(action).encode().to_bytes();
        let mut raw = Raw::connect(served.socket());
        let all = [
            Raw::request(),
            &message(Opcode::Binary, &action, true),
            &message(Opcode::Binary, &metadata(), true),
            &message(Opcode::Ping, b"still there?", true),
        ];
        raw.send(&all.concat());
        raw.expect_handshake_response();
        let (mut ponged, mut answered) = (false, false);
        while !(ponged && answered) {
            match raw.frame().expect("it answers") {
                (Opcode::Pong, payload) => ponged = payload == b"still there?",
                (Opcode::Binary, answer) => {
                    answered = answer.windows(17).any(|text| text == b"metadata_response");
                }
                odd => panic!("{odd:?}"),
            }
        }
        served.robot.wait_for_applied(1);
        assert_eq!(*served.robot.applied()[0].to_f32(), values);
    }
}

pub(crate) fn non_websocket_requests_get_an_http_response(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let long = ["GET / HTTP/1.1\r\nHost: x\r\nCookie: ", &"x".repeat(100_000), "\r\n\r\n"].concat();
    for (request, status, why) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "426 Upgrade Required", "connect to it with ws://"),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed", "expected GET"),
        ("\u{1}\u{2}\u{3} garbage\r\n\r\n", "400 Bad Request", "found no HTTP/1.1 request"),
        (&long, "431 Request Header Fields Too Large", "found a request head over"),
    ] {
        let mut raw = Raw::connect(served.socket());
        raw.send(request.as_bytes());
        let response = refusal(&mut raw);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{response}");
        assert!(response.contains(why), "{response}");
    }
    assert_admitted(&served);
    assert_eq!(served.robot.history()[0], Entry::Connected);
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 1);
}

pub(crate) fn a_client_of_another_protocol_takes_no_place(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let request = String::from_utf8(Raw::request().to_vec()).expect("text");
    for (offer, why) in [
        ("foxglove.sdk.v1", "this looks like a Foxglove client"),
        ("foxglove.websocket.v1", "this looks like a Foxglove client"),
        ("x, y", "found the subprotocol `x, y` asked for"),
    ] {
        let mut raw = Raw::connect(served.socket());
        let offer = format!("Host: localhost\r\nSec-WebSocket-Protocol: {offer}");
        raw.send(request.replace("Host: localhost", &offer).as_bytes());
        let response = refusal(&mut raw);
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains(why), "{response}");
        assert!(response.ends_with("expected none: this is the chiral server of a robot"));
    }
    assert_admitted(&served);
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), 1);
}

pub(crate) fn a_rejected_request_disturbs_nobody(adapter: Server) {
    let accept = Accept::new(|request| match (request.path(), request.header("authorization")) {
        ("/panic", _) => panic!("there is no such arm"),
        ("/left", Some("Bearer 1234")) => Ok(()),
        (_, None) => Err(Rejection::new(401, "a token is needed")),
        _ => Err(Rejection::new(403, "this token is not for this arm")),
    });
    let settings = ServerSettings { accept, ..ServerSettings::default() };
    let served = adapter.serve_with(Recorder::small(), settings);
    let request = String::from_utf8(Raw::request().to_vec()).expect("text");
    let ask = |path: &str, token: &str| {
        let mut raw = Raw::connect(served.socket());
        let line = format!("GET {path} HTTP/1.1\r\n{token}");
        raw.send(request.replace("GET / HTTP/1.1\r\n", &line).as_bytes());
        raw
    };
    let token = "Authorization: Bearer 1234\r\n";
    let mut first = ask("/left", token);
    first.expect_handshake_response();
    for (path, token, status, why) in [
        ("/left", "", 401, "a token is needed"),
        ("/right", token, 403, "this token is not for this arm"),
        ("/left", "Authorization: Bearer 1\r\n", 403, "this token is not for this arm"),
        ("/panic", token, 500, "the server failed to look at the request"),
    ] {
        let response = refusal(&mut ask(path, token));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.ends_with(why), "{response}");
    }
    // Nor has anybody asked it whether it is still there.
    first.send_message(Opcode::Binary, &metadata());
    assert_eq!(first.frame().expect("it answers").0, Opcode::Binary);
    assert_eq!(served.robot.history(), [Entry::Connected]);
}

/// A browser lets any page connect to any computer, and says from where the page is.
pub(crate) fn web_pages_are_refused(adapter: Server) {
    let served = adapter.serve(Recorder::small());
    let request = String::from_utf8(Raw::request().to_vec()).expect("text");
    let mut page = Raw::connect(served.socket());
    let line = "GET / HTTP/1.1\r\nOrigin: https://example.com\r\n";
    page.send(request.replace("GET / HTTP/1.1\r\n", line).as_bytes());
    let response = refusal(&mut page);
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    assert!(response.contains("the web page at https://example.com may not drive"), "{response}");
    assert_eq!(served.robot.history(), []);
}

pub(crate) fn pings_are_answered_while_the_robot_is_busy(adapter: Server) {
    // At an observation that is waited for, and at one that blocks its thread.
    for robot in [Recorder::small(), Recorder::small().blocking()] {
        let served = adapter.serve(robot.held(Work::Observe));
        let mut raw = Raw::complete_handshake(served.socket());
        let request = ClientMessage::Observe.encode().to_bytes();
        raw.send_message(Opcode::Binary, &request);
        raw.send_message(Opcode::Binary, &request);
        served.robot.wait_for_begun(Work::Observe, 1);
        for payload in [b"one", b"two"] {
            raw.send_message(Opcode::Ping, payload);
            assert_eq!(raw.frame().expect("it answers"), (Opcode::Pong, payload.to_vec()));
        }
    }
}

pub(crate) fn connections_during_shutdown_are_refused_with_a_reason(adapter: Server) {
    let served = adapter.serve(Recorder::small().held(Work::Observe));
    let mut first = Raw::complete_handshake(served.socket());
    first.send_message(Opcode::Binary, &ClientMessage::Observe.encode().to_bytes());
    served.robot.wait_for_begun(Work::Observe, 1);
    // Its request is complete, and it waits for the one before it to go.
    let mut waiting = Raw::connect(served.socket());
    waiting.send(Raw::request());
    std::thread::sleep(std::time::Duration::from_millis(50));

    let Served { server, robot, .. } = served;
    let shutting_down = aside(move || server.shut_down());
    let response = refusal(&mut waiting);
    assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
    assert!(response.ends_with("the robot's server is shutting down"), "{response}");
    drop(waiting);
    robot.release(Work::Observe);
    assert_eq!(first.frame().expect("it is answered").0, Opcode::Binary);
    assert_eq!(first.closed().0, 1001);
    drop(first);
    shutting_down.done();
}
