//! The figures, as JSON and as text.

use std::fmt;

use serde::Serialize;

use super::measure::Subject;
use crate::samples::Samples;

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub(super) runs: Vec<Run>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dispatch: Vec<Dispatch>,
}

/// One connection, with one number of cameras.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    cameras: usize,
    bytes: usize,
    adapter: &'static str,
    transport: &'static str,
    #[serde(flatten)]
    round_trips: RoundTrips,
    /// Absent where there is nothing but a socket below, as the two after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bare_ms: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_bare_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_memory: Option<bool>,
    pub(super) action_ms_loaded: Option<ActionLatency>,
    pub(super) action_ms_idle: Option<ActionLatency>,
    pub(super) obs_hz: f64,
    pub(super) cpu_s_per_gb: Option<f64>,
    pub(super) beside_spinner: Option<BesideSpinner>,
}

/// The same beside a thread that keeps one processor busy.
#[derive(Debug, Serialize)]
pub(super) struct BesideSpinner {
    #[serde(flatten)]
    round_trips: RoundTrips,
    /// While observations stream.
    action_ms: ActionLatency,
    obs_hz: f64,
}

/// Round trips of observations, and of the same bytes without chiral.
#[derive(Debug, Default)]
pub(super) struct Observing {
    pub(super) floor: Samples,
    pub(super) bare: Samples,
    pub(super) observe: Samples,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct RoundTrips {
    floor_ms: Option<Quantiles>,
    observe_ms: Option<Quantiles>,
    ratio_p50: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

/// How long actions took from the policy's call to the robot's, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ActionLatency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
    pub(super) count: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Dispatch {
    pub(super) adapter: &'static str,
    pub(super) asked_hz: f64,
    pub(super) achieved_hz: f64,
    pub(super) ticks_missed: u64,
}

impl Run {
    pub(super) fn new(
        subject: &Subject,
        cameras: usize,
        bytes: usize,
        observing: &Observing,
    ) -> Self {
        let round_trips = RoundTrips::of(observing);
        let bare_ms = quantiles(&observing.bare);
        Self {
            cameras,
            bytes,
            adapter: subject.adapter,
            transport: subject.transport,
            round_trips,
            bare_ms,
            ratio_bare_p50: ratio(round_trips.observe_ms, bare_ms),
            shared_memory: subject.shared_memory,
            action_ms_loaded: None,
            action_ms_idle: None,
            obs_hz: 0.0,
            cpu_s_per_gb: None,
            beside_spinner: None,
        }
    }
}

impl BesideSpinner {
    pub(super) fn new(observing: &Observing, action_ms: ActionLatency, obs_hz: f64) -> Self {
        Self { round_trips: RoundTrips::of(observing), action_ms, obs_hz }
    }
}

impl RoundTrips {
    fn of(observing: &Observing) -> Self {
        let (floor_ms, observe_ms) = (quantiles(&observing.floor), quantiles(&observing.observe));
        Self { floor_ms, observe_ms, ratio_p50: ratio(observe_ms, floor_ms) }
    }
}

fn ratio(ours: Option<Quantiles>, other: Option<Quantiles>) -> Option<f64> {
    ours.zip(other).map(|(ours, other)| ours.p50 / other.p50)
}

fn quantiles(samples: &Samples) -> Option<Quantiles> {
    Some(Quantiles {
        p50: samples.quantile_ms(0.5)?,
        p90: samples.quantile_ms(0.9)?,
        p99: samples.quantile_ms(0.99)?,
    })
}

/// A row of figures under a name.
fn row(f: &mut fmt::Formatter<'_>, name: &str, figures: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<17} {figures}")
}

fn row_if(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    figures: Option<impl fmt::Display>,
) -> fmt::Result {
    figures.map_or(Ok(()), |figures| row(f, name, figures))
}

fn ratio_row(f: &mut fmt::Formatter<'_>, name: &str, ratio: Option<f64>) -> fmt::Result {
    row_if(f, name, ratio.map(|ratio| format!("p50 {ratio:7.3}")))
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99 } = self;
        write!(f, "p50 {p50:7.3} ms  p90 {p90:7.3} ms  p99 {p99:7.3} ms")
    }
}

impl fmt::Display for ActionLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, max, count } = self;
        write!(f, "p50 {p50:7.3} ms  p99 {p99:7.3} ms  max {max:7.3} ms  of {count}")
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cameras, bytes, transport, adapter, round_trips, .. } = self;
        let megabytes = *bytes as f64 / 1e6;
        writeln!(
            f,
            "{cameras} camera(s), {megabytes:.2} MB an observation, {transport} on {adapter}"
        )?;
        row_if(f, "socket's floor", round_trips.floor_ms)?;
        row_if(f, "bare Zenoh", self.bare_ms)?;
        row_if(f, "observe", round_trips.observe_ms)?;
        ratio_row(f, "ratio to floor", round_trips.ratio_p50)?;
        ratio_row(f, "ratio to bare", self.ratio_bare_p50)?;
        row_if(f, "shared memory", self.shared_memory.map(|yes| if yes { "yes" } else { "no" }))?;
        row_if(f, "action, streaming", self.action_ms_loaded)?;
        row_if(f, "action, idle", self.action_ms_idle)?;
        row(f, "stream at 30 Hz", format_args!("{:.2} Hz", self.obs_hz))?;
        row_if(f, "CPU, both sides", self.cpu_s_per_gb.map(|cpu| format!("{cpu:.3} s/GB")))?;
        self.beside_spinner.iter().try_for_each(|spinner| spinner.fmt(f))
    }
}

impl fmt::Display for BesideSpinner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  beside a thread that keeps a processor busy")?;
        row_if(f, "  socket's floor", self.round_trips.floor_ms)?;
        row_if(f, "  observe", self.round_trips.observe_ms)?;
        ratio_row(f, "  ratio to floor", self.round_trips.ratio_p50)?;
        row(f, "  action, stream.", self.action_ms)?;
        row(f, "  stream at 30 Hz", format_args!("{:.2} Hz", self.obs_hz))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.runs.iter().try_for_each(|run| run.fmt(f))?;
        for Dispatch { adapter, asked_hz, achieved_hz, ticks_missed } in &self.dispatch {
            writeln!(
                f,
                "dispatch on {adapter} at {asked_hz} Hz: {achieved_hz:.3} Hz, {ticks_missed} ticks \
                 missed"
            )?;
        }
        Ok(())
    }
}
