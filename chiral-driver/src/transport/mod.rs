//! The plug for what carries whole frames: [`Transport`], and how connections over one are made
//! ([`Connector`]) and accepted ([`Acceptor`]).

mod hang_up;
#[cfg(feature = "async-tungstenite")]
mod tungstenite;
mod websocket;

use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::Lossy;
use chiral_proto::wire::{Frame, Limits};
use chiral_proto::ws::CloseCode;
use chiral_proto::{ConnectionError, Map};

#[cfg(feature = "async-tungstenite")]
pub(crate) use tungstenite::Tungstenite;
pub(crate) use websocket::WebSocket;

use crate::error::ConnectError;

/// A future on the heap, as object-safe traits return them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One whole message, as a transport has received it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Message {
    /// In one buffer.
    Whole(Bytes),
    /// In the pieces in which it lies in shared memory.
    Segments(Vec<Bytes>),
}

/// Carries whole frames in both directions at once.
///
/// Every `poll_*` call does a bounded piece of work, so that neither direction waits for the other;
/// a call that returns `Pending` has registered the waker for its direction, as with any future.
/// The driver calls them from one task or thread.
///
/// [`poll_receive`](Self::poll_receive), [`wants_frame`](Self::wants_frame),
/// [`send`](Self::send), [`poll_write`](Self::poll_write), [`close`](Self::close) and
/// [`is_closed`](Self::is_closed) are all that a transport must have.
pub trait Transport: Send + 'static {
    /// Reads on. `Ready(Ok(None))`: something came, but no whole message yet.
    ///
    /// After an error it is not called again. The error of an orderly end is
    /// [`ConnectionError::ClosedByPeer`].
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>>;

    /// Whether [`send`](Self::send) may be called. Better no than a queue: an observation is taken
    /// and an action stamped when the transport takes the frame.
    fn wants_frame(&self) -> bool;

    /// Takes a frame to write. Called only when [`wants_frame`](Self::wants_frame) is true.
    fn send(&mut self, frame: Frame);

    /// Writes on. `Ready(Ok(true))`: something went; `Ready(Ok(false))`: there is nothing to
    /// write.
    ///
    /// After an error it is not called again.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>>;

    /// Ends the connection with a code and a reason for the peer, behind what is being written.
    /// Both directions are polled on until [`is_closed`](Self::is_closed).
    fn close(&mut self, now: Instant, code: CloseCode, reason: &str);

    /// Whether the peer knows of the end, or cannot be told.
    fn is_closed(&self) -> bool;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called. Default: never.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due: keepalive, and the time limit of closing. Default: nothing.
    ///
    /// # Errors
    /// When the peer is gone.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let _ = now;
        Ok(())
    }

    /// Asks the peer for a sign of life; without one within this time
    /// [`handle_timeout`](Self::handle_timeout) fails. Default: nothing, for a transport that
    /// notices by itself.
    fn probe(&mut self, now: Instant, within: Duration) {
        let _ = (now, within);
    }

    /// After the end: hangs up, and waits until the peer has done so too, if closing earlier would
    /// take back what was written last. Given up after a second. Default: ready at once.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// What this transport has beyond its frames, such as statistics:
    /// `PolicyClient::transport_extension` and `PolicyServer::transport_extension` give it to the
    /// user. Default: nothing.
    fn extension(&self) -> Option<Extension> {
        None
    }
}

/// What a transport gives to the user beyond its frames; a type of its own.
pub type Extension = Arc<dyn Any + Send + Sync>;

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        (**self).poll_receive(cx, now)
    }

    fn wants_frame(&self) -> bool {
        (**self).wants_frame()
    }

    fn send(&mut self, frame: Frame) {
        (**self).send(frame);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        (**self).poll_write(cx, now)
    }

    fn close(&mut self, now: Instant, code: CloseCode, reason: &str) {
        (**self).close(now, code, reason);
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        (**self).handle_timeout(now)
    }

    fn probe(&mut self, now: Instant, within: Duration) {
        (**self).probe(now, within);
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_finish(cx)
    }

    fn extension(&self) -> Option<Extension> {
        (**self).extension()
    }
}

/// Makes connections over a transport, for a policy.
pub trait Connector: Send + Sync + 'static {
    /// Waits for a robot, for `timeout` at the most, and connects to it. `limits` bound what may
    /// be received.
    fn connect(
        &self,
        limits: &Limits,
        timeout: Option<Duration>,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>>;

    /// How the client is to behave where messages may be lost. Default: none are.
    fn lossy(&self) -> Option<Lossy> {
        None
    }
}

/// Accepts connections over a transport, for a robot.
pub trait Acceptor: Send + Sync + 'static {
    /// The next policy that wants to be connected. The future may be dropped at any time; nobody
    /// who has come by then is lost.
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>>;

    /// The URI with which a policy on the same host connects.
    fn uri(&self) -> String;

    /// Whether the network is told what the robot is before a policy asks: then
    /// [`set_metadata`](Self::set_metadata) is called when it is first served. Default: no.
    fn wants_metadata(&self) -> bool {
        false
    }

    /// Tells the network what the robot is. Default: nothing.
    fn set_metadata(&self, metadata: Map) {
        drop(metadata);
    }

    /// Takes back what was declared to the network. Default: nothing.
    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// What this transport has beyond its connections, for the user:
    /// `PolicyServer::acceptor_extension` gives it. Default: nothing.
    fn extension(&self) -> Option<Extension> {
        None
    }
}

/// A connection that has come in.
pub struct Incoming {
    /// What carries its frames.
    pub transport: Box<dyn Transport>,
    /// Who it is, for the log.
    pub peer: String,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}
