//! A connection's two threads: one reads and hands messages to the machine, one drives the rest.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use chiral_driver::proto::ConnectionError;
use chiral_driver::proto::ws::{Control, Incoming, Reader, Session, Writer};
use chiral_driver::{Line, Message, Wire, drive};

use super::pump::Pump;
use super::socket::{Stream, is_timeout, write_at_once};
use super::wait::{Help, help};
use super::{Threads, group};

/// How long a write may block before the writing thread sees to what else is due.
const WRITE: Duration = Duration::from_millis(5);
/// Bytes of one read and of one write: pieces that leave each other room in the socket's buffer
/// move faster than whole observations do, by up to a third (`chiral bench --adapter blocking`).
const READ_STEP: usize = 128 << 10;
const WRITE_STEP: usize = 256 << 10;
/// Bytes that a thread which is not to block sends itself: an action.
const BRIEF: usize = 16 << 10;
/// Slices of one gather write: enough for 30 cameras with depth.
const SLICES: usize = 64;

/// Starts the threads of a connection whose handshake is done.
pub(super) fn carry(line: Line, stream: Stream, session: Session) {
    let started = start(Arc::new(line), stream.into_inner(), session);
    if let Err(error) = started {
        // The line has told everybody that it was dropped.
        tracing::error!("a connection could not be served: {error}");
    }
}

fn start(line: Arc<Line>, socket: TcpStream, session: Session) -> io::Result<()> {
    // From here on nobody needs the reading thread for anything else.
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(Some(WRITE))?;
    let Session { reader, writer } = session;
    let connection = Arc::new(Connection { socket, news: Mutex::default() });
    let writing = Writing { connection: Arc::clone(&connection), writer };
    let reading = Arc::clone(&line);
    group::spawn("chiral-reader", move || {
        // Also when a panic ends it.
        let connection = LastRead(connection);
        read(&reading, &connection.0, reader);
    })?;
    // When there is no thread for it, the drop of its transport ends the reading one.
    let pump = Pump::new(drive::<Threads>(line, writing));
    group::spawn("chiral-writer", move || pump.run())
}

/// What the two threads share.
struct Connection {
    socket: TcpStream,
    news: Mutex<News>,
}

/// What the reading thread has found that concerns the writing one.
#[derive(Default)]
struct News {
    control: Option<Control>,
    end: Option<ConnectionError>,
    /// Nothing more is read.
    is_over: bool,
    /// Wakes the writing thread.
    waker: Option<Waker>,
}

impl Connection {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the writing thread what was found. The peer's close and that it is the end go
    /// together: the peer is not answered before everybody knows.
    fn tell(&self, found: News) {
        let mut news = self.news();
        let mut can_wait = found.end.is_none();
        news.end = news.end.take().or(found.end);
        if let Some(control) = found.control {
            can_wait &= control.is_sign_of_life();
            news.post(control);
        }
        if !can_wait {
            news.wake();
        }
    }

    /// Writes as much as this thread may do of it.
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if help() == Help::Full {
            (&self.socket).write_vectored(slices)
        } else if slices.iter().map(|slice| slice.len()).sum::<usize>() <= BRIEF {
            write_at_once(&self.socket, slices)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Reads on; a connection that fails has ended.
    fn read(&self, buf: &mut [u8]) -> usize {
        loop {
            match (&self.socket).read(buf) {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }
}

impl News {
    fn post(&mut self, control: Control) {
        match &mut self.control {
            Some(earlier) => earlier.merge(control),
            empty => *empty = Some(control),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The reading thread: until the peer hangs up, or the socket is shut down.
fn read(line: &Line, connection: &Connection, mut reader: Reader) {
    let mut count = 1;
    loop {
        let mut found = News::default();
        // Before the first read, too: the peer's first words may have come with its handshake.
        while let Some(incoming) = reader.poll() {
            match incoming {
                Incoming::Message(message) => {
                    let message = Message::Whole(message);
                    if line.handle_message(Instant::now(), message).wants_drive {
                        connection.news().wake();
                    }
                }
                Incoming::Control(control) => found.post(control),
                Incoming::End(error) => {
                    found.end = Some(error.into());
                    connection.tell(found);
                    return drain(connection, count);
                }
            }
        }
        connection.tell(found);
        let room = reader.read_buf();
        let room_len = room.len().min(READ_STEP);
        count = connection.read(&mut room[..room_len]);
        reader.bytes_read(count);
        give_way();
    }
}

/// After each piece: whoever has an action in hand, here or in the peer's process, is not to wait
/// for the processor until a long message is through (`chiral bench --adapter blocking`).
fn give_way() {
    thread::yield_now();
}

/// Reads and throws away what still comes: a socket closed with unread bytes would take back what
/// was written last.
fn drain(connection: &Connection, mut count: usize) {
    let mut waste = [0; 4096];
    while count > 0 {
        count = connection.read(&mut waste);
    }
}

/// Tells the writing thread, when it is dropped, that nothing more is read.
struct LastRead(Arc<Connection>);

impl Drop for LastRead {
    fn drop(&mut self) {
        let mut news = self.0.news();
        news.is_over = true;
        if news.end.is_none() {
            news.end = Some(ConnectionError::Lost("its reading thread panicked".to_owned()));
        }
        news.wake();
    }
}

/// The transport, as the thread that writes sees it: what is read is no longer its business, but
/// for what concerns the session.
struct Writing {
    connection: Arc<Connection>,
    writer: Writer,
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Ends the reading thread, if the peer has not. A socket that is gone needs no shutdown.
        let _ = self.connection.socket.shutdown(Shutdown::Both);
    }
}

impl Wire for Writing {
    fn writer(&self) -> &Writer {
        &self.writer
    }

    fn writer_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// What the reading thread has found; messages it handles itself.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Option<Message>, ConnectionError>> {
        let mut news = self.connection.news();
        if let Some(control) = news.control.take() {
            self.writer.handle(now, control);
        }
        if let Some(reason) = news.end.take() {
            return Poll::Ready(Err(reason));
        }
        news.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<bool, ConnectionError>> {
        if !self.writer.wants_write() {
            return Poll::Ready(Ok(false));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.writer.transmit_up_to(WRITE_STEP, &mut slices);
        match self.connection.write(&slices[..count]) {
            Ok(count) if count > 0 => {
                self.writer.bytes_written(now, count);
                if self.writer.wants_write() {
                    give_way();
                }
                Poll::Ready(Ok(true))
            }
            // Not for now, not yet, or not in this thread: what else is due comes first.
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // The peer may have said why before it went: the reading thread finds that, and then
            // that nothing more comes.
            _ => {
                let _ = self.connection.socket.shutdown(Shutdown::Write);
                Poll::Pending
            }
        }
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        // A socket that is gone needs no shutdown.
        let _ = self.connection.socket.shutdown(Shutdown::Write);
        Poll::Ready(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut news = self.connection.news();
        if news.is_over {
            return Poll::Ready(());
        }
        news.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
