//! What an inference time costs: one joint is to turn at a constant speed, and the policy takes its
//! time over every chunk. Once its chunks are aligned with what was done in the meantime, and once
//! each one simply replaces what is left of the one before.

mod plot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chiral_blocking::PolicyClient;
use chiral_proto::{Action, Observation, Rate};
use chiral_sim::arm::DOF;
use chiral_sim::episode::OBSERVATION_HZ;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg32;
use serde::Serialize;

use super::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, describe};

/// Rows of a chunk, and how many of them are sent in a second.
const ROWS: u16 = 10;
const ROW_HZ: u32 = 10;
/// What is planned for the first joint, radians per second.
const SPEED: f64 = 0.2;
/// How long a run takes, and how much of its beginning is not measured: there is no motion before
/// the first chunk. Seconds.
const LENGTH: f64 = 6.0;
const WARM_UP: f64 = 1.5;
/// For so long nothing may come from the robot.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The artificial inference time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inference {
    pub(super) delay: Duration,
    /// Each inference is so much longer or shorter at the most.
    pub(super) jitter: Duration,
    pub(super) seed: u64,
}

/// What the two runs have shown.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) delay_ms: f64,
    pub(super) jitter_ms: f64,
    pub(super) planned_rad_per_s: f64,
    pub(super) aligned: Run,
    pub(super) unaligned: Run,
    /// Where the time went, of the actions of both runs.
    pub(super) latency: String,
    pub(super) plot: PathBuf,
}

#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) executed_over_planned: f64,
    /// Between two commands in succession; 0.02 rad were planned.
    pub(super) largest_jump_rad: f64,
    #[serde(skip)]
    trace: Trace,
}

/// Over the robot's clock, in seconds from the run's beginning, the first joint's angle in radians.
#[derive(Debug, Default)]
struct Trace {
    executed: Vec<(f64, f64)>,
    /// Where each chunk begins: the observation on which it was decided.
    chunks: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    Aligned,
    Unaligned,
}

/// Runs both on one robot, and draws what it did.
///
/// # Errors
/// When the connection fails, nothing comes from the robot, or the plot cannot be written.
pub(super) fn compare(uri: &str, inference: Inference, plot: &Path) -> anyhow::Result<Comparison> {
    let client = PolicyClient::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .request_timeout(REQUEST_TIMEOUT)
        .connect(uri)?;
    client.start_action_dispatch(Rate::hz(ROW_HZ)?)?;
    // Not at the same moments as the rows: a joint that has only just been told where to go is not
    // there yet.
    let observations = Rate::hz(OBSERVATION_HZ)?;
    thread::sleep(observations.period() / 2);
    client.start_obs_stream(observations)?;
    let mut random = Pcg32::seed_from_u64(inference.seed);
    let unaligned = run(&client, Chunks::Unaligned, inference, &mut random)?;
    let aligned = run(&client, Chunks::Aligned, inference, &mut random)?;
    let latency = client.stats().latency.to_string();
    client.close();
    plot::write(plot, &[("unaligned", &unaligned.trace), ("aligned", &aligned.trace)])
        .with_context(|| format!("cannot write the plot {}", plot.display()))?;
    Ok(Comparison {
        delay_ms: inference.delay.as_secs_f64() * 1e3,
        jitter_ms: inference.jitter.as_secs_f64() * 1e3,
        planned_rad_per_s: SPEED,
        aligned,
        unaligned,
        latency,
        plot: plot.to_owned(),
    })
}

fn run(
    client: &PolicyClient,
    chunks: Chunks,
    inference: Inference,
    random: &mut Pcg32,
) -> anyhow::Result<Run> {
    let begin = client.reset()?.observation.timestamp;
    let is_over = AtomicBool::new(false);
    let (executed, chunks) = thread::scope(|scope| {
        let policy = scope.spawn(|| infer(client, chunks, inference, random, &is_over));
        let executed = watch(client, begin);
        is_over.store(true, Ordering::Relaxed);
        let chunks = policy.join().expect("the policy does not panic");
        Ok::<_, anyhow::Error>((executed?, chunks?))
    })?;
    client.clear_actions();
    // A reset waits for the actions before it, and then the robot has counted them all.
    let largest_jump = describe(&client.metadata()?)?.served.largest_jump;
    let trace =
        Trace { executed, chunks: chunks.iter().map(|(at, angle)| (at - begin, *angle)).collect() };
    Ok(Run {
        executed_over_planned: trace.executed_over_planned()?,
        largest_jump_rad: largest_jump.into(),
        trace,
    })
}

/// The policy: looks, takes its time, and plans from where the joint was when it looked.
fn infer(
    client: &PolicyClient,
    chunks: Chunks,
    inference: Inference,
    random: &mut Pcg32,
    is_over: &AtomicBool,
) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut begun = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let observation = client.latest_obs().context("the reset brought an observation")?;
        let share = random.random_range(-1.0..=1.0);
        thread::sleep(Duration::from_secs_f64(
            (inference.delay.as_secs_f64() + share * inference.jitter.as_secs_f64()).max(0.0),
        ));
        let joints = joints(&observation)?;
        let rows = (1..=ROWS).map(|row| {
            let mut target = joints;
            target[0] += (SPEED * f64::from(row) / f64::from(ROW_HZ)) as f32;
            Action::from(target)
        });
        match chunks {
            Chunks::Aligned => {
                client.follow(&observation, rows)?;
            }
            Chunks::Unaligned => {
                client.replace_actions(&observation, rows)?;
            }
        }
        begun.push((observation.timestamp, joints[0].into()));
    }
    Ok(begun)
}

/// What the robot does.
fn watch(client: &PolicyClient, begin: f64) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut executed = Vec::new();
    loop {
        let observation = client.next_obs(STALL_TIMEOUT)?;
        let observation =
            observation.with_context(|| format!("no observation for {STALL_TIMEOUT:?}"))?;
        let at = observation.timestamp - begin;
        executed.push((at, joints(&observation)?[0].into()));
        if at >= LENGTH {
            return Ok(executed);
        }
    }
}

fn joints(observation: &Arc<Observation>) -> anyhow::Result<[f32; DOF]> {
    let joints = observation.proprio("joint_pos")?.values.to_f32();
    let joints = (*joints).try_into();
    joints.with_context(|| format!("found another number of joints, expected {DOF}"))
}

impl Trace {
    fn executed_over_planned(&self) -> anyhow::Result<f64> {
        let measured = self.executed.iter().find(|(at, _)| *at >= WARM_UP);
        let (Some((begin, from)), Some((end, to))) = (measured, self.executed.last()) else {
            anyhow::bail!("the robot showed nothing");
        };
        ensure!(end > begin, "the robot's clock stands still");
        Ok((to - from) / (SPEED * (end - begin)))
    }
}
