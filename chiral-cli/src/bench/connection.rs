//! What is measured: a policy's connection, through any adapter.

use std::time::{Duration, Instant};

use chiral_blocking::PolicyClient;
use chiral_proto::client::Stats;
use chiral_proto::{Action, Map, Rate};

/// Called after each observation, with the number of them so far.
pub type AfterEach = Box<dyn FnMut(usize) + Send>;

/// Makes the next action.
pub type MakeAction = Box<dyn FnMut() -> Action + Send>;

/// A policy's connection. What is timed runs where a policy of the adapter would run: in this
/// thread, or in a task.
pub trait Connection {
    /// Makes so many observations, one after the other, and returns how long each took.
    fn time_observations(&self, count: usize, after: AfterEach) -> anyhow::Result<Vec<Duration>>;
    /// Sends actions at a rate, the first one at once, until the end.
    fn send_actions(&self, rate: Rate, end: Instant, action: MakeAction) -> anyhow::Result<()>;
    fn metadata(&self) -> anyhow::Result<Map>;
    fn reset(&self) -> anyhow::Result<()>;
    fn start_stream(&self, rate: Rate) -> anyhow::Result<()>;
    fn stop_stream(&self);
    /// Queues actions until there are so many.
    fn fill_queue(&self, count: usize) -> anyhow::Result<()>;
    fn start_dispatch(&self, rate: Rate) -> anyhow::Result<()>;
    /// Stops the dispatch and empties the queue.
    fn stop_dispatch(&self);
    fn stats(&self) -> Stats;
    /// Closes the connection.
    fn close(&self);
}

impl Connection for PolicyClient {
    fn time_observations(
        &self,
        count: usize,
        mut after: AfterEach,
    ) -> anyhow::Result<Vec<Duration>> {
        let observe = |done| {
            let asked = Instant::now();
            self.observe()?;
            let took = asked.elapsed();
            after(done);
            Ok(took)
        };
        (1..=count).map(observe).collect()
    }

    fn send_actions(&self, rate: Rate, end: Instant, mut action: MakeAction) -> anyhow::Result<()> {
        let mut next = Instant::now();
        while next < end {
            self.send_action(action())?;
            let now = Instant::now();
            next = (next + rate.period()).max(now);
            std::thread::sleep(next - now);
        }
        Ok(())
    }

    fn metadata(&self) -> anyhow::Result<Map> {
        Ok(self.metadata()?)
    }

    fn reset(&self) -> anyhow::Result<()> {
        self.reset()?;
        Ok(())
    }

    fn start_stream(&self, rate: Rate) -> anyhow::Result<()> {
        Ok(self.start_obs_stream(rate)?)
    }

    fn stop_stream(&self) {
        self.stop_obs_stream();
    }

    fn fill_queue(&self, count: usize) -> anyhow::Result<()> {
        while self.queued_actions() < count {
            self.put_action([0.0; 7])?;
        }
        Ok(())
    }

    fn start_dispatch(&self, rate: Rate) -> anyhow::Result<()> {
        Ok(self.start_action_dispatch(rate)?)
    }

    fn stop_dispatch(&self) {
        self.stop_action_dispatch();
        self.clear_actions();
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }

    fn close(&self) {
        self.clone().close();
    }
}
