use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chiral_proto::{ConnectionError, Machine};

use crate::operate::said;
use crate::runtime::{Runtime, by};
use crate::shared::{Shared, Side, now};
use crate::transport::Transport;

/// Rounds of one poll, each a bounded piece of reading and of writing, before other tasks get
/// their turn.
const ROUNDS: usize = 32;
/// How long a peer may take to hang up after the end.
pub(crate) const HANG_UP: Duration = Duration::from_secs(1);

/// Drives one connection to its end: moves bytes, frames and time between the transport and the
/// machine. Every decision is the machine's or the transport's.
///
/// `ended` is called at the end, before anybody else hears of it; also when the task is dropped.
pub(crate) fn drive<R: Runtime, S: Side>(
    shared: Arc<Shared<S>>,
    transport: impl Transport,
    ended: impl FnOnce() + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    // Made here and not in the task, which a runtime that is going down may never begin.
    let mut end = End { shared, ended: Some(ended) };
    async move {
        let mut connection = Connection::<R, S, _> {
            shared: &end.shared,
            transport,
            alarm: None,
            closing: false,
            peer_is_gone: false,
            others_wait: false,
        };
        let reason = poll_fn(|cx| connection.poll(cx)).await;
        let mut transport = connection.transport;
        end.has_come(reason);
        by::<R, _>(now() + HANG_UP, async {
            poll_fn(|cx| transport.poll_shutdown(cx)).await;
            poll_fn(|cx| transport.poll_drain(cx)).await;
        })
        .await;
    }
}

/// Sees to it that the end of a connection is told, whatever becomes of its task.
struct End<S: Side, F: FnOnce()> {
    shared: Arc<Shared<S>>,
    ended: Option<F>,
}

impl<S: Side, F: FnOnce()> End<S, F> {
    fn has_come(&mut self, reason: ConnectionError) {
        if let Some(ended) = self.ended.take() {
            ended();
            self.shared.end(reason);
        }
    }
}

impl<S: Side, F: FnOnce()> Drop for End<S, F> {
    fn drop(&mut self) {
        let stopped = "its task was stopped: the async runtime has shut down";
        self.has_come(ConnectionError::Lost(stopped.to_owned()));
    }
}

struct Connection<'a, R: Runtime, S, T> {
    shared: &'a Shared<S>,
    transport: T,
    /// The timer, and the instant for which it is set.
    alarm: Option<(Instant, Pin<Box<R::Sleep>>)>,
    /// The peer was, or is being, told of the end.
    closing: bool,
    /// Nothing more can be read.
    peer_is_gone: bool,
    /// Another task was woken.
    others_wait: bool,
}

impl<R: Runtime, S: Side, T: Transport> Connection<'_, R, S, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        self.shared.register(cx.waker());
        let mut waited = false;
        for _ in 0..ROUNDS {
            let mut progress = self.read(cx);
            progress |= self.write(cx);
            progress |= self.pass_time(cx);
            if let Some(reason) = self.shared.error() {
                progress |= self.tell_peer(&reason);
                let is_lost = matches!(reason, ConnectionError::Lost(_));
                if is_lost || self.transport.is_finished() {
                    return Poll::Ready(reason);
                }
            }
            if !progress {
                self.others_wait = false;
                return Poll::Pending;
            }
            // Who was told of an action or an answer may be waiting for this very thread. When
            // there is nothing more to move, the next round finds that out and leaves it to them;
            // to come back at once would have another thread take this task over for nothing.
            if self.others_wait && (waited || !self.transport.wants_frame()) {
                break;
            }
            waited = self.others_wait;
        }
        self.others_wait = false;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.peer_is_gone {
            return false;
        }
        let now = now();
        let Poll::Ready(read) = self.transport.poll_read(cx, now) else { return false };
        match read {
            Ok(None) => {}
            Ok(Some(message)) => {
                let mut state = self.shared.lock();
                state.machine().handle_message(now, message);
                self.others_wait |= state.tell();
            }
            Err(reason) => self.lose(now, reason),
        }
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        let mut pushed = false;
        if self.transport.wants_frame() {
            let mut state = self.shared.lock();
            let machine = state.machine();
            // An observation that is taken late is taken here, by the robot's own code.
            match catch_unwind(AssertUnwindSafe(|| machine.poll_transmit(now))) {
                Ok(Some(frame)) => {
                    self.transport.push(frame);
                    pushed = true;
                }
                Ok(None) => {}
                Err(panic) => {
                    let why = format!("observing: {}", said(&*panic));
                    tracing::error!("the robot failed {why}");
                    machine.handle_disconnect(now, ConnectionError::RobotFailed(why));
                    pushed = true;
                }
            }
            self.others_wait |= state.tell();
        }
        match self.transport.poll_write(cx, now) {
            Poll::Ready(Ok(wrote)) => pushed | wrote,
            Poll::Ready(Err(reason)) => {
                self.lose(now, reason);
                true
            }
            Poll::Pending => pushed,
        }
    }

    /// Does what is due, and sets the timer for what is due next.
    fn pass_time(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        let next = {
            let mut state = self.shared.lock();
            let machine = state.machine();
            machine.poll_timeout().into_iter().chain(self.transport.poll_timeout()).min()
        };
        let Some(next) = next else { return false };
        if next <= now {
            {
                let mut state = self.shared.lock();
                state.machine().handle_timeout(now);
                self.others_wait |= state.tell();
            }
            if let Err(reason) = self.transport.handle_timeout(now) {
                self.lose(now, reason);
            }
            return true;
        }
        // A timer that goes off too early costs a look at the clock; setting it anew each time
        // that a deadline moves on, as the keepalive's does with every byte, would cost more.
        let (at, alarm) = match &mut self.alarm {
            Some((at, alarm)) if *at <= next && *at > now => (*at, alarm),
            stale => {
                let (at, alarm) = stale.insert((next, Box::pin(R::sleep_until(next))));
                (*at, alarm)
            }
        };
        let went_off = alarm.as_mut().poll(cx).is_ready();
        if went_off {
            self.alarm = None;
        }
        went_off && at <= next
    }

    /// The transport's connection has ended, or cannot go on.
    fn lose(&mut self, now: Instant, reason: ConnectionError) {
        self.peer_is_gone = true;
        let mut state = self.shared.lock();
        state.machine().handle_disconnect(now, reason);
        self.others_wait |= state.tell();
    }

    /// Tells the peer, once, that this side has ended the connection.
    fn tell_peer(&mut self, reason: &ConnectionError) -> bool {
        let untold = reason.is_ours() && !self.closing;
        if untold {
            self.closing = true;
            self.transport.close(now(), reason.close_code(), &reason.close_reason());
        }
        untold
    }
}
