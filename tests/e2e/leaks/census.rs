//! Connects and disconnects a thousand times, and counts what is left of it in this process. Each
//! adapter has a process of its own, so that nothing else is counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Connections before anything is counted: pools, slabs and buffers then have their size.
const WARM_UP: usize = 100;
const CYCLES: usize = 1_000;
/// Bytes that may come and go by themselves. It is less than 17 for each cycle.
const SLACK: usize = 16 << 10;
/// How long what is going may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server, and clients of it. Every call waits until it is done.
pub(crate) trait Adapter {
    /// A connected client. Dropping it disconnects.
    type Client;

    /// Where the server listens.
    fn address(&self) -> SocketAddr;

    /// Connects a client.
    fn connect(&self) -> Self::Client;

    /// Has an observation taken and an action applied.
    fn use_once(&self, client: &Self::Client);

    /// Begins to stream observations and to dispatch actions, and waits for the first observation.
    fn start_streaming(&self, client: &Self::Client);

    /// Disconnects in an orderly way.
    fn close(&self, client: Self::Client);

    /// How many tasks there are, as far as the runtime, or what they hold, tells.
    fn tasks(&self) -> usize;

    /// Shuts the server down.
    fn shut_down(self);
}

/// Counts the policies that have gone; the robot is to note them.
#[derive(Default)]
pub(crate) struct Departures {
    count: Mutex<usize>,
    noted: Condvar,
}

impl Departures {
    /// Notes that a policy has gone.
    pub(crate) fn note(&self) {
        *self.count.lock().unwrap() += 1;
        self.noted.notify_all();
    }

    fn until(&self, enough: usize) {
        let count = self.count.lock().unwrap();
        let waited = self.noted.wait_timeout_while(count, PATIENCE, |count| *count < enough);
        let count = *waited.unwrap().0;
        assert_eq!(count, enough, "policies that have gone");
    }
}

/// What this process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Census {
    threads: usize,
    tasks: usize,
    files: usize,
    bytes: usize,
}

impl Census {
    fn take(adapter: &impl Adapter) -> Self {
        Self {
            threads: entries("/proc/self/task"),
            tasks: adapter.tasks(),
            files: entries("/proc/self/fd"),
            bytes: MEMORY.current_usage(),
        }
    }

    /// What is held once it has not changed for a while.
    fn settled_census(adapter: &impl Adapter) -> Self {
        let (mut last, mut unchanged) = (Self::take(adapter), 0);
        let start = Instant::now();
        while unchanged < 20 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
            let now = Self::take(adapter);
            unchanged = if now == last { unchanged + 1 } else { 0 };
            last = now;
        }
        last
    }

    fn is_within(&self, before: &Self) -> bool {
        self.threads <= before.threads
            && self.tasks <= before.tasks
            && self.files <= before.files
            && self.bytes <= before.bytes + SLACK
    }
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("Linux has it").count()
}

/// One policy that comes and goes, each in another way.
fn connect_and_disconnect(adapter: &impl Adapter, cycle: usize) {
    match cycle % 4 {
        0 => {
            let client = adapter.connect();
            adapter.use_once(&client);
            adapter.close(client);
        }
        1 => {
            let client = adapter.connect();
            adapter.use_once(&client);
        }
        2 => {
            let client = adapter.connect();
            adapter.start_streaming(&client);
        }
        _ => disconnect_abruptly(adapter.address()),
    }
}

/// A policy whose process is killed: its socket is closed with no word said.
fn disconnect_abruptly(address: SocketAddr) {
    let mut socket = TcpStream::connect(address).unwrap();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket";
    write!(socket, "GET / HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n{key}\r\n\r\n").unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
}

/// Asserts that a thousand connections leave nothing behind, and that the server does not either.
pub(crate) fn assert_no_leaks(adapter: impl Adapter, departures: &Departures) {
    let mut cycles = 0;
    let mut run = |count| {
        for _ in 0..count {
            connect_and_disconnect(&adapter, cycles);
            cycles += 1;
            departures.until(cycles);
        }
    };
    run(WARM_UP);
    let before = Census::settled_census(&adapter);
    run(CYCLES);
    eventually(
        || Census::take(&adapter).is_within(&before),
        || format!("before {before:?}, after {CYCLES} cycles {:?}", Census::take(&adapter)),
    );
    println!("before {before:?}, after {CYCLES} cycles {:?}", Census::take(&adapter));
    adapter.shut_down();
    eventually(|| entries("/proc/self/fd") < before.files, || "it still listens".to_owned());
}

/// Looks again and again until something is so; `otherwise` says what is wrong when it never is.
fn eventually(mut is_so: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", otherwise());
        thread::sleep(Duration::from_millis(5));
    }
}
