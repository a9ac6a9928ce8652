use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};

/// What the driver needs of an async runtime: tasks, timers and TCP.
///
/// An adapter implements it for a type without values and gives the driver's handles its own
/// names; see the adapters' sources, about a hundred lines each.
pub trait Runtime: Send + Sync + 'static {
    /// A timer.
    type Sleep: Future<Output = ()> + Send;
    /// A TCP connection, with gather writes that really gather and with `TCP_NODELAY` set.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening TCP socket.
    type Listener: Send + Sync;

    /// Runs a task in the background, to its end.
    fn spawn(task: impl Future<Output = ()> + Send + 'static);

    /// A timer that goes off at an instant, or at once when that has passed.
    fn sleep_until(at: Instant) -> Self::Sleep;

    /// Connects to a host, by name or address.
    fn connect(host: &str, port: u16) -> impl Future<Output = io::Result<Self::Stream>> + Send;

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
