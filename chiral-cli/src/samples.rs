//! Durations that were measured, and their quantiles.

use std::time::Duration;

/// Durations, all of them kept: quantiles of a few hundred samples must not be rounded to buckets.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// The duration that a share `q` of all stay at or below, in milliseconds; `None` without
    /// samples.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).map(|sample| sample.as_secs_f64() * 1e3)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds one.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }
}

impl Extend<Duration> for Samples {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, samples: I) {
        self.0.extend(samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantile_ms(0.5), None);
        samples.extend((1..=100).rev().map(Duration::from_millis));
        let found = [0.0, 0.5, 0.99, 1.0].map(|q| samples.quantile_ms(q).unwrap() as u32);
        assert_eq!(found, [1, 50, 99, 100]);
    }
}
