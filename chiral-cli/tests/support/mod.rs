//! What the tests of the program share; none uses all of it.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use serde_json::Value;

/// The program.
pub(crate) fn chiral() -> Command {
    Command::new(env!("CARGO_BIN_EXE_chiral"))
}

/// What the program writes to a terminal, with its exit status.
#[cfg(unix)]
pub(crate) fn on_terminal(arguments: &[&str]) -> (ExitStatus, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let mut terminal = std::fs::File::from(openpt(OpenptFlags::RDWR).expect("a terminal"));
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it can be opened");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("it is text");
    let other_end = std::fs::File::options().read(true).write(true).open(name).expect(name);
    let mut child = chiral()
        .args(arguments)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(other_end.try_clone().expect("it is open"))
        .stderr(other_end)
        .spawn()
        .expect("the program starts");
    let mut said = Vec::new();
    // The end of the program ends the terminal with an error.
    let _ = terminal.read_to_end(&mut said);
    (child.wait().expect("it can be waited for"), String::from_utf8_lossy(&said).into_owned())
}

/// A running `chiral serve`. Dropped, it is killed.
pub(crate) struct Served {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// Where the robot can be reached.
    pub(crate) uri: String,
}

impl Served {
    /// Serves a small robot at a free port of the loopback.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    /// Serves a small robot at an address.
    pub(crate) fn start_at(address: &str, arguments: &[&str]) -> Self {
        let mut child = chiral()
            .args(["serve", "--bind", address, "--json", "--size", "32x24"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let line: Value = serde_json::from_str(&line).expect("it is JSON");
        let uri = line["listening"].as_str().expect("it is a string").to_owned();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, stderr, uri }
    }

    /// The next line on standard error, without its end.
    pub(crate) fn next_note(&mut self) -> String {
        let mut line = String::new();
        let len = self.stderr.read_line(&mut line).expect("it is text");
        assert!(len > 0, "the program has ended");
        line.trim_end().to_owned()
    }

    /// Sends the program a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it still runs");
    }

    /// Waits until the program ends; how it did, and what it said before.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("it is text");
        (self.child.wait().expect("it can be waited for"), said)
    }

    /// Kills the program: its policy hears nothing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it still runs");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
