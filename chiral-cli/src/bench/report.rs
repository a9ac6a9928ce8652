//! The figures, as JSON and as a table.

use std::fmt;

use serde::Serialize;

use super::measure::{ActionLatency, Observing};
use super::samples::Samples;
use super::{Line, Transport};
use crate::adapter::Adapter;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) runs: Vec<Run>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dispatch: Vec<Dispatch>,
}

#[derive(Debug, Serialize)]
pub(super) struct Run {
    cameras: usize,
    bytes: usize,
    adapter: Adapter,
    transport: Transport,
    floor_ms: Option<Quantiles>,
    observe_ms: Option<Quantiles>,
    ratio_p50: Option<f64>,
    /// Absent when not over Zenoh, as the two after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bare_ms: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_bare_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_memory: Option<bool>,
    action_ms_loaded: Option<Latency>,
    action_ms_idle: Option<Latency>,
    obs_hz: f64,
    cpu_s_per_gb: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
    count: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Dispatch {
    pub(super) adapter: Adapter,
    pub(super) asked_hz: f64,
    pub(super) achieved_hz: f64,
    pub(super) ticks_missed: u64,
}

impl Run {
    pub(super) fn new(line: Line, cameras: usize, bytes: usize) -> Self {
        let Line { adapter, transport } = line;
        Self {
            cameras,
            bytes,
            adapter,
            transport,
            floor_ms: None,
            observe_ms: None,
            ratio_p50: None,
            bare_ms: None,
            ratio_bare_p50: None,
            shared_memory: None,
            action_ms_loaded: None,
            action_ms_idle: None,
            obs_hz: 0.0,
            cpu_s_per_gb: None,
        }
    }

    pub(super) fn observed(mut self, observing: &Observing, obs_hz: f64) -> Self {
        self.floor_ms = quantiles(&observing.floor);
        self.observe_ms = quantiles(&observing.observe);
        self.bare_ms = quantiles(&observing.bare);
        let ours = self.observe_ms;
        let ratio_to =
            |other: Option<Quantiles>| ours.zip(other).map(|(ours, other)| ours.p50 / other.p50);
        self.ratio_p50 = ratio_to(self.floor_ms);
        self.ratio_bare_p50 = ratio_to(self.bare_ms);
        self.obs_hz = obs_hz;
        self
    }

    /// Whether observations came through shared memory; `None` when not over Zenoh.
    pub(super) fn sharing(mut self, shared_memory: Option<bool>) -> Self {
        self.shared_memory = shared_memory;
        self
    }

    pub(super) fn acted(mut self, idle: ActionLatency, loaded: ActionLatency) -> Self {
        self.action_ms_idle = Some(idle.into());
        self.action_ms_loaded = Some(loaded.into());
        self
    }

    /// CPU seconds of both processes while so many bytes were moved.
    pub(super) fn burnt(mut self, cpu_seconds: f64, bytes: f64) -> Self {
        self.cpu_s_per_gb = Some(cpu_seconds / (bytes / 1e9));
        self
    }
}

fn quantiles(samples: &Samples) -> Option<Quantiles> {
    Some(Quantiles {
        p50: samples.quantile_ms(0.5)?,
        p90: samples.quantile_ms(0.9)?,
        p99: samples.quantile_ms(0.99)?,
    })
}

impl From<ActionLatency> for Latency {
    fn from(latency: ActionLatency) -> Self {
        let ActionLatency { p50_ms, p99_ms, max_ms, count } = latency;
        Self { p50: p50_ms, p99: p99_ms, max: max_ms, count }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(
                f,
                "{} camera(s), {:.2} MB an observation, {} on {}",
                run.cameras,
                run.bytes as f64 / 1e6,
                run.transport,
                run.adapter
            )?;
            for (name, quantiles) in [
                ("socket's floor", run.floor_ms),
                ("bare Zenoh", run.bare_ms),
                ("observe", run.observe_ms),
            ] {
                if let Some(Quantiles { p50, p90, p99 }) = quantiles {
                    writeln!(
                        f,
                        "  {name:<17} p50 {p50:7.3} ms  p90 {p90:7.3} ms  p99 {p99:7.3} ms"
                    )?;
                }
            }
            for (name, ratio) in
                [("ratio to floor", run.ratio_p50), ("ratio to bare", run.ratio_bare_p50)]
            {
                if let Some(ratio) = ratio {
                    writeln!(f, "  {name:<17} p50 {ratio:7.3}")?;
                }
            }
            if let Some(is_shared) = run.shared_memory {
                writeln!(f, "  shared memory     {}", if is_shared { "yes" } else { "no" })?;
            }
            for (name, latency) in
                [("action, streaming", run.action_ms_loaded), ("action, idle", run.action_ms_idle)]
            {
                if let Some(Latency { p50, p99, max, count }) = latency {
                    writeln!(
                        f,
                        "  {name:<17} p50 {p50:7.3} ms  p99 {p99:7.3} ms  max {max:7.3} ms  of {count}"
                    )?;
                }
            }
            writeln!(f, "  stream at 30 Hz   {:.2} Hz", run.obs_hz)?;
            if let Some(cpu) = run.cpu_s_per_gb {
                writeln!(f, "  CPU, both sides   {cpu:.3} s/GB")?;
            }
        }
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
