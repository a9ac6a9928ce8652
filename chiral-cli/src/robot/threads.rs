//! Sensor threads: each does its work at a rate, until all are stopped together.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use chiral_proto::Rate;

use crate::ticks::Ticks;

/// Threads that work at a rate. Dropped, they are stopped and joined.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    stop: Arc<Stop>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Does the work once, here and now, and from then on at the rate, in a thread of that name.
    ///
    /// The ticks lie on a fixed grid; those that the work was too slow for are skipped.
    pub(crate) fn spawn(
        &mut self,
        name: String,
        rate: Rate,
        mut work: impl FnMut() + Send + 'static,
    ) -> io::Result<()> {
        let mut ticks = Ticks::starting(Instant::now(), rate);
        work();
        let stop = Arc::clone(&self.stop);
        let thread = Builder::new().name(name).spawn(move || {
            while !stop.came_by(ticks.next(Instant::now())) {
                work();
            }
        })?;
        self.handles.push(thread);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.give();
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a sensor thread had panicked");
            }
        }
    }
}

#[derive(Debug, Default)]
struct Stop {
    given: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn give(&self) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until an instant; whether the stop was given by then.
    fn came_by(&self, deadline: Instant) -> bool {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let (given, _) = self
            .changed
            .wait_timeout_while(given, left, |given| !*given)
            .unwrap_or_else(PoisonError::into_inner);
        *given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_first_run_is_immediate_and_later_ones_use_a_named_thread() {
        let (names, seen) = mpsc::channel();
        let mut threads = Threads::default();
        let work = move || {
            let name = std::thread::current().name().map(str::to_owned);
            // The test may have seen enough.
            let _ = names.send(name);
        };
        threads.spawn("camera 0".to_owned(), Rate::hz(1000.0).unwrap(), work).unwrap();
        assert_ne!(seen.recv().unwrap().as_deref(), Some("camera 0"));
        assert_eq!(seen.recv().unwrap().as_deref(), Some("camera 0"));
        drop(threads);
        // The thread has ended: it dropped its end of the channel.
        assert_eq!(seen.into_iter().flatten().find(|name| name != "camera 0"), None);
    }

    #[test]
    fn stopping_does_not_wait_for_the_next_period() {
        let mut threads = Threads::default();
        threads.spawn("slow".to_owned(), Rate::hz(Rate::MIN_HZ).unwrap(), || {}).unwrap();
        let start = Instant::now();
        drop(threads);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
