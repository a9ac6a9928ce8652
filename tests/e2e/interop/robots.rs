//! The Python policy against our robots.

use std::time::Duration;

use chiral_proto::server::ActionQueue;
use chiral_proto::ws::Keepalive;
use chiral_proto::{ActionSpec, ConnectionError};
use chiral_tokio::ServerConfig;
use serde_json::{Value, json};

use crate::peer::{STYLES, policy};
use crate::witness::Witness;

/// Asserts that both sides saw the same messages, in the same order.
#[track_caller]
fn assert_same(theirs: &[Value], ours: &[Value]) {
    let types = |lines: &[Value]| lines.iter().map(|line| line["type"].clone()).collect::<Vec<_>>();
    assert_eq!(types(theirs), types(ours));
    for (theirs, ours) in theirs.iter().zip(ours) {
        assert_eq!(theirs, ours);
    }
}

/// Runs a scenario against a robot, compares all messages, and returns the summary.
async fn agree(robot: Witness, style: &str, scenario: &[&str]) -> Value {
    let mut config = ServerConfig::default();
    // Each action is compared, whatever it holds.
    config.machine.action_queue = ActionQueue::InOrder { capacity: 1024 };
    config.machine.action_spec = ActionSpec::any().allow_empty().allow_non_finite();
    let (robot, _server, uri) = robot.serve(config).await;
    let mut theirs = policy(&uri, style, scenario).await;
    let summary = theirs.pop().expect("a summary");
    let reason = robot.wait_for_disconnects().await;
    assert!(matches!(reason, ConnectionError::ClosedByPeer { code: Some(1000), .. }), "{reason}");
    // Requests have an order, and actions have one, but there is none between the two.
    let ((their_actions, theirs), (our_actions, ours)) = (split(theirs), split(robot.lines()));
    assert_same(&their_actions, &our_actions);
    assert_same(&theirs, &ours);
    summary
}

/// The actions of a record, and the rest.
fn split(lines: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    lines.into_iter().partition(|line| line["type"] == "apply_action")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_of_eight_large_cameras_arrive_unchanged() {
    for style in STYLES {
        let robot = Witness::new(8, [480, 640]);
        let summary = agree(robot, style, &["calls", "--count", "2"]).await;
        assert_eq!(summary["observations"], 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragmented_requests_are_accepted() {
    let robot = Witness::new(1, [4, 6]);
    agree(robot, "python", &["calls", "--count", "1", "--fragment", "7"]).await;
    let robot = Witness::new(1, [4, 6]);
    agree(robot, "cpp", &["step", "--action-size", "9000", "--fragment", "5000"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_of_every_dtype_and_shape_arrive_unchanged() {
    for style in STYLES {
        let summary = agree(Witness::new(2, [4, 6]), style, &["actions"]).await;
        assert_eq!(summary["actions"], 48);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_steps_round_trip() {
    for style in STYLES {
        let summary = agree(Witness::new(2, [4, 6]), style, &["step", "--count", "6"]).await;
        assert_eq!(summary["steps"], 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_stream_alongside_actions() {
    let (robot, _server, uri) = Witness::new(2, [48, 64]).serve(ServerConfig::default()).await;
    let lines = policy(&uri, "python", &["stream", "--seconds", "1"]).await;
    let (summary, theirs) = lines.split_last().expect("a summary");
    robot.wait_for_disconnects().await;
    let (actions, answers) = split(robot.lines());
    assert_same(theirs, &answers);
    assert_eq!(summary["actions"], actions.len());
    // Each action carries the timestamps of an observation that was really sent.
    let stamps = |answer: &Value| {
        let cameras = answer["cameras"].as_array().expect("a list").iter();
        let stamps = cameras.map(|camera| {
            let name = camera["name"].as_str().expect("a name").to_owned();
            (name, camera["timestamp"].clone())
        });
        Value::from(stamps.collect::<serde_json::Map<_, _>>())
    };
    let mut known: Vec<Value> = answers.iter().map(stamps).collect();
    known.push(json!({}));
    assert!(actions.iter().all(|action| known.contains(&action["obs_timestamps"])));
    assert!(answers.len() >= 5 && actions.len() >= 10, "{summary}");
    // A policy that numbers nothing is told nothing of time.
    assert!(answers.iter().all(|answer| answer["extra"].get("chiral").is_none()));
    assert!(theirs.iter().all(|answer| answer["extra"].get("chiral").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_while_the_robot_is_busy() {
    let busy = Duration::from_millis(1200);
    // Our own pings go in the other direction meanwhile.
    let keepalive =
        Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_secs(5) };
    let config = ServerConfig { keepalive: Some(keepalive), ..ServerConfig::default() };
    let (robot, _server, uri) = Witness::new(1, [4, 6]).observe_takes(busy).serve(config).await;
    let lines = policy(&uri, "python", &["pings", "--seconds", "1"]).await;
    let summary = lines.last().expect("a summary");
    assert!(summary["pings"].as_u64() >= Some(3), "{summary}");
    assert!(summary["answered_after"].as_f64() >= Some(1.2), "{summary}");
    let reason = robot.wait_for_disconnects().await;
    assert!(matches!(reason, ConnectionError::ClosedByPeer { code: Some(1000), .. }), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_close_the_connection_with_code_and_reason() {
    let (robot, _server, uri) = Witness::new(1, [4, 6]).serve(ServerConfig::default()).await;
    for (index, (fault, code, why)) in [
        ("truncated_header", 1007, "announced"),
        ("huge_header_len", 1009, "header of 4294967295 bytes"),
        ("not_msgpack", 1007, "byte 0xc1"),
        ("unknown_type", 1007, "teleport"),
        ("text_message", 1003, "text message"),
        ("bad_shape", 1007, "field `shape`"),
        ("missing_payload", 1007, "0 bytes of payload"),
        ("empty_message", 1007, "a frame of 0 bytes"),
        ("nested_10000", 1009, "nested 65 deep"),
    ]
    .into_iter()
    .enumerate()
    {
        let style = STYLES[index % 2];
        let lines = policy(&uri, style, &["malformed", "--fault", fault]).await;
        let summary = lines.last().expect("a summary");
        assert_eq!(summary["closed"]["code"], code, "{summary}");
        let reason = summary["closed"]["reason"].as_str().expect("a text");
        assert!(reason.contains(why), "{reason}");
        let reason = robot.wait_for_disconnects().await;
        assert!(reason.to_string().contains(why), "{reason}");
    }
    assert!(robot.lines().is_empty(), "none of it reached the robot");
    let lines = policy(&uri, "python", &["calls", "--count", "1"]).await;
    assert_eq!(lines.len(), 4);
}
