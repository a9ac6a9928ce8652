//! `chiral send`, as a program over loopback.
#![cfg(unix)]

mod support;

use std::process::Output;

use support::{Served, chiral};

fn send(arguments: &[&str]) -> Output {
    chiral().arg("send").args(arguments).output().expect("it runs")
}

/// Standard output of a run that succeeds.
#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// The angle of the first joint.
fn first_joint(served: &Served) -> f32 {
    let client = chiral_blocking::PolicyClient::connect(&served.uri).expect("it is served");
    let observation = client.observe().expect("it answers");
    let angle = observation.proprio("joint_pos").expect("it is an arm").values.to_f32()[0];
    client.close();
    angle
}

#[test]
fn an_action_moves_the_arm_and_is_shown() {
    let served = Served::start(&["--cameras", "1"]);
    let text = stdout(send(&[&served.uri, "--action", "-0.2,0,0,1,0,0.5,0", "--stay", "3"]));
    assert_eq!(text, "sent float32 [7]: [-0.2, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0]\n");
    let angle = first_joint(&served);
    assert!((angle + 0.2).abs() < 0.02, "it stands at {angle}");
}

#[test]
fn an_action_is_held_for_longer_than_the_watchdog() {
    // It takes longer to get there than the watchdog allows.
    let served = Served::start(&["--cameras", "1", "--watchdog", "0.2"]);
    let far = "-1.5,0,0,1,0,0.5,0";
    let text = stdout(send(&[&served.uri, "--action", far, "--stay", "1"]));
    assert_eq!(text.lines().count(), 1);
    let before = first_joint(&served);
    assert!(before > -1.4, "the robot was told to hold still at {before}");
    let text =
        stdout(send(&[&served.uri, "--action", far, "--hold", "4", "--rate", "50", "--stay", "0"]));
    assert_eq!(text.lines().count(), 1, "it is shown once");
    let angle = first_joint(&served);
    assert!((angle + 1.5).abs() < 0.05, "it stands at {angle}");
}

#[test]
fn several_actions_are_sent_one_after_the_other() {
    let mut served = Served::start(&["--scene", "noise"]);
    let address = served.uri.trim_start_matches("ws://").to_owned();
    let output = send(&[&address, "-a", "1", "-a", "2,3", "--rate", "50", "--stay", "0.1"]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("does not say what shape"), "{note}");
    assert_eq!(stdout(output), "sent float32 [1]: [1.0]\nsent float32 [2]: [2.0, 3.0]\n");
    while !served.next_note().contains("an action was ignored") {}
}

#[test]
fn an_action_of_another_shape_than_the_robots_is_not_sent() {
    let mut served = Served::start(&["--cameras", "1"]);
    // The second one is wrong: nor is the first one sent.
    let output = send(&[&served.uri, "--action", "0,0,0,0,0,0,0", "--action", "1,2"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(
        error.contains("found an action of 2 values, expected the robot's shape [7]"),
        "{error}"
    );
    served.kill();
}

#[test]
fn a_robot_with_more_cameras_than_a_client_takes_does_not_begin() {
    for count in ["257", "100000000000", "1000000000000000000"] {
        let output = chiral().args(["serve", "--cameras", count]).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("cameras, clients take at most"), "{error}");
    }
}

#[test]
fn a_dry_run_sends_nothing() {
    let served = Served::start(&["--cameras", "1"]);
    let before = first_joint(&served);
    let output = send(&[&served.uri, "--action", "9,1,1,1,1,1,1", "--dry-run"]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("action 0 is clamped: element 0 of the action is 9, expected"), "{note}");
    let text = stdout(output);
    assert!(text.starts_with("would send float32 [7]: [9.0, "), "{text}");
    assert!((first_joint(&served) - before).abs() < 1e-3);
}
