//! The figures, as JSON and as a table.

use std::fmt;
use std::path::PathBuf;

use chiral_proto::client::{LatencyStats, Stats};
use chiral_proto::stats::Histogram;
use chiral_sim::episode::{DISPATCH_HZ, OBSERVATION_HZ};
use serde::Serialize;

use super::Options;
use super::delay::{Comparison, Run};
use super::description::{Description, Reaction};
use super::episode::{Driver, Episode, Traffic};
use crate::transport::Transport;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    episodes: usize,
    solved: usize,
    /// How many must be solved.
    needed: usize,
    seed: u64,
    robot: String,
    cameras: usize,
    size: String,
    transport: Transport,
    /// Whether simulated time was the wall's.
    real_time: bool,
    /// Simulated seconds in a second, while episodes ran.
    speed: f64,
    /// New observations, and actions, in a simulated second.
    observation_hz: Rates,
    action_hz: Rates,
    /// Observations and actions in a second.
    wire_observation_hz: Rates,
    wire_action_hz: Rates,
    latency_ms: Latencies,
    bytes_per_s: BytesPerSecond,
    actions: Actions,
    stream_ticks_missed: u64,
    dispatch_ticks_missed: u64,
    outcomes: Vec<Outcome>,
    sheet: Option<PathBuf>,
    /// The runs with an inference time.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Comparison>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Rates {
    asked: f64,
    achieved: f64,
}

#[derive(Debug, Serialize)]
struct Latencies {
    /// From a request handed to the transport to its answer. In simulated time the robot waits
    /// for a new frame before it answers.
    round_trip: Option<Quantiles>,
    /// From the capture of an image until the policy has it.
    image_to_policy: Option<Quantiles>,
    /// From the capture of an image until the robot has an action that was decided on it.
    image_to_action: Option<Quantiles>,
    /// What that consists of.
    parts: Parts,
}

/// Where the time goes between an image's capture and the action that was decided on it.
#[derive(Debug, Serialize)]
struct Parts {
    sensor_wait: Option<Quantiles>,
    /// Both ways together.
    network: Option<Quantiles>,
    inference: Option<Quantiles>,
    queue: Option<Quantiles>,
    robot_queue: Option<Quantiles>,
    /// In words.
    #[serde(skip)]
    line: String,
}

impl Parts {
    fn new(latency: &LatencyStats) -> Self {
        Self {
            sensor_wait: quantiles(&latency.sensor_wait),
            network: quantiles(&latency.network),
            inference: quantiles(&latency.inference),
            queue: quantiles(&latency.queue),
            robot_queue: quantiles(&latency.robot_queue),
            line: latency.to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct BytesPerSecond {
    received: f64,
    sent: f64,
}

#[derive(Debug, Serialize)]
struct Actions {
    sent: u64,
    /// As the robot counted them.
    applied: u64,
    /// Ticks of the dispatch, between an episode's first plan and its end, without an action.
    starvations: u64,
    /// Actions that were not sent because they had waited for too long.
    expirations: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    episode: u64,
    seed: u64,
    solved: bool,
    /// Simulated seconds to the end.
    time: f64,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        driver: &Driver<'_>,
        stats: &Stats,
        description: &Description,
        sheet: Option<PathBuf>,
    ) -> Self {
        let Traffic { seconds, simulated, frames, actions, starvations, received, sent } =
            driver.episodes.iter().map(|episode| episode.traffic).sum();
        let per =
            |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let rates = |hz: u32, speed: f64, count: u64, seconds: f64| Rates {
            asked: f64::from(hz) * speed,
            achieved: per(count, seconds),
        };
        let outcome = |episode: &Episode| Outcome {
            episode: episode.number,
            seed: options.seed.wrapping_add(episode.number - 1),
            solved: episode.solved,
            time: episode.time,
        };
        let outcomes: Vec<Outcome> = driver.episodes.iter().map(outcome).collect();
        Self {
            episodes: outcomes.len(),
            solved: outcomes.iter().filter(|outcome| outcome.solved).count(),
            needed: options.needed(),
            seed: options.seed,
            robot: description.robot.clone(),
            cameras: description.cameras.len(),
            size: options.size().to_string(),
            transport: options.transport,
            real_time: description.real_time,
            speed: if seconds > 0.0 { simulated / seconds } else { 0.0 },
            observation_hz: rates(OBSERVATION_HZ, 1.0, frames, simulated),
            action_hz: rates(DISPATCH_HZ, 1.0, actions, simulated),
            wire_observation_hz: Rates {
                asked: f64::from(OBSERVATION_HZ) * options.speed(),
                achieved: driver.streamed_hz,
            },
            wire_action_hz: rates(DISPATCH_HZ, options.speed(), actions, seconds),
            latency_ms: Latencies {
                round_trip: quantiles(&stats.round_trip),
                image_to_policy: quantiles(&driver.age),
                image_to_action: description
                    .served
                    .reaction_ms
                    .map(|Reaction { p50, p99 }| Quantiles { p50, p99 }),
                parts: Parts::new(&stats.latency),
            },
            bytes_per_s: BytesPerSecond {
                received: per(received, seconds),
                sent: per(sent, seconds),
            },
            actions: Actions {
                sent: stats.actions.count(),
                applied: description.served.actions,
                starvations,
                expirations: stats.actions_expired,
            },
            stream_ticks_missed: stats.stream_ticks_missed,
            dispatch_ticks_missed: stats.dispatch_ticks_missed,
            outcomes,
            sheet,
            timeline: None,
        }
    }

    pub(super) fn set_timeline(&mut self, timeline: Comparison) {
        self.timeline = Some(timeline);
    }

    pub(super) fn solved(&self) -> usize {
        self.solved
    }

    pub(super) fn is_passed(&self) -> bool {
        self.solved >= self.needed
    }

    /// Mean time of the solved episodes, simulated seconds.
    fn mean_time(&self) -> Option<f64> {
        let times = self.outcomes.iter().filter(|outcome| outcome.solved).map(|o| o.time);
        (self.solved > 0).then(|| times.sum::<f64>() / self.solved as f64)
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            seconds: sum.seconds + one.seconds,
            simulated: sum.simulated + one.simulated,
            frames: sum.frames + one.frames,
            actions: sum.actions + one.actions,
            starvations: sum.starvations + one.starvations,
            received: sum.received + one.received,
            sent: sum.sent + one.sent,
        })
    }
}

fn quantiles(histogram: &Histogram) -> Option<Quantiles> {
    let ms = |q| histogram.quantile(q).as_secs_f64() * 1e3;
    (histogram.count() > 0).then(|| Quantiles { p50: ms(0.5), p99: ms(0.99) })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { robot, cameras, size, episodes, solved, actions, .. } = self;
        let Self { transport, seed, .. } = self;
        writeln!(f, "{robot}, {cameras} cameras {size} with depth, seed {seed}, over {transport}")?;
        write!(f, "episodes         {solved} of {episodes} solved")?;
        if let Some(mean) = self.mean_time() {
            write!(f, ", {mean:.2} s each")?;
        }
        let lost: Vec<String> = self
            .outcomes
            .iter()
            .filter(|outcome| !outcome.solved)
            .map(|outcome| outcome.seed.to_string())
            .collect();
        if !lost.is_empty() {
            write!(f, "; lost seeds: {}", lost.join(" "))?;
        }
        writeln!(f)?;
        if self.real_time {
            writeln!(f, "clock            real time")?;
            writeln!(f, "observations     {}", self.wire_observation_hz)?;
            writeln!(f, "actions          {}", self.wire_action_hz)?;
        } else {
            writeln!(f, "clock            simulated, {:.1} times real time", self.speed)?;
            let (simulated, wire) = (self.observation_hz, self.wire_observation_hz);
            writeln!(f, "observations     {simulated}; on the wire {wire}")?;
            let (simulated, wire) = (self.action_hz, self.wire_action_hz);
            writeln!(f, "actions          {simulated}; on the wire {wire}")?;
        }
        writeln!(f, "                 {} sent, {} applied", actions.sent, actions.applied)?;
        writeln!(f, "starvations      {}", actions.starvations)?;
        writeln!(f, "expirations      {}", actions.expirations)?;
        writeln!(f, "latency          round trip       {}", Shown(self.latency_ms.round_trip))?;
        writeln!(
            f,
            "                 image to policy  {}",
            Shown(self.latency_ms.image_to_policy)
        )?;
        writeln!(
            f,
            "                 image to action  {}",
            Shown(self.latency_ms.image_to_action)
        )?;
        writeln!(f, "                 {}", self.latency_ms.parts.line)?;
        let BytesPerSecond { received, sent } = self.bytes_per_s;
        writeln!(f, "data             {:.1} MB/s in, {:.1} kB/s out", received / 1e6, sent / 1e3)?;
        if let Some(sheet) = &self.sheet {
            writeln!(f, "contact sheet    {}", sheet.display())?;
        }
        if let Some(timeline) = &self.timeline {
            write!(f, "{timeline}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz asked, {:.2} Hz achieved", self.asked, self.achieved)
    }
}

struct Shown(Option<Quantiles>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Quantiles { p50, p99 }) => write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms"),
            None => f.write_str("not measured"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay_ms, jitter_ms, planned_rad_per_s, aligned, unaligned, latency, plot } =
            self;
        write!(f, "inference        {delay_ms} ms")?;
        if *jitter_ms > 0.0 {
            write!(f, " ± {jitter_ms} ms")?;
        }
        writeln!(f, ", a joint planned to turn at {planned_rad_per_s} rad/s")?;
        for (name, run) in [("aligned", aligned), ("unaligned", unaligned)] {
            let Run { executed_over_planned, largest_jump_rad, .. } = run;
            writeln!(
                f,
                "                 {name:<16} {:.0} % of the motion, largest jump {:.1} mrad",
                executed_over_planned * 100.0,
                largest_jump_rad * 1e3,
            )?;
        }
        writeln!(f, "                 {latency}")?;
        writeln!(f, "plot             {}", plot.display())
    }
}
