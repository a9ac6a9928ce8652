use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use chiral_zenoh::Link;

use super::Transport;

/// A link over Zenoh. It has a thread of its own for what blocks, and its deadlines are Zenoh's,
/// but for that of closing.
pub(crate) struct Zenoh(Link);

impl Zenoh {
    /// Over a link that has been made.
    pub(crate) fn new(link: Link) -> Self {
        Self(link)
    }
}

impl Transport for Zenoh {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _now: Instant,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>> {
        self.0.poll_recv(cx).map_ok(|message| Some(message.into_bytes()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        _now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        self.0.poll_written(cx).map(Ok)
    }

    fn wants_frame(&self) -> bool {
        self.0.wants_frame()
    }

    fn push(&mut self, frame: Frame) {
        self.0.push(frame);
    }

    fn close(&mut self, now: Instant, code: u16, reason: &str) {
        self.0.close(now, code, reason);
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.0.handle_timeout(now)
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(()) // the drop of the link takes back what it has declared
    }

    fn poll_drain(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
