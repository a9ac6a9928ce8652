//! How a client comes to its server: waiting, giving up, what is no robot.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chiral_driver::ConnectError;
use chiral_driver::client::OnWaiting;
use chiral_proto::Map;
use chiral_proto::wire::{ClientMessage, ServerMessage};
use chiral_tests::{Opcode, RawServer, message};

use crate::adapter::ClientSettings;
use crate::log::Log;
use crate::network::nowhere;
use crate::pair::Client;
use crate::supervise::{aside, ask, eventually, soon};

/// How connecting fails.
#[track_caller]
fn failure(client: Client, uri: &str, timeout: impl Into<Option<Duration>>) -> ConnectError {
    let settings = ClientSettings { connect_timeout: timeout.into(), ..ClientSettings::default() };
    client.try_connect(uri, settings).map(drop).unwrap_err()
}

pub(crate) fn connecting_retries_until_the_server_is_up_and_logs_once(client: Client) {
    let address = nowhere();
    let uri = format!("ws://{address}");
    let log = Log::default();
    let (theirs, goal) = (log.clone(), uri.clone());
    let connecting =
        aside(move || theirs.keep(|| client.0.connect(&goal, ClientSettings::default())));
    eventually(|| !log.text().is_empty());

    // A port that is forwarded to where no server is yet: it accepts, and hangs up.
    let server = RawServer::at(address);
    let mut tries = Vec::new();
    for _ in 0..4 {
        let mut raw = soon(|| server.socket());
        tries.push(Instant::now());
        raw.head();
    }
    assert!(tries[3] - tries[0] > Duration::from_millis(290), "{tries:?}");
    let mut raw = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it was waited for");
    let asking = ask(&policy, |policy| policy.metadata());
    assert_eq!(
        raw.frame().unwrap(),
        (Opcode::Binary, ClientMessage::Metadata.encode().to_bytes().to_vec())
    );
    let answer = ServerMessage::Metadata(Map::new().with("robot", "late"));
    raw.send_message(Opcode::Binary, &answer.encode().to_bytes());
    assert_eq!(asking.done().unwrap().get("robot"), Some("late".into()));
    // A client that closes waits for its server's answer.
    drop(raw);

    let notices = log.text();
    assert_eq!(notices.lines().count(), 1, "{notices}");
    assert!(notices.contains("WARN"), "{notices}");
    assert!(notices.contains(&format!("waiting for a robot at {uri}")), "{notices}");
}

pub(crate) fn what_is_waited_for_is_told_while_a_try_goes_on(client: Client) {
    let silent = RawServer::new();
    let (log, told) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
    let mut settings = ClientSettings {
        connect_timeout: Some(Duration::from_millis(2500)),
        ..ClientSettings::default()
    };
    let hook = Arc::clone(&told);
    settings.on_waiting = OnWaiting::new(move |waiting| {
        hook.lock().unwrap().push((waiting.uri.to_owned(), waiting.waited, waiting.to_string()));
    });
    let uri = silent.uri();
    log.keep(|| soon(|| client.0.connect(&uri, settings)).map(drop)).unwrap_err();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    for ((at, waited, text), seconds) in told.iter().zip(1..) {
        assert_eq!((&at[..], waited.as_secs()), (&uri[..], seconds));
        assert!(text.contains("the server accepted the connection and then was silent"), "{text}");
    }
    let notices = log.text();
    assert_eq!(notices.lines().count(), 1, "{notices}");
    assert!(notices.contains("then was silent"), "{notices}");
}

pub(crate) fn answers_that_may_pass_are_waited_out(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    for status in [502, 503, 504, 429] {
        let mut raw = soon(|| server.socket());
        raw.head();
        raw.send(format!("HTTP/1.1 {status} Wait\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
    let raw = soon(|| server.accept(b""));
    let policy = connecting.done().expect("it was waited for");
    assert_eq!(policy.error(), None);
    drop(raw);
}

pub(crate) fn an_answer_that_may_pass_is_told_at_the_timeout(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let timeout = Duration::from_millis(700);
    let connecting = aside(move || failure(client, &uri, timeout));
    let mut raw = soon(|| server.socket());
    raw.head();
    raw.send(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy");
    // The last try has no answer.
    let error = connecting.done();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
    assert!(error.to_string().contains("503 No: busy"), "{error}");
}

pub(crate) fn a_name_that_does_not_exist_is_told_after_a_few_tries(client: Client) {
    // One that no name server has to be asked about: a part of a name has 63 letters at the most.
    let name = format!("{}.invalid", "a".repeat(64));
    let error = soon(|| failure(client, &format!("ws://{name}:8765"), None));
    assert!(matches!(error, ConnectError::UnknownHost { .. }), "{error:?}");
    assert!(error.to_string().contains("no host of this name is found"), "{error}");
}

pub(crate) fn header_fields_are_sent_with_the_request(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let mut settings = ClientSettings::default();
    settings.headers.push("Authorization", "Bearer 1234");
    settings.headers.push("X-Arm", "left");
    let connecting = aside(move || client.0.connect(&uri, settings));
    let mut raw = soon(|| server.socket());
    let head = raw.head();
    assert!(head.contains("\r\nAuthorization: Bearer 1234\r\nX-Arm: left\r\n"), "{head}");
    raw.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let error = connecting.done().map(drop).unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains("1234"), "{error}");

    let server = RawServer::new();
    let mut settings = ClientSettings::default();
    settings.headers.push("X-Arm", "left\r\nX-Other: injected");
    let error = client.try_connect(&server.uri(), settings).map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Request(_)), "{error:?}");
}

pub(crate) fn connecting_stops_at_the_timeout(client: Client) {
    let timeout = Duration::from_millis(250);
    let uri = format!("ws://{}", nowhere());
    let start = Instant::now();
    let error = failure(client, &uri, timeout);
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    // It does not wait for a try that would come too late.
    assert!(start.elapsed() + Duration::from_millis(101) > timeout, "{:?}", start.elapsed());
    assert!(error.to_string().starts_with(&format!("no server at {uri} within ")), "{error}");
}

pub(crate) fn connecting_to_a_silent_server_times_out(client: Client) {
    let silent = RawServer::new();
    let error = failure(client, &silent.uri(), Duration::from_millis(100)).to_string();
    assert!(error.contains("accepted the connection and then was silent"), "{error}");
}

pub(crate) fn connecting_to_another_kind_of_server_fails_at_once(client: Client) {
    let error = failure(client, "robot", None).to_string();
    assert!(error.contains("expected ws://host:port"), "{error}");
    let web_server = RawServer::new();
    let uri = web_server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()).map(drop));
    let mut raw = soon(|| web_server.socket());
    raw.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno page");
    let error = connecting.done().unwrap_err().to_string();
    assert!(error.contains("404 Not Found: no page"), "{error}");
}

pub(crate) fn frames_sent_right_after_the_handshake_are_not_lost(client: Client) {
    let server = RawServer::new();
    let uri = server.uri();
    let connecting = aside(move || client.0.connect(&uri, ClientSettings::default()));
    let mut raw = soon(|| server.accept(&message(Opcode::Ping, b"early bird", false)));
    let policy = connecting.done().expect("it is taken");
    assert_eq!(raw.frame().unwrap(), (Opcode::Pong, b"early bird".to_vec()));
    assert_eq!(policy.error(), None);
    drop(raw);
}
