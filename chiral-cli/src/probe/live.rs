//! Rates, latency and bandwidth of a robot's observations.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_blocking::PolicyClient;
use chiral_proto::{Camera, Name, Observation, Rate};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::samples::Samples;
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
    /// `null` when the robot does not say how old its images are.
    image_age_ms: Option<ImageAge>,
    bytes: u64,
    bytes_per_second: f64,
    /// How often the connection was made again.
    reconnects: u64,
    cameras: Vec<Freshness>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

/// How old the newest image of an observation was, the median.
#[derive(Debug, Serialize)]
struct ImageAge {
    /// When the robot took the observation, and so at the least when it was here.
    when_taken: f64,
    /// When it was here, if the request took no time: no clock tells how long either way takes.
    at_most: f64,
}

/// How often a camera's capture time changed from one observation to the next.
#[derive(Debug, Serialize)]
struct Freshness {
    name: String,
    fresh_hz: Option<f64>,
}

/// Asks for observations at a rate, one at a time; the last one comes back too.
pub(super) fn measure(
    client: &PolicyClient,
    rate: Rate,
    duration: Duration,
) -> anyhow::Result<(Live, Arc<Observation>)> {
    let progress = progress_bar(duration);
    let bytes_before = client.stats().bytes_received;
    let start = Instant::now();
    let mut ticks = Ticks::starting(start, rate);
    let mut tally = Tally::default();
    let last = loop {
        let (asked, connected) = (Instant::now(), client.stats().reconnects);
        let observation = client.observe().context("the robot went away while it was measured")?;
        // The time without a connection is no latency.
        if client.stats().reconnects == connected {
            tally.count(asked, Instant::now(), &observation);
        }
        progress.set_position(start.elapsed().as_millis() as u64);
        if start.elapsed() + rate.period() > duration {
            break observation;
        }
        let now = Instant::now();
        std::thread::sleep(ticks.next(now).saturating_duration_since(now));
    };
    let elapsed = start.elapsed();
    progress.finish_and_clear();
    let stats = client.stats();
    let live = tally.sum_up(elapsed, rate, stats.bytes_received - bytes_before);
    Ok((Live { reconnects: stats.reconnects, ..live }, last))
}

/// Drawn on standard error, and only where that is a terminal.
fn progress_bar(duration: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("measuring {bar:40} {elapsed}");
    ProgressBar::new(duration.as_millis() as u64)
        .with_style(style.expect("the template is well-formed"))
}

#[derive(Default)]
struct Tally {
    latencies: Samples,
    when_taken: Samples,
    at_most: Samples,
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
        let ages = observation.timing().map(|timing| timing.ages).unwrap_or_default();
        if let Some(age) = ages.into_iter().flatten().min() {
            self.when_taken.push(age);
            self.at_most.push(age.saturating_add(came.duration_since(asked)));
        }
        // Rates count from request to request: the first answer takes longer than the rest.
        if self.first.is_none() {
            self.first = Some(asked);
            self.cameras = observation.cameras.iter().map(CameraTally::new).collect();
        }
        self.last = Some(asked);
        for (tally, camera) in self.cameras.iter_mut().zip(&observation.cameras) {
            tally.count(camera);
        }
    }

    fn sum_up(self, elapsed: Duration, rate: Rate, bytes: u64) -> Live {
        let between = self.first.zip(self.last).map(|(first, last)| last.duration_since(first));
        let hz = |count: usize| {
            let seconds = between?.as_secs_f64();
            (seconds > 0.0).then(|| count as f64 / seconds)
        };
        let quantile_ms = |q| self.latencies.quantile_ms(q).unwrap_or_default();
        let ages = self.when_taken.quantile_ms(0.5).zip(self.at_most.quantile_ms(0.5));
        let image_age_ms = ages.map(|(when_taken, at_most)| ImageAge { when_taken, at_most });
        let fresh = |tally: &CameraTally| Freshness {
            name: tally.name.to_string(),
            fresh_hz: hz(tally.changes),
        };
        Live {
            seconds: elapsed.as_secs_f64(),
            asked_hz: rate.as_hz(),
            observations: self.latencies.count(),
            obs_hz: hz(self.latencies.count().saturating_sub(1)),
            latency_ms: Latency {
                p50: quantile_ms(0.5),
                p99: quantile_ms(0.99),
                max: quantile_ms(1.0),
            },
            image_age_ms,
            bytes,
            bytes_per_second: bytes as f64 / elapsed.as_secs_f64(),
            reconnects: 0,
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

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hz = |hz: Option<f64>| hz.map_or_else(|| "–".to_owned(), |hz| format!("{hz:.2} Hz"));
        let count = self.observations;
        writeln!(f, "measured for {:.1} s, asked at {} Hz", self.seconds, self.asked_hz)?;
        writeln!(f, "  observations  {count} at {}", hz(self.obs_hz))?;
        let Latency { p50, p99, max } = self.latency_ms;
        writeln!(f, "  latency       p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        if let Some(ImageAge { when_taken, at_most }) = &self.image_age_ms {
            writeln!(
                f,
                "  image age     {when_taken:.2} ms when taken, at most {at_most:.2} ms when here"
            )?;
        }
        writeln!(
            f,
            "  bandwidth     {:.2} MB/s, {:.3} MB an observation",
            self.bytes_per_second / 1e6,
            self.bytes as f64 / count.max(1) as f64 / 1e6
        )?;
        if self.reconnects > 0 {
            writeln!(f, "  connection    made again {} times", self.reconnects)?;
        }
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
    fn rates_and_latencies_are_computed_from_what_came() {
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
    fn the_age_of_images_lies_between_two_bounds() {
        let timing = chiral_proto::Value::Map(vec![
            ("v".into(), 1.into()),
            ("applied".into(), 0.into()),
            ("snap".into(), 1.into()),
            ("ages".into(), chiral_proto::Value::Array(vec![0.25.into(), 0.125.into()])),
        ]);
        let mut seen = observation([1.0, 2.0]);
        seen.extra.insert("chiral", timing);
        let (mut tally, now) = (Tally::default(), Instant::now());
        tally.count(now, now + Duration::from_millis(5), &seen);
        let live = tally.sum_up(Duration::from_secs(1), Rate::hz(1.0).unwrap(), 1).to_string();
        let expected = "  image age     125.00 ms when taken, at most 130.00 ms when here\n";
        assert!(live.contains(expected), "{live}");
    }

    #[test]
    fn a_single_observation_has_no_rate() {
        let mut tally = Tally::default();
        let now = Instant::now();
        tally.count(now, now, &observation([0.0, 0.0]));
        let live = tally.sum_up(Duration::from_secs(1), Rate::hz(1.0).unwrap(), 1);
        assert_eq!(live.obs_hz, None);
    }
}
