//! `chiral serve`, as a program over loopback.
#![cfg(unix)]

mod support;

use std::time::Duration;

use chiral_proto::{Array, Rate};
use chiral_tokio::PolicyClient;
use rustix::process::Signal;
use support::{Served, chiral};

/// What must not take long.
async fn soon(future: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long");
}

#[tokio::test]
async fn the_robot_holds_still_when_no_action_comes() {
    let served = Served::start(&["--watchdog", "0.05", "--rate", "100"]);
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    let joints = async || {
        let observation = client.observe().await.unwrap();
        observation.proprio("joint_pos").unwrap().values.to_f32().into_owned()
    };
    let start = client.reset().await.unwrap().observation;
    let start = start.proprio("joint_pos").unwrap().values.to_f32().into_owned();
    // Farther than it moves in that time.
    let target: Vec<f32> = start.iter().map(|angle| angle + 1.5).collect();
    client.send_action(target.clone()).unwrap();
    soon(async {
        let mut before = joints().await;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = joints().await;
            if now == before && now != start {
                break;
            }
            before = now;
        }
    })
    .await;
    assert!((joints().await[0] - target[0]).abs() > 0.1, "it moved on to its target");
}

#[tokio::test]
async fn the_newest_policy_takes_the_robot_over_when_asked_to() {
    let served = Served::start(&["--take-over"]);
    let first = PolicyClient::connect(&served.uri).await.unwrap();
    first.metadata().await.unwrap();
    let second = PolicyClient::connect(&served.uri).await.unwrap();
    second.metadata().await.unwrap();
    let error = first.metadata().await.unwrap_err().to_string();
    assert!(error.contains("another policy has taken the robot over"), "{error}");
}

#[tokio::test]
async fn every_kind_of_request_is_answered() {
    let mut served =
        Served::start(&["--cameras", "2", "--depth", "--proprio", "force:6", "--watchdog", "0"]);
    assert_eq!(served.next_note(), format!("listening on {}; Ctrl-C ends it", served.uri));
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    assert_eq!(served.next_note(), "a policy has connected");

    let metadata = client.metadata().await.unwrap();
    assert_eq!(metadata.get("scene"), Some("arm".into()));
    let observation = client.observe().await.unwrap();
    let names: Vec<&str> = observation.cameras.iter().map(|camera| &*camera.name).collect();
    assert_eq!(names, ["wrist_cam", "front_cam"]);
    assert!(observation.cameras.iter().all(|camera| camera.depth.is_some()));
    let streams: Vec<&str> = observation.proprios.iter().map(|stream| &*stream.name).collect();
    assert_eq!(streams, ["joint_pos", "joint_vel", "ee_pose", "force"]);
    // One clock on the host.
    let age = chiral_tokio::monotonic_seconds() - observation["wrist_cam"].timestamp;
    assert!((0.0..60.0).contains(&age), "captured {age} s ago");

    let reset = client.reset().await.unwrap();
    assert_eq!(reset.info.get("seed"), Some(1.into()));
    let joints = reset.observation.proprio("joint_pos").unwrap().values.to_f32().into_owned();
    let rows = Array::from_vec([2, 7], joints.repeat(2)).unwrap();
    let step = client.step(rows).await.unwrap();
    assert!(step.reward < 0.0);

    client.start_action_dispatch(Rate::hz(200.0).unwrap()).unwrap();
    let target: Vec<f32> = joints.iter().map(|angle| angle + 0.2).collect();
    client.put_chunk(&reset.observation, vec![target.clone(); 3]).unwrap();
    soon(async {
        let first_joint = async || {
            let observation = client.observe().await.unwrap();
            observation.proprio("joint_pos").unwrap().values.to_f32()[0]
        };
        while first_joint().await < target[0] - 0.01 {}
    })
    .await;

    client.close().await;
    assert!(served.next_note().starts_with("the policy has gone: the peer closed the connection"));
}

#[tokio::test]
async fn noise_and_gradient_take_any_action() {
    for scene in ["noise", "gradient"] {
        let served = Served::start(&["--scene", scene]);
        let client = PolicyClient::connect(&served.uri).await.unwrap();
        let first = client.observe().await.unwrap();
        assert_eq!(first.cameras.len(), 1);
        client.send_action([1.0, 2.0]).unwrap();
        client.step([1.0]).await.unwrap();
        // The sensors deliver meanwhile.
        let captured = async || client.observe().await.unwrap()["cam_0"].timestamp;
        soon(async { while captured().await <= first["cam_0"].timestamp {} }).await;
    }
}

#[tokio::test]
async fn ignored_actions_are_announced() {
    let mut served = Served::start(&["--scene", "noise"]);
    served.next_note();
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    assert_eq!(served.next_note(), "a policy has connected");
    for _ in 0..10 {
        client.send_action([0.0; 7]).unwrap();
        // The robot takes one after the other, so that none is dropped for a newer one.
        client.reset().await.unwrap();
    }
    let ignored =
        |count| format!("an action was ignored: nothing in this scene moves ({count} so far)");
    assert_eq!(served.next_note(), ignored(1));
    assert_eq!(served.next_note(), ignored(10), "not each one is announced");
    client.close().await;
}

#[test]
fn it_listens_on_loopback_by_default() {
    let output = chiral().args(["serve", "--help"]).output().expect("it runs");
    let help = String::from_utf8(output.stdout).expect("it is text");
    assert!(help.contains("[default: 127.0.0.1:8765]"), "{help}");
}

// The client must be able to send while the test waits for what the program says.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_action_is_refused_by_the_robot_and_then_by_the_policys_client() {
    let mut served = Served::start(&[]);
    served.next_note();
    let client = PolicyClient::connect(&served.uri).await.unwrap();
    assert_eq!(served.next_note(), "a policy has connected");
    client.send_action([1.0, 2.0]).unwrap();
    let shape = "the action has shape [2], expected [7] or [1, 7]";
    // The log has it too.
    let said = std::iter::repeat_with(|| served.next_note()).find(|note| !note.contains("WARN"));
    assert_eq!(said, Some(format!("an action was ignored: {shape} (1 so far)")));
    client.metadata().await.unwrap();
    let error = client.send_action([1.0, 2.0]).unwrap_err().to_string();
    assert!(error.ends_with(shape), "{error}");
    client.send_action([9.0; 7]).unwrap(); // which is clamped
    assert_eq!(client.stats().actions_clamped, 1);
    served.kill();
}

// The client must be able to say goodbye while the test waits for the program's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_shuts_it_down() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let served = Served::start(&["--scene", "gradient"]);
        let client = PolicyClient::connect(&served.uri).await.unwrap();
        client.observe().await.unwrap();
        served.signal(signal);
        let (status, said) = served.end();
        assert!(status.success(), "{status}: {said}");
        assert!(said.ends_with("the robot is at rest\n"), "{said}");
        soon(async { while client.observe().await.is_ok() {} }).await;
        let error = client.error().expect("the connection has ended").to_string();
        assert!(error.contains("code 1001"), "{error}");
    }
}

#[test]
fn an_address_that_makes_no_sense_is_a_usage_error() {
    for address in ["nowhere", "127.0.0.1", "127.0.0.1:99999"] {
        let output = chiral().args(["serve", "--size", "32x24", "--bind", address]).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{address}: {output:?}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let served = Served::start(&["--scene", "gradient"]);
    let address = served.uri.trim_start_matches("ws://");
    let output = chiral()
        .args(["serve", "--size", "32x24", "--scene", "gradient", "--bind", address])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains(&format!("chiral: {address} cannot be listened on: ")), "{error}");
    assert_eq!(error.matches(address).count(), 1, "{error}");
}
