//! `chiral bench` measures what it says that it measures. How fast it is, is not asserted here.

mod support;

use std::process::Output;

use serde_json::Value;
use support::{Served, chiral};

/// Runs the command.
fn run(arguments: &[&str]) -> Output {
    chiral().arg("bench").args(arguments).output().expect("the command runs")
}

/// Runs the command, which succeeds, and returns its JSON.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// As [`json`], with few samples.
#[track_caller]
fn bench(arguments: &[&str]) -> Value {
    json(&[arguments, &["--samples", "40", "--seconds", "0.3", "--json"]].concat())
}

#[track_caller]
fn assert_measured(run: &Value) {
    for (figure, quantiles) in [
        ("floor_ms", &["p50", "p90", "p99"][..]),
        ("observe_ms", &["p50", "p90", "p99"]),
        ("action_ms_loaded", &["p50", "p99", "max"]),
        ("action_ms_idle", &["p50", "p99", "max"]),
    ] {
        let values: Vec<_> =
            quantiles.iter().map(|q| run[figure][q].as_f64().expect("a number")).collect();
        assert!(values[0] > 0.0 && values.is_sorted(), "{figure}: {values:?}");
    }
    for latency in ["action_ms_loaded", "action_ms_idle"] {
        assert!(run[latency]["count"].as_u64() > Some(10), "actions arrived");
    }
    assert!(run["obs_hz"].as_f64() > Some(0.0) && run["cpu_s_per_gb"].as_f64() > Some(0.0));
    for run in [run, &run["beside_spinner"]] {
        let number = |value: &Value| value.as_f64().expect("a number");
        let ratio = number(&run["observe_ms"]["p50"]) / number(&run["floor_ms"]["p50"]);
        assert!((number(&run["ratio_p50"]) - ratio).abs() < 1e-9);
        assert!(number(&run["obs_hz"]) > 0.0, "{run}");
    }
    let beside_spinner = &run["beside_spinner"]["action_ms"];
    let values = ["p50", "p99", "max"].map(|q| beside_spinner[q].as_f64());
    assert!(values[0] > Some(0.0) && values.is_sorted(), "{beside_spinner}");
}

#[test]
fn everything_is_measured_beside_the_floor_and_beside_a_spinner() {
    let report = bench(&["--cameras", "1,2", "--dispatch", "100"]);
    let runs = report["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    for (run, cameras) in runs.iter().zip(1..) {
        assert_eq!(run["cameras"], cameras);
        assert_eq!(run["bytes"], cameras * 640 * 480 * (3 + 4));
        assert_eq!((&run["adapter"], &run["transport"]), (&"blocking".into(), &"ws".into()));
        assert_measured(run);
    }
    let dispatch = report["dispatch"].as_array().expect("a list");
    assert_eq!(dispatch.len(), 1, "once for the adapter");
    assert_eq!(dispatch[0]["asked_hz"], 100.0);
    assert!(dispatch[0]["achieved_hz"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn the_table_has_a_row_for_each_figure() {
    let output = run(&["--cameras", "1", "--samples", "5", "--seconds", "0.2"]);
    let table = String::from_utf8(output.stdout).expect("it is text");
    for row in [
        "1 camera(s), 2.15 MB an observation, ws on blocking",
        "socket's floor",
        "ratio to floor",
        "action, streaming",
        "action, idle",
        "beside a thread that keeps a processor busy",
    ] {
        assert!(table.contains(row), "{row:?} is missing in:\n{table}");
    }
}

#[test]
fn a_running_robot_is_measured_by_what_a_policy_sees() {
    let served = Served::start(&["--scene", "noise", "--cameras", "2"]);
    let address = served.uri.trim_start_matches("ws://");
    for uri in [&served.uri, address] {
        let report = bench(&[uri]);
        let run = &report["runs"][0];
        assert_eq!(run["bytes"], 2 * 32 * 24 * 3);
        assert!(run["observe_ms"]["p50"].as_f64() > Some(0.0) && run["floor_ms"].is_null());
        assert!(run["obs_hz"].as_f64() > Some(0.0), "{run}");
    }
}
