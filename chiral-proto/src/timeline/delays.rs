use std::collections::VecDeque;
use std::time::Duration;

/// How long the last inferences took, from an observation's arrival to its chunk.
#[derive(Debug, Default)]
pub(super) struct Delays {
    window: VecDeque<Duration>,
    /// The first inference was seen: it compiles the model, and says nothing of those to come.
    is_warm: bool,
}

impl Delays {
    const WINDOW: usize = 32;
    const QUANTILE: (usize, usize) = (9, 10);

    pub(super) fn record(&mut self, inference: Duration) {
        if !std::mem::replace(&mut self.is_warm, true) {
            return;
        }
        if self.window.is_empty() {
            self.window.reserve_exact(Self::WINDOW);
        }
        if self.window.len() == Self::WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(inference);
    }

    /// What nine in ten stayed at or below.
    pub(super) fn expected(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.window.iter().copied().collect();
        sorted.sort_unstable();
        let (share, of) = Self::QUANTILE;
        let rank = (sorted.len() * share).div_ceil(of);
        sorted.get(rank.checked_sub(1)?).copied()
    }

    /// The same in steps of a period, the last one begun included.
    pub(super) fn expected_steps(&self, period: Duration) -> Option<u64> {
        let steps = self.expected()?.as_nanos().div_ceil(period.as_nanos().max(1));
        Some(u64::try_from(steps).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_inference_is_left_out() {
        let mut delays = Delays::default();
        assert_eq!(delays.expected(), None);
        delays.record(ms(30_000));
        assert_eq!(delays.expected(), None);
        delays.record(ms(80));
        assert_eq!(delays.expected(), Some(ms(80)));
        assert_eq!(delays.expected_steps(ms(20)), Some(4));
        assert_eq!(delays.expected_steps(ms(30)), Some(3));
    }

    #[test]
    fn an_outlier_leaves_the_window() {
        let mut delays = Delays::default();
        for millis in [1, 5000, 5000, 5000, 5000] {
            delays.record(ms(millis));
        }
        assert_eq!(delays.expected(), Some(ms(5000)));
        for _ in 0..28 {
            delays.record(ms(100));
        }
        assert_eq!(delays.expected(), Some(ms(5000)), "four of 32");
        delays.record(ms(100));
        assert_eq!(delays.expected(), Some(ms(100)), "three of 32");
    }
}
