use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use event_listener::{Event, Listener as _};

/// Gives up from elsewhere what blocks a thread, such as waiting for a server that is not there.
///
/// Cloning it gives another handle to the same token.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_cancelled: AtomicBool,
    on_cancel: Event,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up, now and from now on, whatever was given this token.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        self.0.on_cancel.notify(usize::MAX);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    /// Blocks until an instant; true, and at once, when the token is cancelled.
    pub fn wait_until(&self, until: Instant) -> bool {
        loop {
            let cancelled = self.0.on_cancel.listen();
            if self.is_cancelled() {
                return true;
            }
            if cancelled.wait_deadline(until).is_none() {
                return self.is_cancelled();
            }
        }
    }

    /// Waits until the token is cancelled.
    pub async fn cancelled(&self) {
        loop {
            let cancelled = self.0.on_cancel.listen();
            if self.is_cancelled() {
                return;
            }
            cancelled.await;
        }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_cancelled() { "cancelled" } else { "not cancelled" };
        write!(f, "CancelToken({state})")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_ends_at_its_instant_or_when_it_is_cancelled_from_elsewhere() {
        let token = CancelToken::new();
        let until = Instant::now() + Duration::from_millis(5);
        assert!(!token.wait_until(until));
        assert!(Instant::now() >= until);

        let elsewhere = token.clone();
        let thread = std::thread::spawn(move || elsewhere.cancel());
        assert!(token.wait_until(Instant::now() + Duration::from_secs(60)));
        futures_lite::future::block_on(token.cancelled());
        thread.join().expect("it does not panic");
    }
}
