//! The examples do what they say.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chiral_blocking::PolicyClient;

/// How long something may take that happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(120);

/// An example, to be run with one argument.
fn example(name: &str, argument: &str) -> Command {
    let test = std::env::current_exe().expect("the test has a path");
    // …/target/debug/deps/test → …/target/debug/examples/name
    let folder: PathBuf = test.ancestors().nth(2).expect("in target/debug/deps").join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "`cargo test -p chiral-blocking` builds {}", program.display());
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null());
    command
}

/// What an example prints until it ends with success.
fn output(name: &str, argument: &str) -> String {
    let output = example(name, argument).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("it is text");
    assert!(output.status.success(), "{said}");
    said
}

/// A server that runs in an example, with the lines that it prints; it dies with the test.
struct Server {
    process: Child,
    lines: Receiver<String>,
    uri: String,
}

impl Server {
    fn start(name: &str) -> Self {
        let mut process =
            example(name, "127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut server = Self { process, lines, uri: String::new() };
        let first = server.line();
        first.strip_prefix("serving at ").expect("where it is").clone_into(&mut server.uri);
        server
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        self.lines.recv_timeout(SOON).expect("it prints a line")
    }

    /// The next line that begins so. Before that it may say that it holds still, for the
    /// test's machine may be busy, and name another action.
    fn line_with(&mut self, start: &str) -> String {
        loop {
            let line = self.line();
            if line.starts_with(start) {
                return line;
            }
            let is_passed_over = ["holding still: no action for", "joint targets: ["];
            assert!(is_passed_over.iter().any(|start| line.starts_with(start)), "{line}");
        }
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    #[cfg(unix)]
    fn interrupt(&mut self) -> std::process::ExitStatus {
        let sent = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(sent.expect("there is a `kill`").success());
        self.process.wait().expect("it ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_client_drives_the_server() {
    let mut server = Server::start("blocking_server");
    let said = output("blocking_client", &server.uri);
    assert_eq!(said.matches("the first pixel is [").count(), 10, "{said}");
    // The robot applies nothing after the end: the last one may have come too late.
    for _ in 0..9 {
        server.line_with("joint targets: [");
    }
    server.line_with("holding still: the peer closed the connection");
}

#[test]
fn the_control_loop_moves_while_it_gets_actions_and_then_holds_still() {
    let mut server = Server::start("control_loop");
    let policy = PolicyClient::connect(&server.uri).expect("it listens");
    assert_eq!(policy.metadata().expect("it is there").get("robot"), Some("arm-3".into()));
    policy.send_action([0.5; 7]).expect("it is connected");
    assert_eq!(server.line(), "moving");
    assert_eq!(server.line(), "holding still", "the watchdog");
    let observation = policy.observe().expect("it is connected");
    let position = observation.proprio("joint_pos").expect("it is declared").values.to_f32();
    assert!(position[0] > 0.0 && position[0] <= 0.5, "{position:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_servers_and_tells_their_policies() {
    for (name, code) in [("blocking_server", "1001"), ("control_loop", "1011")] {
        let mut server = Server::start(name);
        let policy = PolicyClient::connect(&server.uri).expect("it listens");
        policy.observe().expect("it is connected");
        // A loop notices a policy when it looks for its commands.
        policy.reset().expect("it is connected");
        assert!(server.interrupt().success(), "{name}");
        let error = policy.observe().expect_err("it has ended").to_string();
        assert!(error.contains(code), "{name}: {error}");
    }
}

#[cfg(feature = "zenoh")]
#[test]
fn two_robots_are_driven_over_zenoh_by_name() {
    let said = output("blocking_zenoh", "");
    for name in ["left", "right"] {
        assert!(said.contains(&format!("{name} moves to [0.1, -0.1]\n")), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn robot_and_policy_share_a_unix_socket() {
    let name = format!("chiral-example-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let said = output("blocking_unix_socket", path.to_str().expect("it is text"));
    assert!(said.contains("a camera of [48, 64, 3] pixels\n"), "{said}");
    assert!(said.contains("opening to 0.04 m\n"), "{said}");
    assert!(said.contains("holding still: the peer closed the connection"), "{said}");
    assert!(!path.exists(), "the socket's file is removed");
}
