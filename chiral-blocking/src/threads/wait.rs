//! Waiting for a future in a thread of one's own: what takes the place of an executor.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

thread_local! {
    /// When this thread is to look at its future again, whether or not something wakes it.
    static ALARM: Cell<Option<Instant>> = const { Cell::new(None) };
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
    // Robot code that waits for another connection is called from within such a wait.
    let outer = ALARM.take();
    loop {
        ALARM.set(until);
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            ALARM.set(outer);
            return Some(value);
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            ALARM.set(outer);
            return None;
        }
        bell.wait(ALARM.get());
    }
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
