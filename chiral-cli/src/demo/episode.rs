use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chiral_blocking::{PolicyClient, monotonic_seconds};
use chiral_proto::client::Stats;
use chiral_proto::stats::{Histogram, Meter};
use chiral_proto::{Observation, Timestamps};
use chiral_sim::arm::DOF;
use chiral_sim::camera::View;
use chiral_sim::episode::{DISPATCH_HZ, OBSERVATION_HZ, PLAN_HZ};
use chiral_sim::policy::{Plan, Policy, PolicyConfig};
use indicatif::ProgressBar;

use super::description::EpisodeStatus;
use super::pictures::Picture;
use super::sheet::SheetFrames;

/// Actions in a chunk: what is needed until the next plan.
const CHUNK: usize = (DISPATCH_HZ / PLAN_HZ) as usize;
/// Simulated seconds between plans, and between frames.
const PLAN_PERIOD: f64 = 1.0 / PLAN_HZ as f64;
const FRAME_PERIOD: f64 = 1.0 / OBSERVATION_HZ as f64;
/// For so long nothing new may come from the robot.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without anything new the policy plans again from what it has seen: where time passes
/// with the actions, it would stand still for ever if some of them were lost.
const REPLAN_AFTER: Duration = Duration::from_secs(1);

/// Drives the robot through its episodes, and keeps count.
pub(super) struct Driver<'a> {
    client: &'a PolicyClient,
    progress: ProgressBar,
    pub(super) episodes: Vec<Episode>,
    /// Observations of the stream in a second, from the first episode's beginning to the last's
    /// end.
    pub(super) streamed_hz: f64,
    stream_began: Option<(Instant, u64)>,
    /// From the capture of the oldest image of an observation until the policy has it.
    pub(super) age: Histogram,
    pub(super) sheet: SheetFrames,
}

/// How an episode went, and what passed over the wire between its first plan and its end.
#[derive(Debug, Clone)]
pub(super) struct Episode {
    pub(super) number: u64,
    pub(super) solved: bool,
    /// Simulated seconds from the reset to the end.
    pub(super) time: f64,
    pub(super) traffic: Traffic,
}

/// What was counted over a while.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    /// How long the while was.
    pub(super) seconds: f64,
    /// And on the robot's clock.
    pub(super) simulated: f64,
    /// Observations that showed something new.
    pub(super) frames: u64,
    pub(super) actions: u64,
    pub(super) starvations: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// Where the counters stood when an episode's traffic began.
struct TrafficStart {
    at: Instant,
    clock: f64,
    stats: Stats,
    frames: u64,
}

impl TrafficStart {
    fn until_now(&self, clock: f64, stats: &Stats, frames: u64) -> Traffic {
        Traffic {
            seconds: self.at.elapsed().as_secs_f64(),
            simulated: clock - self.clock,
            frames: frames - self.frames,
            actions: stats.actions.count() - self.stats.actions.count(),
            starvations: stats.starvations - self.stats.starvations,
            received: stats.bytes_received - self.stats.bytes_received,
            sent: stats.bytes_sent - self.stats.bytes_sent,
        }
    }
}

/// One running episode.
struct EpisodeRun {
    policy: Policy,
    /// When the next plan is due, on the robot's clock.
    next_plan: f64,
    traffic_start: Option<TrafficStart>,
    /// Observations that showed something new, and the capture times of the latest.
    frames: u64,
    latest: Timestamps,
}

impl<'a> Driver<'a> {
    pub(super) fn new(client: &'a PolicyClient, progress: ProgressBar) -> Self {
        Self {
            client,
            progress,
            episodes: Vec::new(),
            streamed_hz: 0.0,
            stream_began: None,
            age: Histogram::default(),
            sheet: SheetFrames::default(),
        }
    }

    /// Resets the robot and drives it until it says that the episode is over.
    ///
    /// # Errors
    /// When the connection fails, or the robot sends nothing new, or nothing that can be used.
    pub(super) fn run_episode(&mut self, number: u64) -> anyhow::Result<()> {
        let reset = self.client.reset()?;
        self.note_rate();
        let mut run = EpisodeRun::new(reset.observation.timestamp);
        let mut last_new = Instant::now();
        let mut last_plan = last_new;
        loop {
            let observation = self.client.next_obs(STALL_TIMEOUT)?;
            let observation =
                observation.with_context(|| format!("no observation for {STALL_TIMEOUT:?}"))?;
            let status = status(&observation)?;
            if status.episode != number {
                bail!("the robot is in episode {}, expected {number}", status.episode);
            }
            let is_new = run.is_new(&observation);
            if is_new {
                last_new = Instant::now();
                self.note_age(&observation);
            }
            if is_new || status.over {
                self.sheet.keep(status, &observation);
            }
            if status.over {
                self.end(status, observation.timestamp, &run);
                return Ok(());
            }
            let is_stalled = last_new.max(last_plan).elapsed() >= REPLAN_AFTER;
            if is_stalled {
                tracing::warn!(
                    "nothing new from the robot for {:.1?}: planning again; {} actions wait, {} were sent",
                    last_new.elapsed(),
                    self.client.queued_actions(),
                    self.client.stats().actions.count(),
                );
            }
            if is_stalled || (is_new && run.is_plan_due(&observation)) {
                last_plan = Instant::now();
                self.plan(&mut run, &observation)?;
                self.show_progress(status);
            }
            ensure!(
                last_new.elapsed() < STALL_TIMEOUT,
                "the cameras have stood still for {STALL_TIMEOUT:?}"
            );
        }
    }

    /// Plans, and sends what is planned.
    fn plan(&self, run: &mut EpisodeRun, observation: &Observation) -> anyhow::Result<()> {
        let at = Instant::now();
        let chunk = run.plan(observation)?.chunk;
        // What is planned follows what was planned before. Where that was not sent in time, it
        // makes way.
        let is_late = self.client.queued_actions() > CHUNK;
        if is_late || run.traffic_start.is_none() {
            self.client.replace_actions(observation, chunk)?;
        } else {
            self.client.put_chunk(observation, chunk)?;
        }
        run.traffic_start.get_or_insert_with(|| TrafficStart {
            at,
            clock: observation.timestamp,
            stats: self.client.stats(),
            frames: run.frames,
        });
        Ok(())
    }

    fn end(&mut self, status: EpisodeStatus, clock: f64, run: &EpisodeRun) {
        self.note_rate();
        let counts = self.client.stats();
        self.client.clear_actions();
        let traffic = run.traffic_start.as_ref();
        let traffic =
            traffic.map(|traffic_start| traffic_start.until_now(clock, &counts, run.frames));
        self.episodes.push(Episode {
            number: status.episode,
            solved: status.solved,
            time: status.time,
            traffic: traffic.unwrap_or_default(),
        });
    }

    /// To be called when a reset has been answered and when an episode has ended.
    fn note_rate(&mut self) {
        // The answers to resets are not the stream's.
        let resets = self.episodes.len() as u64;
        let streamed = self.client.stats().observations.count() - resets;
        let (began, count) = *self.stream_began.get_or_insert_with(|| (Instant::now(), streamed));
        let seconds = began.elapsed().as_secs_f64();
        self.streamed_hz = (streamed - count) as f64 / seconds.max(f64::EPSILON);
    }

    fn note_age(&mut self, observation: &Observation) {
        let captured = observation.cameras.iter().map(|camera| camera.timestamp).reduce(f64::min);
        let age = captured.map(|captured| monotonic_seconds() - captured);
        if let Some(age) = age.and_then(|age| Duration::try_from_secs_f64(age).ok()) {
            self.age.record(age);
        }
    }

    fn show_progress(&self, status: EpisodeStatus) {
        let solved = self.episodes.iter().filter(|episode| episode.solved).count();
        let counts = self.client.stats();
        let hz = |meter: &Meter| match meter.recent_hz() {
            // The first few came all at once.
            Some(hz) if meter.count() > 10 => format!("{hz:.0}"),
            _ => "?".to_owned(),
        };
        self.progress.set_message(format!(
            "{solved} solved; episode {} at {:.1} s; {} observations/s, {} actions/s",
            status.episode,
            status.time,
            hz(&counts.observations),
            hz(&counts.actions),
        ));
        self.progress.tick();
    }
}

fn status(observation: &Observation) -> anyhow::Result<EpisodeStatus> {
    observation
        .extra
        .deserialize()
        .context("an observation's `extra` does not say how the episode stands")
}

impl EpisodeRun {
    fn new(clock: f64) -> Self {
        let config = PolicyConfig {
            chunk_len: CHUNK,
            period: 1.0 / f64::from(DISPATCH_HZ),
            ..PolicyConfig::default()
        };
        Self {
            policy: Policy::new(config),
            next_plan: clock,
            traffic_start: None,
            frames: 0,
            latest: Timestamps::default(),
        }
    }

    /// Whether an observation shows what those before it did not.
    fn is_new(&mut self, observation: &Observation) -> bool {
        let captured = observation.camera_timestamps();
        let is_new = captured != self.latest;
        self.frames += u64::from(is_new);
        self.latest = captured;
        is_new
    }

    /// Whether it is time for a plan; then the next is due a period later.
    fn is_plan_due(&mut self, observation: &Observation) -> bool {
        let clock = observation.timestamp;
        if clock < self.next_plan - 0.5 * FRAME_PERIOD {
            return false;
        }
        self.next_plan = match self.traffic_start {
            // A frame early: from then on, the next chunk comes before the last runs out.
            None => clock + PLAN_PERIOD - FRAME_PERIOD,
            Some(_) => (self.next_plan + PLAN_PERIOD).max(clock + 0.5 * PLAN_PERIOD),
        };
        true
    }

    /// What the policy makes of the pixels and the joint positions.
    fn plan(&mut self, observation: &Observation) -> anyhow::Result<Plan> {
        let pictures = Picture::all(observation)?;
        let views: Vec<View<'_>> = pictures.iter().map(Picture::view).collect::<Result<_, _>>()?;
        let joints = observation.proprio("joint_pos")?.values.to_f32();
        let joints: &[f32; DOF] = (*joints).try_into().with_context(|| {
            format!("joint_pos has {} angles, the policy knows an arm with {DOF}", joints.len())
        })?;
        Ok(self.policy.plan(&views, joints))
    }
}
