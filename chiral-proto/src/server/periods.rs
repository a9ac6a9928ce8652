use std::time::{Duration, Instant};

use crate::Rate;

/// Counts in which periods of the declared rate an action came.
///
/// The `n`-th period after an action is missed when `n` and a half periods have passed without
/// another one.
#[derive(Debug)]
pub(super) struct Periods {
    period: Option<Duration>,
    /// The last action; `None` while none is expected.
    last: Option<Instant>,
    /// How many periods were missed since.
    missed_since: u64,
    /// The last periods, the latest in the lowest bit: whether an action came.
    window: u128,
    /// How many periods the window has.
    len: u32,
    pub(super) missed: u64,
}

impl Periods {
    /// Periods in the window.
    const WINDOW: u32 = 100;

    pub(super) fn new(rate: Option<Rate>) -> Self {
        let period = rate.map(Rate::period);
        Self { period, last: None, missed_since: 0, window: 0, len: 0, missed: 0 }
    }

    /// The periods of the window in which an action came, and all of them.
    pub(super) fn on_time(&self) -> (u32, u32) {
        let mask = (1_u128 << Self::WINDOW) - 1;
        ((self.window & mask).count_ones(), self.len)
    }

    fn push(&mut self, on_time: bool) {
        self.window = self.window << 1 | u128::from(on_time);
        self.len = (self.len + 1).min(Self::WINDOW);
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some((last, period)) = self.last.zip(self.period) else { return };
        let late = now.saturating_duration_since(last).saturating_sub(period / 2);
        let missed = (late.as_nanos() / period.as_nanos().max(1)) as u64;
        let more = missed.saturating_sub(self.missed_since);
        (0..more.min(Self::WINDOW.into())).for_each(|_| self.push(false));
        self.missed += more;
        self.missed_since += more;
    }

    /// An action has come.
    pub(super) fn note_action(&mut self, now: Instant) {
        if self.period.is_none() {
            return;
        }
        self.advance(now);
        self.push(true);
        (self.last, self.missed_since) = (Some(now), 0);
    }

    /// The action that came last does not count.
    pub(super) fn take_back(&mut self) {
        if self.last.is_some() && self.window & 1 == 1 {
            self.window &= !1;
            self.missed += 1;
        }
    }

    /// No action is expected until [`resume`](Self::resume), or until one comes.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if self.last.is_none() {
            (self.last, self.missed_since) = (Some(now), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn periods() -> (Periods, Instant) {
        (Periods::new(Some(Rate::hz(50).unwrap())), Instant::now())
    }

    #[test]
    fn an_action_that_is_late_by_less_than_half_a_period_is_on_time() {
        let (mut periods, start) = periods();
        for late in [0, 9, 0, 9] {
            let now = periods.last.unwrap_or(start) + PERIOD + Duration::from_millis(late);
            periods.note_action(now);
        }
        assert_eq!((periods.on_time(), periods.missed), ((4, 4), 0));
        periods.advance(periods.last.unwrap() + PERIOD * 5 / 2);
        assert_eq!((periods.on_time(), periods.missed), ((4, 6), 2));
        periods.note_action(periods.last.unwrap() + PERIOD * 3);
        assert_eq!((periods.on_time(), periods.missed), ((5, 7), 2));
    }

    #[test]
    fn only_the_last_hundred_periods_count() {
        let (mut periods, start) = periods();
        periods.note_action(start);
        periods.advance(start + PERIOD * 1_000_000);
        assert_eq!((periods.on_time(), periods.missed), ((0, 100), 999_999));
        (1_000_001..1_000_061).for_each(|n| periods.note_action(start + PERIOD * n));
        assert_eq!(periods.on_time(), (60, 100));
    }

    #[test]
    fn no_period_is_missed_while_no_action_is_expected() {
        let (mut periods, start) = periods();
        periods.advance(start + PERIOD * 50);
        periods.note_action(start);
        periods.pause();
        periods.advance(start + PERIOD * 50);
        assert_eq!((periods.on_time(), periods.missed), ((1, 1), 0));
        let mut none = Periods::new(None);
        none.note_action(start);
        none.advance(start + PERIOD * 50);
        assert_eq!(none.on_time(), (0, 0));
    }
}
