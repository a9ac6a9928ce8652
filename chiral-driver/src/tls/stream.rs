use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use super::{Pending, Received, TlsSession};

/// Reads of one call that give no plaintext: then other tasks have their turn.
const ROUNDS: usize = 16;

/// A TLS connection over a byte stream.
pub(crate) struct Secure<S> {
    stream: S,
    session: TlsSession,
    received: Received,
    pending: Pending,
    is_closing: bool,
}

impl<S> Secure<S> {
    pub(crate) fn new(stream: S, session: TlsSession) -> Self {
        let (received, pending) = (Received::default(), Pending::default());
        Self { stream, session, received, pending, is_closing: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secure<S> {
    /// Sends what is pending.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.transmit().is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.pending.transmit())) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.pending.bytes_written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secure<S> {
    /// After a failure, which is told once, it gives zeros for what still comes: whoever waits for
    /// the peer to hang up counts them.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        for _ in 0..ROUNDS {
            if this.session.has_failed() {
                let count = ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                buf[..count].fill(0);
                return Poll::Ready(Ok(count));
            }
            let read = this.session.read(&mut this.received, buf);
            this.session.take_messages(&mut this.pending);
            // A stream that takes nothing more may still have something to read.
            let _ = this.poll_send(cx);
            if let Some(count) = read? {
                return Poll::Ready(Ok(count));
            }
            let room = this.received.read_buf();
            let count = ready!(Pin::new(&mut this.stream).poll_read(cx, room))?;
            this.received.bytes_read(count);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secure<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Takes nothing while something is pending, and may leave a part of what it took pending:
    /// [`poll_flush`](AsyncWrite::poll_flush) sends that.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_send(cx))?;
        let count = this.session.write(bufs, &mut this.pending)?;
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_closing {
            this.is_closing = true;
            this.session.close(&mut this.pending);
        }
        // A stream that takes nothing more is closed all the same.
        let _ = ready!(this.poll_send(cx));
        Pin::new(&mut this.stream).poll_close(cx)
    }
}
