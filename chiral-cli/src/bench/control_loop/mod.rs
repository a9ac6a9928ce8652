//! How even a robot's own control loop is that pulls its actions, and what a call costs it.
//!
//! The loop is an ordinary thread's: it sleeps to absolute deadlines, and neither spins nor has a
//! real-time priority. It runs in three ways, each for a second, one after the other and all over
//! again, so that what else the computer does falls on all of them.

mod report;
mod robot;

use std::time::Duration;

use anyhow::Context as _;
use chiral_proto::Rate;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

pub(crate) use robot::{Options, run};

use crate::adapter::{Adapter, Client, Settings};
use crate::helper::Helper;
use crate::output;
use report::{Case, Report};

/// How often the loop comes round.
const LOOP_HZ: f64 = 1000.0;
const ACTION_HZ: f64 = 50.0;
const STREAM_HZ: f64 = 30.0;
const CAMERAS: usize = 8;
/// How long the loop runs in one way before the next has its turn.
const TURN: f64 = 1.0;
/// How long an observation may be under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was measured in one turn, in the robot's process. Durations are nanoseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Turn {
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
            ["bench-loop"].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let mut helper = Helper::start(&arguments)?;
        let line = helper.next_line().context("the robot was not ready")?;
        Ok(Self { helper, uri: serde_json::from_str(&line)? })
    }

    /// Runs the loop for so many seconds.
    fn run(&mut self, seconds: f64) -> anyhow::Result<Turn> {
        self.helper.tell(&serde_json::to_string(&seconds)?)?;
        Ok(serde_json::from_str(&self.helper.next_line()?)?)
    }
}

/// Measures, for so many seconds in each way, and prints the result.
pub(super) fn measure(duration: Duration, json: bool) -> anyhow::Result<()> {
    let mut bare = Robot::start(&["--bare"])?;
    let mut robot = Robot::start(&[])?;
    let uri = robot.uri.clone().context("the robot did not say where it is")?;
    let policy = Client::connect(Adapter::Blocking, &uri, Settings::default())?;

    let seconds = duration.as_secs_f64();
    let mut report = Report::new(LOOP_HZ, CAMERAS, seconds);
    let turns = (seconds / TURN).ceil().max(1.0);
    let turn = seconds / turns;
    let progress = ProgressBar::new(turns as u64);
    let mut observations = 0;
    for _ in 0..turns as u64 {
        report.bare.add(&bare.run(turn)?);
        act(&policy, &mut robot, turn, &mut report.acting)?;
        observations += observe(&policy, &mut robot, turn, &mut report.streaming)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    report.obs_hz = observations as f64 / seconds;

    policy.close();
    robot.helper.stop()?;
    bare.helper.stop()?;
    if json {
        let report = serde_json::json!({ "control_loop": report });
        output::print(&format!("{report}\n"))
    } else {
        output::print(&report.to_string())
    }
}

/// One turn with actions.
fn act(policy: &Client, robot: &mut Robot, seconds: f64, case: &mut Case) -> anyhow::Result<()> {
    // Enough for the turn; what is left of them must not be counted in the next.
    for _ in 0..(2.0 * seconds * ACTION_HZ) as usize + 2 {
        policy.put_action([0.0; 7])?;
    }
    policy.start_action_dispatch(Rate::hz(ACTION_HZ)?)?;
    let turn = robot.run(seconds)?;
    policy.stop_action_dispatch();
    policy.clear_actions();
    case.add(&turn);
    Ok(())
}

/// One turn with actions and with observations; how many of these came.
fn observe(
    policy: &Client,
    robot: &mut Robot,
    seconds: f64,
    case: &mut Case,
) -> anyhow::Result<u64> {
    policy.start_obs_stream(Rate::hz(STREAM_HZ)?)?;
    // The one that there is already, if there is one, and the first of this stream.
    while policy.next_obs(Duration::ZERO)?.is_some() {}
    policy.next_obs(PATIENCE)?.context("no observation comes")?;
    let before = policy.stats().observations.count();
    act(policy, robot, seconds, case)?;
    let observed = policy.stats().observations.count() - before;
    policy.stop_obs_stream();
    Ok(observed)
}
