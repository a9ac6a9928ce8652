use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use chiral_proto::ConnectionError;
use chiral_proto::ws::{Session, Writer};
use futures_io::{AsyncRead, AsyncWrite};

use super::{Message, Wire};

/// The core's WebSocket session over a byte stream.
pub(crate) struct WebSocket<S> {
    stream: S,
    session: Session,
}

/// Bytes of one read or write: large enough that system calls do not matter, small enough that the
/// other direction gets its turn within a fraction of a millisecond.
const STEP: usize = 256 << 10;
/// Slices of one gather write: enough for 16 cameras with depth.
const SLICES: usize = 36;

impl<S> WebSocket<S> {
    /// A session that follows a handshake on the stream.
    pub(crate) fn new(stream: S, session: Session) -> Self {
        Self { stream, session }
    }

    fn poll_message(&mut self, now: Instant) -> Result<Option<Message>, ConnectionError> {
        Ok(self.session.poll(now).transpose()?.map(Message::Whole))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for WebSocket<S> {
    fn writer(&self) -> &Writer {
        &self.session.writer
    }

    fn writer_mut(&mut self) -> &mut Writer {
        &mut self.session.writer
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        if let Some(message) = self.poll_message(now)? {
            return Poll::Ready(Ok(Some(message)));
        }
        let room = self.session.reader.read_buf();
        let room_len = room.len().min(STEP);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut room[..room_len]);
        let count = match ready!(read) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Poll::Ready(Ok(None));
            }
            Err(error) => return Poll::Ready(Err(lost(&error))),
        };
        self.session.reader.bytes_read(count);
        Poll::Ready(self.poll_message(now))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        if !self.session.writer.wants_write() {
            return Poll::Ready(Ok(false));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.session.writer.transmit_up_to(STEP, &mut slices);
        match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])) {
            Ok(0) => Poll::Ready(Err(ConnectionError::Lost("the socket takes no more".to_owned()))),
            Ok(count) => {
                self.session.writer.bytes_written(now, count);
                Poll::Ready(Ok(true))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Poll::Ready(Ok(true)),
            Err(error) => Poll::Ready(Err(lost(&error))),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.stream).poll_close(cx).map(drop)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4096];
        // Bounded, so that a peer that goes on sending does not keep the task busy; it is woken
        // again by what is still unread.
        for _ in 0..64 {
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut waste)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn lost(error: &io::Error) -> ConnectionError {
    ConnectionError::Lost(error.to_string())
}
