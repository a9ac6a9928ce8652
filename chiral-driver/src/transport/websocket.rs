use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use chiral_proto::ws::{CloseCode, Session};
use futures_io::{AsyncRead, AsyncWrite};

use super::hang_up::HangUp;
use super::{Message, Transport};

/// The core's WebSocket session over a byte stream.
pub(crate) struct WebSocket<S> {
    stream: S,
    session: Session,
    hang_up: HangUp,
    /// Whether the stream may still hold something that was written.
    is_unflushed: bool,
}

/// Bytes of one read and of one write: large enough that both sides do not wake each other up all
/// the time, small enough that the other direction gets its turn within a fraction of a
/// millisecond.
const READ_STEP: usize = 256 << 10;
const WRITE_STEP: usize = 1 << 20;
/// Slices of one gather write: enough for 16 cameras with depth.
const SLICES: usize = 36;

impl<S> WebSocket<S> {
    /// A session that follows a handshake on the stream.
    pub(crate) fn new(stream: S, session: Session) -> Self {
        Self { stream, session, hang_up: HangUp::default(), is_unflushed: false }
    }

    fn poll_message(&mut self, now: Instant) -> Result<Option<Message>, ConnectionError> {
        Ok(self.session.poll(now).transpose()?.map(Message::Whole))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for WebSocket<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        if let Some(message) = self.poll_message(now)? {
            return Poll::Ready(Ok(Some(message)));
        }
        let room = self.session.reader.read_buf();
        let room_len = room.len().min(READ_STEP);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut room[..room_len]);
        let count = match ready!(read) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Poll::Ready(Ok(None));
            }
            Err(error) => return Poll::Ready(Err(ConnectionError::from_io(&error))),
        };
        self.session.reader.bytes_read(count);
        Poll::Ready(self.poll_message(now))
    }

    fn wants_frame(&self) -> bool {
        self.session.writer.wants_message() && !self.is_unflushed
    }

    fn send(&mut self, frame: Frame) {
        let refused = self.session.writer.push(frame);
        debug_assert!(refused.is_ok(), "a frame was sent that was not wanted");
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        if !self.session.writer.wants_write() {
            if self.is_unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))
                    .map_err(|error| ConnectionError::from_io(&error))?;
                self.is_unflushed = false;
                return Poll::Ready(Ok(true));
            }
            return Poll::Ready(Ok(false));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.session.writer.transmit_up_to(WRITE_STEP, &mut slices);
        match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])) {
            Ok(0) => Poll::Ready(Err(ConnectionError::Lost("the socket takes no more".to_owned()))),
            Ok(count) => {
                self.session.writer.bytes_written(now, count);
                self.is_unflushed = !self.session.writer.wants_write()
                    && !matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Ready(Ok(())));
                Poll::Ready(Ok(true))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Poll::Ready(Ok(true)),
            Err(error) => Poll::Ready(Err(ConnectionError::from_io(&error))),
        }
    }

    fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.session.writer.close(now, code, reason);
    }

    fn is_closed(&self) -> bool {
        self.session.writer.is_finished()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.session.writer.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.session.writer.handle_timeout(now).map_err(ConnectionError::from)
    }

    fn probe(&mut self, now: Instant, within: Duration) {
        self.session.writer.probe(now, within);
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.hang_up.poll(&mut self.stream, cx)
    }
}
