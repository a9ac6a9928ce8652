mod goodbye;
mod shared;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;

use crate::message::Message;
use crate::stats::{Counts, Stats};
use goodbye::Goodbye;
pub(crate) use shared::Shared;
pub(crate) use wire::{Wire, declare, is_matched, receive, watch};

/// One connection between a robot and a policy, as its one end sees it: frames go in and out, in
/// both directions at once.
///
/// It is for no particular runtime. The `poll_*` calls wake whoever polled last, from threads of
/// Zenoh or of the link's own; none of them blocks. All take `&self`, so that one thread can read
/// and another write.
///
/// - **Writing**: when [`wants_frame`](Self::wants_frame) says so, [`push`](Self::push) one.
///   A thread of the link's own gives it to Zenoh, which blocks while the network is congested;
///   until it is through, no other frame is wanted. That is the back-pressure.
/// - **Reading**: [`poll_recv`](Self::poll_recv) gives whole messages, and, when they are all
///   taken, why no more will come. Zenoh's threads are never made to wait: a peer that sends more
///   than 4096 messages, or twice the longest frame, ahead of what is taken is told off and the
///   link ends. Observations come only when asked for, so none of them piles up.
/// - **Ending**: [`close`](Self::close), then [`is_finished`](Self::is_finished). Dropping a link
///   closes it too.
///
/// A peer that leaves without a word, or cannot be reached any more, ends the link with
/// [`ConnectionError::Lost`]: at once when its process ends, and within its
/// [lease](crate::Config::with_lease) when its machine or the network fails.
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// A link over what has been declared, and its writer thread. `ended` is called on that
    /// thread when everything of the link's has been taken back.
    pub(crate) fn start(
        shared: Arc<Shared>,
        wire: Wire,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("chiral-zenoh".to_owned());
        thread.spawn(move || {
            wire.carry(&of_thread);
            ended();
        })?;
        Ok(Self { shared })
    }

    /// The next message, or, behind the last one, why no more will come.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Message, ConnectionError>> {
        self.shared.poll_recv(cx)
    }

    /// As [`poll_recv`](Self::poll_recv), as a future.
    ///
    /// # Errors
    /// When the link has ended, and all that had come before was taken.
    pub async fn recv(&self) -> Result<Message, ConnectionError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits until the frame pushed last has been given to Zenoh. `true`: it has, and nobody was
    /// told yet; `false`: there was none, or the link has ended without it.
    pub fn poll_written(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.shared.poll_write(cx)
    }

    /// Whether [`push`](Self::push) may be called.
    pub fn wants_frame(&self) -> bool {
        self.shared.wants_frame()
    }

    /// Takes a frame to write. One that was not wanted is dropped.
    pub fn push(&self, frame: Frame) {
        self.shared.push(frame);
    }

    /// Writes a frame, as a future: waits until it is wanted, and until it has been given to
    /// Zenoh. Not to be mixed with [`push`](Self::push).
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn send(&self, frame: Frame) -> Result<(), ConnectionError> {
        while poll_fn(|cx| self.poll_written(cx)).await {}
        if self.wants_frame() {
            self.push(frame);
            if poll_fn(|cx| self.poll_written(cx)).await {
                return Ok(());
            }
        }
        Err(self.shared.end().unwrap_or(ConnectionError::ClosedLocally))
    }

    /// Ends the link with a code and a reason for the peer, behind what is being written.
    pub fn close(&self, now: Instant, code: u16, reason: &str) {
        self.shared.close(now, Goodbye { code, reason: reason.to_owned() });
    }

    /// Whether the peer has answered the close, or there is nobody to answer it. Who waits for it
    /// is woken by what woke [`poll_recv`](Self::poll_recv) and
    /// [`poll_written`](Self::poll_written).
    pub fn is_finished(&self) -> bool {
        self.shared.is_finished()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.shared.poll_timeout()
    }

    /// Gives up waiting for the answer to a close, when it is time: 1 s after it.
    ///
    /// # Errors
    /// When the answer was given up just now; the link is then finished.
    pub fn handle_timeout(&self, now: Instant) -> Result<(), ConnectionError> {
        self.shared.handle_timeout(now)
    }

    /// What was carried so far, and whether through shared memory.
    pub fn stats(&self) -> Stats {
        self.counts().read()
    }

    /// A handle to what the link carries, for who does not have the link.
    pub fn counts(&self) -> Counts {
        Counts(Arc::clone(&self.shared.counters))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
