//! The benchmarks measure what they say that they measure. How fast it is, is not asserted here.

use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_chiral-bench"));
    program.args(arguments).output().expect("the program runs")
}

/// Runs the program, which succeeds, and returns its JSON.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// The runs of few samples with one camera.
#[track_caller]
fn few_samples(arguments: &[&str]) -> Value {
    let few = ["--cameras", "1", "--samples", "26", "--seconds", "0.3"];
    json(&[arguments, &few].concat())["runs"].take()
}

#[track_caller]
fn assert_measured(run: &Value, figures: &[&str]) {
    for figure in figures {
        let quantiles = ["p50", "p99"].map(|q| run[figure][q].as_f64());
        assert!(quantiles[0] > Some(0.0) && quantiles.is_sorted(), "{figure}: {run}");
    }
    assert_eq!(run["bytes"], 640 * 480 * (3 + 4));
    assert!(run["obs_hz"].as_f64() > Some(0.0), "{run}");
    assert!(run["beside_spinner"]["ratio_p50"].as_f64() > Some(0.0), "{run}");
}

const FIGURES: [&str; 4] = ["floor_ms", "observe_ms", "action_ms_loaded", "action_ms_idle"];

fn names<'a>(runs: &'a Value, key: &str) -> Vec<&'a str> {
    let runs = runs.as_array().expect("a list").iter();
    runs.map(|run| run[key].as_str().expect("a name")).collect()
}

#[test]
fn one_run_measures_all_adapters() {
    let runs = few_samples(&["--adapter", "tokio,smol,blocking"]);
    assert_eq!(names(&runs, "adapter"), ["tokio", "smol", "blocking"]);
    for run in runs.as_array().expect("a list") {
        assert_eq!(run["transport"], "ws");
        assert_measured(run, &FIGURES);
    }
}

#[test]
fn both_message_layers_are_measured_beside_each_other_in_one_run() {
    let runs = few_samples(&["--transport", "ws,tungstenite"]);
    assert_eq!(names(&runs, "transport"), ["ws", "tungstenite"]);
    for run in runs.as_array().expect("a list") {
        assert_eq!(run["adapter"], "tokio");
        assert_measured(run, &FIGURES);
    }
}

#[test]
fn a_slow_observation_shows_in_the_round_trip() {
    for adapter in ["smol", "blocking"] {
        let runs = few_samples(&["--observe-takes-ms", "30", "--adapter", adapter]);
        assert!(runs[0]["observe_ms"]["p50"].as_f64() >= Some(30.0), "{runs}");
    }
}

#[test]
fn unsupported_combinations_are_errors_that_list_the_supported_ones() {
    let output = run(&["--transport", "tungstenite", "--adapter", "blocking"]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains("--adapter blocking, expected tokio"), "{error}");
    for seconds in ["0", "-1", "nan", "inf", "1e300"] {
        let output = run(&["--control-loop", &format!("--seconds={seconds}")]);
        assert_eq!(output.status.code(), Some(2), "{seconds}");
    }
}

#[test]
fn a_control_loop_is_measured_in_three_ways() {
    let report = json(&["--control-loop", "--seconds", "0.6"]);
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
    // In 0.6 s a busy machine may bring none.
    assert!(report["obs_hz"].is_number(), "{report}");
}

/// Whether it stays flat is for runs that are longer, on a machine with nothing else to do.
#[cfg(target_os = "linux")]
#[test]
fn a_soak_reports_a_row_and_a_verdict() {
    let output = run(&["soak", "--minutes", "0.1", "--json"]);
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("it is text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let [row, verdict] = &lines[..] else { panic!("{lines:?}") };
    assert!(row["obs_hz"].as_f64() > Some(0.0) && row["rss_mib"].as_f64() > Some(0.0), "{row}");
    assert!(row["connections"].as_u64() >= Some(6), "{row}");
    assert!(verdict["totals"]["actions"].as_u64() > Some(0), "{verdict}");
    assert_eq!(verdict["totals"]["forbidden"], 0, "{verdict}");
    assert_eq!(output.status.success(), verdict["passed"] == true, "{verdict}");
    let figures = verdict["compared"].as_array().expect("a list");
    assert_eq!(figures.len(), 6, "{verdict}");
    assert!(!run(&["soak", "--minutes", "0"]).status.success());
}

#[cfg(not(feature = "zenoh"))]
#[test]
fn without_zenoh_it_says_how_to_build_it() {
    let output = run(&["--transport", "zenoh"]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).expect("it is text");
    assert!(error.contains("`--features zenoh`"), "{error}");
}

#[cfg(feature = "zenoh")]
#[test]
fn zenoh_is_measured_beside_bare_zenoh() {
    for adapter in ["tokio", "blocking"] {
        let runs = few_samples(&["--transport", "ws,zenoh", "--adapter", adapter]);
        assert_eq!(names(&runs, "transport"), ["ws", "zenoh"]);
        assert_measured(&runs[0], &FIGURES);
        assert!(runs[0].get("bare_ms").is_none(), "{runs}");
        let over_zenoh = &runs[1];
        assert_measured(over_zenoh, &FIGURES);
        assert_measured(over_zenoh, &["bare_ms"]);
        assert_eq!(over_zenoh["shared_memory"], false);
        let p50 = |figure: &str| over_zenoh[figure]["p50"].as_f64().expect("a number");
        let ratio = over_zenoh["ratio_bare_p50"].as_f64().expect("a number");
        assert!((ratio - p50("observe_ms") / p50("bare_ms")).abs() < 1e-9);
    }
}

#[cfg(feature = "zenoh-shm")]
#[test]
fn zenoh_is_measured_through_shared_memory() {
    let runs = few_samples(&["--transport", "zenoh-shm"]);
    assert_eq!(runs[0]["transport"], "zenoh-shm");
    assert_eq!(runs[0]["shared_memory"], true);
    assert_measured(&runs[0], &["floor_ms", "bare_ms", "observe_ms"]);
}
