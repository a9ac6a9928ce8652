use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use chiral_proto::wire::Frame;
use chiral_proto::{ConnectionError, Machine as _};

use crate::operate::said;
use crate::shared::{Shared, Side};
use crate::transport::Message;

/// A connection as what drives it sees it: the state machine at its end, behind a lock, and
/// everybody who is to be told.
///
/// Whoever holds it moves messages, frames and time between it and a transport, as
/// [`Runtime::carry`](crate::Runtime::carry) says. When it is dropped before
/// [`end`](Self::end) was called, the connection has been lost.
pub struct Line {
    side: Arc<dyn Driven>,
    /// Called at the end, before anybody else hears of it.
    ended: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Line {
    pub(crate) fn new<S: Side>(
        shared: Arc<Shared<S>>,
        ended: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { side: shared, ended: Mutex::new(Some(Box::new(ended))) }
    }

    /// Whom to wake when a call of the application's has given the machine something to do. It is
    /// to be said before each look at the machine; the latest one counts.
    pub fn register(&self, waker: &Waker) {
        self.side.register(waker);
    }

    /// Takes one message of the transport.
    pub fn handle_message(&self, now: Instant, message: Message) -> Effect {
        self.side.handle_message(now, message)
    }

    /// The next frame to send. To be called only when the transport can take one. An observation
    /// that is taken late is taken here, by the robot's own code.
    pub fn poll_transmit(&self, now: Instant) -> Option<Frame> {
        self.side.poll_transmit(now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It changes with every
    /// other call.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.side.poll_timeout()
    }

    /// Lets time pass. Says whether another task or thread was woken by it.
    pub fn handle_timeout(&self, now: Instant) -> bool {
        self.side.handle_timeout(now)
    }

    /// Tells that the transport's connection has ended, or cannot go on.
    pub fn lose(&self, now: Instant, reason: ConnectionError) {
        self.side.lose(now, reason);
    }

    /// Why the connection has ended, if it has. When [it is ours](ConnectionError::is_ours) the
    /// peer is still to be told.
    pub fn error(&self) -> Option<ConnectionError> {
        self.side.error()
    }

    /// Notes that nothing more will be moved, and why.
    pub fn end(&self, reason: ConnectionError) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            ended();
            self.side.end(reason);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let stopped = "its task was stopped: the async runtime has shut down";
        self.end(ConnectionError::Lost(stopped.to_owned()));
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("error", &self.error()).finish_non_exhaustive()
    }
}

/// What a message has brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Another task or thread was woken by it.
    pub woke_others: bool,
    /// There may be a frame to send, a timeout is due sooner, or the connection has ended: who
    /// drives it otherwise, in another thread, is to be woken.
    pub wants_drive: bool,
}

/// Either side, for what drives it.
trait Driven: Send + Sync {
    fn register(&self, waker: &Waker);
    fn handle_message(&self, now: Instant, message: Message) -> Effect;
    fn poll_transmit(&self, now: Instant) -> Option<Frame>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn handle_timeout(&self, now: Instant) -> bool;
    fn lose(&self, now: Instant, reason: ConnectionError);
    fn error(&self) -> Option<ConnectionError>;
    fn end(&self, reason: ConnectionError);
}

impl<S: Side> Driven for Shared<S> {
    fn register(&self, waker: &Waker) {
        Shared::register(self, waker);
    }

    fn handle_message(&self, now: Instant, message: Message) -> Effect {
        let mut side = self.lock();
        let before = side.machine().poll_timeout();
        match message {
            Message::Whole(message) => side.machine().handle_message(now, message),
            Message::Segments(message) => side.machine().handle_segments(now, message),
        }
        let woke_others = side.tell();
        let machine = side.machine();
        let is_sooner = match (before, machine.poll_timeout()) {
            (Some(before), Some(after)) => after < before,
            (before, after) => before.is_none() && after.is_some(),
        };
        let wants_drive = is_sooner || machine.has_transmit() || machine.error().is_some();
        Effect { woke_others, wants_drive }
    }

    fn poll_transmit(&self, now: Instant) -> Option<Frame> {
        let mut side = self.lock();
        let machine = side.machine();
        let frame = catch_unwind(AssertUnwindSafe(|| machine.poll_transmit(now)));
        let frame = frame.unwrap_or_else(|panic| {
            let why = format!("observing: {}", said(&*panic));
            tracing::error!("the robot failed {why}");
            machine.handle_disconnect(now, ConnectionError::RobotFailed(why));
            None
        });
        side.tell();
        frame
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.lock().machine().poll_timeout()
    }

    fn handle_timeout(&self, now: Instant) -> bool {
        let mut side = self.lock();
        side.machine().handle_timeout(now);
        side.tell()
    }

    fn lose(&self, now: Instant, reason: ConnectionError) {
        let mut side = self.lock();
        side.machine().handle_disconnect(now, reason);
        side.tell();
    }

    fn error(&self) -> Option<ConnectionError> {
        Shared::error(self)
    }

    fn end(&self, reason: ConnectionError) {
        Shared::end(self, reason);
    }
}
