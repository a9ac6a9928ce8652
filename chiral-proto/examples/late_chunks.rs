//! What a policy's thinking time costs an arm, with and without alignment: the case of a newcomer, in
//! memory and on simulated time. `cargo run -p chiral-proto --features testing --example late_chunks`
//!
//! The policy looks, thinks, and puts a chunk of ten rows at 10 Hz: from where the arm is, ahead at
//! 0.2 rad/s; then it looks again. When the chunk comes, its first rows are of the past. Sent
//! nevertheless (`replace_actions`), they take the arm back to where it was; `follow` skips them.
//!
//! A chunk of a second cannot cover a policy that thinks for longer than half a second, with nothing
//! planned while it looks again: the arm stands still at some ticks then. What is planned is therefore
//! counted by the rows that were sent; the last column says at how many of the ticks there was one.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "an application")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_proto::client::{self, Event};
use chiral_proto::testing::{Happening, Network, Pair};
use chiral_proto::{Action, Array, Observation, Proprio, Rate, server};

const ROWS: u8 = 10;
const HZ: u8 = 10;
/// What a row moves the arm by, in rad: 0.2 rad/s.
const STRIDE: f32 = 0.02;
pub(crate) const NETWORK: Duration = Duration::from_millis(5);
pub(crate) const INFERENCES: [u64; 8] = [20, 50, 100, 150, 300, 450, 600, 900];

/// How the policy thinks and where its rows go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) inference: Duration,
    /// The time of an inference lies within this of `inference`, evenly spread.
    pub(crate) jitter: Duration,
    /// `follow`, or `replace_actions`.
    pub(crate) aligned: bool,
    /// Whether the robot tells which action it applied last, so that the delay is exact.
    pub(crate) exact: bool,
}

/// How the arm moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Motion {
    /// In rad, of all rows that were sent.
    pub(crate) planned: f32,
    pub(crate) executed: f32,
    /// The furthest that the arm was sent from where it was, in rad.
    pub(crate) largest_jump: f32,
    /// The share of ticks with a row.
    pub(crate) covered: f64,
}

impl Motion {
    pub(crate) fn executed_over_planned(&self) -> f32 {
        self.executed / self.planned
    }
}

/// A minute of it.
pub(crate) fn run(setup: Setup) -> Result<Motion, Box<dyn Error>> {
    let config = client::Config { timing: setup.exact, ..client::Config::default() };
    let mut pair = Pair::new(Instant::now(), config, server::Config::default());
    pair.to_server = Network::default().latency(NETWORK);
    pair.to_client = Network::default().latency(NETWORK);
    pair.client.start_action_dispatch(pair.now(), Rate::hz(HZ)?)?;
    pair.client.request_observation(pair.now(), None)?;

    let end = pair.now() + Duration::from_secs(60);
    let (mut position, mut largest_jump) = (0.0_f32, 0.0_f32);
    let mut random = 1_u64;
    // What the policy thinks about, and until when.
    let mut thought: Option<(Arc<Observation>, Instant)> = None;
    while pair.now() < end {
        let until = thought.as_ref().map_or(end, |(_, until)| end.min(*until));
        match pair.next(until) {
            // The arm goes where it is told.
            Some(Happening::Server(server::Event::Action(action))) => {
                let [target] = action.to_array()?;
                largest_jump = largest_jump.max((target - position).abs());
                position = target;
            }
            Some(Happening::Server(server::Event::Observe(reply))) => {
                pair.server.reply_observation(reply, observe(position))?;
            }
            Some(Happening::Client(Event::Observation { observation, .. })) => {
                // Knuth's generator: the same each run.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let spread = setup.jitter.mul_f64((random >> 32) as f64 / f64::from(1_u32 << 31));
                let inference = (setup.inference + spread).saturating_sub(setup.jitter);
                thought = Some((observation, pair.now() + inference));
            }
            Some(other) => return Err(format!("nobody asked for {other:?}").into()),
            None => {
                let Some((observation, _)) = thought.take() else { break };
                let now = pair.now();
                if setup.aligned {
                    pair.client.follow(now, &observation, plan(&observation)?)?;
                } else {
                    pair.client.replace_actions(now, &observation, plan(&observation)?)?;
                }
                pair.client.request_observation(now, None)?;
            }
        }
    }
    let stats = pair.client.stats(pair.now());
    Ok(Motion {
        planned: stats.steps as f32 * STRIDE,
        executed: position,
        largest_jump,
        covered: stats.steps as f64 / (stats.steps + stats.starvations) as f64,
    })
}

fn observe(position: f32) -> Observation {
    let values = Array::vector(vec![position]);
    let position = Proprio { name: "position".into(), values };
    Observation { proprios: vec![position], ..Observation::default() }
}

/// Row `i` is for the `i`-th action after the observation.
fn plan(observation: &Observation) -> Result<Vec<Action>, Box<dyn Error>> {
    let position = observation.proprio("position")?.values.to_f32()[0];
    Ok((1..=ROWS).map(|row| Action::from(position + STRIDE * f32::from(row))).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("                  executed of what was planned    largest jump, rad      ticks with");
    println!("inference         as it comes       aligned     as it comes    aligned     a row");
    for millis in INFERENCES {
        for jitter in [0, millis / 2] {
            let inference = Duration::from_millis(millis);
            let jitter = Duration::from_millis(jitter);
            let setup = Setup { inference, jitter, aligned: false, exact: true };
            let as_it_comes = run(setup)?;
            let aligned = run(Setup { aligned: true, ..setup })?;
            println!(
                "{millis:4} ± {:3} ms {:15.2} {:15.2} {:14.3} {:12.3} {:10.0} %",
                jitter.as_millis(),
                as_it_comes.executed_over_planned(),
                aligned.executed_over_planned(),
                as_it_comes.largest_jump,
                aligned.largest_jump,
                100.0 * aligned.covered,
            );
        }
    }
    Ok(())
}
