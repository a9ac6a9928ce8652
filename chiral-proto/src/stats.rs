//! What both machines count: rates and latencies, in a form that a user can print.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// A histogram of durations: 1 ns to centuries, each value to within 1/16 of itself, in a fixed
/// 8 KiB.
///
/// ```
/// use std::time::Duration;
/// use chiral_proto::stats::Histogram;
///
/// let mut latency = Histogram::default();
/// for millis in 1..=100 {
///     latency.record(Duration::from_millis(millis));
/// }
/// assert_eq!(latency.count(), 100);
/// assert!(latency.quantile(0.5).abs_diff(Duration::from_millis(50)) < Duration::from_millis(4));
/// assert_eq!(latency.max(), Duration::from_millis(100));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64; Histogram::BUCKETS]>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// Buckets to every doubling.
    const STEPS: u64 = 16;
    const BUCKETS: usize = 1024;

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::bucket(nanos)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
        self.max = self.max.max(duration);
    }

    /// Counts a duration that may be unknown.
    pub(crate) fn record_known(&mut self, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.record(duration);
        }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration; zero when nothing was counted.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The mean duration; zero when nothing was counted.
    pub fn mean(&self) -> Duration {
        self.sum.checked_div(u32::try_from(self.count).unwrap_or(u32::MAX)).unwrap_or_default()
    }

    /// The duration that a share `q` (0 to 1) of all stay at or below, to within 1/16; zero when
    /// nothing was counted.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|&count| {
            seen += count;
            seen >= rank
        });
        let highest = bucket.map_or(0, |bucket| Self::lowest_of(bucket + 1).saturating_sub(1));
        Duration::from_nanos(highest).min(self.max)
    }

    /// Small values have a bucket each; above, the leading bit and the four bits behind it say
    /// which.
    fn bucket(nanos: u64) -> usize {
        let octave = u64::from(nanos.max(Self::STEPS).ilog2() - Self::STEPS.ilog2());
        (octave * Self::STEPS + (nanos >> octave)) as usize
    }

    fn lowest_of(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        let octave = (bucket / Self::STEPS).saturating_sub(1);
        let lowest = u128::from(bucket - octave * Self::STEPS) << octave;
        u64::try_from(lowest).unwrap_or(u64::MAX)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; Self::BUCKETS]),
            count: 0,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| self.quantile(q));
        write!(f, "{} × p50 {p50:.1?} p90 {p90:.1?} p99 {p99:.1?} max {:.1?}", self.count, self.max)
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({self})")
    }
}

/// The medians of what was measured.
pub(crate) fn write_parts(
    f: &mut fmt::Formatter<'_>,
    whole: &Histogram,
    parts: &[(&str, &Histogram)],
) -> fmt::Result {
    let median = |histogram: &Histogram| histogram.quantile(0.5);
    let mut parts = parts.iter().filter(|(_, histogram)| histogram.count() > 0).peekable();
    match (whole.count(), parts.peek()) {
        (0, None) => return f.write_str("not measured"),
        (0, _) => {}
        _ => write!(f, "{:.1?} from sensor to action: ", median(whole))?,
    }
    for (index, (name, histogram)) in parts.enumerate() {
        let separator = if index > 0 { " + " } else { "" };
        write!(f, "{separator}{name} {:.1?}", median(histogram))?;
    }
    Ok(())
}

/// How often something happened: its count, and the rate over all of it and of late.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meter {
    count: u64,
    first: Option<Instant>,
    recent: VecDeque<Instant>,
}

impl Meter {
    const RECENT: usize = 64;

    pub(crate) fn record(&mut self, now: Instant) {
        self.count += 1;
        self.first.get_or_insert(now);
        if self.recent.len() == Self::RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    /// How often it happened.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean rate from the first time to the last, in hertz; `None` before the second.
    pub fn hz(&self) -> Option<f64> {
        rate(self.count, self.first?, *self.recent.back()?)
    }

    /// The mean rate of the last 64 times, in hertz; `None` before the second.
    pub fn recent_hz(&self) -> Option<f64> {
        rate(self.recent.len() as u64, *self.recent.front()?, *self.recent.back()?)
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hz() {
            Some(hz) => write!(f, "{} at {hz:.2} Hz", self.count),
            None => write!(f, "{}", self.count),
        }
    }
}

fn rate(count: u64, first: Instant, last: Instant) -> Option<f64> {
    let seconds = last.duration_since(first).as_secs_f64();
    (seconds > 0.0).then(|| (count - 1) as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_falls_into_its_bucket(nanos: u64) {
            let bucket = Histogram::bucket(nanos);
            prop_assert!(bucket < Histogram::BUCKETS);
            prop_assert!(Histogram::lowest_of(bucket) <= nanos);
            prop_assert!(nanos <= Histogram::lowest_of(bucket + 1));
        }

        #[test]
        fn quantiles_are_accurate_to_one_sixteenth(mut nanos in proptest::collection::vec(1_u64..1 << 40, 1..200), q in 0.0_f64..=1.0) {
            let mut histogram = Histogram::default();
            nanos.iter().for_each(|&nanos| histogram.record(Duration::from_nanos(nanos)));
            nanos.sort_unstable();
            let rank = ((q * nanos.len() as f64).ceil() as usize).max(1);
            let exact = nanos[rank - 1];
            let found = histogram.quantile(q).as_nanos() as u64;
            prop_assert!((exact..=exact + exact / 16 + 1).contains(&found), "{found} for {exact}");
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        assert_eq!(histogram.mean(), Duration::ZERO);
        assert_eq!(histogram.to_string(), "none");
        assert_eq!(Meter::default().hz(), None);
    }
}
