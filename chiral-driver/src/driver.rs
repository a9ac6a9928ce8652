//! The driver of one connection: moves frames and time between its machine and its transport.
//! Every decision is the machine's or the transport's.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;
use chiral_proto::ws::CloseCode;

use crate::connection::{Connection, State};
use crate::runtime::{AsyncTimer, Runtime};
use crate::transport::{BoxFuture, Message, Transport};
use crate::yield_limiter::YieldLimiter;

/// Rounds of one poll, each a bounded piece of reading and of writing, before other tasks get
/// their turn.
const ROUNDS: usize = 32;
/// How long the transport may take to tell the peer of the end; a WebSocket gives up before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a peer may take to hang up after the end.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer may be silent when somebody else waits for its place.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Drives one connection to its end, as a task of a runtime.
///
/// `robot` is polled in the same task, right after messages have come: what the robot's code does
/// without waiting is answered on the spot. It may outlast the connection.
pub async fn drive<R: Runtime, S: State>(
    connection: Arc<Connection<S>>,
    transport: impl Transport,
    robot: Option<BoxFuture<'static, ()>>,
) {
    let mut driver = Driver::new(connection, transport);
    driver.robot = robot;
    let mut timer: Option<R::Timer> = None;
    let mut set_for = None;
    poll_fn(|cx| {
        loop {
            let Progress::Waiting { until } = driver.poll(cx) else { return Poll::Ready(()) };
            let Some(until) = until else { return Poll::Pending };
            // A timer that goes off too early costs a look at the clock; setting it anew each time
            // that a deadline moves on, as the keepalive's does with every byte, would cost more.
            let timer = match &mut timer {
                Some(timer) => {
                    if set_for.is_none_or(|set_for| until < set_for) {
                        timer.reset(until);
                        set_for = Some(until);
                    }
                    timer
                }
                none => {
                    set_for = Some(until);
                    none.insert(R::timer(until))
                }
            };
            if pin!(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            set_for = None;
        }
    })
    .await;
}

/// What [`Driver::poll`] has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// To be polled again when the waker is woken, or at this instant.
    Waiting {
        /// When, at the latest.
        until: Option<Instant>,
    },
    /// Everything is done; the connection has been told.
    Done,
}

/// Moves frames and time between a connection and its transport, whenever it is polled. Needs no
/// runtime: [`drive`] polls it in a task, a thread may do so too.
pub struct Driver<S: State, T> {
    connection: Arc<Connection<S>>,
    transport: T,
    phase: Phase,
    /// The robot's code, where it runs with the connection.
    robot: Option<BoxFuture<'static, ()>>,
    yield_limiter: YieldLimiter,
    /// A message was handed on: whoever waits for it may need this very thread.
    delivered: bool,
}

/// How far the connection is.
///
/// ```text
/// Open ──the machine ended──► Closing ──the peer knows, or cannot be told──► Finishing ──► Done
///   └────────────────the transport failed────────────────────────────────────────▲
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Frames go both ways.
    Open,
    /// The peer is being told of the end, until then at the latest.
    Closing { reads: bool, deadline: Instant },
    /// Nothing more is read or written but what the transport needs to hang up.
    Finishing { deadline: Instant },
    /// The transport is done. Only the robot's code may still be at work.
    Done,
}

impl<S: State, T: Transport> Driver<S, T> {
    /// A driver of a connection that is open.
    pub fn new(connection: Arc<Connection<S>>, transport: T) -> Self {
        connection.start();
        Self {
            connection,
            transport,
            phase: Phase::Open,
            robot: None,
            yield_limiter: YieldLimiter::default(),
            delivered: false,
        }
    }

    /// Moves all that can be moved.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Progress {
        self.connection.register(cx.waker());
        let mut waited = false;
        for _ in 0..ROUNDS {
            let progress = match self.phase {
                Phase::Open | Phase::Closing { .. } => self.exchange(cx),
                Phase::Finishing { deadline } => self.finish(cx, deadline),
                Phase::Done => {
                    self.poll_robot(cx);
                    false
                }
            };
            if self.phase == Phase::Done && self.robot.is_none() {
                return Progress::Done;
            }
            if !progress {
                self.delivered = false;
                return Progress::Waiting { until: self.deadline() };
            }
            // When there is nothing more to move, the next round finds that out and leaves the
            // thread to whoever was handed a message; to come back at once would have another
            // thread take this task over for nothing.
            if self.delivered && (waited || !self.transport.wants_frame()) {
                break;
            }
            waited = self.delivered;
        }
        self.delivered = false;
        cx.waker().wake_by_ref();
        Progress::Waiting { until: self.deadline() }
    }

    fn poll_robot(&mut self, cx: &mut Context<'_>) {
        if let Some(robot) = &mut self.robot
            && robot.as_mut().poll(cx).is_ready()
        {
            self.robot = None;
        }
    }

    /// When to poll at the latest.
    fn deadline(&self) -> Option<Instant> {
        let due = match self.phase {
            Phase::Open => None,
            Phase::Closing { deadline, .. } => Some(deadline),
            Phase::Finishing { deadline } => return Some(deadline),
            Phase::Done => return None,
        };
        let machine = self.connection.poll_timeout();
        let transport = self.transport.poll_timeout().filter(|_| self.connection.wants_message());
        due.into_iter().chain(machine).chain(transport).min()
    }

    /// One round of reading, of writing and of what is due. Says whether anything has moved.
    fn exchange(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = self.read(cx);
        self.poll_robot(cx);
        let was_held_up = !self.connection.wants_message();
        progress |= self.write(cx);
        progress |= self.pass_time();
        // Time may have ended what held the peer up: it is to be read again.
        progress |= was_held_up && self.connection.wants_message();
        if let Phase::Open = self.phase
            && let Some(reason) = self.connection.error()
        {
            self.start_closing(&reason, true);
            progress = true;
        }
        if let Phase::Closing { deadline, .. } = self.phase
            && (self.transport.is_closed() || deadline <= Instant::now())
        {
            self.start_finishing();
            progress = true;
        }
        progress
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if let Phase::Closing { reads: false, .. } | Phase::Finishing { .. } = self.phase {
            return false;
        }
        if !self.connection.wants_message() {
            return false;
        }
        let Poll::Ready(read) = self.transport.poll_receive(cx, Instant::now()) else {
            return false;
        };
        match read {
            Ok(message) => {
                self.connection.note_activity(Instant::now());
                match message {
                    // More of a long message: the peer may need the processor.
                    None => self.yield_limiter.after_piece(),
                    Some(message) => self.deliver(message),
                }
            }
            Err(reason) => self.end_reading(reason),
        }
        true
    }

    fn deliver(&mut self, message: Message) {
        self.connection.receive(message);
        self.delivered = true;
    }

    /// Nothing more can be read.
    fn end_reading(&mut self, reason: ConnectionError) {
        self.connection.disconnect(Instant::now(), reason);
        let reason = self.connection.error().unwrap_or(ConnectionError::ClosedLocally);
        match &mut self.phase {
            Phase::Open => self.start_closing(&reason, false),
            Phase::Closing { reads, .. } => *reads = false,
            Phase::Finishing { .. } | Phase::Done => {}
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if let Phase::Finishing { .. } = self.phase {
            return false;
        }
        let now = Instant::now();
        let mut sent = false;
        if self.transport.wants_frame()
            && let Some(frame) = self.connection.poll_transmit(now)
        {
            self.transport.send(frame);
            sent = true;
        }
        match self.transport.poll_write(cx, now) {
            Poll::Ready(Ok(wrote)) => sent | wrote,
            Poll::Ready(Err(reason)) => {
                self.end_writing(cx, reason);
                true
            }
            Poll::Pending => sent,
        }
    }

    /// Nothing more can be written, so the peer cannot be told of anything. What it had sent before
    /// still counts: it may have said why it went.
    fn end_writing(&mut self, cx: &mut Context<'_>, mut reason: ConnectionError) {
        if !matches!(self.phase, Phase::Closing { reads: false, .. }) {
            // As much as it can have sent before a socket of ours refused to write.
            for _ in 0..ROUNDS {
                match self.transport.poll_receive(cx, Instant::now()) {
                    Poll::Ready(Ok(Some(message))) => self.deliver(message),
                    Poll::Ready(Ok(None)) => {}
                    Poll::Ready(Err(told)) => {
                        if let ConnectionError::ClosedByPeer { .. } = told {
                            reason = told;
                        }
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        self.connection.disconnect(Instant::now(), reason);
        self.start_finishing();
    }

    /// Does what is due.
    fn pass_time(&mut self) -> bool {
        let now = Instant::now();
        let mut progress = false;
        if self.connection.wants_probe() {
            self.transport.probe(now, PROBE_TIMEOUT);
            progress = true;
        }
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
            self.delivered = true;
            progress = true;
        }
        // A peer that is held up cannot give a sign of life: none of its is read.
        if self.transport.poll_timeout().is_some_and(|due| due <= now)
            && self.connection.wants_message()
        {
            if let Err(reason) = self.transport.handle_timeout(now) {
                self.end_reading(reason);
            }
            progress = true;
        }
        progress
    }

    /// Tells the peer that this side has ended the connection, if it was this side.
    fn start_closing(&mut self, reason: &ConnectionError, reads: bool) {
        let now = Instant::now();
        if reason.is_ours() {
            self.transport.close(now, CloseCode(reason.close_code()), &reason.close_reason());
        }
        self.phase = Phase::Closing { reads, deadline: now + CLOSE_TIMEOUT };
        if reason.is_lost() && self.transport.is_closed() {
            self.start_finishing();
        }
    }

    fn start_finishing(&mut self) {
        self.phase = Phase::Finishing { deadline: Instant::now() + FINISH_TIMEOUT };
        self.connection.finish(stopped());
    }

    fn finish(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        self.poll_robot(cx);
        let is_over = deadline <= Instant::now() || self.transport.poll_finish(cx).is_ready();
        if is_over {
            self.phase = Phase::Done;
        }
        is_over
    }
}

/// What a connection has ended with, if with nothing else.
fn stopped() -> ConnectionError {
    ConnectionError::Lost("its task was stopped: the async runtime has shut down".to_owned())
}

impl<S: State, T> Drop for Driver<S, T> {
    fn drop(&mut self) {
        self.connection.finish(stopped());
    }
}

impl<S: State, T> std::fmt::Debug for Driver<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("phase", &self.phase).finish_non_exhaustive()
    }
}
