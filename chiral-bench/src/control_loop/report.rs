//! The figures of the control loop, as JSON and as a table.

use std::fmt;
use std::time::Duration;

use chiral_cli::samples::Samples;
use serde::{Serialize, Serializer};

use super::{Round, STREAM_HZ};

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rate_hz: f64,
    cameras: usize,
    /// In each of the three ways.
    seconds: f64,
    /// Without chiral.
    pub(super) bare: Case,
    /// With actions.
    pub(super) acting: Case,
    /// With actions, and all cameras streaming.
    pub(super) streaming: Case,
    /// The rate at which the observations came.
    pub(super) obs_hz: f64,
}

/// One way to run the loop.
#[derive(Debug, Default, Serialize)]
pub(super) struct Case {
    /// By how much a period was off.
    off_ms: Quantiles,
    /// How long a call took for an action that was not there.
    empty_call_ms: Quantiles,
    /// How long a call took that returned one.
    full_call_ms: Quantiles,
    ticks_missed: u64,
}

/// Durations, shown by their quantiles.
#[derive(Debug, Default)]
struct Quantiles(Samples);

#[derive(Serialize)]
struct Values {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    count: usize,
}

impl Report {
    pub(super) fn new(rate_hz: f64, cameras: usize, seconds: f64) -> Self {
        let [bare, acting, streaming] = std::array::from_fn(|_| Case::default());
        Self { rate_hz, cameras, seconds, bare, acting, streaming, obs_hz: 0.0 }
    }
}

impl Case {
    pub(super) fn add(&mut self, round: &Round) {
        self.off_ms.add(&round.off);
        self.empty_call_ms.add(&round.empty_calls);
        self.full_call_ms.add(&round.full_calls);
        self.ticks_missed += round.missed;
    }
}

impl Quantiles {
    fn add(&mut self, nanoseconds: &[u64]) {
        self.0.extend(nanoseconds.iter().copied().map(Duration::from_nanos));
    }

    fn values(&self) -> Option<Values> {
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| self.0.quantile_ms(q));
        Some(Values { p50: p50?, p99: p99?, p999: p999?, max: max?, count: self.0.count() })
    }
}

/// `null` without samples.
impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values().serialize(serializer)
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Values { p50, p99, p999, max, count }) = self.values() else {
            return f.write_str("–");
        };
        write!(f, "p50 {p50:.4}  p99 {p99:.4}  p99.9 {p999:.4}  max {max:.4} ms  of {count}")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  period off by     {}", self.off_ms)?;
        writeln!(f, "  call, no action   {}", self.empty_call_ms)?;
        writeln!(f, "  call, an action   {}", self.full_call_ms)?;
        writeln!(f, "  ticks missed      {}", self.ticks_missed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate_hz, cameras, seconds, bare, acting, streaming, obs_hz } = self;
        writeln!(f, "a control loop at {rate_hz} Hz, for {seconds} s in each way")?;
        write!(f, "without chiral\n{bare}")?;
        write!(f, "with actions\n{acting}")?;
        write!(f, "with actions, and {cameras} cameras streaming\n{streaming}")?;
        writeln!(f, "  stream at {STREAM_HZ} Hz   {obs_hz:.2} Hz")
    }
}
