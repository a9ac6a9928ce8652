//! The future that drives a connection, and the threads that run it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use super::wait::{Help, help, helping, with_alarm};

/// A future that has a thread of its own, the writing one. A thread that wakes it runs it on the
/// spot instead, as far as it [helps](Help): what it has to send leaves without another thread's
/// having to wake up first, which takes milliseconds on a busy computer.
pub(super) struct Pump {
    state: Mutex<State>,
    /// There is something to do.
    rung: AtomicBool,
    owner: OnceLock<Thread>,
}

struct State {
    /// Until it is done.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// When it is to be run again, whether or not something wakes it.
    alarm: Option<Instant>,
}

impl Pump {
    pub(super) fn new(future: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let state = Mutex::new(State { future: Some(Box::pin(future)), alarm: None });
        Arc::new(Self { state, rung: AtomicBool::new(true), owner: OnceLock::new() })
    }

    /// Runs the future to its end, in the thread that it owns.
    pub(super) fn run(self: Arc<Self>) {
        self.owner.get_or_init(thread::current);
        let mut alarm: Option<Instant> = None;
        loop {
            let is_due = alarm.is_some_and(|alarm| alarm <= Instant::now());
            let is_rung = self.rung.swap(false, Ordering::Acquire);
            if !is_due && !is_rung {
                match alarm {
                    None => thread::park(),
                    Some(alarm) => {
                        thread::park_timeout(alarm.saturating_duration_since(Instant::now()));
                    }
                }
            }
            let mut state = self.lock();
            let goes_on = if is_due || is_rung {
                helping(Help::Full, || self.poll(&mut state))
            } else {
                // Another thread may have run it meanwhile, to its end even.
                state.future.is_some()
            };
            if !goes_on {
                return;
            }
            alarm = state.alarm;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs it on; false when it is done.
    fn poll(self: &Arc<Self>, state: &mut State) -> bool {
        let Some(future) = &mut state.future else { return false };
        let waker = Waker::from(Arc::clone(self));
        let (poll, alarm) =
            with_alarm(None, || future.as_mut().poll(&mut Context::from_waker(&waker)));
        state.alarm = alarm;
        if poll.is_ready() {
            state.future = None;
        }
        poll.is_pending()
    }

    fn wake_owner(&self) {
        if let Some(owner) = self.owner.get() {
            owner.unpark();
        }
    }

    /// Runs it on the spot, unless somebody is at it.
    fn try_poll(self: &Arc<Self>) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return self.wake_owner(),
        };
        self.rung.store(false, Ordering::Release);
        let before = state.alarm;
        let goes_on = self.poll(&mut state);
        let is_earlier = state.alarm.is_some_and(|alarm| before.is_none_or(|was| alarm < was));
        if !goes_on || is_earlier || self.rung.load(Ordering::Acquire) {
            self.wake_owner();
        }
    }
}

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        match help() {
            Help::None => self.wake_owner(),
            Help::Brief | Help::Full => self.try_poll(),
        }
    }
}
