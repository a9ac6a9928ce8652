use std::future::Future;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chiral_driver::address::StreamAddress;
use futures_io::{AsyncRead, AsyncWrite};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use {
    chiral_driver::UnixListening,
    tokio::net::{UnixListener, UnixStream},
};

/// Tokio's sockets behind the traits that all runtimes share, gather writes included.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Over TCP, without Nagle's delay: an action is small and must not wait for company.
    Tcp(TcpStream),
    /// The same of a policy, for which the system keeps no bytes that it cannot send.
    #[cfg(unix)]
    PolicyTcp(TcpStream),
    /// On one host.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    pub(crate) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        #[cfg(unix)]
        if chiral_driver::limit_unsent(&stream).is_ok() {
            stream.set_nodelay(true)?;
            return Ok(Self::PolicyTcp(stream));
        }
        Self::tcp(stream)
    }

    #[cfg(unix)]
    pub(crate) async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path).await?))
    }

    /// A connection over TCP.
    ///
    /// # Errors
    /// When the system refuses to switch off Nagle's delay.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*SockRef::from(stream)).read(buf),
            #[cfg(unix)]
            Self::PolicyTcp(stream) => (&*SockRef::from(stream)).read(buf),
            #[cfg(unix)]
            Self::Unix(stream) => (&*SockRef::from(stream)).read(buf),
        }
    }
}

/// Calls a method of whichever socket it is.
macro_rules! with {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &mut *$stream {
            Stream::Tcp($socket) => $call,
            #[cfg(unix)]
            Stream::PolicyTcp($socket) => $call,
            #[cfg(unix)]
            Stream::Unix($socket) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        // A peer that goes on sending must not keep this task from giving way to others.
        ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
        // Tokio would not look at the socket before its reactor has had a turn, and while an image
        // is being written that takes milliseconds, in which an action would wait.
        match self.try_read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
        let mut buf = ReadBuf::new(buf);
        with!(self, socket => Pin::new(socket).poll_read(cx, &mut buf))
            .map_ok(|()| buf.filled().len())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        #[cfg(unix)]
        if let Self::PolicyTcp(socket) = &*self {
            return poll_write_when_sent(socket, cx, &[IoSlice::new(buf)]);
        }
        with!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        #[cfg(unix)]
        if let Self::PolicyTcp(socket) = &*self {
            return poll_write_when_sent(socket, cx, bufs);
        }
        with!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}

/// Writes when the system has sent what was written before.
#[cfg(unix)]
fn poll_write_when_sent(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let written = socket.try_io(Interest::WRITABLE, || {
            if chiral_driver::wait_until_writable(socket, Duration::ZERO)? {
                (&*SockRef::from(socket)).write_vectored(bufs)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

/// A listening socket of tokio's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a path.
    #[cfg(unix)]
    Unix(UnixListener, UnixListening),
}

impl Listener {
    pub(crate) async fn bind(address: &StreamAddress) -> io::Result<Self> {
        match address {
            StreamAddress::Tcp { host, port } => {
                Ok(Self::Tcp(TcpListener::bind((&**host, *port)).await?))
            }
            #[cfg(unix)]
            StreamAddress::Unix(path) => {
                let (listener, listening) = UnixListening::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, listening))
            }
            _ => Err(unsupported(address)),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::tcp(stream)?, peer.to_string()))
            }
            #[cfg(unix)]
            Self::Unix(listener, listening) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), listening.peer()))
            }
        }
    }

    pub(crate) fn local_address(&self) -> io::Result<StreamAddress> {
        match self {
            Self::Tcp(listener) => {
                let address: SocketAddr = listener.local_addr()?;
                Ok(address.into())
            }
            #[cfg(unix)]
            Self::Unix(_, listening) => Ok(listening.address()),
        }
    }
}

fn unsupported(address: &StreamAddress) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not supported here"))
}
