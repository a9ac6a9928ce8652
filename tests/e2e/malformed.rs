//! Peers that send what nobody should: each is told its fault and let go, and life goes on.

use std::time::Duration;

use chiral_proto::client::RequestError;
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};
use chiral_proto::{Action, ConnectionError, Map, Observation, Rate};
use chiral_tests::{Entry, Opcode, Raw, RawServer, Recorder, Served, message, soon};
use chiral_tokio::{CallError, PolicyClient, ServerConfig};

/// A chiral frame of any header.
fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = (header.len() as u32).to_le_bytes();
    [&len, header, payload].concat()
}

/// A msgpack map of values that are encoded already.
fn map(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut map = vec![0x80 + fields.len() as u8];
    for (key, value) in fields {
        map.extend(text(key));
        map.extend(*value);
    }
    map
}

/// A short msgpack string.
fn text(text: &str) -> Vec<u8> {
    [&[0xa0 + text.len() as u8], text.as_bytes()].concat()
}

/// An action of four bytes that claims any shape and dtype.
fn action(shape: &[u8], dtype: &str) -> Vec<u8> {
    let header = map(&[("type", &text("apply_action")), ("shape", shape), ("dtype", &text(dtype))]);
    frame(&header, &[0; 4])
}

/// A map in a map in a map …
fn nested(levels: usize) -> Vec<u8> {
    let mut header = map(&[("type", &text("metadata")), ("extra", &[])]);
    for _ in 1..levels {
        header.extend(map(&[("a", &[])]));
    }
    header.push(0xc0);
    frame(&header, &[])
}

/// Binary messages with which something is wrong for whoever gets them, and the peer's answer:
/// its close code, and words in its reason.
fn bad_messages() -> Vec<(Vec<u8>, u16, &'static str)> {
    let of_type = |name: &str| frame(&map(&[("type", &text(name))]), &[]);
    vec![
        (vec![], 1007, "a frame of 0 bytes"),
        (vec![7, 0], 1007, "a frame of 2 bytes"),
        (frame(&map(&[("type", &text("metadata"))]), &[])[..9].to_vec(), 1007, "announced"),
        (u32::MAX.to_le_bytes().to_vec(), 1009, "header of 4294967295 bytes"),
        (frame(b"{\"type\": \"metadata\"}", &[]), 1007, "integer 123, expected a map"),
        (frame(&[0xc1; 40], &[]), 1007, "byte 0xc1, expected a map"),
        (frame(&[0x93, 1, 2, 3], &[]), 1007, "array, expected a map"),
        (frame(&[], &[]), 1007, "0 more bytes"),
        (frame(&map(&[]), &[]), 1007, "field `type`"),
        (frame(&map(&[("type", &[7])]), &[]), 1007, "found the integer 7"),
        (of_type("teleport"), 1007, "teleport"),
        (nested(10_000), 1009, "nested 65 deep"),
    ]
}

/// Asserts that a peer was told its fault.
#[track_caller]
fn assert_told((code, reason): (u16, String), expected: u16, why: &str) {
    assert_eq!(code, expected, "{reason}");
    assert!(reason.contains(why), "{reason:?} does not say {why:?}");
    assert!(reason.len() <= 123, "{reason:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_bad_message_is_told_and_the_robot_takes_the_next() {
    let served = Served::new(Recorder::small()).await;
    let observation = ServerMessage::Observation(Observation::default()).encode().to_bytes();
    let mut messages = bad_messages();
    messages.extend([
        (observation.to_vec(), 1007, "obs_response"),
        (action(&[0x92, 2, 3], "float32"), 1007, "shape [2, 3] and 4 bytes"),
        (action(&[0x91, 2], "float32"), 1007, "shape [2] and 4 bytes"),
        (action(&[0x91, 0xff], "float32"), 1007, "field `shape` at byte"),
        (action(&text("7"), "float32"), 1007, "field `shape` at byte"),
        (
            action(&[0x92, 0xce, 255, 255, 255, 255, 0xce, 255, 255, 255, 255], "float64"),
            1007,
            "field `shape` at byte",
        ),
        (action(&[0x91, 1], "complex64"), 1007, "complex64"),
        (frame(&map(&[("type", &text("apply_action"))]), &[0; 4]), 1007, "field `shape` at byte"),
    ]);
    let count = messages.len();
    for (index, (bad, code, why)) in messages.into_iter().enumerate() {
        let mut raw = served.raw().await;
        raw.send_message(Opcode::Binary, &bad).await;
        assert_told(raw.closed().await, code, why);
        let reason = served.robot.until_gone(index + 1).await;
        assert!(matches!(reason, ConnectionError::BadFrame(_)), "{reason:?}");
    }
    let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    soon(client.observe()).await.unwrap();
    let connected = served.robot.count(|entry| *entry == Entry::Connected);
    assert_eq!(connected, count + 1);
    assert!(served.robot.applied().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_the_websocket_is_told_and_the_robot_takes_the_next() {
    let served = Served::new(Recorder::small()).await;
    let metadata = ClientMessage::Metadata.encode().to_bytes();
    let masked = |head: &[u8], payload: &[u8]| [head, &[0; 4], payload].concat();
    let gigabyte = [&[0x82, 0xff][..], &(1_u64 << 30).to_be_bytes()].concat();
    let cases = [
        (message(Opcode::Text, b"{\"type\": \"metadata\"}", true), 1003, "text message"),
        (message(Opcode::Binary, &metadata, false), 1002, "without a mask"),
        (masked(&gigabyte, &[]), 1009, "1073741824 bytes announced"),
        (masked(&[0xc2, 0x80], &[]), 1002, "reserved bits"),
        (masked(&[0x83, 0x80], &[]), 1002, "reserved opcode 0x3"),
        (masked(&[0x80, 0x80], &[]), 1002, "found a continuation"),
        ([masked(&[0x02, 0x80], &[]), masked(&[0x82, 0x80], &[])].concat(), 1002, "unfinished"),
        (masked(&[0x09, 0x80], &[]), 1002, "fragmented control"),
        (masked(&[0x89, 0xfe, 0, 126], &[0; 126]), 1002, "control frame of 126 bytes"),
        (masked(&[0x82, 0xfe, 0, 5], &[0; 5]), 1002, "shortest"),
        (masked(&[0x88, 0x81], &[3]), 1002, "close frame of one byte"),
        (masked(&[0x88, 0x82], &[0x03, 0xed]), 1002, "close code 1005"),
        (masked(&[0x88, 0x83], &[0x03, 0xe8, 0xff]), 1007, "not UTF-8"),
    ];
    let count = cases.len();
    for (index, (bad, code, why)) in cases.into_iter().enumerate() {
        let mut raw = served.raw().await;
        raw.send(&bad).await;
        assert_told(raw.closed().await, code, why);
        raw.to_end().await;
        let reason = served.robot.until_gone(index + 1).await;
        assert!(matches!(reason, ConnectionError::BadTransport(_)), "{reason:?}");
    }
    let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    soon(client.observe()).await.unwrap();
    assert_eq!(served.robot.count(|entry| *entry == Entry::Connected), count + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_the_limits_that_were_set_is_told() {
    let mut config = ServerConfig::default();
    config.machine.limits = Limits { frame_len: 1000, ..Limits::default() };
    config.machine.pending_replies = 3;
    let robot = Recorder::small().observe_takes(Duration::from_secs(3600));
    let served = Served::with(robot, config).await;

    let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    client.send_action([0.0; 200]).unwrap();
    served.robot.until(1, |entry| matches!(entry, Entry::Applied(_))).await;
    client.send_action([0.0; 400]).unwrap();
    let error = soon(client.metadata()).await.unwrap_err().to_string();
    assert!(error.contains("code 1009: message too long"), "{error}");
    assert!(error.contains("at most 1000 allowed"), "{error}");

    let client = soon(PolicyClient::connect(&served.uri)).await.unwrap();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.observe().await })
        })
        .collect();
    for asking in asking {
        let error = soon(asking).await.unwrap().unwrap_err().to_string();
        assert!(error.contains("code 1008: the client has 3 requests unanswered"), "{error}");
    }
    served.robot.until_gone(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_a_busy_robot_with_nonsense_does_not_reach_it() {
    let served = Served::new(Recorder::small().observe_takes(Duration::from_secs(3600))).await;
    let observe = ClientMessage::Observe.encode().to_bytes();
    let good = ClientMessage::ApplyAction(Action::from([1.0])).encode().to_bytes();
    let mut raw = served.raw().await;
    // In one packet: the good ones before the fault count, those behind it do not.
    let all = [
        message(Opcode::Binary, &observe, true),
        message(Opcode::Binary, &good, true),
        message(Opcode::Binary, b"nonsense", true),
        message(Opcode::Binary, &good, true),
    ];
    raw.send(&all.concat()).await;
    assert_eq!(raw.closed().await.0, 1009);
    served.robot.until_gone(1).await;
    assert_eq!(served.robot.applied().len(), 1);
}

/// Reads the requests of [`reason_of_all`], so that nothing is under way to the server then.
async fn hear(raw: &mut Raw) {
    for _ in 0..2 {
        assert_eq!(raw.next().await.unwrap().0, Opcode::Binary);
    }
}

/// A client, and the bare socket that it takes for a server.
async fn connected() -> (PolicyClient, Raw) {
    let server = RawServer::new().await;
    let uri = server.uri();
    let (client, raw) =
        soon(async { tokio::join!(PolicyClient::connect(&uri), server.accept(b"")) }).await;
    (client.unwrap(), raw)
}

/// Asserts that all that a client waits for fails with the same reason, and returns it.
async fn reason_of_all(client: &PolicyClient) -> ConnectionError {
    let calls = async {
        let observing = client.observe();
        let waiting = async {
            loop {
                if let Err(error) = client.next_obs().await {
                    return error;
                }
            }
        };
        let (metadata, observing, waiting) = tokio::join!(client.metadata(), observing, waiting);
        [metadata.unwrap_err(), observing.unwrap_err(), waiting]
    };
    let reasons = soon(calls).await.map(|error| match error {
        CallError::Unanswered(RequestError::Disconnected(reason)) => reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(reasons[0], reasons[1]);
    assert_eq!(reasons[0], reasons[2]);
    assert_eq!(client.error().as_ref(), Some(&reasons[0]));
    assert!(client.put_action([1.0]).unwrap_err().to_string().contains("connect again"));
    client.start_obs_stream(Rate::hz(1.0).unwrap()).unwrap_err();
    reasons[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_bad_message_is_told_and_every_call_fails_with_the_reason() {
    let shape = |shape: &[u8]| {
        let camera = map(&[
            ("name", &text("cam")),
            ("intrinsics", &[&[0x99][..], &[1; 9]].concat()),
            ("extrinsics", &[&[0xdc, 0, 16][..], &[1; 16]].concat()),
            ("image_shape", shape),
            ("image_dtype", &text("uint8")),
            ("image_offset", &[0]),
            ("image_size", &[6]),
        ]);
        let cameras = [&[0x91][..], &camera].concat();
        let header =
            map(&[("type", &text("obs_response")), ("timestamp", &[1]), ("cameras", &cameras)]);
        frame(&header, &[0; 6])
    };
    let mut messages = bad_messages();
    messages.extend([
        (ClientMessage::Metadata.encode().to_bytes().to_vec(), 1007, "metadata"),
        (shape(&[0x93, 9, 2, 1]), 1007, "cameras[0].image"),
        (shape(&[0x93, 1, 0xd0, 0x80, 1]), 1007, "cameras[0].image_shape"),
        (shape(&[0xc0]), 1007, "cameras[0].image_shape"),
        (shape(&[0x93, 1, 2, 3])[..100].to_vec(), 1007, "header"),
        // Good in itself, and not what was asked for.
        (shape(&[0x93, 1, 2, 3]), 1008, "sent obs_response where metadata_response was due"),
    ]);
    for (bad, code, why) in messages {
        let (client, mut raw) = connected().await;
        let answering = async {
            hear(&mut raw).await;
            raw.send_message(Opcode::Binary, &bad).await;
            raw.closed().await
        };
        let (reason, told) = soon(async { tokio::join!(reason_of_all(&client), answering) }).await;
        assert_told(told, code, why);
        assert!(reason.to_string().contains(why), "{reason}");
        drop(raw);
        soon(client.close()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_the_websocket_is_told_and_every_call_fails_with_the_reason() {
    let metadata = ServerMessage::Metadata(Map::new()).encode().to_bytes();
    let gigabyte = [&[0x82, 127][..], &(1_u64 << 30).to_be_bytes()].concat();
    for (bad, code, why) in [
        (message(Opcode::Text, b"{}", false), 1003, "text message"),
        (message(Opcode::Binary, &metadata, true), 1002, "masked frame"),
        (gigabyte, 1009, "1073741824 bytes announced"),
        (vec![0xff; 14], 1002, "reserved"),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n".to_vec(), 1002, "reserved"),
    ] {
        let (client, mut raw) = connected().await;
        let answering = async {
            hear(&mut raw).await;
            raw.send(&bad).await;
            raw.closed().await
        };
        let (reason, told) = soon(async { tokio::join!(reason_of_all(&client), answering) }).await;
        assert_told(told, code, why);
        assert!(matches!(&reason, ConnectionError::BadTransport(text) if text.contains(why)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_off_fails_every_call() {
    let observation = ServerMessage::Observation(Observation::default()).encode().to_bytes();
    let whole = message(Opcode::Binary, &observation, false);
    for sent in [0, 1, 5, whole.len() - 1] {
        let (client, mut raw) = connected().await;
        let breaking_off = async {
            hear(&mut raw).await;
            raw.send(&whole[..sent]).await;
            drop(raw);
        };
        let (reason, ()) = soon(async { tokio::join!(reason_of_all(&client), breaking_off) }).await;
        assert!(matches!(&reason, ConnectionError::Lost(_)), "{reason:?}");
    }
}
