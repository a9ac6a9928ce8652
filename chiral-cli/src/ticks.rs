//! A grid of ticks, for whatever is done at a rate.

use std::time::{Duration, Instant};

use chiral_proto::Rate;

/// A fixed grid: tick `n` is at `start + n / rate`, so that no rounding adds up. Ticks that were
/// missed are skipped.
#[derive(Debug)]
pub(crate) struct Ticks {
    start: Instant,
    rate: Rate,
    passed: u64,
}

impl Ticks {
    /// A grid whose first tick is its start.
    pub(crate) fn starting(start: Instant, rate: Rate) -> Self {
        Self { start, rate, passed: 0 }
    }

    /// The first tick that is still to come, after those that were returned before.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        let elapsed = now.saturating_duration_since(self.start).as_secs_f64();
        let passed = (elapsed * self.rate.as_hz()) as u64;
        self.passed = self.passed.max(passed) + 1;
        self.start + Duration::from_secs_f64(self.passed as f64 / self.rate.as_hz())
    }

    /// The number of the tick that was returned last: those that were skipped count too.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stay_on_the_grid_and_missed_ticks_are_skipped() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut ticks = Ticks::starting(start, Rate::hz(10.0).unwrap());
        assert_eq!(ticks.next(at(3)), at(100));
        assert_eq!(ticks.next(at(103)), at(200));
        assert_eq!(ticks.next(at(199)), at(300), "a tick that came early does not come again");
        assert_eq!(ticks.next(at(555)), at(600));
        assert_eq!(ticks.passed(), 6);
    }
}
