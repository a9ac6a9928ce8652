//! The program over Zenoh, on the loopback.
#![cfg(all(unix, feature = "zenoh"))]

mod support;

use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Served, chiral};
use zenoh::Wait as _;

fn run(arguments: &[&str]) -> Output {
    chiral().args(arguments).output().expect("it runs")
}

/// The JSON that a command prints, which succeeds.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// What a command says that fails.
#[track_caller]
fn error(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("it is text")
}

/// A router, and where it is.
fn router() -> (zenoh::Session, String) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let endpoint = format!("tcp/{}", port.expect("a port is free"));
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\""),
        ("scouting/multicast/enabled", "false"),
        ("listen/endpoints", &format!("[{endpoint:?}]")),
    ] {
        config.insert_json5(key, value).expect(key);
    }
    (zenoh::open(config).wait().expect("the router opens"), endpoint)
}

#[test]
fn a_named_robot_can_be_probed_and_shuts_down_cleanly() {
    for adapter in ["tokio", "blocking"] {
        let arguments = ["--robot", "arm-3", "--scene", "noise", "--adapter", adapter];
        let served = Served::start_at("tcp/127.0.0.1:0", &arguments);
        assert!(served.uri.starts_with("zenoh:tcp/127.0.0.1:"), "{}", served.uri);
        assert!(served.uri.ends_with("?robot=arm-3"), "{}", served.uri);
        let found = json(&["probe", &served.uri, "--seconds", "0.3", "--json"]);
        assert_eq!(found["uri"], served.uri);
        assert_eq!(found["metadata"]["scene"], "noise");
        assert!(found["live"]["latency_ms"]["p50"].as_f64() > Some(0.0), "{found}");
        served.signal(Signal::TERM);
        let (status, said) = served.end();
        assert!(status.success(), "{status}: {said}");
        assert!(said.contains("a policy has connected\nthe policy has gone: "), "{said}");
        assert!(said.ends_with("the robot is at rest\n"), "{said}");
    }
}

#[test]
fn an_unnamed_robot_can_be_probed() {
    let served = Served::start_at("tcp/127.0.0.1:0", &["--scene", "gradient"]);
    assert!(served.uri.starts_with("tcp/127.0.0.1:"), "{}", served.uri);
    let found = json(&["probe", &served.uri, "--seconds", "0", "--adapter", "smol", "--json"]);
    assert_eq!(found["metadata"]["scene"], "gradient");
}

#[test]
fn a_second_policy_is_refused_with_a_reason() {
    let mut served = Served::start_at("tcp/127.0.0.1:0", &["--robot", "a", "--scene", "noise"]);
    served.next_note();
    let mut first = chiral();
    first.args(["probe", &served.uri, "--seconds", "60", "--json"]);
    let mut first = first.stdout(std::process::Stdio::null()).spawn().expect("it starts");
    assert_eq!(served.next_note(), "a policy has connected");
    let second = error(&["probe", &served.uri, "--timeout", "1"]);
    first.kill().and_then(|()| first.wait()).expect("it still runs");
    assert!(second.contains("driven by another policy"), "{second}");
}

#[test]
fn robots_on_the_network_are_listed_with_their_metadata() {
    let (router, endpoint) = router();
    let network = format!("zenoh:?connect={endpoint}");
    let empty = run(&["probe", "--list", &network]);
    assert_eq!(empty.stdout, format!("no named robot at {network}\n").into_bytes());
    let robots = [("arm-1", "noise"), ("arm-2", "gradient")];
    let served = robots
        .map(|(name, scene)| Served::start_at(&network, &["--robot", name, "--scene", scene]));
    let list = || json(&["probe", "--list", &network, "--timeout", "2", "--json"]);
    // The robots may still be telling the router that they are there.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut found = list();
    while found["robots"].as_array().map(Vec::len) != Some(2) {
        assert!(Instant::now() < deadline, "{found}");
        found = list();
    }
    assert_eq!(found["uri"], network);
    for (index, (name, scene)) in robots.into_iter().enumerate() {
        assert_eq!(found["robots"][index]["name"], name);
        assert_eq!(found["robots"][index]["metadata"]["scene"], scene);
    }
    let table = String::from_utf8(run(&["probe", "--list", &network]).stdout).expect("text");
    assert!(table.starts_with(&format!("2 robots at {network}\narm-1\n")), "{table}");
    assert!(table.contains("\"scene\"      \"gradient\""), "{table}");
    // Each is reached by its name.
    let uri = &served[1].uri;
    assert_eq!(json(&["probe", uri, "--seconds", "0", "--json"])["metadata"]["scene"], "gradient");
    drop(served);
    drop(router);
}

#[test]
fn invalid_zenoh_arguments_are_rejected_with_a_reason() {
    for (arguments, reason) in [
        (&["serve", "--robot", "a"][..], "--robot names a robot on Zenoh"),
        (&["serve", "--robot", "a", "--bind", "ws://127.0.0.1:0"], "expected tcp/HOST:PORT"),
        (&["serve", "--bind", "zenoh:?robot=b", "--robot", "a"], "expected one name"),
        (&["serve", "--bind", "tcp/127.0.0.1:0", "--robot", "a/b"], "found '/'"),
        (&["serve", "--bind", "tcp/127.0.0.1"], "expected tcp/host:port"),
        (&["probe", "zenoh:?colour=red"], "found the option \"colour\""),
        (&["probe", "--list", "ws://127.0.0.1:8765"], "expected tcp/HOST:PORT"),
    ] {
        let error = error(arguments);
        assert!(error.contains(reason) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    let output = run(&["probe", "--list", "--snapshot", "seen"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

fn few_samples(transport: &str, adapter: &str) -> Value {
    let transport = ["bench", "--cameras", "1", "--transport", transport, "--adapter", adapter];
    let few = ["--samples", "26", "--seconds", "0.3", "--json"];
    json(&[&transport[..], &few].concat())["runs"].take()
}

#[track_caller]
fn assert_measured(run: &Value, figures: &[&str]) {
    for figure in figures {
        let quantiles = ["p50", "p90", "p99"].map(|q| run[figure][q].as_f64());
        assert!(quantiles[0] > Some(0.0) && quantiles.is_sorted(), "{figure}: {run}");
    }
}

#[test]
fn bench_compares_with_bare_zenoh() {
    for adapter in ["tokio", "blocking"] {
        let runs = few_samples("ws,zenoh", adapter);
        assert_eq!([&runs[0]["transport"], &runs[1]["transport"]], ["ws", "zenoh"]);
        assert_measured(&runs[0], &["floor_ms", "observe_ms"]);
        assert!(runs[0].get("bare_ms").is_none(), "{runs}");
        let over_zenoh = &runs[1];
        assert_measured(over_zenoh, &["floor_ms", "bare_ms", "observe_ms"]);
        assert_eq!(over_zenoh["shared_memory"], false);
        let ratio = over_zenoh["observe_ms"]["p50"].as_f64().unwrap_or_default()
            / over_zenoh["bare_ms"]["p50"].as_f64().unwrap_or_default();
        assert!((over_zenoh["ratio_bare_p50"].as_f64().unwrap_or_default() - ratio).abs() < 1e-9);
        assert!(over_zenoh["action_ms_idle"]["count"].as_u64() > Some(10), "{over_zenoh}");
        assert_eq!(over_zenoh["bytes"], 640 * 480 * 7);
    }
}

#[cfg(feature = "zenoh-shm")]
#[test]
fn bench_measures_through_shared_memory() {
    let runs = few_samples("zenoh-shm", "tokio");
    assert_eq!(runs[0]["transport"], "zenoh-shm");
    assert_eq!(runs[0]["shared_memory"], true);
    assert_measured(&runs[0], &["floor_ms", "bare_ms", "observe_ms"]);
}

#[cfg(not(feature = "zenoh-shm"))]
#[test]
fn without_the_shm_feature_errors_say_how_to_enable_it() {
    let error = error(&["bench", "--transport", "zenoh-shm"]);
    assert!(error.contains("`--features zenoh-shm`"), "{error}");
}

#[test]
fn the_demo_runs_over_zenoh() {
    let report = json(&[
        "demo",
        "--transport",
        "zenoh",
        "--fast",
        "--episodes",
        "3",
        "--no-sheet",
        "--json",
    ]);
    assert_eq!(report["transport"], "zenoh");
    assert_eq!(report["solved"], json!(3), "{report}");
}
