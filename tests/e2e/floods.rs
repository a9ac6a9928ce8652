//! What strangers and bad policies cost a server, in memory, descriptors and threads; in a process
//! of its own, so that nothing else is counted.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_proto::server::ActionQueue;
use chiral_proto::wire::ClientMessage;
use chiral_proto::{Action, Map};
use chiral_tests::adapter::{Adapter, ClientSettings, ServerSettings};
use chiral_tests::{Entry, Opcode, Raw, Recorder, Work, adapters, entries, message, wait_until};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;

/// The adapters, one after the other.
fn for_each_adapter(test: impl Fn(&str, &dyn Adapter)) {
    test("tokio", &adapters::tokio::ADAPTER);
    test("smol", &adapters::smol::ADAPTER);
    test("blocking", &adapters::blocking::ADAPTER);
}

fn address_of(uri: &str) -> std::net::SocketAddr {
    uri.trim_start_matches("ws://").parse().expect("it names a socket")
}

/// Processor time of this process.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Sends a message of a client that announces 16 MiB, and as much of it as the server takes.
fn send_16_mib(raw: &mut Raw) {
    let head = [&[0x82, 0xff][..], &(16 * MIB as u64).to_be_bytes(), &[0; 4]].concat();
    raw.send(&head);
    let chunk = vec![0; 64 << 10];
    for _ in 0..16 * MIB / chunk.len() {
        if raw.socket.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// An action with so many bytes of values.
fn large_action(bytes: usize) -> Vec<u8> {
    let action = Action::from(vec![0.5_f32; bytes / 4]);
    message(Opcode::Binary, &ClientMessage::ApplyAction(action).encode().to_bytes(), true)
}

/// An action whose header is mostly a field that nobody knows.
fn junk_header(bytes: usize) -> Vec<u8> {
    let frame = ClientMessage::ApplyAction(Action::from([0.5])).encode().to_bytes();
    let len = u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
    let (header, payload) = frame[4..].split_at(len);
    // One more field in its map.
    let junk = rmp(&Map::new().with("junk", "j".repeat(bytes)));
    let header = [&[header[0] + 1][..], &header[1..], &junk[1..]].concat();
    let frame = [&(header.len() as u32).to_le_bytes()[..], &header, payload].concat();
    message(Opcode::Binary, &frame, true)
}

/// A map of one string, in msgpack.
fn rmp(map: &Map) -> Vec<u8> {
    let (name, value) = map.iter().next().expect("it has one");
    let value = value.as_str().expect("it is text").as_bytes();
    let len = (value.len() as u32).to_be_bytes();
    let name = [&[0xa0 + name.len() as u8], name.as_bytes()].concat();
    [&[0x81][..], &name, &[0xdb], &len, value].concat()
}

fn memory_stays_bounded(name: &str, adapter: &dyn Adapter) {
    let mut settings = ServerSettings::default();
    settings.machine.action_queue = ActionQueue::InOrder { capacity: 1 << 20 };
    let robot = Arc::new(Recorder::small());
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), settings);
    let address = address_of(&serving.uri());
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let peak = |what: &str| {
        let peak = MEMORY.peak_usage().saturating_sub(before);
        println!("{name}: {what}: {:.1} MiB", peak as f64 / MIB as f64);
        assert!(peak < 24 * MIB, "{name}: {what}: {peak} bytes");
        MEMORY.reset_peak_usage();
    };

    for policies in 1..=64 {
        let mut raw = Raw::complete_handshake(address);
        send_16_mib(&mut raw);
        drop(raw);
        robot.wait_for_disconnects(policies);
    }
    peak("64 frames of 16 MiB, over the limit");

    // Held back by a reset.
    robot.hold(Work::Reset);
    let mut raw = Raw::complete_handshake(address);
    raw.socket.set_write_timeout(Some(Duration::from_millis(300))).expect("it is a time");
    raw.send_message(Opcode::Binary, &ClientMessage::Reset.encode().to_bytes());
    robot.wait_for_begun(Work::Reset, 1);
    let action = large_action(MIB - 4096);
    for _ in 0..64 {
        if raw.socket.write_all(&action).is_err() {
            break;
        }
    }
    peak("64 actions of 1 MiB behind a reset");
    drop(raw);
    robot.release(Work::Reset);
    robot.wait_for_disconnects(65);

    robot.hold(Work::Apply);
    let mut raw = Raw::complete_handshake(address);
    let junk = junk_header(60 << 10);
    for _ in 0..640 {
        raw.send(&junk);
    }
    wait_until("they are taken in", || {
        serving.stats().is_some_and(|stats| stats.actions.count() >= 640)
    });
    peak("640 actions with 60 KiB of junk");
    robot.release(Work::Apply);
    drop(raw);
    robot.wait_for_disconnects(66);
    serving.shut_down();
}

fn refused_connections_cost_little(name: &str, adapter: &dyn Adapter) {
    const REFUSED: usize = 2000;
    const STAYING: usize = 300;
    let robot = Arc::new(Recorder::small());
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), ServerSettings::default());
    let uri = serving.uri();
    let policy = adapter.connect(&uri, ClientSettings::default()).expect("it is let in");
    policy.metadata().expect("it is answered");
    let (files, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));

    let (start, used) = (Instant::now(), processor_time());
    for _ in 0..REFUSED {
        let mut raw = Raw::connect(address_of(&uri));
        raw.send(b"BAD\r\n\r\n");
        let answer = raw.head();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    println!(
        "{name}: {REFUSED} refusals: {:.2?} of processor time in {:.2?}",
        processor_time().saturating_sub(used),
        start.elapsed()
    );
    wait_until("they are gone", || {
        entries("/proc/self/fd") <= files && entries("/proc/self/task") <= threads
    });

    let staying: Vec<Raw> = (0..STAYING)
        .map(|_| {
            let mut raw = Raw::connect(address_of(&uri));
            raw.send(b"BAD\r\n\r\n");
            raw
        })
        .collect();
    let held = entries("/proc/self/fd").saturating_sub(files + STAYING);
    println!("{name}: {STAYING} refused connections that stay: {held} descriptors of the server's");
    // 64, and those that are just being closed, or wait to be accepted.
    wait_until("few are kept", || entries("/proc/self/fd") <= files + STAYING + 64);
    wait_until("few threads are kept", || entries("/proc/self/task") <= threads + 64);
    drop(staying);
    wait_until("they are gone", || {
        entries("/proc/self/fd") <= files && entries("/proc/self/task") <= threads
    });
    policy.metadata().expect("it is still connected");
    drop(policy);
    serving.shut_down();
}

fn a_reset_behind_a_close_leaves_nothing(name: &str, adapter: &dyn Adapter) {
    const ROUNDS: usize = 200;
    let robot = Arc::new(Recorder::new(2, [480, 640]));
    let serving = adapter.serve("127.0.0.1:0", Arc::clone(&robot), ServerSettings::default());
    let address = address_of(&serving.uri());
    let (files, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let (start, used) = (Instant::now(), processor_time());
    for round in 1..=ROUNDS {
        let mut raw = Raw::complete_handshake(address);
        raw.send_message(Opcode::Binary, &ClientMessage::Observe.encode().to_bytes());
        raw.send_message(Opcode::Close, &1000_u16.to_be_bytes());
        rustix::net::sockopt::set_socket_linger(&raw.socket, Some(Duration::ZERO)).unwrap();
        drop(raw);
        robot.until(round, |entry| matches!(entry, Entry::Disconnected(_)));
    }
    let left = entries("/proc/self/task").saturating_sub(threads);
    println!(
        "{name}: {ROUNDS} resets behind a close: {:.2?} of processor time in {:.2?}; \
         {left} threads left then",
        processor_time().saturating_sub(used),
        start.elapsed()
    );
    assert!(left < 32, "{name}: {left} threads are left");
    wait_until("they are gone", || {
        entries("/proc/self/fd") <= files && entries("/proc/self/task") <= threads
    });
    // A spin would show: nothing is connected.
    let used = processor_time();
    std::thread::sleep(Duration::from_millis(300));
    let spun = processor_time().saturating_sub(used);
    assert!(spun < Duration::from_millis(150), "{name}: {spun:?} of processor time at rest");
    serving.shut_down();
}

// One after the other: each counts what the process has.
#[test]
fn strangers_cost_little() {
    for_each_adapter(memory_stays_bounded);
    for_each_adapter(refused_connections_cost_little);
    for_each_adapter(a_reset_behind_a_close_leaves_nothing);
}
