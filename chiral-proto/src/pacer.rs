use std::fmt;
use std::time::{Duration, Instant};

/// How often something happens: a frequency in hertz, finite and above zero.
///
/// ```
/// use chiral_proto::Rate;
///
/// let rate = Rate::hz(30)?;
/// assert_eq!(rate.period().as_millis(), 33);
/// assert_eq!(Rate::hz(30.0), Ok(rate));
/// assert!(Rate::hz(0).is_err());
/// # Ok::<(), chiral_proto::BadRate>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// The slowest rate: once in about eleven days.
    pub const MIN_HZ: f64 = 1e-6;
    /// The fastest rate.
    pub const MAX_HZ: f64 = 1e6;

    /// 30 Hz: the usual rate of a stream of observations, that of most cameras.
    pub const OBSERVATIONS: Self = Self(30.0);
    /// 10 Hz: the usual rate of a dispatch of actions.
    pub const ACTIONS: Self = Self(10.0);

    /// A rate of `hz` per second, an integer or a float.
    ///
    /// # Errors
    /// When `hz` is not between [`MIN_HZ`](Self::MIN_HZ) and [`MAX_HZ`](Self::MAX_HZ).
    pub fn hz(hz: impl Into<f64>) -> Result<Self, BadRate> {
        let hz = hz.into();
        if (Self::MIN_HZ..=Self::MAX_HZ).contains(&hz) { Ok(Self(hz)) } else { Err(BadRate(hz)) }
    }

    /// The rate in hertz.
    pub fn as_hz(self) -> f64 {
        self.0
    }

    /// The time between two ticks.
    pub fn period(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// A number that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} Hz is no rate: give one from {min} to {max} Hz", min = Rate::MIN_HZ, max = Rate::MAX_HZ)]
pub struct BadRate(f64);

/// `now + wait`; of a wait beyond what an `Instant` can tell, such as `Duration::MAX`, an instant
/// that never comes.
pub fn instant_after(now: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + wait.min(CENTURY)
}

/// A fixed grid of ticks: tick `n` is at `start + n / rate`, computed afresh from `n` each time,
/// so that no rounding adds up and 50 Hz stays 50 Hz.
///
/// Ticks that were missed are skipped, never made up for in a burst.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    start: Instant,
    rate: Rate,
    next: u64,
}

impl Pacer {
    /// A grid whose first tick is `start` itself.
    pub(crate) fn new(start: Instant, rate: Rate) -> Self {
        Self { start, rate, next: 0 }
    }

    /// When the next tick is.
    pub(crate) fn next_tick(&self) -> Instant {
        self.tick_at(self.next)
    }

    /// How many ticks came up to `now` since the last call: 0 or 1 of an undisturbed loop, more
    /// when it was late.
    pub(crate) fn ticks(&mut self, now: Instant) -> u64 {
        if now < self.next_tick() {
            return 0;
        }
        let elapsed = now.duration_since(self.start).as_secs_f64();
        let mut next = ((elapsed * self.rate.0) as u64).max(self.next);
        // The product is rounded: settle on the first tick that is truly in the future.
        while self.tick_at(next) <= now {
            next += 1;
        }
        let ticks = next - self.next;
        self.next = next;
        ticks
    }

    fn tick_at(&self, n: u64) -> Instant {
        self.start + Duration::from_secs_f64(n as f64 / self.rate.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn an_instant() -> Instant {
        // The tests' clock starts anywhere; only differences count.
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        Instant::now()
    }

    #[test]
    fn an_hour_at_30_hz_has_108_000_ticks() {
        let start = an_instant();
        let mut pacer = Pacer::new(start, Rate::hz(30.0).unwrap());
        let end = start + Duration::from_secs(3600);
        let mut ticks = 0;
        while pacer.next_tick() < end {
            assert_eq!(pacer.ticks(pacer.next_tick()), 1);
            ticks += 1;
        }
        assert_eq!(ticks, 108_000);
        assert_eq!(pacer.next_tick(), end);
    }

    proptest! {
        #[test]
        fn ticks_are_exact_for_any_polling_pattern(
            hz in 0.1_f64..2000.0,
            steps in proptest::collection::vec(0_u64..50_000_000, 1..200),
        ) {
            let start = an_instant();
            let mut pacer = Pacer::new(start, Rate::hz(hz).unwrap());
            let mut now = start;
            let mut ticks = pacer.ticks(now);
            for step in steps {
                now += Duration::from_nanos(step);
                ticks += pacer.ticks(now);
                prop_assert!(pacer.next_tick() > now);
                let expected = (now.duration_since(start).as_secs_f64() * hz).floor() as u64 + 1;
                prop_assert!(ticks.abs_diff(expected) <= 1, "{ticks} ticks, expected {expected}");
                prop_assert_eq!(ticks, pacer.next);
            }
        }
    }
}
