//! What carries frames: a WebSocket of our own, or one that the user brings.

#[cfg(feature = "async-tungstenite")]
mod heartbeat;
#[cfg(feature = "async-tungstenite")]
mod tungstenite;
mod websocket;

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use chiral_proto::ConnectionError;
use chiral_proto::wire::Frame;

#[cfg(feature = "async-tungstenite")]
pub(crate) use tungstenite::Tungstenite;
pub(crate) use websocket::WebSocket;

/// Carries frames in both directions at once, in small steps, so that neither direction waits for
/// the other. Every `poll_*` call does a bounded piece of work.
pub trait Transport: Send + 'static {
    /// Reads on. `Ready(Ok(None))`: some bytes came, but no whole message yet.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Bytes>, ConnectionError>>;

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
