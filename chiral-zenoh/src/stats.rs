use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection has sent and received, from [`Counts::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Frames given to Zenoh.
    pub frames_sent: u64,
    /// Of these, the ones of which something was written to shared memory.
    pub frames_sent_shared: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Of these, the ones of which something came through shared memory.
    pub frames_received_shared: u64,
    /// Messages on the connection's keys that did not count, because somebody else had sent them or
    /// they had been received before. Somebody tries to interfere if there are any.
    pub frames_rejected: u64,
    /// Buffers copied into shared memory because they were not in it already.
    pub buffers_copied: u64,
    /// Buffers sent over the network because the shared memory was full.
    pub buffers_unshared: u64,
}

impl Stats {
    /// Whether large frames have gone through shared memory.
    pub fn uses_shared_memory(&self) -> bool {
        self.frames_sent_shared > 0 || self.frames_received_shared > 0
    }
}

/// What a connection sends and receives, counted as it goes on: the
/// [extension](chiral_driver::Transport::extension) of a [`ZenohTransport`](crate::ZenohTransport).
///
/// Of a client or server that has connected over Zenoh it is
/// `client.transport_extension::<chiral_zenoh::Counts>()`.
#[derive(Debug, Default)]
pub struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) sent_shared: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) received_shared: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) copied: AtomicU64,
    pub(crate) unshared: AtomicU64,
}

impl Counts {
    /// The counts so far.
    pub fn read(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            frames_sent: read(&self.sent),
            frames_sent_shared: read(&self.sent_shared),
            frames_received: read(&self.received),
            frames_received_shared: read(&self.received_shared),
            frames_rejected: read(&self.rejected),
            buffers_copied: read(&self.copied),
            buffers_unshared: read(&self.unshared),
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
