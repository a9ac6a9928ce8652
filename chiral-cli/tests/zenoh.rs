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

/// What a command says that fails with an exit code.
#[track_caller]
fn error(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
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
fn a_named_robot_that_is_started_again_is_measured_on_with_reconnect() {
    let robot = ["--robot", "arm-3", "--scene", "noise"];
    let mut served = Served::start_at("tcp/127.0.0.1:0", &robot);
    let uri = served.uri.clone();
    let address = uri.trim_start_matches("zenoh:").trim_end_matches("?robot=arm-3").to_owned();
    let probing = std::thread::spawn(move || {
        json(&["probe", &uri, "--reconnect", "--timeout", "60", "--seconds", "6", "--json"])
    });
    while served.next_note() != "a policy has connected" {}
    // Until it measures: what it asks first is to be answered by the first robot.
    std::thread::sleep(Duration::from_secs(1));
    served.signal(Signal::TERM);
    served.end();
    let mut served = Served::start_at(&address, &robot);
    while served.next_note() != "a policy has connected" {}
    let found = probing.join().expect("it does not panic");
    assert_eq!(found["live"]["reconnects"], 1, "{found}");
}

#[test]
fn a_named_robot_is_probed_and_shut_down() {
    let arguments = ["--robot", "arm-3", "--scene", "noise"];
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

#[test]
fn an_unnamed_robot_can_be_probed() {
    let served = Served::start_at("tcp/127.0.0.1:0", &["--scene", "gradient"]);
    assert!(served.uri.starts_with("tcp/127.0.0.1:"), "{}", served.uri);
    let found = json(&["probe", &served.uri, "--seconds", "0", "--json"]);
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
    let second = error(1, &["probe", &served.uri, "--timeout", "1"]);
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
        let error = error(2, arguments);
        assert!(error.contains(reason) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
    let output = run(&["probe", "--list", "--snapshot", "seen"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_robot_on_zenoh_is_measured() {
    let served = Served::start_at("tcp/127.0.0.1:0", &["--robot", "a", "--scene", "noise"]);
    let few = ["--samples", "20", "--seconds", "0.3", "--json"];
    let report = json(&[&["bench", &*served.uri][..], &few].concat());
    assert_eq!(report["runs"][0]["transport"], "zenoh");
    assert!(report["runs"][0]["observe_ms"]["p50"].as_f64() > Some(0.0), "{report}");
}

#[cfg(not(feature = "zenoh-shm"))]
#[test]
fn without_the_shm_feature_errors_say_how_to_enable_it() {
    let error = error(2, &["demo", "--transport", "zenoh-shm"]);
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

#[test]
fn zenoh_acl_prints_what_a_router_takes_as_its_configuration() {
    let names = ["--name", "arm-1", "--name", "arm-2"];
    let arguments = [&["zenoh-acl", "--by", "certificate"][..], &names].concat();
    let output = run(&arguments);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("it is text");
    let config = zenoh::Config::from_json5(&text).expect("Zenoh reads it");
    let access = config.get_json("access_control").expect("it is there");
    let access: Value = serde_json::from_str(&access).expect("it is JSON");
    assert_eq!(access["enabled"], true);
    assert_eq!(access["default_permission"], "deny");
    let who: Vec<_> = access["subjects"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|subject| &subject["cert_common_names"][0])
        .collect();
    assert_eq!(who, ["arm-1", "arm-1-policy", "arm-2", "arm-2-policy"]);
    let of_one = ["zenoh-acl", "--name", "arm-1", "--robot", "r", "--policy", "a", "--policy", "b"];
    let output = run(&of_one);
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(text.matches("\"usernames\"").count(), 3, "{text}");
    let ambiguous = [&["zenoh-acl", "--robot", "r"][..], &names].concat();
    assert!(error(2, &ambiguous).contains("found --robot with 2 names"));
    assert!(error(2, &["zenoh-acl", "--name", "arm/1"]).contains("found '/'"));
}
