//! Runs the crate's examples.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::PathBuf;
#[cfg(unix)]
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// An example, to be run with arguments; it dies with the test.
pub(crate) fn example(name: &str, arguments: &[&str]) -> Command {
    let test = std::env::current_exe().expect("the test has a path");
    // …/target/debug/deps/test → …/target/debug/examples/name
    let folder: PathBuf = test.ancestors().nth(2).expect("in target/debug/deps").join("examples");
    let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "`cargo test -p chiral-tokio` builds {}", program.display());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A server that runs in an example, with the lines that it prints.
pub(crate) struct Server {
    process: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
    /// What it says behind "serving at ".
    pub(crate) place: String,
}

impl Server {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(name: &str, address: &str) -> Self {
        let command = example(name, &[address]).stdout(Stdio::piped()).spawn();
        let mut process = command.expect("the example starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let first = soon(lines.next_line()).await.expect("it is text").expect("it prints");
        let place = first.strip_prefix("serving at ").expect("where it is").to_owned();
        Self { process, lines, place }
    }

    /// Kills it, so that it tells nobody.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("it runs");
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    #[cfg(unix)]
    pub(crate) async fn interrupt(mut self) -> ExitStatus {
        let id = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await;
        assert!(sent.expect("there is a `kill`").success());
        soon(self.process.wait()).await.expect("it ends")
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> String {
        soon(self.lines.next_line()).await.expect("it is text").expect("it still runs")
    }

    /// The next line that begins so. Before that it may say that it holds still, for the
    /// test's machine may be busy, and name another action.
    pub(crate) async fn line_with(&mut self, start: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(start) {
                return line;
            }
            let is_passed_over = ["holding still: no action for", "joint targets: ["];
            assert!(is_passed_over.iter().any(|start| line.starts_with(start)), "{line}");
        }
    }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("it happens soon")
}
