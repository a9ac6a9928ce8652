//! Robots and policies of all adapters and transports, over bad networks, for as long as asked: do
//! rates, latencies, memory, threads and descriptors stay as they are?
//!
//! Each robot has one policy, which streams observations, sends actions, resets, and connects again
//! when its connection breaks or its time is over. Every other connection is over an intact link: rates
//! and latencies are taken from these, so that they tell of the program and not of the faults.

mod figures;
mod line;
mod report;
mod robot;
mod usage;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use chiral_cli::output;
use clap::Args;

use figures::{Figures, Phase};
use line::SoakLine;
use report::{Report, Row};
use usage::Usage;

/// How long to soak, and over which faults.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many minutes to go on.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// The seed of the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON: a line for each minute, and one with the verdict.
    #[arg(long)]
    json: bool,
}

/// How often memory, threads and descriptors are counted.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often a row is printed.
const ROW: Duration = Duration::from_secs(60);
/// The longest time that counts as the beginning.
const WARM_UP: Duration = Duration::from_secs(120);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.minutes.is_finite() && (0.1..=1e5).contains(&options.minutes),
        "found --minutes {}, expected 0.1 to 100000",
        options.minutes
    );
    let length = Duration::from_secs_f64(60.0 * options.minutes);
    let warm_up = WARM_UP.min(length / 4);
    let start = Instant::now();
    let end = start + length;
    let figures = Arc::new(Figures::default());
    let lines = SoakLine::start_all(options.seed, &figures)?;
    let policies: Vec<_> = lines.iter().map(|line| line.spawn_policy(end)).collect();

    let mut report = Report::new(options.json, lines.len());
    let (mut next_sample, mut next_row) = (start + SAMPLE, start + ROW.min(length));
    while next_sample < end {
        thread::sleep(next_sample.saturating_duration_since(Instant::now()));
        next_sample += SAMPLE;
        let elapsed = start.elapsed();
        let phase = Phase::at(elapsed, warm_up, length);
        figures.set_phase(phase);
        report.sample(phase, Usage::now()?);
        for line in &lines {
            line.check_progress()?;
        }
        if next_sample >= next_row || next_sample >= end {
            let row = Row::new(elapsed, &figures.take_minute(), Usage::now()?, &lines);
            output::print(&report.row(row)?)?;
            next_row += ROW;
        }
    }
    for policy in policies {
        policy.join().map_err(|_| anyhow::anyhow!("a policy has panicked"))?;
    }
    let verdict = report.verdict(&figures, &lines);
    output::print(&report.verdict_text(&verdict)?)?;
    // Zenoh must be shut down before the process ends.
    lines.iter().for_each(SoakLine::shut_down);
    ensure!(verdict.is_passed(), "it did not stay as it was: {}", verdict.faults());
    Ok(())
}
