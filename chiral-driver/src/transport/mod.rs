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

use crate::client::WaitForServer;
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
///
/// # How a connection begins and ends
///
/// On the robot's side a transport is first touched when its policy is admitted, or refused. One
/// that is refused is closed, with [`CloseCode::TRY_AGAIN_LATER`], before anything else is called.
/// So a transport whose policies are to know that they are admitted before they are connected tells
/// them so in its first `poll_write`, unless it was closed before.
///
/// A peer that closes the connection is told of by `poll_receive` with
/// [`ConnectionError::ClosedByPeer`], behind all that the peer had sent, and a connection that
/// breaks with an error for which [`is_lost`](ConnectionError::is_lost) is true. A peer that breaks
/// the transport's own rules, such as one that announces a frame over
/// [`Limits::frame_len`], is to be told by the transport; the error is then
/// [`ConnectionError::TransportViolation`]. In all other cases the driver calls `close`.
///
/// # Example
///
/// A channel within the process. [`PolicyServer::serve_transport`](crate::PolicyServer::serve_transport)
/// takes the robot's end of it and [`Builder::over_transport`](crate::Builder::over_transport) the
/// policy's.
///
/// ```
/// use std::future::poll_fn;
/// use std::pin::Pin;
/// use std::task::{Context, Poll, ready};
/// use std::time::Instant;
///
/// use chiral_driver::proto::ConnectionError;
/// use chiral_driver::proto::wire::{ClientMessage, Frame};
/// use chiral_driver::proto::ws::CloseCode;
/// use chiral_driver::{Message, Transport};
/// use futures_channel::mpsc::{Receiver, Sender, channel};
/// use futures_lite::Stream;
/// use futures_lite::future::block_on;
///
/// enum Item {
///     Frame(Frame),
///     Close(CloseCode, String),
/// }
///
/// struct Channel {
///     to_peer: Sender<Item>,
///     from_peer: Receiver<Item>,
///     has_room: bool,
///     is_closed: bool,
/// }
///
/// impl Transport for Channel {
///     fn poll_receive(
///         &mut self,
///         cx: &mut Context<'_>,
///         _now: Instant,
///     ) -> Poll<Result<Option<Message>, ConnectionError>> {
///         let item = ready!(Pin::new(&mut self.from_peer).poll_next(cx));
///         if let Some(Item::Frame(frame)) = item {
///             let segments = frame.segments().cloned().collect();
///             return Poll::Ready(Ok(Some(Message::Segments(segments))));
///         }
///         self.is_closed = true;
///         Poll::Ready(Err(match item {
///             Some(Item::Close(code, reason)) => {
///                 ConnectionError::ClosedByPeer { code: Some(code.0), reason }
///             }
///             _ => ConnectionError::EndOfStream { inside_message: false },
///         }))
///     }
///
///     fn wants_frame(&self) -> bool {
///         self.has_room && !self.is_closed
///     }
///
///     fn send(&mut self, frame: Frame) {
///         self.has_room = false;
///         // A peer that is gone is noticed by the next `poll_write`.
///         let _ = self.to_peer.try_send(Item::Frame(frame));
///     }
///
///     fn poll_write(
///         &mut self,
///         cx: &mut Context<'_>,
///         _now: Instant,
///     ) -> Poll<Result<bool, ConnectionError>> {
///         if self.has_room || self.is_closed {
///             return Poll::Ready(Ok(false));
///         }
///         let ready = ready!(self.to_peer.poll_ready(cx));
///         self.has_room = ready.is_ok();
///         self.is_closed = ready.is_err();
///         Poll::Ready(ready.map(|()| true).map_err(|_| ConnectionError::Reset))
///     }
///
///     fn close(&mut self, _now: Instant, code: CloseCode, reason: &str) {
///         // A sender of its own has room for one item, whatever waits before it.
///         let _ = self.to_peer.clone().try_send(Item::Close(code, reason.to_owned()));
///         self.is_closed = true;
///     }
///
///     fn is_closed(&self) -> bool {
///         self.is_closed
///     }
/// }
///
/// fn pair() -> (Channel, Channel) {
///     let ((to_robot, from_policy), (to_policy, from_robot)) = (channel(0), channel(0));
///     let end = |to_peer, from_peer| {
///         Channel { to_peer, from_peer, has_room: false, is_closed: false }
///     };
///     (end(to_robot, from_robot), end(to_policy, from_policy))
/// }
///
/// // What the driver does with the two ends:
/// let (mut policy, mut robot) = pair();
/// block_on(poll_fn(|cx| policy.poll_write(cx, Instant::now())))?;
/// assert!(policy.wants_frame());
/// policy.send(ClientMessage::Metadata.encode());
/// policy.close(Instant::now(), CloseCode::NORMAL, "done");
///
/// let mut receive = || block_on(poll_fn(|cx| robot.poll_receive(cx, Instant::now())));
/// assert!(matches!(receive()?, Some(Message::Segments(_))));
/// let end = ConnectionError::ClosedByPeer { code: Some(1000), reason: "done".to_owned() };
/// assert_eq!(receive().unwrap_err(), end);
/// # Ok::<(), ConnectionError>(())
/// ```
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

    /// Whether the peer knows of the end, or cannot be told: so, too, when it was the peer that has
    /// closed the connection, or when either direction has failed. Otherwise the driver waits some
    /// seconds for it.
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
    /// Connects to a robot, and waits for one that is not there yet or has another policy. `limits`
    /// bound what may be received; `wait` says when to try again and when to give up, and tells the
    /// user what is waited for.
    fn connect(
        &self,
        limits: &Limits,
        wait: WaitForServer,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>>;

    /// The URI of the robot, to tell the user what is waited for.
    fn uri(&self) -> String;

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

    /// Tells the network what the robot is: its metadata as a policy is told it, with the robot's
    /// [contract](chiral_proto::ActionSpec). Default: nothing.
    fn set_metadata(&self, metadata: Map) {
        drop(metadata);
    }

    /// The newest policy takes the robot over from the one before it: a policy that comes is to be
    /// accepted although another one is connected. Called before the first one is accepted.
    /// Default: nothing, for a transport that accepts all and leaves it to the server whom it admits.
    fn let_take_over(&self) {}

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

impl<C: Connector + ?Sized> Connector for Box<C> {
    fn connect(
        &self,
        limits: &Limits,
        wait: WaitForServer,
    ) -> BoxFuture<'_, Result<Box<dyn Transport>, ConnectError>> {
        (**self).connect(limits, wait)
    }

    fn uri(&self) -> String {
        (**self).uri()
    }

    fn lossy(&self) -> Option<Lossy> {
        (**self).lossy()
    }
}

impl<T: Acceptor + ?Sized> Acceptor for Box<T> {
    fn accept(&self) -> BoxFuture<'_, io::Result<Incoming>> {
        (**self).accept()
    }

    fn uri(&self) -> String {
        (**self).uri()
    }

    fn wants_metadata(&self) -> bool {
        (**self).wants_metadata()
    }

    fn set_metadata(&self, metadata: Map) {
        (**self).set_metadata(metadata);
    }

    fn let_take_over(&self) {
        (**self).let_take_over();
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        (**self).close()
    }

    fn extension(&self) -> Option<Extension> {
        (**self).extension()
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
