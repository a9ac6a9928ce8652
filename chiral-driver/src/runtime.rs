use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use chiral_proto::ws::Session;
use futures_io::{AsyncRead, AsyncWrite};

use crate::drive::drive;
use crate::line::Line;
use crate::transport::WebSocket;

/// What the driver needs of a runtime: tasks, timers and TCP.
///
/// An adapter implements it for a type without values and gives the driver's handles its own
/// names; see the adapters' sources, about a hundred lines each.
pub trait Runtime: Send + Sync + 'static {
    /// A timer.
    type Sleep: Future<Output = ()> + Send;
    /// A TCP connection, with gather writes that really gather and with `TCP_NODELAY` set.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening TCP socket.
    type Listener: Send + Sync + 'static;

    /// Runs a task in the background, to its end. Its name is for a runtime that shows one.
    fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a task of a robot's code, to its end. That code may block its thread, and must then
    /// delay no other task: it gets a thread of its own, in the context of the runtime.
    ///
    /// # Errors
    /// When the system has no thread to give; the task is then dropped.
    fn spawn_apart(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()>;

    /// A timer that goes off at an instant, or at once when that has passed.
    fn sleep_until(at: Instant) -> Self::Sleep;

    /// Connects to a host, by name or address. The future is dropped at `until`; a runtime on
    /// which it blocks its thread has it fail by then.
    fn connect(
        host: &str,
        port: u16,
        until: Instant,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Listens on an address, `host:port`; port 0 lets the system choose.
    fn bind(address: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// The next connection.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where a listener listens.
    ///
    /// # Errors
    /// When the system cannot say.
    fn local_addr(listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// Drives a WebSocket, whose handshake is done, to its end in the background. A runtime has
    /// one task do it, unless it knows better.
    fn carry(line: Line, stream: Self::Stream, session: Session)
    where
        Self: Sized,
    {
        Self::spawn("chiral-line", drive::<Self>(line.into(), WebSocket::new(stream, session)));
    }
}

/// Waits for a future until an instant.
pub(crate) async fn by<R: Runtime, T>(
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    let late = async {
        R::sleep_until(deadline).await;
        None
    };
    futures_lite::future::or(async { Some(future.await) }, late).await
}
