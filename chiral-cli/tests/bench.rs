//! `chiral bench` measures what it says that it measures. How fast it is, is not asserted here.

use std::process::Command;

use serde_json::Value;

/// Runs the command and returns its JSON.
fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_chiral"))
        .arg("bench")
        .args(arguments)
        .args(["--samples", "40", "--seconds", "0.3", "--json"])
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

#[test]
fn both_message_layers_are_measured_beside_the_floor_in_one_run() {
    let report = bench(&["--cameras", "1", "--transport", "ws", "--transport", "tungstenite"]);
    let runs = report["runs"].as_array().expect("a list");
    let transports: Vec<_> = runs.iter().map(|run| &run["transport"]).collect();
    assert_eq!(transports, ["ws", "tungstenite"]);
    for run in runs {
        assert_eq!(run["cameras"], 1);
        assert_eq!(run["bytes"], 640 * 480 * (3 + 4));
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
}

#[test]
fn a_slow_observation_shows_in_the_round_trip_and_the_dispatch_is_counted() {
    let report = bench(&["--cameras", "1", "--observe-takes-ms", "30", "--dispatch", "100"]);
    let run = &report["runs"][0];
    assert!(run["observe_ms"]["p50"].as_f64() >= Some(30.0), "{run}");
    let dispatch = &report["dispatch"][0];
    assert_eq!(dispatch["asked_hz"], 100.0);
    assert!(dispatch["achieved_hz"].as_f64() > Some(0.0), "{dispatch}");
}
