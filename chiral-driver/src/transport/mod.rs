//! What carries frames: a WebSocket of our own, one that the user brings, or Zenoh.

#[cfg(feature = "async-tungstenite")]
mod heartbeat;
#[cfg(feature = "async-tungstenite")]
mod tungstenite;
mod websocket;
#[cfg(feature = "zenoh")]
mod zenoh;

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;
use chiral_proto::ws::{CloseCode, Writer};

#[cfg(feature = "async-tungstenite")]
pub(crate) use tungstenite::Tungstenite;
pub(crate) use websocket::WebSocket;
#[cfg(feature = "zenoh")]
pub(crate) use zenoh::Zenoh;

/// One whole message, as a transport has received it.
#[derive(Debug, Clone)]
pub enum Message {
    /// In one buffer.
    Whole(Bytes),
    /// In the pieces in which it lies in shared memory.
    Segments(Vec<Bytes>),
}

/// Carries frames in both directions at once, in small steps, so that neither direction waits for
/// the other. Every `poll_*` call does a bounded piece of work.
pub trait Transport: Send + 'static {
    /// Reads on. `Ready(Ok(None))`: some bytes came, but no whole message yet.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>>;

    /// Writes on. `Ready(Ok(true))`: some bytes went; `Ready(Ok(false))`: there is nothing to
    /// write.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>>;

    /// Whether [`push`](Self::push) may be called.
    fn wants_frame(&self) -> bool;

    /// Takes a frame to write.
    fn push(&mut self, frame: Frame);

    /// Ends the connection with a code and a reason for the peer, behind what is being written.
    fn close(&mut self, now: Instant, code: u16, reason: &str);

    /// Whether the closing handshake is done, or given up.
    fn is_finished(&self) -> bool;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what is due: keepalive, and the time limit of closing.
    ///
    /// # Errors
    /// When the peer is gone.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError>;

    /// After the end: tells the peer's socket that nothing more comes.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// After the end: reads and throws away, until the peer has hung up too. A socket closed with
    /// unread bytes would take back what was written last.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// How the bytes of a WebSocket session go and come; the rest of a [`Transport`] is its
/// [`Writer`]'s.
pub trait Wire: Send + 'static {
    /// The session's writing half.
    fn writer(&self) -> &Writer;

    /// The session's writing half.
    fn writer_mut(&mut self) -> &mut Writer;

    /// See [`Transport::poll_read`].
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>>;

    /// See [`Transport::poll_write`].
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>>;

    /// See [`Transport::poll_shutdown`].
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// See [`Transport::poll_drain`].
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<W: Wire> Transport for W {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        Wire::poll_read(self, cx, now)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        Wire::poll_write(self, cx, now)
    }

    fn wants_frame(&self) -> bool {
        self.writer().wants_message()
    }

    fn push(&mut self, frame: Frame) {
        let refused = self.writer_mut().push(frame);
        debug_assert!(refused.is_ok(), "a frame was pushed that was not wanted");
    }

    fn close(&mut self, now: Instant, code: u16, reason: &str) {
        self.writer_mut().close(now, CloseCode(code), reason);
    }

    fn is_finished(&self) -> bool {
        self.writer().is_finished()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.writer().poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.writer_mut().handle_timeout(now).map_err(ConnectionError::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Wire::poll_shutdown(self, cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Wire::poll_drain(self, cx)
    }
}
