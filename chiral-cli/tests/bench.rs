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
    let ratio =
        run["observe_ms"]["p50"].as_f64().unwrap() / run["floor_ms"]["p50"].as_f64().unwrap();
    assert!((run["ratio_p50"].as_f64().unwrap() - ratio).abs() < 1e-9);
}

#[test]
fn one_run_measures_both_message_layers_and_the_bare_socket() {
    let report = bench(&["--cameras", "1", "--transport", "ws", "--transport", "tungstenite"]);
    let runs = report["runs"].as_array().expect("a list");
    let transports: Vec<_> = runs.iter().map(|run| &run["transport"]).collect();
    assert_eq!(transports, ["ws", "tungstenite"]);
    for run in runs {
        assert_eq!(run["cameras"], 1);
        assert_eq!(run["bytes"], 640 * 480 * (3 + 4));
        assert_measured(run);
    }
}

#[test]
fn one_run_measures_all_adapters() {
    let arguments = ["--cameras", "1", "--adapter", "tokio,smol,blocking", "--dispatch", "100"];
    let report = bench(&arguments);
    let runs = report["runs"].as_array().expect("a list");
    let of = |list: &Value| -> Vec<String> {
        let adapters = list.as_array().expect("a list").iter().map(|run| &run["adapter"]);
        adapters.map(|adapter| adapter.as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(of(&report["runs"]), ["tokio", "smol", "blocking"]);
    assert_eq!(of(&report["dispatch"]), ["tokio", "smol", "blocking"]);
    for run in runs {
        assert_eq!(run["transport"], "ws");
        assert_measured(run);
    }
}

#[test]
fn a_running_server_is_measured_with_each_adapter() {
    let served = Served::start(&["--scene", "noise", "--cameras", "2"]);
    let report = bench(&[&served.uri, "--adapter", "blocking,smol"]);
    let runs = report["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    for (run, adapter) in runs.iter().zip(["blocking", "smol"]) {
        assert_eq!(run["adapter"], adapter);
        assert_eq!(run["bytes"], 2 * 32 * 24 * 3);
        assert!(run["observe_ms"]["p50"].as_f64() > Some(0.0) && run["floor_ms"].is_null());
    }
}

#[test]
fn unsupported_combinations_are_errors_that_list_the_supported_ones() {
    let output = run(&["--transport", "tungstenite", "--adapter", "blocking"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains("--adapter blocking, expected tokio"), "{error}");
    for seconds in ["0", "-1", "nan", "inf", "1e300"] {
        let output = run(&["--control-loop", &format!("--seconds={seconds}")]);
        assert_ne!(output.status.code(), Some(0), "{seconds}");
    }
}

#[test]
fn the_control_loop_benchmark_runs_in_all_three_modes() {
    let report = json(&["--control-loop", "--seconds", "0.6", "--json"]);
    let report = &report["control_loop"];
    assert_eq!((&report["rate_hz"], &report["cameras"]), (&1000.0.into(), &8.into()));
    let count = |case: &str, figure: &str| report[case][figure]["count"].as_u64().unwrap_or(0);
    for case in ["bare", "acting", "streaming"] {
        let quantiles = ["p50", "p99", "p999", "max"].map(|q| report[case]["off_ms"][q].as_f64());
        assert!(quantiles[0] > Some(0.0) && quantiles.is_sorted(), "{case}: {quantiles:?}");
        // Every tick was waited for or missed.
        let missed = report[case]["ticks_missed"].as_u64().expect("a number");
        assert!((598..=600).contains(&(count(case, "off_ms") + missed)), "{report}");
    }
    assert_eq!(count("bare", "empty_call_ms") + count("bare", "full_call_ms"), 0);
    for case in ["acting", "streaming"] {
        let calls = count(case, "empty_call_ms") + count(case, "full_call_ms");
        assert_eq!(calls, count(case, "off_ms") + 1);
        // 30 are sent; on a busy machine some of them late.
        assert!((1..=32).contains(&count(case, "full_call_ms")), "{report}");
    }
    assert!(report["obs_hz"].as_f64() > Some(0.0));
}

#[test]
fn slow_observations_show_in_the_round_trip_time() {
    let report = bench(&["--cameras", "1", "--observe-takes-ms", "30", "--dispatch", "100"]);
    let run = &report["runs"][0];
    assert!(run["observe_ms"]["p50"].as_f64() >= Some(30.0), "{run}");
    let dispatch = &report["dispatch"][0];
    assert_eq!(dispatch["asked_hz"], 100.0);
    assert!(dispatch["achieved_hz"].as_f64() > Some(0.0), "{dispatch}");
}
