use std::io::{self, IoSlice};
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use chiral_driver::address::StreamAddress;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::{TcpListener, TcpStream};
#[cfg(unix)]
use {
    chiral_driver::UnixListening,
    smol::Async,
    smol::net::unix::{UnixListener, UnixStream},
    std::io::Write as _,
    std::sync::Arc,
    std::task::ready,
    std::time::Duration,
};

/// A socket of smol's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Stream {
    /// Over TCP, without Nagle's delay: an action is small and must not wait for company.
    Tcp(TcpStream),
    /// The same of a policy, for which the system keeps no bytes that it cannot send.
    #[cfg(unix)]
    PolicyTcp(PolicyTcp),
    /// On one host.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A policy's socket.
#[cfg(unix)]
#[derive(Debug, Clone)]
pub struct PolicyTcp(Arc<Async<std::net::TcpStream>>);

#[cfg(unix)]
impl PolicyTcp {
    /// Whether Nagle's delay is off.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.get_ref().nodelay()
    }
}

impl Stream {
    pub(crate) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        #[cfg(unix)]
        if chiral_driver::limit_unsent(&stream).is_ok() {
            stream.set_nodelay(true)?;
            return Ok(Self::PolicyTcp(PolicyTcp(stream.into())));
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
        with!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        with!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, socket => Pin::new(socket).poll_close(cx))
    }
}

#[cfg(unix)]
impl AsyncRead for PolicyTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.0).poll_read(cx, buf)
    }
}

/// Writes when the system has sent what was written before.
#[cfg(unix)]
impl AsyncWrite for PolicyTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if chiral_driver::wait_until_writable(&*self.0, Duration::ZERO)? {
                match self.0.get_ref().write_vectored(bufs) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
            }
            ready!(self.0.poll_writable(cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

/// A listening socket of smol's.
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
                Ok(Self::Unix(Async::new(listener)?.into(), listening))
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
