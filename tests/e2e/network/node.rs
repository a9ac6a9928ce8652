//! The processes of a test, and what they print.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Timeout for what takes no time on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A router, a robot or a policy in its own process, which ends with the test.
pub(crate) struct Node {
    name: String,
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zenoh-node"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (said, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test may be over.
                let _ = said.send(line);
            }
        });
        Self { name: arguments.join(" "), child, lines }
    }

    /// A router at an endpoint.
    pub(crate) fn router(endpoint: &str) -> Self {
        let router = Self::start(&["router", endpoint]);
        router.until("ready", SOON);
        router
    }

    /// A robot, and the URI of its policies.
    pub(crate) fn robot(address: &str, number: u8, cameras: usize) -> (Self, String) {
        let robot = Self::start(&["robot", address, &number.to_string(), &cameras.to_string()]);
        let uri = robot.until("ready ", SOON);
        (robot, uri)
    }

    /// A policy, which may have to wait for its robot.
    pub(crate) fn policy(uri: &str, number: u8, hz: u8) -> Self {
        Self::start(&["policy", uri, &number.to_string(), &hz.to_string()])
    }

    /// Waits for a line that begins with this word, and returns the rest of the line.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut heard = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{}: not within {limit:?}: {what}; it said {heard:?}", self.name)
            };
            if let Some(rest) = line.strip_prefix(what) {
                return rest.to_owned();
            }
            heard.push(line);
        }
    }

    /// Lines that it has printed and no test has read.
    pub(crate) fn unread_lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it is this process's child");
    }

    /// Suspends it for a while.
    pub(crate) fn stall(&self, time: Duration) {
        self.stop();
        thread::sleep(time);
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("it is stopped");
    }

    /// Suspends it: it sends nothing any more, and its connections stay open.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("it is running");
    }

    /// Lets it end in an orderly way, and returns what it has counted. Lines `refused` and
    /// `disconnected` that no test has waited for are failures.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Counts {
        drop(self.child.stdin.take());
        let counts = self.until("counts ", SOON);
        let status = self.child.wait().expect("it is this process's child");
        assert!(status.success(), "{}: {status}", self.name);
        Counts::read(&counts)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a robot or a policy has counted, as it printed it.
#[derive(Debug, Clone)]
pub(crate) struct Counts(HashMap<String, u64>);

impl Counts {
    fn read(text: &str) -> Self {
        let count = |word: &str| {
            let (name, count) = word.split_once('=').expect("a name and a number");
            (name.to_owned(), count.parse().expect("a number"))
        };
        Self(text.split(' ').map(count).collect())
    }

    #[track_caller]
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0[name]
    }

    /// Asserts that everything arrived once, at the right peer.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        for name in ["foreign", "astray", "repeated"] {
            assert_eq!(self.of(name), 0, "{name}: {self:?}");
        }
    }
}

/// A free endpoint on loopback, different for each call and process, and outside the range of
/// ephemeral ports, so that it stays free.
pub(crate) fn endpoint() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    loop {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 64 + call) % 20_000;
        if TcpListener::bind(("127.0.0.1", port as u16)).is_ok() {
            return format!("tcp/127.0.0.1:{port}");
        }
    }
}
