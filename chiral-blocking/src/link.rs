//! A connection's two threads: one reads and hands messages to the machine, one writes and sees to
//! what is due.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use std::time::{Duration, Instant};

use chiral_driver::proto::ConnectionError;
use chiral_driver::proto::ws::{CloseCode, Control, Incoming, Reader, Session, Writer};
use chiral_driver::{Connection, FINISH_TIMEOUT, Message, PROBE_TIMEOUT, State, YieldLimiter};

use crate::signal::Signal;
use crate::stream::{Stream, is_timeout};
use crate::threads::Threads;

/// How long a write may block before what else is due is looked at.
const WRITE_TIMEOUT: Duration = Duration::from_millis(5);
/// How long the reading thread may take to find out why nothing can be written any more.
const REASON_TIMEOUT: Duration = Duration::from_millis(100);
/// Bytes of one read and of one write. Longer reads are slower, of large observations; with shorter
/// writes both sides wake each other up more often (`chiral-bench`).
const READ_STEP: usize = 128 << 10;
const WRITE_STEP: usize = 1 << 20;
/// Bytes that a thread which is not to block sends itself: an action.
const INLINE_STEP: usize = 16 << 10;
/// Slices of one gather write: enough for 30 cameras with depth.
const SLICES: usize = 64;

/// A WebSocket session over a stream that blocks, and the connection that it carries.
pub(crate) struct Link<S: State> {
    connection: Arc<Connection<S>>,
    stream: Box<dyn Stream>,
    /// Whoever holds it writes: the writing thread, or another one that has something to send.
    sender: Mutex<Sender>,
    findings: Mutex<ReaderFindings>,
    /// Wakes the writing thread.
    signal: Arc<Signal>,
    /// The same, for the connection.
    waker: Waker,
}

/// What is needed to write.
struct Sender {
    writer: Writer,
    /// The peer was, or is being, told of the end.
    close_started: bool,
    /// The stream may hold bytes that it took.
    is_unflushed: bool,
    /// Writing has failed.
    broken: Option<io::Error>,
    /// The writing thread is done: the connection may have another link by now.
    is_over: bool,
    /// When the writing thread looks up by itself.
    sleeps_until: Option<Instant>,
    yield_limiter: YieldLimiter,
}

/// What the reading thread has found that concerns the session.
#[derive(Default)]
struct ReaderFindings {
    control: Option<Control>,
    end: Option<ConnectionError>,
    /// Nothing is read until the robot has taken some of its actions.
    holds_peer_up: bool,
    /// Nothing more is read.
    is_over: bool,
}

/// How far sending has come.
enum Sent {
    /// There is nothing to send until this instant, or until something happens.
    All { until: Option<Instant> },
    /// The stream takes no more at once.
    NotAll,
    /// The connection has ended, and the peer knows or cannot be told.
    Ended,
}

/// Whether a thread that sends may block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Block,
    Inline,
}

impl<S: State> Link<S> {
    /// Starts the threads of a connection whose handshake is done.
    pub(crate) fn start(
        connection: Arc<Connection<S>>,
        stream: Box<dyn Stream>,
        session: Session,
        threads: &Arc<Threads>,
    ) -> io::Result<Arc<Self>> {
        let link = Self::start_reading(connection, stream, session, threads)?;
        let writing = link.writing();
        threads.spawn("chiral-writer", move || writing.run())?;
        Ok(link)
    }

    /// As [`start`](Self::start), but its [`writing`](Self::writing) is left to a thread of the
    /// caller's.
    pub(crate) fn start_reading(
        connection: Arc<Connection<S>>,
        stream: Box<dyn Stream>,
        session: Session,
        threads: &Arc<Threads>,
    ) -> io::Result<Arc<Self>> {
        // From here on nobody needs the reading thread for anything else.
        stream.set_timeouts(None, Some(WRITE_TIMEOUT))?;
        let Session { reader, writer } = session;
        let sender = Sender {
            writer,
            close_started: false,
            // The end of the handshake may be among what it holds.
            is_unflushed: stream.holds_bytes(),
            broken: None,
            is_over: false,
            sleeps_until: None,
            yield_limiter: YieldLimiter::default(),
        };
        let signal = Arc::<Signal>::default();
        let waker = Waker::from(Arc::clone(&signal));
        let link = Arc::new(Self {
            connection,
            stream,
            sender: Mutex::new(sender),
            findings: Mutex::default(),
            signal,
            waker,
        });
        let reading = Arc::clone(&link);
        // When its thread does not start, the drop of its work ends the other one.
        let on_exit = EndOfReading(Arc::clone(&link));
        threads.spawn("chiral-reader", move || {
            let _on_exit = on_exit;
            reading.read_messages(reader);
        })?;
        link.connection.start();
        Ok(link)
    }

    /// The work of the thread that writes.
    pub(crate) fn writing(self: &Arc<Self>) -> Writing<S> {
        Writing(Arc::clone(self))
    }

    fn findings(&self) -> MutexGuard<'_, ReaderFindings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- reading ------------------------------------------------------------------------------

    /// The reading thread: until the peer hangs up, or the stream is shut down.
    fn read_messages(&self, mut reader: Reader) {
        let mut yield_limiter = YieldLimiter::default();
        let mut failure = None;
        loop {
            let mut control: Option<Control> = None;
            // Before the first read, too: the first messages may have come with the handshake.
            while let Some(incoming) = reader.poll() {
                match incoming {
                    Incoming::Message(message) => {
                        if self.connection.receive(Message::Whole(message)) {
                            self.signal.raise();
                        }
                        if !self.connection.wants_message() {
                            self.post(control.take(), None);
                            self.hold_peer_up();
                        }
                    }
                    Incoming::Control(found) => merge(&mut control, found),
                    Incoming::End(error) => {
                        self.post(control, Some(failure.unwrap_or_else(|| error.into())));
                        return self.drain();
                    }
                }
            }
            self.post(control, None);
            // Only now: what has arrived waits for nobody.
            yield_limiter.after_piece();
            let room = reader.read_buf();
            let room_len = room.len().min(READ_STEP);
            let count = self.read(&mut room[..room_len]).unwrap_or_else(|error| {
                // One of the system's says no more than that the stream has ended.
                failure = error.get_ref().map(|_| ConnectionError::from_io(&error));
                0
            });
            reader.bytes_read(count);
            if self.connection.note_activity(Instant::now()) {
                self.signal.raise();
            }
        }
    }

    /// Reads nothing until the robot has taken some of its actions, so that the peer is held up. It
    /// cannot give a sign of life meanwhile.
    fn hold_peer_up(&self) {
        self.findings().holds_peer_up = true;
        self.connection.wait_until_message_wanted();
        {
            let mut found = self.findings();
            found.holds_peer_up = false;
            merge(&mut found.control, Control::default());
        }
        self.signal.raise();
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buf) {
                Err(error) if is_timeout(&error) => {}
                read => return read,
            }
        }
    }

    /// Leaves what was found to whoever writes. A peer's close and that it is the end go together:
    /// the peer is not answered before everybody knows.
    fn post(&self, control: Option<Control>, end: Option<ConnectionError>) {
        let is_urgent = end.is_some() || control.as_ref().is_some_and(|c| !c.is_sign_of_life());
        {
            let mut found = self.findings();
            if let Some(control) = control {
                merge(&mut found.control, control);
            }
            found.end = found.end.take().or(end);
        }
        if is_urgent {
            self.signal.raise();
        }
    }

    /// Reads and throws away what still comes: a socket closed with unread bytes would take back
    /// what was written last. The writing thread ends this after a second.
    fn drain(&self) {
        let mut waste = [0; 4096];
        while self.read(&mut waste).is_ok_and(|count| count > 0) {}
    }

    // ---- writing ------------------------------------------------------------------------------

    /// The writing thread: until the connection has ended and the peer knows, or cannot be told.
    fn write_frames(&self) {
        loop {
            let sent = {
                let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
                let sent = self.send(&mut sender, Mode::Block);
                if let Sent::All { until } = sent {
                    sender.sleeps_until = until;
                }
                sent
            };
            match sent {
                Sent::All { until } => self.signal.wait(until),
                Sent::NotAll => {}
                Sent::Ended => return,
            }
        }
    }

    /// Sends what there is, in the calling thread: without waiting for the stream, and only as
    /// much as an action or a request. It saves the wake-up of the writing thread, which does the
    /// rest.
    pub(crate) fn try_send_inline(&self) {
        self.send_inline(Mode::Inline);
    }

    /// Sends what there is, in the calling thread, however long it takes.
    pub(crate) fn send_blocking(&self) {
        self.send_inline(Mode::Block);
    }

    fn send_inline(&self, mode: Mode) {
        let mut sender = match self.sender.try_lock() {
            Ok(sender) => sender,
            Err(TryLockError::Poisoned(sender)) => sender.into_inner(),
            // Somebody is at it, and the writing thread looks again behind it.
            Err(TryLockError::WouldBlock) => return self.signal.raise(),
        };
        if sender.is_over {
            return self.connection.wake_driver();
        }
        let sent = self.send(&mut sender, mode);
        let is_in_time = match (&sent, sender.sleeps_until) {
            (Sent::All { until: None }, _) => true,
            (Sent::All { until: Some(until) }, Some(sleeps_until)) => sleeps_until <= *until,
            _ => false,
        };
        if !is_in_time {
            self.signal.raise();
        }
    }

    /// Sends until there is nothing to send, and does what is due in between.
    fn send(&self, sender: &mut Sender, mode: Mode) -> Sent {
        self.connection.register(&self.waker);
        loop {
            let now = Instant::now();
            self.apply_reader_findings(sender, now);
            self.pass_time(sender, now);
            if !sender.is_unflushed
                && sender.writer.wants_message()
                && let Some(frame) = self.connection.poll_transmit(now)
            {
                let refused = sender.writer.push(frame);
                debug_assert!(refused.is_ok(), "a frame was sent that was not wanted");
            }
            // Behind that call, which may bring about the end.
            self.tell_peer_of_end(sender, now);
            if sender.broken.is_some() || sender.writer.is_finished() {
                return Sent::Ended;
            }
            if !sender.writer.wants_write() && sender.is_unflushed {
                if mode == Mode::Inline {
                    return Sent::NotAll;
                }
                match self.stream.flush() {
                    Ok(()) => sender.is_unflushed = false,
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => sender.broken = Some(error),
                }
                continue;
            }
            if !sender.writer.wants_write() {
                let machine = self.connection.poll_timeout();
                let session =
                    sender.writer.poll_timeout().filter(|_| !self.findings().holds_peer_up);
                return Sent::All { until: machine.into_iter().chain(session).min() };
            }
            match self.write(sender, mode) {
                Ok(0) => sender.broken = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    sender.writer.bytes_written(now, count);
                    sender.is_unflushed = self.stream.holds_bytes();
                    if sender.writer.wants_write() {
                        sender.yield_limiter.after_piece();
                    }
                }
                Err(error) if is_timeout(&error) => {
                    if mode == Mode::Inline {
                        return Sent::NotAll;
                    }
                }
                Err(error) => sender.broken = Some(error),
            }
        }
    }

    fn write(&self, sender: &Sender, mode: Mode) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = sender.writer.transmit_up_to(WRITE_STEP, &mut slices);
        let slices = &slices[..count];
        if mode == Mode::Block {
            self.stream.write(slices)
        } else if slices.iter().map(|slice| slice.len()).sum::<usize>() <= INLINE_STEP {
            self.stream.try_write(slices)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Tells everybody of the end that the reading thread has found, and the session of the rest.
    fn apply_reader_findings(&self, sender: &mut Sender, now: Instant) {
        let (control, end) = {
            let mut found = self.findings();
            (found.control.take(), found.end.take())
        };
        if let Some(reason) = end {
            self.connection.disconnect(now, reason);
        }
        if let Some(control) = control {
            sender.writer.handle(now, control);
        }
    }

    /// Does what is due.
    fn pass_time(&self, sender: &mut Sender, now: Instant) {
        if self.connection.wants_probe() {
            sender.writer.probe(now, PROBE_TIMEOUT);
        }
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
        }
        if !self.findings().holds_peer_up
            && let Err(error) = sender.writer.handle_timeout(now)
        {
            self.connection.disconnect(now, error.into());
        }
    }

    fn tell_peer_of_end(&self, sender: &mut Sender, now: Instant) {
        if !sender.close_started
            && let Some(reason) = self.connection.error()
        {
            sender.close_started = true;
            if reason.is_ours() {
                let code = CloseCode(reason.close_code());
                sender.writer.close(now, code, &reason.close_reason());
            }
        }
    }

    /// Finishes the connection, and hangs up.
    fn finish(&self) {
        let broken = {
            let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
            sender.is_over = true;
            sender.broken.take()
        };
        if let Some(error) = broken {
            // The peer may have said why before it went: the reading thread finds that.
            let deadline = Instant::now() + REASON_TIMEOUT;
            while self.connection.error().is_none() && Instant::now() < deadline {
                if let Some(reason) = self.findings().end.take() {
                    self.connection.disconnect(Instant::now(), reason);
                    break;
                }
                self.signal.wait(Some(deadline));
            }
            self.connection.disconnect(Instant::now(), ConnectionError::from_io(&error));
            self.stream.shutdown(Shutdown::Both);
        }
        self.connection.finish(ConnectionError::Lost("its writing thread panicked".to_owned()));
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while self.stream.holds_bytes()
            && Instant::now() < deadline
            && self.stream.flush().is_err_and(|error| is_timeout(&error))
        {}
        self.stream.shutdown(Shutdown::Write);
        while !self.findings().is_over && Instant::now() < deadline {
            self.signal.wait(Some(deadline));
        }
        self.stream.shutdown(Shutdown::Both);
    }
}

/// Tells whoever writes that nothing more is read, also when a panic ends the reading thread.
struct EndOfReading<S: State>(Arc<Link<S>>);

impl<S: State> Drop for EndOfReading<S> {
    fn drop(&mut self) {
        {
            let mut found = self.0.findings();
            found.is_over = true;
            let panicked = || ConnectionError::Lost("its reading thread panicked".to_owned());
            found.end.get_or_insert_with(panicked);
        }
        self.0.signal.raise();
    }
}

/// The work of the thread that writes. Its drop finishes the connection, also when a panic ends the
/// thread, or when it does not start.
pub(crate) struct Writing<S: State>(Arc<Link<S>>);

impl<S: State> Writing<S> {
    /// Writes until the connection has ended, and the peer knows or cannot be told. Then nothing more
    /// of it comes or goes: another connection may be made.
    pub(crate) fn run(self) {
        self.0.write_frames();
        let link = Arc::clone(&self.0);
        drop(self);
        // The stream is shut down, so that the reading thread is not blocked any more.
        while !link.findings().is_over {
            link.signal.wait(None);
        }
    }
}

impl<S: State> Drop for Writing<S> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn merge(into: &mut Option<Control>, found: Control) {
    match into {
        Some(earlier) => earlier.merge(found),
        empty => *empty = Some(found),
    }
}
