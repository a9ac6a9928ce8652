use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chiral_proto::ConnectionError;

use crate::line::Line;
use crate::runtime::{Runtime, by};
use crate::shared::now;
use crate::transport::Transport;

/// Rounds of one poll, each a bounded piece of reading and of writing, before other tasks get
/// their turn.
const ROUNDS: usize = 32;
/// How long a peer may take to hang up after the end.
pub(crate) const HANG_UP: Duration = Duration::from_secs(1);

/// Drives one connection to its end: moves bytes, frames and time between the transport and the
/// machine. Every decision is the machine's or the transport's.
///
/// A runtime calls it from [`Runtime::carry`], and only there.
pub async fn drive<R: Runtime>(line: Arc<Line>, transport: impl Transport) {
    let mut connection = Connection::<R, _> {
        line: &line,
        transport,
        alarm: None,
        closing: false,
        peer_is_gone: false,
        others_wait: false,
    };
    let reason = poll_fn(|cx| connection.poll(cx)).await;
    let mut transport = connection.transport;
    line.end(reason);
    by::<R, _>(now() + HANG_UP, async {
        poll_fn(|cx| transport.poll_shutdown(cx)).await;
        poll_fn(|cx| transport.poll_drain(cx)).await;
    })
    .await;
}

struct Connection<'a, R: Runtime, T> {
    line: &'a Line,
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

impl<R: Runtime, T: Transport> Connection<'_, R, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        self.line.register(cx.waker());
        let mut waited = false;
        for _ in 0..ROUNDS {
            let mut progress = self.read(cx);
            progress |= self.write(cx);
            progress |= self.pass_time(cx);
            if let Some(reason) = self.line.error() {
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
            // More of a long message. The peer on this computer may have been put on the same
            // processor, and would get it only once the whole message is through: an action in it
            // would wait for milliseconds (`chiral bench`).
            Ok(None) => std::thread::yield_now(),
            Ok(Some(message)) => {
                self.others_wait |= self.line.handle_message(now, message).woke_others;
            }
            Err(reason) => self.lose(now, reason),
        }
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let now = now();
        let mut pushed = false;
        if self.transport.wants_frame()
            && let Some(frame) = self.line.poll_transmit(now)
        {
            self.transport.push(frame);
            pushed = true;
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
        let next = self.line.poll_timeout().into_iter().chain(self.transport.poll_timeout()).min();
        let Some(next) = next else { return false };
        if next <= now {
            self.others_wait |= self.line.handle_timeout(now);
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
        self.line.lose(now, reason);
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
