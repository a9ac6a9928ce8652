use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use chiral_proto::{ConnectionError, Machine};

/// A side's state: its machine, and what its handles wait for.
pub(crate) trait Side: Send + 'static {
    type Machine: Machine;

    fn machine(&mut self) -> &mut Self::Machine;

    /// Called after the machine was driven: passes its events on. Says whether that has woken
    /// another task.
    fn tell(&mut self) -> bool;
}

/// A side's state, between its handles and the task that drives its connection.
pub(crate) struct Shared<S> {
    state: Mutex<S>,
    /// Wakes the driving task.
    driver: AtomicWaker,
    /// Notified once the driving task has ended.
    ended: event_listener::Event,
    over: std::sync::atomic::AtomicBool,
}

impl<S: Side> Shared<S> {
    pub(crate) fn new(state: S) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            driver: AtomicWaker::new(),
            ended: event_listener::Event::new(),
            over: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// The state. Held for microseconds, never over a wait. A panic while it is held leaves it
    /// whole, so the lock goes on.
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the machine from a handle, and lets the driver act on it.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&mut S, Instant) -> T) -> T {
        let result = {
            let mut state = self.lock();
            let result = call(&mut state, now());
            state.tell();
            result
        };
        self.driver.wake();
        result
    }

    /// Why the machine has ended, if it has.
    pub(crate) fn error(&self) -> Option<ConnectionError> {
        self.lock().machine().error().cloned()
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.driver.register(waker);
    }

    /// Notes that the driving task has ended, and why.
    pub(crate) fn end(&self, reason: ConnectionError) {
        {
            let mut state = self.lock();
            state.machine().handle_disconnect(now(), reason);
            state.tell();
        }
        self.over.store(true, std::sync::atomic::Ordering::Release);
        self.ended.notify(usize::MAX);
    }

    /// Whether the driving task has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Waits until the driving task has ended: everything is sent, or given up.
    pub(crate) async fn wait_for_end(&self) {
        loop {
            let ended = self.ended.listen();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }
}

/// The adapters' clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}
