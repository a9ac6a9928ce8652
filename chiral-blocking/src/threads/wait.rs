//! Waiting for a future in a thread of one's own: what takes the place of an executor.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, LocalKey, Thread};
use std::time::Instant;

thread_local! {
    /// When this thread is to look at its future again, whether or not something wakes it.
    static ALARM: Cell<Option<Instant>> = const { Cell::new(None) };
    static HELP: Cell<Help> = const { Cell::new(Help::None) };
}

/// What a thread does for a connection to which it gives something to send, before it leaves the
/// rest to the connection's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Help {
    /// Nothing.
    None,
    /// Sends what is short, if the socket takes it at once: its caller is never to block.
    Brief,
    /// Sends everything: its caller waits for the outcome anyway.
    Full,
}

/// Waits for a future; the calling thread sleeps while it has nothing to do.
///
/// The future's timers are [`Sleep`]s, which must be polled whenever the future is.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    block_until(None, future).unwrap_or_else(|| unreachable!("there is no end to this wait"))
}

/// As [`block_on`], until an instant at the most: then the future is dropped.
pub(crate) fn block_until<T>(until: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    let bell = Arc::new(Bell { thread: thread::current(), rung: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        let (poll, alarm) = with_alarm(until, || {
            helping(Help::Full, || future.as_mut().poll(&mut Context::from_waker(&waker)))
        });
        if let Poll::Ready(value) = poll {
            return Some(value);
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return None;
        }
        bell.wait(alarm);
    }
}

/// Polls something, and says when it is to be polled again: at `alarm` or before.
pub(super) fn with_alarm<T>(
    alarm: Option<Instant>,
    poll: impl FnOnce() -> T,
) -> (T, Option<Instant>) {
    // Robot code that waits for another connection does so within a poll.
    with(&ALARM, alarm, || (poll(), ALARM.get()))
}

/// What this thread does for a connection.
pub(super) fn help() -> Help {
    HELP.get()
}

/// Calls something in which this thread does so much for a connection.
pub(crate) fn helping<T>(help: Help, call: impl FnOnce() -> T) -> T {
    with(&HELP, help, call)
}

/// Calls code that is not ours: it finds its thread as if nothing of ours were below it.
pub(crate) fn outside<T>(call: impl FnOnce() -> T) -> T {
    helping(Help::None, call)
}

/// Calls something with another value in a cell of this thread.
fn with<V: Copy + 'static, T>(
    place: &'static LocalKey<Cell<V>>,
    value: V,
    call: impl FnOnce() -> T,
) -> T {
    /// Also when the call panics.
    struct Restore<V: Copy + 'static>(&'static LocalKey<Cell<V>>, V);
    impl<V: Copy + 'static> Drop for Restore<V> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(place, place.replace(value));
    call()
}

/// Wakes one wait of one thread.
struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Bell {
    /// Waits until it is rung, until an instant at the most.
    fn wait(&self, until: Option<Instant>) {
        while !self.rung.swap(false, Ordering::Acquire) {
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => return,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// A timer, good for the thread that [waits](block_on) for it.
#[derive(Debug)]
pub(crate) struct Sleep(Instant);

impl Sleep {
    pub(super) fn until(at: Instant) -> Self {
        Self(at)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0 <= Instant::now() {
            return Poll::Ready(());
        }
        ALARM.set(Some(ALARM.get().map_or(self.0, |alarm| alarm.min(self.0))));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_of_several_timers_ends_the_wait_and_never_early() {
        let start = Instant::now();
        let (soon, late) = (start + Duration::from_millis(5), start + Duration::from_secs(3600));
        let (mut soon, mut late) = (Sleep::until(soon), Sleep::until(late));
        block_on(poll_fn(|cx| {
            let _ = Pin::new(&mut late).poll(cx);
            Pin::new(&mut soon).poll(cx)
        }));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn a_wait_inside_a_wait_takes_no_wake_up_away() {
        let mut woken = false;
        block_on(poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            block_on(Sleep::until(Instant::now() + Duration::from_millis(1)));
            Poll::Pending
        }));
    }

    #[test]
    fn a_wait_inside_a_wait_takes_no_timer_away() {
        let mut outer = Sleep::until(Instant::now() + Duration::from_millis(5));
        block_on(poll_fn(|cx| {
            let outer = Pin::new(&mut outer).poll(cx);
            block_on(Sleep::until(Instant::now()));
            outer
        }));
    }

    #[test]
    fn another_thread_wakes_it() {
        let (send, receive) = std::sync::mpsc::channel::<Waker>();
        let waking = thread::spawn(move || receive.recv().map(Waker::wake).expect("it waits"));
        let mut asked = false;
        block_on(poll_fn(|cx| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            send.send(cx.waker().clone()).expect("it waits");
            Poll::Pending
        }));
        waking.join().expect("it does not panic");
    }
}
