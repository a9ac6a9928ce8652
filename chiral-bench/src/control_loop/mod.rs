//! How even a robot's own control loop is that pulls its actions, and what a call costs it.
//!
//! The loop is an ordinary thread's: it sleeps to absolute deadlines, and neither spins nor has a
//! real-time priority. It runs in three ways, each for a second, one after the other and all over
//! again, so that what else the computer does falls on all of them.

mod report;
mod robot;

use std::time::Duration;

use anyhow::Context as _;
use chiral_blocking::PolicyClient;
use chiral_cli::bench::{CommonOptions, Settings};
use chiral_cli::helper::Helper;
use chiral_proto::Rate;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

pub(crate) use robot::{Options, run};

use report::{Case, Report};

/// How often the loop comes round.
const LOOP_HZ: f64 = 1000.0;
const ACTION_HZ: f64 = 50.0;
const STREAM_HZ: f64 = 30.0;
const CAMERAS: usize = 8;
/// How long the loop runs in one way before the next has its turn.
const ROUND_SECONDS: f64 = 1.0;
/// How long an observation may be under way.
const OBSERVATION_TIMEOUT: Duration = Duration::from_secs(10);

/// What was measured in one round, in the robot's process. Durations are nanoseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Round {
    /// By how much each period was off.
    off: Vec<u64>,
    /// How long each call for an action took that found none.
    empty_calls: Vec<u64>,
    /// How long each took that returned one.
    full_calls: Vec<u64>,
    /// Ticks for which the loop came too late.
    missed: u64,
}

/// A robot's process whose loop runs when it is told to.
struct Robot {
    helper: Helper,
    uri: Option<String>,
}

impl Robot {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments: Vec<String> =
            ["control-loop"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let mut helper = Helper::start(&arguments)?;
        let line = helper.next_line().context("the robot was not ready")?;
        Ok(Self { helper, uri: serde_json::from_str(&line)? })
    }

    /// Runs the loop for so many seconds.
    fn run(&mut self, seconds: f64) -> anyhow::Result<Round> {
        self.helper.tell(&serde_json::to_string(&seconds)?)?;
        Ok(serde_json::from_str(&self.helper.next_line()?)?)
    }
}

/// Measures, for so many seconds in each way, and prints the result.
pub(crate) fn measure(settings: &Settings, options: &CommonOptions) -> anyhow::Result<()> {
    let mut bare = Robot::start(&["--bare"])?;
    let mut robot = Robot::start(&[])?;
    let uri = robot.uri.clone().context("the robot did not say where it is")?;
    let policy = PolicyClient::connect(&uri)?;

    let seconds = settings.seconds.as_secs_f64();
    let mut report = Report::new(LOOP_HZ, CAMERAS, seconds);
    let rounds = (seconds / ROUND_SECONDS).ceil().max(1.0);
    let round = seconds / rounds;
    let progress = ProgressBar::new(rounds as u64);
    let mut observations = 0;
    for _ in 0..rounds as u64 {
        report.bare.add(&bare.run(round)?);
        act(&policy, &mut robot, round, &mut report.acting)?;
        observations += observe(&policy, &mut robot, round, &mut report.streaming)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    report.obs_hz = observations as f64 / seconds;

    policy.close();
    robot.helper.stop()?;
    bare.helper.stop()?;
    options.print(&report)
}

/// One round with actions.
fn act(
    policy: &PolicyClient,
    robot: &mut Robot,
    seconds: f64,
    case: &mut Case,
) -> anyhow::Result<()> {
    // Enough for the round; what is left of them must not be counted in the next.
    for _ in 0..(2.0 * seconds * ACTION_HZ) as usize + 2 {
        policy.put_action([0.0; 7])?;
    }
    policy.start_action_dispatch(Rate::hz(ACTION_HZ)?)?;
    let round = robot.run(seconds)?;
    policy.stop_action_dispatch();
    policy.clear_actions();
    case.add(&round);
    Ok(())
}

/// One round with actions and with observations; how many of these came.
fn observe(
    policy: &PolicyClient,
    robot: &mut Robot,
    seconds: f64,
    case: &mut Case,
) -> anyhow::Result<u64> {
    policy.start_obs_stream(Rate::hz(STREAM_HZ)?)?;
    // The one that there is already, if there is one, and the first of this stream.
    while policy.next_obs(Duration::ZERO)?.is_some() {}
    policy.next_obs(OBSERVATION_TIMEOUT)?.context("no observation comes")?;
    let before = policy.stats().observations.count();
    act(policy, robot, seconds, case)?;
    let observed = policy.stats().observations.count() - before;
    policy.stop_obs_stream();
    Ok(observed)
}
