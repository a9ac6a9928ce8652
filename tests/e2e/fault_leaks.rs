//! What bad networks leave behind: descriptors, threads and memory are as before. In a process of its
//! own, so that nothing else is counted.
#![cfg(target_os = "linux")]

use std::time::Duration;

use chiral_proto::testing::Link;
use chiral_tests::adapter::Adapter;
use chiral_tests::faulty_session::{self, Replay, Terms, seeds};
use chiral_tests::{Patience, SOON, adapters, entries};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Seeds for each adapter, unless `CHIRAL_FAULT_SEEDS` says otherwise.
const SEEDS: u64 = 5;
/// A random break comes within so many bytes of a session.
const BYTES: u64 = 8_000;
/// Bytes by which the heap may vary by itself.
const SLACK: usize = 256 << 10;

fn run(adapter: &dyn Adapter, seed: u64) {
    let _replay = Replay::new(seed, "fault_leaks");
    let (link, terms) = (Link::random(seed, BYTES), Terms::random(seed));
    faulty_session::run(adapter, adapter, "127.0.0.1:0", link, terms);
}

fn leaves_nothing(name: &str, adapter: &dyn Adapter) {
    // Until pools, slabs and the runtime's threads have reached their size.
    seeds(SEEDS).for_each(|seed| run(adapter, seed));
    let count = || (entries("/proc/self/fd"), entries("/proc/self/task"), MEMORY.current_usage());
    // The relay's threads look up every 20 ms.
    std::thread::sleep(Duration::from_millis(300));
    let (files, threads, bytes) = count();
    seeds(SEEDS).for_each(|seed| run(adapter, seed));
    let mut patience = Patience::new(SOON);
    loop {
        let (files_now, threads_now, bytes_now) = count();
        if files_now <= files && threads_now <= threads && bytes_now <= bytes + SLACK {
            println!("{name}: {files_now} descriptors, {threads_now} threads, as before");
            return;
        }
        assert!(
            !patience.is_over(),
            "{name}: {files} descriptors became {files_now}, {threads} threads {threads_now}, \
             {bytes} bytes {bytes_now}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

// One after the other: each counts what the process has.
#[test]
fn faults_leave_no_descriptor_thread_or_memory_behind() {
    leaves_nothing("tokio", &adapters::tokio::ADAPTER);
    leaves_nothing("smol", &adapters::smol::ADAPTER);
    leaves_nothing("blocking", &adapters::blocking::ADAPTER);
}
