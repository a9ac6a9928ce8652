//! The examples do what they say.

mod support;

use std::process::Stdio;

use support::{Server, example, soon};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

#[tokio::test]
async fn the_client_and_the_chunked_policy_drive_the_server() {
    let mut server = Server::start("server").await;
    let uri = server.place.clone();

    let client = soon(example("client", &[&uri]).output()).await.unwrap();
    let said = String::from_utf8(client.stdout).unwrap();
    assert!(client.status.success(), "{said}");
    assert_eq!(said.matches("the first pixel is [").count(), 10, "{said}");
    // The robot applies nothing after the end: the last one may have come too late.
    for _ in 0..9 {
        server.line_with("joint targets: [").await;
    }
    server.line_with("holding still: the peer closed the connection").await;

    let moving = async {
        for _ in 0..50 {
            server.line_with("joint targets: [0.").await;
        }
    };
    let mut policy = example("chunked_policy", &[&uri]);
    let (policy, ()) = soon(async { tokio::join!(policy.output(), moving) }).await;
    let policy = policy.unwrap();
    let said = String::from_utf8(policy.stdout).unwrap();
    assert!(policy.status.success(), "{said}");
    assert_eq!(said.matches("new plan at").count(), 20, "{said}");
}

#[tokio::test]
async fn the_supervised_policy_goes_on_after_its_robot_was_killed_and_started_again() {
    let mut server = Server::start("server").await;
    let uri = server.place.clone();
    let address = uri.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let mut policy = example("supervised_policy", &[&uri]);
    let mut policy = policy.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(policy.stdout.take().expect("it is piped")).lines();
    server.line_with("joint targets: [").await;
    for _ in 0..2 {
        server.kill().await;
        said_line_with(&mut said, "the connection was interrupted: ").await;
        server = Server::start_at("server", &address).await;
        said_line_with(&mut said, "connected again after ").await;
        server.line_with("joint targets: [").await;
    }
    assert!(policy.try_wait().expect("it is there").is_none(), "it still drives");
    policy.kill().await.expect("it runs");
}

/// Reads on up to a line that begins so; only discarded chunks may be told of before.
async fn said_line_with(said: &mut Lines<BufReader<ChildStdout>>, start: &str) {
    loop {
        let line = soon(said.next_line()).await.expect("it is text").expect("it still runs");
        if line.starts_with(start) {
            return;
        }
        assert!(line.starts_with("discarded: "), "{line}");
    }
}

#[tokio::test]
async fn the_moving_camera_shows_each_frame_once_with_the_pose_of_its_moment() {
    let server = Server::start("moving_camera").await;
    let policy = soon(chiral_tokio::PolicyClient::connect(&server.place)).await.unwrap();
    let begun = soon(policy.reset()).await.unwrap();
    assert_eq!(begun.info.get("episode").and_then(|episode| episode.as_u64()), Some(0));

    let mut last = soon(policy.observe()).await.unwrap();
    let mut heights = std::collections::BTreeSet::new();
    for step in 0..10_u8 {
        policy.send_action([f32::from(step); 7]).unwrap();
        let observation = soon(policy.observe()).await.unwrap();
        let wrist = &observation["wrist_cam"];
        assert!(wrist.timestamp > last["wrist_cam"].timestamp, "a frame that was not sent before");
        let height = wrist.extrinsics[(2, 3)] as f32;
        let depth = wrist.depth.as_ref().unwrap().to_f32();
        assert!(
            depth.iter().all(|metres| (metres - height).abs() < 1e-6),
            "{height} m: {:?}",
            &depth[..3]
        );
        heights.insert(height.to_bits());
        last = observation;
    }
    assert!(heights.len() > 1, "it moves");
}

#[tokio::test]
async fn one_program_drives_many_robots() {
    let said = soon(example("many_robots", &[]).output()).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.matches(" observations\n").count(), 2, "{said}");
    assert!(
        said.contains("left: holding still") && said.contains("right: holding still"),
        "{said}"
    );

    let said = soon(example("many_robots", &["ftp://nowhere"]).output()).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("ftp://nowhere: "), "{said}");
}

#[tokio::test]
async fn the_places_of_inference_are_measured() {
    let said = soon(example("where_to_infer", &["0.3"]).output()).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_the_server_and_tells_its_policy() {
    let mut server = Server::start("server").await;
    let policy = soon(chiral_tokio::PolicyClient::connect(&server.place)).await.unwrap();
    policy.send_action([0.5; 7]).unwrap();
    server.line_with("joint targets: [0.5").await;
    assert!(server.interrupt().await.success());
    let error = soon(policy.observe()).await.unwrap_err().to_string();
    assert!(error.contains("1001"), "{error}");
}

#[tokio::test]
async fn an_action_of_another_shape_does_not_reach_the_robot() {
    let mut server = Server::start("server").await;
    let policy = soon(chiral_tokio::PolicyClient::connect(&server.place)).await.unwrap();
    policy.send_action([0.1; 6]).unwrap();
    soon(policy.observe()).await.unwrap();
    policy.send_action([0.2; 7]).unwrap();
    server.line_with("joint targets: [0.2").await;
}
