//! The Python peer as a child process.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How the peer writes its frames.
pub(crate) const STYLES: [&str; 2] = ["python", "cpp"];

fn python(module: &str, arguments: &[&str]) -> Command {
    let python = std::env::var_os("CHIRAL_PYTHON").unwrap_or("python3".into());
    let mut command = Command::new(python);
    command.args(["-m", module]).args(arguments);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Timeout for the peer: Python takes seconds to start, and to hash 17 MB.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let waiting = tokio::time::timeout(Duration::from_secs(60), future);
    waiting.await.expect("the peer is neither done nor at work")
}

/// Runs a scenario of the Python policy to its end; the lines that it printed, its summary last.
pub(crate) async fn policy(uri: &str, style: &str, scenario: &[&str]) -> Vec<Value> {
    let arguments = [&["--uri", uri, "--style", style, "--scenario"], scenario].concat();
    let output = in_time(python("peer.client", &arguments).output()).await;
    let output = output.expect("CHIRAL_PYTHON, or python3, can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{style} {scenario:?}: {errors}");
    let lines = String::from_utf8(output.stdout).expect("JSON is text");
    let lines: Vec<Value> = lines.lines().map(parse).collect();
    assert_eq!(lines.last().expect("a summary")["summary"], scenario[0]);
    lines
}

/// A Python robot.
pub(crate) struct Robot {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) uri: String,
}

impl Robot {
    pub(crate) async fn start(style: &str, arguments: &[&str]) -> Self {
        let arguments = [&["--port", "0", "--style", style], arguments].concat();
        let process = python("peer.server", &arguments).spawn();
        let mut process = process.expect("CHIRAL_PYTHON, or python3, can be started");
        let stdout = process.stdout.take().expect("it is piped");
        let mut robot = Self { process, lines: BufReader::new(stdout).lines(), uri: String::new() };
        let listening = robot.line().await;
        robot.uri = format!("ws://127.0.0.1:{}", listening["listening"]);
        robot
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> Value {
        if let Some(line) = in_time(self.lines.next_line()).await.expect("JSON is text") {
            return parse(&line);
        }
        let mut errors = String::new();
        let stderr = self.process.stderr.as_mut().expect("it is piped");
        let _ = stderr.read_to_string(&mut errors).await;
        panic!("the Python robot has ended: {errors}");
    }

    /// Skips to the next line that has a key, and returns its value.
    pub(crate) async fn next(&mut self, key: &str) -> Value {
        loop {
            if let Some(value) = self.line().await.get_mut(key) {
                return value.take();
            }
        }
    }

    /// The next message that it got or sent.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let line = self.line().await;
            if line.get("type").is_some() {
                return line;
            }
        }
    }
}
