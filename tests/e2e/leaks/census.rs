//! Connects and disconnects a thousand times, and counts what is left in this process. Each adapter
//! has its own process, so that nothing else is counted.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chiral_proto::client::Reconnect;
use chiral_tests::{RawServer, entries};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Connections before counting begins, so that pools, slabs and buffers have reached their size.
const WARM_UP: usize = 100;
const CYCLES: usize = 1_000;
/// Bytes by which the heap may vary by itself: less than 17 per cycle.
const SLACK: usize = 16 << 10;
/// How long closing connections may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server and its clients. Every call blocks until it is done.
pub(crate) trait Adapter {
    /// A connected client. Dropping it disconnects.
    type Client;

    /// Where the server listens.
    fn address(&self) -> SocketAddr;

    /// Connects a client.
    fn connect(&self) -> Self::Client;

    /// Takes an observation and applies an action.
    fn use_once(&self, client: &Self::Client);

    /// Begins to stream observations and to dispatch actions, and waits for the first observation.
    fn start_streaming(&self, client: &Self::Client);

    /// Disconnects in an orderly way.
    fn close(&self, client: Self::Client);

    /// How many tasks there are, as far as the runtime, or what they hold, shows.
    fn tasks(&self) -> usize;

    /// Shuts the server down.
    fn shut_down(self);
}

/// Counts the policies that have disconnected; the robot reports them.
#[derive(Default)]
pub(crate) struct Departures {
    count: Mutex<usize>,
    noted: Condvar,
}

impl Departures {
    /// Counts a policy that has disconnected.
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

/// Resources of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Census {
    threads: usize,
    tasks: usize,
    files: usize,
    bytes: usize,
}

impl Census {
    /// `tasks` tells how many tasks there are, as far as the runtime, or what they hold, shows.
    fn take(tasks: &impl Fn() -> usize) -> Self {
        Self {
            threads: entries("/proc/self/task"),
            tasks: tasks(),
            files: entries("/proc/self/fd"),
            bytes: MEMORY.current_usage(),
        }
    }

    /// The resources once they have not changed for a while.
    fn settled_census(tasks: &impl Fn() -> usize) -> Self {
        let (mut last, mut unchanged) = (Self::take(tasks), 0);
        let start = Instant::now();
        while unchanged < 20 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
            let now = Self::take(tasks);
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

/// One policy that connects and disconnects, in a different way for each number.
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

/// A policy whose process is killed: its socket is closed without a close frame.
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

/// Asserts that neither a thousand connections nor the server leak.
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
    let tasks = || adapter.tasks();
    let before = Census::settled_census(&tasks);
    run(CYCLES);
    assert_within(&before, &tasks);
    adapter.shut_down();
    eventually(|| entries("/proc/self/fd") < before.files, || "it still listens".to_owned());
}

fn assert_within(before: &Census, tasks: &impl Fn() -> usize) {
    let found = || format!("before {before:?}, after {CYCLES} cycles {:?}", Census::take(tasks));
    eventually(|| Census::take(tasks).is_within(before), found);
    println!("{}", found());
}

/// Asserts that one client does not leak whose connection is lost and made again a thousand times.
/// `connect` connects it with [`quick`] pauses.
pub(crate) fn assert_reconnects_do_not_leak<C: Send>(
    connect: impl FnOnce(&str) -> C + Send,
    tasks: &impl Fn() -> usize,
) {
    let server = RawServer::new();
    let uri = server.uri();
    let (client, mut peer) = thread::scope(|scope| {
        let connecting = scope.spawn(|| connect(&uri));
        let peer = server.accept(b"");
        (connecting.join().expect("it is accepted"), peer)
    });
    let mut run = |count| {
        for _ in 0..count {
            peer.socket.shutdown(Shutdown::Write).expect("it is connected");
            peer = server.accept(b"");
        }
    };
    run(WARM_UP);
    let before = Census::settled_census(tasks);
    run(CYCLES);
    assert_within(&before, tasks);
    drop(client);
}

/// Connecting again that is over soon.
pub(crate) fn quick() -> Reconnect {
    let pause = Duration::from_millis(1);
    Reconnect { initial: pause, max: pause, ..Reconnect::holding_calls() }
}

/// Polls a condition until it holds; `otherwise` is the message when it never does.
fn eventually(mut is_so: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", otherwise());
        thread::sleep(Duration::from_millis(5));
    }
}
