use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::Instant;

/// Wakes one thread, which has something else to do or to wait for in between.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    /// Ends the wait that there is, or the next one.
    pub(crate) fn raise(&self) {
        *self.is_raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_one();
    }

    /// Waits until it is raised, until an instant at the most.
    pub(crate) fn wait(&self, until: Option<Instant>) {
        let mut is_raised = self.is_raised.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_raised {
            is_raised = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.raised.wait(is_raised).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                Some(left) => {
                    let waited = self.raised.wait_timeout(is_raised, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *is_raised = false;
    }
}

/// So that what wakes a task wakes the thread.
impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_signal_raised_before_a_wait_ends_it_once() {
        let signal = Signal::default();
        signal.raise();
        signal.raise();
        signal.wait(None);
        let until = Instant::now() + Duration::from_millis(5);
        signal.wait(Some(until));
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_signal_from_another_thread_ends_the_wait() {
        let signal = Arc::new(Signal::default());
        let raising = Arc::clone(&signal);
        let thread = std::thread::spawn(move || raising.raise());
        signal.wait(None);
        thread.join().expect("it does not panic");
    }
}
