//! The processes of a test, and what they say.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long something may take that happens at once on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A router, a robot or a policy in a process of its own, which ends with the test.
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

    /// Waits until it says something, and returns what it says behind that.
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

    /// What it has said that nobody has heard yet.
    pub(crate) fn unread_lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Kills it: it has no time for anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it is this process's child");
    }

    /// Stops it where it stands, for a while.
    pub(crate) fn stall(&self, time: Duration) {
        self.stop();
        thread::sleep(time);
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("it is stopped");
    }

    /// Stops it where it stands: it says nothing any more, and its connections stay.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("it is running");
    }

    /// Lets it end in peace, and returns what it has counted. The `refused` and `disconnected` that
    /// nobody has waited for are those that should not have been.
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

/// What a robot or a policy has counted, by its own words.
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

    /// Asserts that everything arrived once, where it belongs.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        for name in ["foreign", "astray", "repeated"] {
            assert_eq!(self.of(name), 0, "{name}: {self:?}");
        }
    }
}

/// A free endpoint on the loopback: outside of the range from which systems choose ports, so that
/// it stays free, and another one for each call and process.
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
