//! `chiral demo` as a user runs it: two processes, a real socket, episodes solved or not.

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::chiral;

/// Runs a fast demo; its output and the JSON that it printed.
fn fast_demo(arguments: &[&str]) -> (Output, Value) {
    let output =
        chiral().args(["demo", "--fast", "--json"]).args(arguments).output().expect("it starts");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("standard output is no JSON ({error}): {output:?}");
    });
    (output, report)
}

fn scratch_file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier run left must not count.
    let _ = std::fs::remove_file(&path);
    path
}

fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number at {pointer} of {report}"))
}

#[test]
fn a_fast_demo_solves_its_episodes_and_reports_its_figures() {
    let sheet = scratch_file("solved.png");
    let sheet_text = sheet.to_str().expect("the path is text");
    let (output, report) = fast_demo(&["--episodes", "10", "--seed", "1", "--sheet", sheet_text]);
    assert!(output.status.success(), "{output:?}");

    assert!(number(&report, "/solved") >= 9.0, "{report}");
    let outcomes = report["outcomes"].as_array().expect("one for each episode");
    assert_eq!(outcomes.len(), 10);
    for (outcome, seed) in outcomes.iter().zip(1..) {
        assert_eq!(outcome["seed"], seed);
        let time = number(outcome, "/time");
        assert!(time > 0.2 && time < 10.1, "{outcome}");
    }
    // The clock goes on with the actions, so that their rate is what it must be; a frame may be
    // passed over on a busy machine.
    let actions = number(&report, "/action_hz/achieved");
    assert!((45.0..55.0).contains(&actions), "{report}");
    let observations = number(&report, "/observation_hz/achieved");
    assert!((5.0..35.0).contains(&observations), "{report}");
    assert!(number(&report, "/actions/sent") > 0.0, "{report}");
    assert_eq!(report["actions"]["sent"], report["actions"]["applied"], "{report}");
    for latency in ["round_trip", "image_to_policy", "image_to_action"] {
        let quantile = |q| number(&report, &format!("/latency_ms/{latency}/{q}"));
        assert!(0.0 < quantile("p50") && quantile("p50") <= quantile("p99"), "{report}");
    }
    for part in ["sensor_wait", "network", "inference", "queue", "robot_queue"] {
        let quantile = |q| number(&report, &format!("/latency_ms/parts/{part}/{q}"));
        assert!(quantile("p50") <= quantile("p99"), "{report}");
    }
    let bytes_of_an_observation = 3 * 160 * 120 * (3 + 4);
    assert!(number(&report, "/bytes_per_s/received") > f64::from(bytes_of_an_observation));

    let png = std::fs::read(sheet).expect("the sheet was written");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    // Six pictures in a row, and six rows.
    assert!(side(16) > 6 * 160 && side(20) > 6 * 120, "{}x{}", side(16), side(20));
}

#[test]
fn a_demo_in_real_time_solves_its_episodes_and_prints_a_table() {
    let output = chiral()
        .args(["demo", "--episodes", "2", "--size", "96x72", "--no-sheet"])
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).expect("it is text");
    for row in [" of 2 solved", "real time", "30 Hz asked", "50 Hz asked", "starvations", "MB/s"] {
        assert!(table.contains(row), "{row:?} is missing in:\n{table}");
    }
    assert!(!table.contains("contact sheet"), "{table}");
    assert!(output.stderr.is_empty(), "no terminal, no progress: {:?}", output.stderr);
}

#[test]
fn with_an_inference_time_only_aligned_chunks_carry_the_motion_out() {
    let plot = scratch_file("delay.svg");
    let output = chiral()
        .args(["demo", "--episodes", "1", "--size", "96x72", "--no-sheet", "--json"])
        .args(["--delay-ms", "150", "--jitter-ms", "80", "--plot"])
        .arg(&plot)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let executed = |run| number(&report, &format!("/timeline/{run}/executed_over_planned"));
    // A busy machine keeps neither from losing a little more.
    assert!(executed("aligned") > executed("unaligned") + 0.15, "{report}");
    let jump = |run| number(&report, &format!("/timeline/{run}/largest_jump_rad"));
    assert!(jump("aligned") <= jump("unaligned"), "{report}");
    let svg = std::fs::read_to_string(plot).expect("the plot was written");
    assert!(svg.starts_with("<svg") && svg.contains("unaligned") && svg.contains("executed"));
}

#[test]
fn a_delay_needs_real_time() {
    let output =
        chiral().args(["demo", "--fast", "--delay-ms", "150"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// The policy needs every part of an observation: with any of them wrong the demo fails and says so.
#[track_caller]
fn assert_fails_with_broken(part: &str) {
    let sheet = scratch_file(&format!("broken-{part}.png"));
    let sheet_text = sheet.to_str().expect("the path is text");
    let (output, report) = fast_demo(&["--episodes", "2", "--break", part, "--sheet", sheet_text]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(number(&report, "/solved") < 0.5, "solved regardless: {report}");
    let complaint = String::from_utf8(output.stderr).expect("it is text");
    assert!(complaint.contains("the demo failed: 0 of 2 episodes solved"), "{complaint}");
    assert!(sheet.exists(), "what the cameras saw is wanted most when it failed");
}

#[test]
fn the_demo_fails_with_wrong_images() {
    assert_fails_with_broken("images");
}

#[test]
fn the_demo_fails_with_wrong_depth() {
    assert_fails_with_broken("depth");
}

#[test]
fn the_demo_fails_with_wrong_intrinsics() {
    assert_fails_with_broken("intrinsics");
}

#[test]
fn the_demo_fails_with_wrong_extrinsics() {
    assert_fails_with_broken("extrinsics");
}

#[test]
fn the_demo_fails_with_wrong_proprioception() {
    assert_fails_with_broken("proprio");
}

#[test]
fn the_demo_fails_with_wrong_actions() {
    assert_fails_with_broken("actions");
}

#[test]
fn an_unwritable_contact_sheet_path_is_an_error() {
    let output = chiral()
        .args(["demo", "--fast", "--episodes", "1", "--sheet", "no/such/folder/sheet.png"])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).expect("it is text");
    assert!(complaint.contains("no/such/folder/sheet.png"), "{complaint}");
}

#[test]
fn the_robot_process_ends_when_its_standard_input_is_closed() {
    let mut robot = chiral()
        .args(["demo-robot", "--seed", "1", "--size", "32x24"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut uri = String::new();
    let stdout = robot.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut uri).expect("it says where it listens");
    let address = uri.trim_end().strip_prefix("ws://").expect("it is a WebSocket");
    let _policy = TcpStream::connect(address).expect("it listens");

    drop(robot.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = robot.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            robot.kill().expect("it still runs");
            panic!("the robot outlives the demo");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
}
