use std::task::{Context, Poll};
use std::time::Instant;

use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use chiral_zenoh::Link;

use super::{Message, Transport};

/// A link over Zenoh. It has threads of its own, and its peer's end comes with the last message:
/// there is nothing to drain.
pub(crate) struct Zenoh(pub(crate) Link);

impl Transport for Zenoh {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        self.0.poll_recv(cx).map_ok(|message| {
            Some(if message.is_shared() {
                Message::Segments(message.into_segments())
            } else {
                Message::Whole(message.into_bytes())
            })
        })
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
        Poll::Ready(())
    }

    fn poll_drain(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
