//! A byte stream whose other end is the fuzz target.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use arbitrary::Arbitrary;
use futures_io::{AsyncRead, AsyncWrite};

use super::progress;

/// How one direction of a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub enum End {
    /// Reads find the end of the stream; writes take nothing.
    Eof,
    Reset,
    BrokenPipe,
    Aborted,
    TimedOut,
    UnexpectedEof,
    Other,
}

impl End {
    fn result(self) -> io::Result<usize> {
        Err(match self {
            Self::Eof => return Ok(0),
            Self::Reset => io::ErrorKind::ConnectionReset,
            Self::BrokenPipe => io::ErrorKind::BrokenPipe,
            Self::Aborted => io::ErrorKind::ConnectionAborted,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::UnexpectedEof => io::ErrorKind::UnexpectedEof,
            Self::Other => io::ErrorKind::Other,
        }
        .into())
    }
}

/// One direction.
struct Direction {
    /// How many bytes are moved at once.
    step: usize,
    /// The next call moves nothing, and has the task woken at once.
    wakes_early: bool,
    end: Option<End>,
    /// The end was told.
    ended: bool,
    waker: Option<Waker>,
}

impl Direction {
    fn new() -> Self {
        Self { step: usize::MAX, wakes_early: false, end: None, ended: false, waker: None }
    }

    fn wakes_early(&mut self, cx: &Context<'_>) -> bool {
        let wakes_early = std::mem::take(&mut self.wakes_early);
        if wakes_early {
            cx.waker().wake_by_ref();
        }
        wakes_early
    }

    /// Where there is nothing to move.
    fn wait_or_end(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Some(end) = self.end else {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if !std::mem::replace(&mut self.ended, true) {
            progress::made();
        }
        Poll::Ready(end.result())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct Pipe {
    reads: Direction,
    writes: Direction,
    /// Sent by the peer, not yet read.
    inbound: Vec<u8>,
    read: usize,
    /// What the driver wrote.
    outbound: Vec<u8>,
    /// How much more the driver may write.
    room: usize,
    /// The driver has shut it down for writing.
    is_closed: bool,
    is_dropped: bool,
}

/// The driver's end.
pub struct Stream(Arc<Mutex<Pipe>>);

/// The target's end.
#[derive(Clone)]
pub struct Remote(Arc<Mutex<Pipe>>);

/// A stream without limits on what can be written.
pub fn stream() -> (Stream, Remote) {
    let pipe = Arc::new(Mutex::new(Pipe {
        reads: Direction::new(),
        writes: Direction::new(),
        inbound: Vec::new(),
        read: 0,
        outbound: Vec::new(),
        room: usize::MAX,
        is_closed: false,
        is_dropped: false,
    }));
    (Stream(Arc::clone(&pipe)), Remote(pipe))
}

impl Remote {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().expect("no panic is survived")
    }

    /// Sends bytes, unless the direction has ended.
    pub fn send(&self, bytes: &[u8]) {
        let mut pipe = self.pipe();
        if pipe.reads.end.is_none() {
            pipe.inbound.extend_from_slice(bytes);
            pipe.reads.wake();
        }
    }

    /// Ends what the driver reads, behind what was sent.
    pub fn end_reads(&self, end: End) {
        let mut pipe = self.pipe();
        pipe.reads.end.get_or_insert(end);
        pipe.reads.wake();
    }

    /// Has the driver's next write fail.
    pub fn end_writes(&self, end: End) {
        let mut pipe = self.pipe();
        pipe.writes.end.get_or_insert(end);
        pipe.room = 0;
        pipe.writes.wake();
    }

    /// How much the driver may write from now on.
    pub fn set_room(&self, room: usize) {
        let mut pipe = self.pipe();
        if pipe.writes.end.is_none() {
            pipe.room = room;
            pipe.writes.wake();
        }
    }

    /// How many bytes a read and a write move at the most.
    pub fn set_steps(&self, read: usize, write: usize) {
        let mut pipe = self.pipe();
        pipe.reads.step = read.max(1);
        pipe.writes.step = write.max(1);
    }

    /// Has the next read, or else the next write, move nothing, and the task woken at once.
    pub fn wake_early(&self, reads: bool) {
        let mut pipe = self.pipe();
        let direction = if reads { &mut pipe.reads } else { &mut pipe.writes };
        direction.wakes_early = true;
    }

    /// Everything that was written.
    pub fn written(&self) -> Vec<u8> {
        self.pipe().outbound.clone()
    }

    /// Whether the driver has let go of the stream.
    pub fn is_dropped(&self) -> bool {
        self.pipe().is_dropped
    }

    /// Whether both directions go on, as far as either side has said.
    pub fn is_open(&self) -> bool {
        let pipe = self.pipe();
        pipe.reads.end.is_none() && pipe.writes.end.is_none() && !pipe.is_closed && !pipe.is_dropped
    }

    /// Whether everything that was sent has been read.
    pub fn is_read(&self) -> bool {
        let pipe = self.pipe();
        pipe.read == pipe.inbound.len()
    }
}

impl Stream {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().expect("no panic is survived")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pipe().is_dropped = true;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        progress::polled("the stream, to read");
        assert!(!buffer.is_empty(), "a read without room");
        let pipe = &mut *self.pipe();
        if pipe.reads.wakes_early(cx) {
            return Poll::Pending;
        }
        let rest = &pipe.inbound[pipe.read..];
        let count = rest.len().min(pipe.reads.step).min(buffer.len());
        if count == 0 {
            return pipe.reads.wait_or_end(cx);
        }
        buffer[..count].copy_from_slice(&rest[..count]);
        pipe.read += count;
        progress::made();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        progress::polled("the stream, to write");
        let pipe = &mut *self.pipe();
        assert!(!pipe.is_closed, "a write behind the shutdown");
        assert!(!pipe.writes.ended, "a write behind one that failed");
        assert!(slices.iter().any(|slice| !slice.is_empty()), "a write of nothing");
        if pipe.writes.wakes_early(cx) {
            return Poll::Pending;
        }
        let before = pipe.outbound.len();
        let mut left = pipe.room.min(pipe.writes.step);
        if left == 0 {
            return pipe.writes.wait_or_end(cx);
        }
        for slice in slices {
            let count = slice.len().min(left);
            pipe.outbound.extend_from_slice(&slice[..count]);
            left -= count;
        }
        let count = pipe.outbound.len() - before;
        pipe.room = pipe.room.saturating_sub(if pipe.room == usize::MAX { 0 } else { count });
        progress::made();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        progress::polled("the stream, to close");
        let pipe = &mut *self.pipe();
        // As TLS does, which has something to write.
        if pipe.room == 0 {
            return pipe.writes.wait_or_end(cx).map(|result| result.map(|_| ()));
        }
        pipe.is_closed = true;
        Poll::Ready(Ok(()))
    }
}
