//! Our policies against the Python robot.

use std::time::Duration;

use chiral_proto::client::Config;
use chiral_proto::ws::Keepalive;
use chiral_proto::{Action, Array, ConnectionError, Dtype, Observation, Rate, Shape};
use chiral_tests::soon;
use chiral_tokio::PolicyClient;
use serde_json::{Value, json};

use crate::peer::{Robot, STYLES};
use crate::report;

const LARGE: [&str; 8] =
    ["--cameras", "8", "--size", "640x480", "--depth", "--proprio", "arm:7", "gripper:1"];

async fn connect(robot: &Robot) -> PolicyClient {
    soon(PolicyClient::connect(&robot.uri)).await.unwrap()
}

/// A request and its answer, as the Python robot saw them.
async fn assert_said(robot: &mut Robot, request: &str, answer: &Value) {
    assert_eq!(robot.message().await, json!({"type": request}));
    assert_eq!(robot.message().await, *answer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_of_eight_large_cameras_arrive_unchanged() {
    for style in STYLES {
        let mut robot = Robot::start(style, &LARGE).await;
        let client = connect(&robot).await;
        let metadata = soon(client.metadata()).await.unwrap();
        assert_said(&mut robot, "metadata", &report::metadata(&metadata)).await;
        let reset = soon(client.reset()).await.unwrap();
        assert_said(&mut robot, "reset", &report::reset(&reset)).await;
        for _ in 0..2 {
            let observation = soon(client.observe()).await.unwrap();
            assert_eq!(observation["cam_7"].image.bytes().len(), 640 * 480 * 3);
            assert_said(&mut robot, "obs_request", &report::observation(&observation)).await;
        }
        soon(client.close()).await;
        assert_eq!(robot.next("disconnected").await["code"], 1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragmented_replies_are_accepted() {
    let options = ["--cameras", "2", "--size", "160x120", "--depth", "--fragment", "50001"];
    let mut robot = Robot::start("python", &options).await;
    let client = connect(&robot).await;
    let observation = soon(client.observe()).await.unwrap();
    assert_said(&mut robot, "obs_request", &report::observation(&observation)).await;
}

/// Actions of all dtypes in many shapes, those of NaN and infinities among them.
fn actions() -> Vec<Action> {
    let shapes: [&[usize]; 5] = [&[7], &[8, 7], &[0], &[], &[2, 1, 3]];
    let dtypes = [
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    ];
    let mut actions = Vec::new();
    for shape in shapes {
        for name in dtypes {
            let dtype = Dtype::from_name(name).unwrap();
            let shape = Shape::new(shape);
            let len = shape.element_count().unwrap() * dtype.size();
            let bytes = (0..len).map(|at| if name == "bool" { at % 2 } else { at * 37 } as u8);
            let bytes: Vec<u8> = bytes.collect();
            actions.push(Action::new(Array::new(dtype, shape, bytes).unwrap()));
        }
    }
    actions.push([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].into());
    actions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_of_every_dtype_and_shape_arrive_unchanged() {
    let mut robot = Robot::start("python", &["--cameras", "2"]).await;
    // As they are: this peer reads every dtype.
    let config = Config { float32_actions: false, ..Config::default() };
    let connecting = PolicyClient::builder().config(config).connect(&robot.uri);
    let client = soon(connecting).await.unwrap();
    // Before the first observation there are no timestamps for them.
    client.send_action([1.0]).unwrap();
    let bare = report::action("apply_action", &[1.0].into());
    assert_eq!(robot.message().await, bare);

    let observation = soon(client.observe()).await.unwrap();
    assert_said(&mut robot, "obs_request", &report::observation(&observation)).await;
    for action in actions() {
        client.send_action(action.clone()).unwrap();
        let expected = report::action("apply_action", &action.decided_on(&observation));
        assert_eq!(robot.message().await, expected);
    }
    // It was not asked to tell of time, and its observations say nothing of it.
    assert_eq!(observation.timing(), None);
    assert_eq!(client.stats().latency.last, None);
    // The robot has counted them.
    let reset = soon(client.reset()).await.unwrap();
    assert_eq!(reset.info.get("actions").unwrap().as_u64(), Some(actions().len() as u64 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_steps_round_trip() {
    for style in STYLES {
        let mut robot = Robot::start(style, &["--cameras", "2", "--depth"]).await;
        let client = connect(&robot).await;
        let mut latest = Observation::default();
        for round in 0..6 {
            let values: Vec<f32> = (0..56).map(|n| (n + round) as f32 / 8.0).collect();
            let action = Action::new(Array::from_vec([8, 7], values).unwrap());
            let result = soon(client.step(action.clone())).await.unwrap();
            let action = if round == 0 { action } else { action.decided_on(&latest) };
            assert_eq!(robot.message().await, report::action("action", &action));
            assert_eq!(robot.message().await, report::step(&result));
            latest = result.observation;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observations_stream_alongside_chunked_actions() {
    let mut robot = Robot::start("python", &["--cameras", "2", "--proprio", "arm:7"]).await;
    let client = connect(&robot).await;
    client.start_obs_stream(Rate::hz(30.0).unwrap()).unwrap();
    client.start_action_dispatch(Rate::hz(100.0).unwrap()).unwrap();
    let mut expected = Vec::new();
    let mut seen = Vec::new();
    for round in 0_u8..5 {
        let observation = soon(client.next_obs()).await.unwrap();
        let plan = [0_u8, 1, 2].map(|step| [f32::from(10 * round + step); 7]);
        client.put_chunk(&observation, plan).unwrap();
        let bound = plan.map(|action| Action::from(action).decided_on(&observation));
        expected.extend(bound.map(|action| report::action("apply_action", &action)));
        seen.push(report::observation(&observation));
    }
    let mut answers = Vec::new();
    let mut actions = Vec::new();
    while actions.len() < expected.len() {
        let line = robot.message().await;
        match line["type"].as_str().unwrap() {
            "apply_action" => actions.push(line),
            "obs_response" => answers.push(line),
            other => assert_eq!(other, "obs_request"),
        }
    }
    assert_eq!(actions, expected);
    assert!(seen.iter().all(|line| answers.contains(line)), "each was sent as it arrived");
    assert_eq!(client.error(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_go_both_ways_while_the_robot_is_busy() {
    let options =
        ["--delay-obs", "1.5", "--ping-interval", "0.1", "--ping-timeout", "1", "--cameras", "1"];
    let robot = Robot::start("python", &options).await;
    let keepalive =
        Keepalive { interval: Duration::from_millis(100), timeout: Duration::from_secs(1) };
    let connecting = PolicyClient::builder().keepalive(keepalive).connect(&robot.uri);
    let client = soon(connecting).await.unwrap();
    soon(client.observe()).await.unwrap();
    // Now the policy is silent.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    soon(client.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnecting_robot_is_noticed() {
    for (options, expected) in [
        (&["--close-after", "1"][..], "the peer closed the connection: that was the last"),
        (&["--close-after", "1", "--abort"][..], "the peer's process has ended"),
    ] {
        let robot = Robot::start("python", options).await;
        let client = connect(&robot).await;
        soon(client.observe()).await.unwrap();
        let error = soon(client.observe()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_policy_receives_the_refusal_reason() {
    let robot = Robot::start("python", &[]).await;
    let first = connect(&robot).await;
    let error = soon(PolicyClient::connect(&robot.uri)).await.unwrap_err().to_string();
    assert!(error.contains("503 Service Unavailable: another client is here"), "{error}");
    soon(first.metadata()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_close_the_connection_with_code_and_reason() {
    for (index, (fault, code, why)) in [
        ("truncated_header", 1007, "announced"),
        ("huge_header_len", 1009, "header of 4294967295 bytes"),
        ("not_msgpack", 1007, "byte 0xc1"),
        ("unknown_type", 1007, "teleport"),
        ("text_message", 1003, "text message"),
        ("bad_shape", 1007, "cameras[0].image"),
        ("missing_payload", 1007, "cameras[0].image"),
        ("empty_message", 1007, "a frame of 0 bytes"),
        ("nested_10000", 1009, "nested 65 deep"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut robot = Robot::start(STYLES[index % 2], &["--malformed", fault]).await;
        let client = connect(&robot).await;
        let error = soon(client.observe()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{fault}: {error}");
        let told = robot.next("disconnected").await;
        assert_eq!(told["code"], code, "{fault}: {told}");
        assert!(told["reason"].as_str().unwrap().contains(why), "{fault}: {told}");
        assert!(matches!(
            client.error(),
            Some(ConnectionError::BadFrame(_) | ConnectionError::TransportViolation(_))
        ));

        // The robot breaks only the first one.
        let client = connect(&robot).await;
        soon(client.observe()).await.unwrap();
    }
}
