//! `chiral demo`: a simulated arm in one process, and in this one a policy that drives it from
//! the pixels, over a real socket.

mod delay;
mod description;
mod episode;
mod pictures;
mod process;
mod report;
mod robot;
mod sheet;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chiral_blocking::PolicyClient;
use chiral_proto::client::Config;
use chiral_proto::{Map, Rate};
use chiral_sim::episode::{DISPATCH_HZ, OBSERVATION_HZ};
use clap::Args;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

pub(crate) use process::{Options as RobotOptions, run as run_robot};

use crate::output;
use crate::robot::Size;
use crate::robot::fault::Fault;
use crate::transport::Transport;
use delay::Inference;
use description::Description;
use episode::Driver;
use report::Report;

/// How many times faster than real time the rates of `--fast` are on the wire.
const SPEED: u32 = 10;
/// In real time an action that waited longer than this is not worth sending.
const MAX_AGE: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Episodes to run. One in twenty, rounded up, may be lost.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// The seed of the first episode; each later one takes the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What carries the messages.
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    /// On simulated time, faster than real time: the robot's clock goes on with every action.
    #[arg(long)]
    fast: bool,
    /// The size of the three cameras' images [default: 320x240, with --fast 160x120].
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    size: Option<Size>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Where to write what the cameras saw, as a PNG.
    #[arg(long, value_name = "PATH", default_value = "chiral-demo.png")]
    sheet: PathBuf,
    /// Write no PNG.
    #[arg(long, conflicts_with = "sheet")]
    no_sheet: bool,
    /// After the episodes, move the arm with a policy that takes so many milliseconds for each
    /// chunk: with chunks that are aligned with what was done in the meantime, and without.
    #[arg(long, value_name = "MS", conflicts_with = "fast",
          value_parser = clap::value_parser!(u32).range(..=5_000))]
    delay_ms: Option<u32>,
    /// By how much the time for a chunk varies, to both sides.
    #[arg(long, value_name = "MS", requires = "delay_ms", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=5_000))]
    jitter_ms: u32,
    /// Where to write what was planned and what was done with that delay, as an SVG.
    #[arg(
        long,
        value_name = "PATH",
        requires = "delay_ms",
        default_value = "chiral-demo-delay.svg"
    )]
    plot: PathBuf,
    /// What the robot is to get wrong; then the demo must fail.
    #[arg(long = "break", value_enum, hide = true)]
    fault: Option<Fault>,
}

impl Options {
    fn size(&self) -> Size {
        let (width, height) = if self.fast { (160, 120) } else { (320, 240) };
        self.size.unwrap_or(Size { width, height })
    }

    /// How many times faster than real time the rates on the wire are.
    fn speed(&self) -> f64 {
        if self.fast { SPEED.into() } else { 1.0 }
    }

    /// What the policy of the runs with a delay takes.
    fn inference(&self) -> Option<Inference> {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let (jitter, seed) = (ms(self.jitter_ms), self.seed);
        self.delay_ms.map(|delay| Inference { delay: ms(delay), jitter, seed })
    }

    /// How many episodes must be solved.
    fn needed(&self) -> usize {
        let episodes = self.episodes as usize;
        (episodes - episodes.div_ceil(20)).max(1)
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // Before a process is started that could not serve it.
    options.transport.loopback(process::NAME)?;
    let (robot, uri) = process::start(options).context("the robot did not start")?;
    let mut report = drive(options, &uri).context("the demo broke off")?;
    if let Some(inference) = options.inference() {
        let comparison = delay::compare(&uri, inference, &options.plot);
        report.set_timeline(comparison.context("the runs with a delay broke off")?);
    }
    robot.stop()?;
    if options.json {
        output::print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        output::print(&report.to_string())?;
    }
    ensure!(
        report.is_passed(),
        "the demo failed: {} of {} episodes solved, at least {} needed",
        report.solved(),
        options.episodes,
        options.needed(),
    );
    Ok(())
}

/// Runs all episodes as the robot's policy.
fn drive(options: &Options, uri: &str) -> anyhow::Result<Report> {
    let config = Config { max_age: (!options.fast).then_some(MAX_AGE), ..Config::default() };
    let client = PolicyClient::builder()
        .config(config)
        .connect_timeout(CONNECT_TIMEOUT)
        .request_timeout(REQUEST_TIMEOUT)
        .connect(uri)?;
    describe(&client.metadata()?)?;
    let rate = |hz: u32| Rate::hz(f64::from(hz) * options.speed());
    client.start_obs_stream(rate(OBSERVATION_HZ)?)?;
    client.start_action_dispatch(rate(DISPATCH_HZ)?)?;

    let progress = progress_bar(options.episodes);
    let mut driver = Driver::new(&client, progress.clone());
    for number in 1..=options.episodes {
        driver.run_episode(number.into()).with_context(|| format!("in episode {number}"))?;
        progress.inc(1);
    }
    progress.finish_and_clear();

    client.stop_obs_stream();
    client.stop_action_dispatch();
    // A reset waits for the actions before it: the robot has then counted them all.
    client.reset()?;
    let description = describe(&client.metadata()?)?;
    let stats = client.stats();
    let sheet = match &options.sheet {
        _ if options.no_sheet => None,
        path => Some(write_sheet(path, &driver)?),
    };
    let report = Report::new(options, &driver, &stats, &description, sheet);
    client.close();
    Ok(report)
}

fn describe(metadata: &Map) -> anyhow::Result<Description> {
    metadata.deserialize().context("the robot does not describe itself as a simulated arm")
}

fn write_sheet(path: &Path, driver: &Driver<'_>) -> anyhow::Result<PathBuf> {
    let png = driver.sheet.to_png()?;
    std::fs::write(path, png)
        .with_context(|| format!("cannot write the contact sheet {}", path.display()))?;
    Ok(path.to_owned())
}

/// Drawn on standard error, and only where that is a terminal.
fn progress_bar(episodes: u32) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} [{bar:20}] {pos}/{len} episodes  {wide_msg}")
            .expect("the template is well-formed")
            .progress_chars("=> ");
    // However the demo ends, its line is gone then.
    ProgressBar::new(episodes.into()).with_style(style).with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn up_to_one_failed_episode_in_twenty_is_a_pass() {
        let needed =
            |episodes| Arguments::parse_from(["demo", "--episodes", episodes]).options.needed();
        assert_eq!(["1", "2", "5", "20", "21", "100"].map(needed), [1, 1, 4, 19, 19, 95]);
    }
}
