//! What is measured, and how.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chiral_driver::monotonic_seconds;
use chiral_proto::client::Stats;
use chiral_proto::{Action, Array, Map, Observation, Rate};

use super::Line;
use super::report::Dispatch;
use super::robot::MARK;
use super::samples::Samples;
use super::{bare, floor};
use crate::adapter::{Adapter, Client};

/// Round trips in a row from one client.
pub(super) const ROW: usize = 10;
/// Those before each row, which are not counted: another client may have had its row meanwhile, and
/// this one's threads sleep.
const WARM_UP: usize = 2;

/// What observations are measured beside.
pub(super) struct Yardsticks {
    pub(super) floor: floor::Client,
    /// For lines on Zenoh.
    pub(super) bare: Option<bare::Client>,
}

/// Round trips of observations, and of the yardsticks beside them.
#[derive(Debug, Default)]
pub(super) struct Observing {
    pub(super) floor: Samples,
    pub(super) bare: Samples,
    pub(super) observe: Samples,
}

impl Observing {
    /// A row of observations.
    pub(super) fn observe(&mut self, client: &Client, count: usize) -> anyhow::Result<()> {
        client.observe_times(WARM_UP, |_| Ok(()))?;
        self.observe.extend(client.observe_times(count, |_| Ok(()))?);
        Ok(())
    }

    /// A row of observations, and beside each an exchange over the bare socket in the same thread:
    /// the first of the two in turns. For a line on Zenoh, then a row of exchanges over bare Zenoh,
    /// in a thread that Zenoh may block.
    pub(super) fn observe_beside(
        &mut self,
        line: Line,
        client: &Client,
        yardsticks: &Arc<Mutex<Yardsticks>>,
        count: usize,
    ) -> anyhow::Result<()> {
        let beside = Arc::clone(yardsticks);
        let (sender, exchanged) = mpsc::channel();
        let exchange_after = move |done: usize| {
            let due = if done < WARM_UP { 1 } else { exchanges_after(done - WARM_UP, count) };
            let mut beside = beside.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..due {
                // Somebody receives it: this very call's end.
                let _ = sender.send((done, beside.floor.exchange()?));
            }
            Ok(())
        };
        let observed = client.observe_times(WARM_UP + count, exchange_after)?;
        self.observe.extend(observed.into_iter().skip(WARM_UP));
        let counted = exchanged.iter().filter(|(done, _)| *done > WARM_UP);
        self.floor.extend(counted.map(|(_, took)| took));
        let mut yardsticks = yardsticks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bare) = yardsticks.bare.as_mut().filter(|_| line.transport.is_zenoh()) {
            for done in 0..WARM_UP + count {
                let took = bare.exchange()?;
                self.bare.extend((done >= WARM_UP).then_some(took));
            }
        }
        Ok(())
    }
}

/// How many exchanges follow observation `n` of so many, the first of which is 1: each observation
/// with an odd number has its exchange after it, each other one before it.
fn exchanges_after(n: usize, count: usize) -> usize {
    if n.is_multiple_of(2) { 0 } else { 1 + usize::from(n < count) }
}

/// Bytes of an observation's sensor data.
pub(super) fn payload_len(observation: &Observation) -> usize {
    let cameras = observation.cameras.iter();
    let cameras = cameras.map(|camera| {
        camera.image.bytes().len() + camera.depth.as_ref().map_or(0, |depth| depth.bytes().len())
    });
    let proprios = observation.proprios.iter().map(|proprio| proprio.values.bytes().len());
    cameras.chain(proprios).sum()
}

/// Streams at 30 Hz and returns the rate achieved.
pub(super) fn stream(client: &Client, seconds: Duration) -> anyhow::Result<f64> {
    client.start_obs_stream(Rate::hz(30.0)?)?;
    std::thread::sleep(seconds);
    client.stop_obs_stream();
    Ok(recent_hz(&client.stats()))
}

/// The rate of the last observations.
pub(super) fn recent_hz(stats: &Stats) -> f64 {
    stats.observations.recent_hz().unwrap_or(0.0)
}

/// Dispatches a queue that never runs empty, and compares the rate with the one asked for.
pub(super) fn dispatch(
    adapter: Adapter,
    client: &Client,
    asked: f64,
    seconds: Duration,
) -> anyhow::Result<Dispatch> {
    let before = client.stats();
    let start = Instant::now();
    client.start_action_dispatch(Rate::hz(asked)?)?;
    // Between two ticks, so that exactly the ticks of these seconds are counted.
    let end = start + seconds.saturating_sub(Duration::from_secs_f64(0.5 / asked));
    while Instant::now() < end {
        while client.queued_actions() < 256 {
            client.put_action([0.0; 7])?;
        }
        let pause = end.saturating_duration_since(Instant::now());
        std::thread::sleep(pause.min(Duration::from_millis(100)));
    }
    client.stop_action_dispatch();
    let after = client.stats();
    client.clear_actions();
    let sent = after.actions.count() - before.actions.count();
    Ok(Dispatch {
        adapter,
        asked_hz: asked,
        achieved_hz: sent as f64 / seconds.as_secs_f64(),
        ticks_missed: after.dispatch_ticks_missed - before.dispatch_ticks_missed,
    })
}

/// How long actions take from the policy's call to the robot's.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActionLatency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) count: u64,
}

impl ActionLatency {
    /// Sends an action every 10 ms, stamped with the time of the call, and asks the server what
    /// it measured.
    pub(super) fn measure(client: &Client, seconds: Duration) -> anyhow::Result<Self> {
        client.reset().context("the server forgets what it measured before")?;
        let end = Instant::now() + seconds;
        let stamped = || Action::new(Array::vector(vec![MARK, monotonic_seconds()]));
        client.send_at(Rate::hz(100.0)?, end, stamped)?;
        let metadata = client.metadata()?;
        let number = |key: &str| number(&metadata, key);
        Ok(Self {
            p50_ms: number("action_p50_ms")?,
            p99_ms: number("action_p99_ms")?,
            max_ms: number("action_max_ms")?,
            count: number("action_count")? as u64,
        })
    }
}

pub(super) fn number(metadata: &Map, key: &str) -> anyhow::Result<f64> {
    let value = metadata.get(key).and_then(|value| value.as_f64());
    value.with_context(|| format!("the server's metadata has no number `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_is_paired_with_its_exchange() {
        for count in 1..=ROW {
            let exchanges: usize = (1..=count).map(|n| exchanges_after(n, count)).sum();
            assert_eq!(exchanges, count);
        }
    }
}
