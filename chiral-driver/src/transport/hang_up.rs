use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

/// Bytes that are read after the end, at most: a little more than a socket buffers.
const DRAIN_LIMIT: usize = 8 << 20;

/// Hangs up a stream: a socket that is closed with unread bytes would take back what was written
/// last, so what still comes is read and thrown away.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum HangUp {
    /// The stream is to be shut down for writing.
    #[default]
    Due,
    /// It is, and so many bytes are still read, until the peer hangs up too.
    Reading(usize),
}

impl HangUp {
    /// Ready when the peer has hung up, or goes on sending.
    pub(super) fn poll(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut left = match *self {
            Self::Reading(left) => left,
            Self::Due => {
                // A stream that is gone needs no shutdown.
                let _ = ready!(Pin::new(&mut *stream).poll_close(cx));
                DRAIN_LIMIT
            }
        };
        *self = Self::Reading(left);
        let mut waste = [0; 4096];
        // In bounded rounds, so that a peer that goes on sending does not keep the task busy.
        for _ in 0..64 {
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut waste)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(count) => match left.checked_sub(count) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(()),
                },
            }
            *self = Self::Reading(left);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
