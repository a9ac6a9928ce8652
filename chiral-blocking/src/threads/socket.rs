//! Sockets that block their thread, but not for long: whoever waits for one in a future looks up
//! often enough to notice a deadline, or that it is not wanted any more.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};

/// How long a call of the system's may block before the thread looks up.
const GLANCE: Duration = Duration::from_millis(20);

/// A TCP connection; for handshakes, where nobody else needs the thread.
#[derive(Debug)]
pub(crate) struct Stream(TcpStream);

impl Stream {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(GLANCE))?;
        Ok(Self(stream))
    }

    /// Connects to the first of a host's addresses that answers.
    pub(super) fn connect(host: &str, port: u16, until: Instant) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs()? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => return Self::new(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The bare socket.
    pub(super) fn into_inner(self) -> TcpStream {
        self.0
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        look_up(cx, self.0.read(buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        look_up(cx, self.0.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        look_up(cx, self.0.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}

/// A call that took too long is to be made again, once the thread has looked up.
fn look_up<T>(cx: &mut Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if is_timeout(&error) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}

/// Whether a call failed only because the time for which it may block is over.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    // On Unix "timed out" is said of a connection that is lost.
    error.kind() == io::ErrorKind::WouldBlock
        || (cfg!(windows) && error.kind() == io::ErrorKind::TimedOut)
}

/// Writes as much as a socket takes without making the thread wait.
#[cfg(unix)]
pub(super) fn write_at_once(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    let mut nothing_else = SendAncillaryBuffer::default();
    Ok(sendmsg(socket, slices, &mut nothing_else, SendFlags::DONTWAIT)?)
}

/// There is no such call here.
#[cfg(not(unix))]
pub(super) fn write_at_once(_: &TcpStream, _: &[IoSlice<'_>]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(super) fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // Between the look and the call the connection may have gone.
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = poll_fn(|cx| {
            self.wait_for_connection()?;
            look_up(cx, self.0.accept())
        })
        .await?;
        Ok((Stream::new(stream)?, peer))
    }

    /// Waits until there is a connection, but not for long.
    #[cfg(unix)]
    fn wait_for_connection(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let glance = Timespec { tv_sec: 0, tv_nsec: i64::from(GLANCE.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&glance)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn wait_for_connection(&self) -> io::Result<()> {
        std::thread::sleep(GLANCE / 4);
        Ok(())
    }
}
