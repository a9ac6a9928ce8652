//! A pipe within this process, in both directions: for async code, and for threads that block.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use chiral_blocking::Stream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::names::{Faults, Names};

/// Bytes that a direction holds before its writer has to wait.
const CAPACITY: usize = 256 << 10;

/// Where pipes are accepted.
pub static NAMES: Names<Pipe> = Names::new();

/// What the name of a pipe begins with of which every read and write moves a single byte.
pub const SINGLE_BYTES: &str = "single-bytes";

/// Connects to whoever listens at a name; waits for somebody to.
///
/// # Errors
/// `TimedOut` when nobody does in time.
pub async fn connect(name: &str, timeout: Option<Duration>) -> io::Result<Pipe> {
    let (ours, theirs) = pipe();
    if name.starts_with(SINGLE_BYTES) {
        ours.shared.lock().moves_single_bytes = true;
    }
    let shared = Arc::downgrade(&ours.shared);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    NAMES.connect(name, theirs, shared, deadline).await?;
    Ok(ours)
}

/// A pipe: the client's end, and the server's.
pub fn pipe() -> (Pipe, Pipe) {
    let shared = Arc::<Shared>::default();
    let end = |side| Pipe { shared: Arc::clone(&shared), side, timeouts: Mutex::default() };
    (end(CLIENT), end(SERVER))
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// One end of a pipe.
pub struct Pipe {
    shared: Arc<Shared>,
    side: usize,
    /// For how long a read and a write may block.
    timeouts: Mutex<[Option<Duration>; 2]>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes threads that block.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the client sends, and what the server does.
    flows: [Flow; 2],
    is_cut: bool,
    moves_single_bytes: bool,
}

#[derive(Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// The writer has hung up.
    is_ended: bool,
    /// Nobody reads any more.
    is_abandoned: bool,
    is_frozen: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state for everybody.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            state.flows.each_mut().map(|flow| [flow.reader.take(), flow.writer.take()])
        };
        self.changed.notify_all();
        wakers.into_iter().flatten().flatten().for_each(Waker::wake);
    }
}

impl State {
    /// Reads what there is; `None` when nothing is.
    fn read(&mut self, side: usize, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let flow = &mut self.flows[1 - side];
        if flow.is_abandoned {
            return Some(Ok(0));
        }
        if self.is_cut {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if flow.is_frozen {
            return None;
        }
        if flow.bytes.is_empty() {
            return flow.is_ended.then_some(Ok(0));
        }
        let room = if self.moves_single_bytes { buf.len().min(1) } else { buf.len() };
        Some(io::Read::read(&mut flow.bytes, &mut buf[..room]))
    }

    /// Writes what there is room for; `None` when there is none.
    fn write(&mut self, side: usize, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        let flow = &mut self.flows[side];
        if self.is_cut {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if flow.is_ended || flow.is_abandoned {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let before = flow.bytes.len();
        let most = if self.moves_single_bytes { 1 } else { CAPACITY };
        let end = CAPACITY.min(before + most);
        for slice in slices {
            let room = end - flow.bytes.len();
            flow.bytes.extend(&slice[..slice.len().min(room)]);
        }
        let count = flow.bytes.len() - before;
        (count > 0 || before < CAPACITY).then_some(Ok(count))
    }
}

impl Pipe {
    fn read_now(&self, buf: &mut [u8], waker: Option<&Waker>) -> Option<io::Result<usize>> {
        let mut state = self.shared.lock();
        let read = state.read(self.side, buf);
        let flow = &mut state.flows[1 - self.side];
        self.after(take_waker(read.is_some(), waker, &mut flow.reader, &mut flow.writer), state);
        read
    }

    fn write_now(
        &self,
        slices: &[IoSlice<'_>],
        waker: Option<&Waker>,
    ) -> Option<io::Result<usize>> {
        let mut state = self.shared.lock();
        let written = state.write(self.side, slices);
        let flow = &mut state.flows[self.side];
        self.after(take_waker(written.is_some(), waker, &mut flow.writer, &mut flow.reader), state);
        written
    }

    /// Wakes the other side, without the lock.
    fn after(&self, other: Option<Waker>, state: MutexGuard<'_, State>) {
        drop(state);
        self.shared.changed.notify_all();
        if let Some(other) = other {
            other.wake();
        }
    }

    /// Blocks the thread until `attempt` comes to something.
    fn block<T>(
        &self,
        timeout: Option<Duration>,
        mut attempt: impl FnMut(&mut State) -> Option<io::Result<T>>,
    ) -> io::Result<T> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.shared.lock();
        let done = loop {
            if let Some(done) = attempt(&mut state) {
                break done;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(io::ErrorKind::WouldBlock.into()),
                Some(left) => {
                    let waited = self.shared.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        drop(state);
        self.shared.change(|_| ());
        done
    }

    fn timeout(&self, of: usize) -> Option<Duration> {
        self.timeouts.lock().unwrap_or_else(PoisonError::into_inner)[of]
    }
}

/// Whom to wake after a call that came to something; else leaves the caller's own waker.
fn take_waker(
    is_done: bool,
    waker: Option<&Waker>,
    own: &mut Option<Waker>,
    other: &mut Option<Waker>,
) -> Option<Waker> {
    if is_done {
        return other.take();
    }
    if waker.is_some() {
        *own = waker.cloned();
    }
    None
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.read_now(buf, Some(cx.waker())).map_or(Poll::Pending, Poll::Ready)
    }
}

impl AsyncWrite for Pipe {
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
        self.write_now(bufs, Some(cx.waker())).map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::shutdown(&*self, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

impl Stream for Pipe {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.block(self.timeout(0), |state| state.read(self.side, buf))
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.block(self.timeout(1), |state| state.write(self.side, slices))
    }

    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.write_now(slices, None);
        written.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }

    fn shutdown(&self, how: Shutdown) {
        self.shared.change(|state| {
            if how != Shutdown::Read {
                state.flows[self.side].is_ended = true;
            }
            if how != Shutdown::Write {
                state.flows[1 - self.side].is_abandoned = true;
            }
        });
    }

    fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        *self.timeouts.lock().unwrap_or_else(PoisonError::into_inner) = [read, write];
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        Stream::shutdown(self, Shutdown::Both);
    }
}

impl Faults for Shared {
    fn cut(&self) {
        self.change(|state| {
            state.is_cut = true;
            state.flows.iter_mut().for_each(|flow| flow.is_frozen = false);
        });
    }

    fn freeze(&self, client: bool, server: bool) {
        self.change(|state| {
            state.flows[CLIENT].is_frozen = client;
            state.flows[SERVER].is_frozen = server;
        });
    }
}
