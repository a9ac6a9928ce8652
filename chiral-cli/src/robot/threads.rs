//! Sensor threads: each does its work at a rate, until all are stopped together.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use chiral_proto::Rate;

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
        let start = Instant::now();
        work();
        let stop = Arc::clone(&self.stop);
        let thread = Builder::new().name(name).spawn(move || {
            let mut tick = 0;
            loop {
                tick = next_tick(tick, start.elapsed(), rate);
                if stop.came_by(start + Duration::from_secs_f64(tick as f64 / rate.as_hz())) {
                    return;
                }
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

/// The first tick after `tick` that is still to come.
fn next_tick(tick: u64, elapsed: Duration, rate: Rate) -> u64 {
    let passed = (elapsed.as_secs_f64() * rate.as_hz()) as u64;
    tick.max(passed) + 1
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

    #[test]
    fn ticks_stay_on_the_grid_and_missed_ones_are_skipped() {
        let rate = Rate::hz(10.0).unwrap();
        let next = |tick, millis| next_tick(tick, Duration::from_millis(millis), rate);
        assert_eq!(next(0, 3), 1);
        assert_eq!(next(1, 103), 2);
        assert_eq!(next(1, 99), 2, "a tick that came early does not come again");
        assert_eq!(next(2, 555), 6);
    }

    #[test]
    fn work_is_done_at_once_then_in_a_named_thread_until_the_drop() {
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
    fn a_slow_rate_does_not_delay_the_stop() {
        let mut threads = Threads::default();
        threads.spawn("slow".to_owned(), Rate::hz(Rate::MIN_HZ).unwrap(), || {}).unwrap();
        let start = Instant::now();
        drop(threads);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
