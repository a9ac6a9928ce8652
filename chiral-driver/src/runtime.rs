use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};

use crate::address::StreamAddress;
use crate::error::ConnectError;
use crate::transport::{Acceptor, Connector};
use chiral_proto::wire::Limits;

/// What the driver needs of an async runtime: tasks, timers and sockets.
///
/// An adapter implements it for a type without values and gives the driver's handles its own
/// names; see the sources of chiral-tokio and chiral-smol, about a hundred lines each.
pub trait Runtime: Send + Sync + 'static {
    /// A timer.
    type Timer: AsyncTimer;
    /// A connected socket, with gather writes that really gather and with `TCP_NODELAY` set where
    /// it is TCP.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening socket.
    type Listener: Send + Sync + 'static;

    /// Runs a task in the background, to its end. Its name is for a runtime that shows one.
    fn spawn(name: &'static str, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a task of a robot's code, to its end. That code may block its thread, and must then
    /// delay no other task: it gets a thread of its own, in the context of the runtime.
    ///
    /// # Errors
    /// When the system has no thread to give; the task is then dropped.
    fn spawn_thread(
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()>;

    /// A timer that goes off at an instant, or at once when that has passed.
    fn timer(at: Instant) -> Self::Timer;

    /// Looks up the addresses of a host, in the order in which the system prefers them. The future
    /// is dropped when that takes too long.
    fn look_up(host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects a TCP socket. The future is dropped when that takes too long.
    fn connect_tcp(
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// Connects a Unix socket. The future is dropped when that takes too long. Default: there are
    /// none on this system.
    fn connect_unix(path: &Path) -> impl Future<Output = io::Result<Self::Stream>> + Send {
        let why = format!("unix:{} is not supported here", path.display());
        async { Err(io::Error::new(io::ErrorKind::Unsupported, why)) }
    }

    /// Listens on an address; TCP port 0 lets the system choose.
    fn listen(address: &StreamAddress) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// The next connection, and who it is.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, String)>> + Send;

    /// Where a listener listens.
    ///
    /// # Errors
    /// When the system cannot say.
    fn local_address(listener: &Self::Listener) -> io::Result<StreamAddress>;

    /// A connector for a URI that names neither a WebSocket nor a Unix socket, if this adapter was
    /// built with one.
    fn connector(uri: &str) -> Option<Result<Box<dyn Connector>, ConnectError>> {
        let _ = uri;
        None
    }

    /// As [`connector`](Self::connector), for a server.
    fn acceptor(
        uri: &str,
        limits: &Limits,
    ) -> impl Future<Output = Option<io::Result<Box<dyn Acceptor>>>> + Send {
        let _ = (uri, limits);
        async { None }
    }
}

/// A timer that can be set again.
pub trait AsyncTimer: Future<Output = ()> + Send + Unpin {
    /// Has the timer go off at another instant, whether or not it has gone off before.
    fn reset(&mut self, at: Instant);
}

/// Waits for a future until an instant; `None` when it takes longer.
pub(crate) async fn until<R: Runtime, T>(
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    let late = async {
        R::timer(deadline).await;
        None
    };
    futures_lite::future::or(async { Some(future.await) }, late).await
}
