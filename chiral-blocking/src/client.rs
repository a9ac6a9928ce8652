use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::proto::client::{Config, Misuse, NotQueued, Stats};
use chiral_driver::proto::ws::Keepalive;
use chiral_driver::proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult,
};
use chiral_driver::{CallError, ConnectError};

use crate::threads::{Group, Help, Threads, block_on, block_until, helping};

type Inner = chiral_driver::PolicyClient<Threads>;

/// The policy's connection to a robot.
///
/// `metadata`, `reset`, `observe`, `step` and `next_obs` block until they have what they return;
/// no other call waits for the network. Calls may be made from many threads at once, by reference
/// or through clones, and each gets its own answer.
///
/// When the last handle is dropped the connection is closed and its two threads are waited for:
/// what was [sent](Self::send_action) goes out before. That takes a round trip, and up to 7 s when
/// the server no longer answers.
#[derive(Clone, Debug)]
pub struct PolicyClient {
    // Before the threads: its drop is what ends them.
    inner: Inner,
    threads: Arc<Crew>,
}

/// The client's threads. Its drop is the last handle's.
#[derive(Default)]
struct Crew(Arc<Group>);

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.join();
    }
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crew")
    }
}

impl PolicyClient {
    /// Connects to a server, and waits for one that is not up yet: it is tried every 100 ms.
    ///
    /// # Errors
    /// When the URI is bad, or the server is there and does not take the connection.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(uri)
    }

    /// Settings for a connection.
    pub fn builder() -> Builder {
        Builder::default()
    }

    // ---- requests: these block ----------------------------------------------------------------

    /// The robot's metadata. Blocks until the answer comes.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub fn metadata(&self) -> Result<Map, CallError> {
        block_on(self.inner.metadata())
    }

    /// Resets the robot, and blocks until it is done. The observation is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub fn reset(&self) -> Result<ResetResult, CallError> {
        block_on(self.inner.reset())
    }

    /// An observation made for this call. Blocks until it comes; it is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub fn observe(&self) -> Result<Arc<Observation>, CallError> {
        block_on(self.inner.observe())
    }

    /// The legacy, coupled step: sends an action, `[N, D]`, and blocks until its result comes.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub fn step(&self, action: impl Into<Action>) -> Result<StepResult, CallError> {
        block_on(self.inner.step(action))
    }

    // ---- observations -------------------------------------------------------------------------

    /// Asks for observations at a fixed rate from now on; see
    /// [`Client::start_obs_stream`](crate::proto::client::Client::start_obs_stream).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse> {
        self.inner.start_obs_stream(rate)
    }

    /// Stops asking for observations.
    pub fn stop_obs_stream(&self) {
        self.inner.stop_obs_stream();
    }

    /// The newest observation that any answer brought; `None` before the first. Never blocks.
    pub fn latest_obs(&self) -> Option<Arc<Observation>> {
        self.inner.latest_obs()
    }

    /// The newest observation that this handle's `next_obs` has not returned yet. Blocks while
    /// there is none, for `timeout` at the most: then it returns `None`. Without a timeout it
    /// blocks as long as the connection lasts; a zero one never blocks.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn next_obs(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Arc<Observation>>, CallError> {
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        block_until(deadline, self.inner.next_obs()).transpose()
    }

    // ---- actions: these never block -----------------------------------------------------------

    /// Appends an action to the queue; see
    /// [`Client::put_action`](crate::proto::client::Client::put_action).
    ///
    /// # Errors
    /// When the queue is full or the connection has ended; the action is in the error.
    pub fn put_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.inner.put_action(action)
    }

    /// Sends an action at once, without waiting for a tick; see
    /// [`Client::send_action`](crate::proto::client::Client::send_action).
    ///
    /// # Errors
    /// When too many wait for the transport or the connection has ended; the action is in the
    /// error.
    pub fn send_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        // In this thread, if it can be: another one would have to wake up first.
        helping(Help::Brief, || self.inner.send_action(action))
    }

    /// Appends the actions of a plan, bound to the observation on which it was made; see
    /// [`Client::put_chunk`](crate::proto::client::Client::put_chunk).
    ///
    /// # Errors
    /// When they do not all fit or the connection has ended; the actions are in the error.
    pub fn put_chunk<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<(), NotQueued> {
        self.inner.put_chunk(observation, actions)
    }

    /// Puts a new plan in the place of what is left of the old one; see
    /// [`Client::replace_actions`](crate::proto::client::Client::replace_actions).
    ///
    /// # Errors
    /// When the plan does not fit or the connection has ended; the actions are in the error.
    pub fn replace_actions<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<usize, NotQueued> {
        self.inner.replace_actions(observation, actions)
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    pub fn clear_actions(&self) -> usize {
        self.inner.clear_actions()
    }

    /// How many actions wait in the queue.
    pub fn queued_actions(&self) -> usize {
        self.inner.queued_actions()
    }

    /// Sends one queued action a tick from now on; see
    /// [`Client::start_action_dispatch`](crate::proto::client::Client::start_action_dispatch).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse> {
        self.inner.start_action_dispatch(rate)
    }

    /// Stops sending queued actions; they stay in the queue.
    pub fn stop_action_dispatch(&self) {
        self.inner.stop_action_dispatch();
    }

    // ---- the connection -----------------------------------------------------------------------

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// What the link over Zenoh has carried, and whether through shared memory; `None` on another
    /// transport.
    #[cfg(feature = "zenoh")]
    pub fn zenoh_stats(&self) -> Option<crate::zenoh::Stats> {
        self.inner.zenoh_stats()
    }

    /// Why the connection has ended, if it has.
    pub fn error(&self) -> Option<ConnectionError> {
        self.inner.error()
    }

    /// Closes the connection, for all handles, and blocks until the server knows, for 7 s at the
    /// most. What was [sent](Self::send_action) goes out before; what waits for a tick does not.
    pub fn close(self) {
        block_on(self.inner.close());
        drop(self.threads);
    }
}

/// Settings of a [`PolicyClient`], and how to connect it.
#[derive(Debug, Clone, Default)]
pub struct Builder(chiral_driver::Builder<Threads>);

impl Builder {
    /// The state machine's settings: limits, the action queue, the stream's window.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self(self.0.config(config))
    }

    /// How long [`connect`](Self::connect) waits for a server. Default: for ever.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self(self.0.connect_timeout(timeout))
    }

    /// How long each call waits for its answer. Default: as long as the connection lasts.
    #[must_use]
    pub fn request_timeout(self, timeout: Duration) -> Self {
        Self(self.0.request_timeout(timeout))
    }

    /// When to ping the server, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    #[must_use]
    pub fn keepalive(self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        Self(self.0.keepalive(keepalive))
    }

    /// Connects to a server, and blocks until one is up: it is tried every 100 ms, with one notice
    /// in the log.
    ///
    /// # Errors
    /// When the URI is bad, no server is there within the time allowed, or the server refuses the
    /// connection or is no WebSocket server.
    pub fn connect(self, uri: &str) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::new(Crew::default());
        let inner = threads.0.enter(|| block_on(self.0.connect(uri)))?;
        Ok(PolicyClient { inner, threads })
    }

    /// As [`connect`](Self::connect), over Zenoh as a configuration says.
    ///
    /// # Errors
    /// When the configuration cannot be used, no robot is there within the time allowed, or it is
    /// driven by another policy.
    #[cfg(feature = "zenoh")]
    pub fn connect_zenoh(self, zenoh: crate::zenoh::Config) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::new(Crew::default());
        let inner = threads.0.enter(|| block_on(self.0.connect_zenoh(zenoh)))?;
        Ok(PolicyClient { inner, threads })
    }
}
