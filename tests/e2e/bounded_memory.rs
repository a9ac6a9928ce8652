//! The most memory that a peer can make a robot or a policy take: one that never reads, never answers,
//! sends at full speed, connects 10,000 times, or announces what never comes. In a process of its own,
//! so that nothing else is counted; each figure is printed (`-- --nocapture`).
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_proto::Rate;
use chiral_proto::server::ActionQueue;
use chiral_proto::wire::ClientMessage;
use chiral_tests::adapter::{Adapter, ClientSettings, ServerSettings};
use chiral_tests::sockets::address_of;
use chiral_tests::{
    Entry, Opcode, Raw, RawServer, Recorder, Work, adapters, entries, message, wait_until,
};
use peak_alloc::PeakAlloc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// How long a peer sends at full speed.
const FLOOD: Duration = Duration::from_secs(1);

/// The adapters, one after the other: each counts what the process has.
const ADAPTERS: [(&str, &dyn Adapter); 3] = [
    ("tokio", &adapters::tokio::ADAPTER),
    ("smol", &adapters::smol::ADAPTER),
    ("blocking", &adapters::blocking::ADAPTER),
];

/// Measures the heap that a hostile peer takes, at its most.
struct Meter {
    adapter: &'static str,
    before: usize,
}

impl Meter {
    fn start(adapter: &'static str) -> Self {
        MEMORY.reset_peak_usage();
        Self { adapter, before: MEMORY.current_usage() }
    }

    /// Prints it, and asserts that it is below so many bytes.
    #[track_caller]
    fn assert_below(self, bytes: usize, what: &str) {
        let peak = MEMORY.peak_usage().saturating_sub(self.before);
        println!(
            "{}: {what}: {:.2} MiB of heap at the most; {:.0} MiB resident since the start",
            self.adapter,
            peak as f64 / MIB as f64,
            largest_rss_mib()
        );
        assert!(peak < bytes, "{}: {what}: {peak} bytes, expected less than {bytes}", self.adapter);
    }
}

/// The largest resident memory that this process has had.
fn largest_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).expect("Linux tells it");
    kib.parse::<f64>().expect("it is a number") / 1024.0
}

/// The head of a WebSocket frame that announces so many bytes.
fn announcement(bytes: u64, is_masked: bool) -> Vec<u8> {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let mask: &[u8] = if is_masked { &[0; 4] } else { &[] };
    [&[0x82, mask_bit + 127][..], &bytes.to_be_bytes(), mask].concat()
}

fn a_policy_that_never_reads(name: &'static str, adapter: &dyn Adapter) {
    // Observations of 10 MB.
    let robot = Arc::new(Recorder::large());
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), ServerSettings::default());
    let meter = Meter::start(name);
    let mut raw = Raw::complete_handshake(address_of(&serving.uri()));
    let request = ClientMessage::Observe.encode().to_bytes();
    for _ in 0..60 {
        raw.send_message(Opcode::Binary, &request);
    }
    wait_until("the first is on its way", || {
        serving.stats().is_some_and(|stats| stats.observations.count() >= 1)
    });
    std::thread::sleep(FLOOD);
    // No pixel is copied; what waits for the socket are references to the sensors' buffers.
    meter.assert_below(MIB, "a policy that asks for 60 observations of 10 MB and reads none");
    drop(raw);
    robot.wait_for_disconnects(1);
    serving.shut_down();
}

fn a_policy_at_full_speed(name: &'static str, adapter: &dyn Adapter) {
    let robot = Arc::new(Recorder::small().held(Work::Apply));
    let mut settings = ServerSettings::default();
    settings.machine.action_queue = ActionQueue::Latest;
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), settings);
    let meter = Meter::start(name);
    let mut raw = Raw::complete_handshake(address_of(&serving.uri()));
    let action = ClientMessage::ApplyAction([0.5; 7].into()).encode().to_bytes();
    let actions = message(Opcode::Binary, &action, true).repeat(1000);
    raw.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("it is a time");
    let start = Instant::now();
    while start.elapsed() < FLOOD && raw.socket.write_all(&actions).is_ok() {}
    meter.assert_below(
        12 * MIB,
        "a policy that sends actions at full speed to a robot that is stuck",
    );
    // While the robot is stuck, what was sent last is read and superseded.
    drop(raw);
    std::thread::sleep(FLOOD);
    robot.release_all();
    robot.wait_for_disconnects(1);

    // More requests than may wait end the connection.
    let meter = Meter::start(name);
    robot.hold(Work::Describe);
    let mut raw = Raw::complete_handshake(address_of(&serving.uri()));
    let request = ClientMessage::Metadata.encode().to_bytes();
    let requests = message(Opcode::Binary, &request, true).repeat(1000);
    let _ = raw.socket.write_all(&requests);
    let (code, reason) = raw.closed();
    assert_eq!(code, 1008, "{reason}");
    meter.assert_below(2 * MIB, "a policy that sends 1,000 requests and waits for no answer");
    robot.release_all();
    drop(raw);
    robot.wait_for_disconnects(2);
    serving.shut_down();
}

fn a_policy_that_announces_4_gb(name: &'static str, adapter: &dyn Adapter) {
    let robot = Arc::new(Recorder::small());
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), ServerSettings::default());
    let meter = Meter::start(name);
    let mut raw = Raw::complete_handshake(address_of(&serving.uri()));
    raw.send(&announcement(4 << 30, true));
    let (code, reason) = raw.closed();
    assert_eq!(code, 1009, "{reason}");
    meter.assert_below(MIB, "a policy that announces 4 GiB");
    serving.shut_down();
}

fn a_robot_that_announces(name: &'static str, adapter: &dyn Adapter) {
    // 4 GiB are refused at once; 256 MiB may come, and cost what has come.
    for (bytes, comes) in [(4 << 30, 0), (256 << 20, 100_000)] {
        let server = RawServer::new();
        let uri = server.uri();
        let meter = Meter::start(name);
        let settings = ClientSettings {
            request_timeout: Some(Duration::from_millis(300)),
            ..ClientSettings::default()
        };
        let policy = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| adapter.connect(&uri, settings));
            let mut raw = server.accept(b"");
            let policy = connecting.join().expect("no panic").expect("it is accepted");
            let announced = [announcement(bytes, false), vec![0; comes]].concat();
            raw.send(&announced);
            policy.observe().expect_err("no answer comes");
            policy
        });
        meter.assert_below(2 * MIB, &format!("a robot that announces {} MiB", bytes >> 20));
        drop(policy);
    }
}

fn a_robot_that_never_answers(name: &'static str, adapter: &dyn Adapter) {
    let server = RawServer::new();
    let uri = server.uri();
    let meter = Meter::start(name);
    std::thread::scope(|scope| {
        let settings = ClientSettings {
            request_timeout: Some(Duration::from_millis(20)),
            ..ClientSettings::default()
        };
        let connecting = scope.spawn(|| adapter.connect(&uri, settings));
        let raw = server.accept(b"");
        let policy = connecting.join().expect("no panic").expect("it is accepted");
        policy.start_obs_stream(Rate::hz(1000.0).expect("it is a rate")).expect("it is connected");
        policy
            .start_action_dispatch(Rate::hz(1000.0).expect("it is a rate"))
            .expect("it is connected");
        let start = Instant::now();
        let (mut failed, mut refused) = (0_u32, 0_u32);
        while start.elapsed() < FLOOD {
            failed += u32::from(policy.observe().is_err());
            for _ in 0..2000 {
                refused += u32::from(policy.put_action([0.5; 7].into()).is_err());
                refused += u32::from(policy.send_action([0.5; 7].into()).is_err());
            }
        }
        assert!(failed > 2 && refused > 0, "{failed} calls failed, {refused} actions were refused");
        drop(raw);
    });
    meter
        .assert_below(4 * MIB, "a robot that answers and reads nothing, and a policy that goes on");
}

fn a_robot_at_full_speed(name: &'static str, adapter: &dyn Adapter) {
    let server = RawServer::new();
    let uri = server.uri();
    let meter = Meter::start(name);
    let policy = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| adapter.connect(&uri, ClientSettings::default()));
        let mut raw = server.accept(b"");
        let policy = connecting.join().expect("no panic").expect("it is accepted");
        // Pings, which cost an answer each, for as long as they are taken; none of the answers is read.
        let pings = message(Opcode::Ping, &[7; 125], false).repeat(1000);
        raw.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("it is a time");
        let start = Instant::now();
        while start.elapsed() < FLOOD && raw.socket.write_all(&pings).is_ok() {}
        policy
    });
    meter.assert_below(MIB, "a robot that pings at full speed and reads no answer");
    drop(policy);
}

/// So many connections, as far as the system allows at once.
fn connections(count: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("the soft limit may be as high as the hard one");
    let allowed = limit.maximum.map_or(usize::MAX, |maximum| maximum as usize);
    count.min(allowed.saturating_sub(1000)).max(1)
}

fn many_connections(name: &'static str, adapter: &dyn Adapter) {
    // Who is admitted is decided by the same code in all of them.
    let all = if name == "tokio" { 10_000 } else { 2_000 };
    let robot = Arc::new(Recorder::small());
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), ServerSettings::default());
    let address: SocketAddr = address_of(&serving.uri());
    let policy = adapter.connect(&serving.uri(), ClientSettings::default()).expect("it is let in");
    policy.metadata().expect("it is answered");
    let (files, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let batch = connections(all);
    let (begun, _) = Raw::request().split_at(40);
    let (mut opened, mut most_files, mut most_threads) = (0, 0, 0);
    let meter = Meter::start(name);
    while opened < all {
        let count = batch.min(all - opened);
        let mut strangers = Vec::with_capacity(count);
        for index in 0..count {
            let mut raw = Raw::connect(address);
            raw.send(begun);
            strangers.push(raw);
            if index % 100 == 99 {
                let ours = files + strangers.len();
                most_files = most_files.max(entries("/proc/self/fd").saturating_sub(ours));
                most_threads = most_threads.max(entries("/proc/self/task").saturating_sub(threads));
            }
        }
        opened += count;
        // 64, and those that are just being closed, or wait to be accepted.
        wait_until("few are kept", || {
            entries("/proc/self/fd") <= files + strangers.len() + 64
                && entries("/proc/self/task") <= threads + 64
        });
        policy.metadata().expect("it is still connected");
    }
    println!(
        "{name}: {all} connections, {batch} at once: {most_files} descriptors and {most_threads} threads \
         of the server's at the most"
    );
    meter.assert_below(24 * MIB, "connections with half a request");
    wait_until("they are gone", || {
        entries("/proc/self/fd") <= files && entries("/proc/self/task") <= threads
    });
    assert_eq!(robot.count(|entry| matches!(entry, Entry::Disconnected(_))), 0);
    drop(policy);
    serving.shut_down();
}

// One after the other: each counts what the process has.
#[test]
fn hostile_peers_take_little_memory() {
    for (name, adapter) in ADAPTERS {
        a_policy_that_never_reads(name, adapter);
        a_policy_at_full_speed(name, adapter);
        a_policy_that_announces_4_gb(name, adapter);
        a_robot_that_announces(name, adapter);
        a_robot_that_never_answers(name, adapter);
        a_robot_at_full_speed(name, adapter);
        many_connections(name, adapter);
    }
}
