//! Python peers, which use only the keys `chiral/c2s` and `chiral/s2c`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_zenoh::Config;

use crate::pair::{Policy, Robot, Seen};

const PIXELS: [usize; 3] = [48, 64, 3];

fn python(module: &str, arguments: &[&str]) -> Command {
    let python = std::env::var_os("CHIRAL_PYTHON").unwrap_or("python3".into());
    let mut command = Command::new(python);
    command.args(["-m", module]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop"));
    command
}

/// A Python program that is stopped when it is dropped.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    fn start(module: &str, arguments: &[&str]) -> Self {
        let mut child = python(module, arguments).spawn().expect("CHIRAL_PYTHON, or python3");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("JSON is text");
        line
    }

    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was killed");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(uri: &str, scenario: &[&str]) -> String {
    let arguments = [&["--uri", uri, "--scenario"], scenario].concat();
    let output = python("peer.client", &arguments).output().expect("CHIRAL_PYTHON, or python3");
    assert!(output.status.success(), "{scenario:?}");
    String::from_utf8(output.stdout).expect("JSON is text")
}

#[test]
fn a_python_policy_drives_a_rust_robot() {
    let robot = Robot::serve("tcp/127.0.0.1:0", "arm", PIXELS);
    let uri = robot.config.to_string();
    for style in ["python", "cpp"] {
        for (scenario, actions, resets) in [("calls", 0, 1), ("actions", 48, 0), ("step", 5, 1)] {
            let said = run(&uri, &[scenario, "--style", style]);
            assert!(said.contains(&format!("\"summary\": \"{scenario}\"")), "{said}");
            assert_eq!(robot.sees(), Seen::Policy);
            let seen: Vec<Seen> = (0..=actions + resets).map(|_| robot.sees()).collect();
            let count = |of: fn(&Seen) -> bool| seen.iter().filter(|seen| of(seen)).count();
            assert_eq!(count(|seen| matches!(seen, Seen::Action(_))), actions, "{scenario}");
            assert_eq!(count(|seen| *seen == Seen::Reset), resets, "{scenario}");
            let gone = seen.last().expect("it has left");
            assert!(matches!(gone, Seen::Gone(reason) if reason.is_lost()), "{gone:?}");
        }
    }
}

#[test]
fn a_killed_python_policy_is_noticed_and_the_next_is_admitted() {
    let robot = Robot::serve("tcp/127.0.0.1:0", "arm", PIXELS);
    let uri = robot.config.to_string();
    let stream = ["--uri", &uri, "--scenario", "stream", "--seconds", "60", "--action-hz", "0"];
    for _ in 0..2 {
        let mut policy = Running::start("peer.client", &stream);
        assert!(policy.line().contains("obs_response"));
        let start = Instant::now();
        policy.kill();
        assert_eq!(robot.sees(), Seen::Policy);
        assert!(matches!(robot.sees(), Seen::Gone(ConnectionError::Lost(_))));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[test]
fn a_rust_policy_reconnects_to_a_restarted_python_robot() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = format!("tcp/{}", port.local_addr().expect("it is bound"));
    drop(port);
    let sensors = ["--zenoh", &endpoint, "--cameras", "8", "--size", "640x480", "--depth"];
    let config: Config = endpoint.parse().expect("an endpoint");
    for style in ["python", "cpp"] {
        let arguments = [&sensors[..], &["--quiet", "--style", style]].concat();
        let mut robot = Running::start("peer.server", &arguments);
        assert!(robot.line().contains("listening"));
        let mut policy = Policy::connect(&config);
        assert!(policy.metadata().get("cameras").is_some());
        policy.reset();
        for _ in 0..5 {
            policy.act(&[0.5; 7]);
            assert_eq!(policy.observe()["cam_7"].image.bytes().len(), 480 * 640 * 3);
        }
        let start = Instant::now();
        robot.kill();
        assert!(matches!(policy.end(), ConnectionError::Lost(_)));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
