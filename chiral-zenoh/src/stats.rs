use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`Link`](crate::Link) has carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames given to Zenoh.
    pub frames_sent: u64,
    /// Of these, the ones of which something was laid out in shared memory.
    pub frames_sent_shared: u64,
    /// Frames that came.
    pub frames_received: u64,
    /// Of these, the ones of which something came through shared memory.
    pub frames_received_shared: u64,
    /// Buffers copied into shared memory because they did not lie there already.
    pub buffers_copied: u64,
    /// Buffers that went over the network because the shared memory was full.
    pub buffers_unshared: u64,
}

impl Stats {
    /// Whether the link goes through shared memory: whether the last large frames did.
    pub fn uses_shared_memory(&self) -> bool {
        self.frames_sent_shared > 0 || self.frames_received_shared > 0
    }
}

/// What a [`Link`](crate::Link) carries, as it goes on.
#[derive(Debug, Clone)]
pub struct Counts(pub(crate) Arc<Counters>);

impl Counts {
    /// What was carried so far.
    pub fn read(&self) -> Stats {
        self.0.read()
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) sent_shared: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) received_shared: AtomicU64,
    pub(crate) copied: AtomicU64,
    pub(crate) unshared: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            frames_sent: read(&self.sent),
            frames_sent_shared: read(&self.sent_shared),
            frames_received: read(&self.received),
            frames_received_shared: read(&self.received_shared),
            buffers_copied: read(&self.copied),
            buffers_unshared: read(&self.unshared),
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
