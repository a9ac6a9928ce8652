//! Rates, latency and bandwidth of a robot's observations.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_proto::{Camera, Name, Observation, Rate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::adapter::Client;
use crate::text;
use crate::ticks::Ticks;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    seconds: f64,
    asked_hz: f64,
    observations: usize,
    /// Absent when too few came to say.
    obs_hz: Option<f64>,
    /// From asking to having it.
    latency_ms: Latency,
    bytes: u64,
    bytes_per_second: f64,
    cameras: Vec<Freshness>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

/// How often a camera's capture time changed from one observation to the next.
#[derive(Debug, Serialize)]
struct Freshness {
    name: String,
    fresh_hz: Option<f64>,
}

/// Asks for observations at a rate, one at a time; the last one comes back too.
pub(super) fn measure(
    client: &Client,
    rate: Rate,
    duration: Duration,
) -> anyhow::Result<(Live, Arc<Observation>)> {
    let progress = progress_bar(duration);
    let bytes_before = client.stats().bytes_received;
    let start = Instant::now();
    let mut ticks = Ticks::starting(start, rate);
    let mut tally = Tally::default();
    let last = loop {
        let observed = client.observe().context("the robot went away while it was measured")?;
        tally.count(observed.asked, observed.came, &observed.observation);
        progress.set_position(start.elapsed().as_millis() as u64);
        if start.elapsed() + rate.period() > duration {
            break observed.observation;
        }
        let now = Instant::now();
        std::thread::sleep(ticks.next(now).saturating_duration_since(now));
    };
    let elapsed = start.elapsed();
    progress.finish_and_clear();
    let bytes = client.stats().bytes_received - bytes_before;
    Ok((tally.sum_up(elapsed, rate, bytes), last))
}

/// On a terminal; elsewhere it shows nothing.
fn progress_bar(duration: Duration) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("measuring {bar:40} {elapsed}");
    ProgressBar::with_draw_target(Some(duration.as_millis() as u64), target)
        .with_style(style.expect("the template is well-formed"))
}

#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    first: Option<Instant>,
    last: Option<Instant>,
    cameras: Vec<CameraTally>,
}

struct CameraTally {
    name: Name,
    timestamp: f64,
    changes: usize,
}

impl Tally {
    fn count(&mut self, asked: Instant, came: Instant, observation: &Observation) {
        self.latencies.push(came.duration_since(asked));
        // By the asking: of the answers, the first one comes later than the rest.
        if self.first.is_none() {
            self.first = Some(asked);
            self.cameras = observation.cameras.iter().map(CameraTally::new).collect();
        }
        self.last = Some(asked);
        for (tally, camera) in self.cameras.iter_mut().zip(&observation.cameras) {
            tally.count(camera);
        }
    }

    fn sum_up(mut self, elapsed: Duration, rate: Rate, bytes: u64) -> Live {
        self.latencies.sort_unstable();
        let between = self.first.zip(self.last).map(|(first, last)| last.duration_since(first));
        let hz = |count: usize| {
            let seconds = between?.as_secs_f64();
            (seconds > 0.0).then(|| count as f64 / seconds)
        };
        let fresh = |tally: &CameraTally| Freshness {
            name: tally.name.to_string(),
            fresh_hz: hz(tally.changes),
        };
        Live {
            seconds: elapsed.as_secs_f64(),
            asked_hz: rate.as_hz(),
            observations: self.latencies.len(),
            obs_hz: hz(self.latencies.len() - 1),
            latency_ms: Latency {
                p50: quantile_ms(&self.latencies, 0.5),
                p99: quantile_ms(&self.latencies, 0.99),
                max: quantile_ms(&self.latencies, 1.0),
            },
            bytes,
            bytes_per_second: bytes as f64 / elapsed.as_secs_f64(),
            cameras: self.cameras.iter().map(fresh).collect(),
        }
    }
}

impl CameraTally {
    fn new(camera: &Camera) -> Self {
        Self { name: camera.name.clone(), timestamp: camera.timestamp, changes: 0 }
    }

    fn count(&mut self, camera: &Camera) {
        if camera.timestamp.to_bits() != self.timestamp.to_bits() {
            self.timestamp = camera.timestamp;
            self.changes += 1;
        }
    }
}

/// The duration that a share `q` of all stay at or below; they are sorted, and at least one.
fn quantile_ms(sorted: &[Duration], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1].as_secs_f64() * 1e3
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hz = |hz: Option<f64>| hz.map_or_else(|| "–".to_owned(), |hz| format!("{hz:.2} Hz"));
        let count = self.observations;
        writeln!(f, "measured for {:.1} s, asked at {} Hz", self.seconds, self.asked_hz)?;
        writeln!(f, "  observations  {count} at {}", hz(self.obs_hz))?;
        let Latency { p50, p99, max } = self.latency_ms;
        writeln!(f, "  latency       p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        writeln!(
            f,
            "  bandwidth     {:.2} MB/s, {:.3} MB an observation",
            self.bytes_per_second / 1e6,
            self.bytes as f64 / count as f64 / 1e6
        )?;
        for Freshness { name, fresh_hz } in &self.cameras {
            writeln!(f, "  new frames    {} at {}", text::name(name), hz(*fresh_hz))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(timestamps: [f64; 2]) -> Observation {
        let cameras = timestamps.map(|timestamp| Camera {
            name: "cam".into(),
            timestamp,
            intrinsics: nalgebra::Matrix3::identity(),
            extrinsics: nalgebra::Matrix4::identity(),
            image: chiral_proto::Array::vector(vec![0_u8]),
            depth: None,
        });
        Observation { cameras: cameras.into(), ..Observation::default() }
    }

    #[test]
    fn rates_and_latencies_of_a_known_timeline() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut tally = Tally::default();
        // At 10 Hz; the first camera delivers each time, the second is stuck.
        for tick in 0..=10 {
            let seen = observation([tick as f64, 7.0]);
            tally.count(at(tick * 100), at(tick * 100 + 1), &seen);
        }
        let live = tally.sum_up(Duration::from_secs(2), Rate::hz(10.0).unwrap(), 22_000_000);
        assert_eq!(live.observations, 11);
        assert_eq!(live.obs_hz, Some(10.0));
        assert_eq!(live.cameras[0].fresh_hz, Some(10.0));
        assert_eq!(live.cameras[1].fresh_hz, Some(0.0));
        assert_eq!(
            live.to_string(),
            "measured for 2.0 s, asked at 10 Hz\n  \
               observations  11 at 10.00 Hz\n  \
               latency       p50 1.00 ms, p99 1.00 ms, max 1.00 ms\n  \
               bandwidth     11.00 MB/s, 2.000 MB an observation\n  \
               new frames    \"cam\" at 10.00 Hz\n  \
               new frames    \"cam\" at 0.00 Hz\n"
        );
    }

    #[test]
    fn a_single_observation_has_no_rate() {
        let mut tally = Tally::default();
        let now = Instant::now();
        tally.count(now, now, &observation([0.0, 0.0]));
        let live = tally.sum_up(Duration::from_secs(1), Rate::hz(1.0).unwrap(), 1);
        assert_eq!(live.obs_hz, None);
    }

    #[test]
    fn quantiles_are_recorded_values() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|q| quantile_ms(&sorted, q) as u32);
        assert_eq!(found, [1, 50, 99, 100]);
        assert_eq!(quantile_ms(&sorted[..1], 0.99) as u32, 1);
    }
}
