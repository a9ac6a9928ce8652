//! A thread that never rests, as a policy on the CPU does.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// A thread that computes without end. Dropped, it is stopped.
pub(super) struct Spinner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    pub(super) fn start() -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // `black_box` and no `spin_loop`: a hint that it waits would spare the others.
        let spin = move || {
            while !stopped.load(Ordering::Relaxed) {
                black_box((0..10_000_u64).fold(0, |sum, n| sum ^ black_box(n)));
            }
        };
        Ok(Self { stop, thread: Some(Builder::new().name("spinner".to_owned()).spawn(spin)?) })
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}
