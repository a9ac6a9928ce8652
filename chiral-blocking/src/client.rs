use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::client::{ConnectionEvent, Pending};
use chiral_driver::proto::client::{NotQueued, Reconnect};
use chiral_driver::proto::{Action, Map, Observation, ResetResult, StepResult};
use chiral_driver::{CallError, ClientCalls, ConnectError};
use futures_lite::future::block_on;

use crate::connect::Builder;
use crate::reconnect::CurrentLink;
use crate::stream::Stream;
use crate::threads::Threads;

/// The policy's connection to a robot.
///
/// `metadata`, `reset`, `observe`, `step` and `next_obs` block until they have what they return; no
/// other call waits for the network, those of [`ClientCalls`] included, which it has too. Calls may
/// be made from many threads at once, by reference or through clones, and each gets its own answer.
///
/// When the last handle is dropped the connection is closed and its two threads are waited for:
/// what was [sent](Self::send_action) goes out before. That takes a round trip, and up to 7 s when
/// the server no longer answers.
#[derive(Clone)]
pub struct PolicyClient {
    // Before the threads: its drop is what ends them.
    calls: ClientCalls,
    /// For calls that send what they have to send themselves.
    link: Arc<CurrentLink>,
    _threads: Arc<JoinOnDrop>,
}

/// The client's threads. Its drop is the last handle's.
struct JoinOnDrop(Arc<Threads>);

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        self.0.join();
    }
}

impl PolicyClient {
    /// Connects to a robot, and waits for one that is not up yet or has another policy; see
    /// [`Builder::connect`]. `uri` is `ws://host:port`, `host:port`, `unix:/path`, or what the crate
    /// was built for beside these.
    ///
    /// # Errors
    /// When the URI is bad, or what is there will not take the connection.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(uri)
    }

    /// As [`connect`](Self::connect), for a policy that is to live through a restart of its robot
    /// without knowing of it: a connection that is lost is made again, for as long as it takes.
    ///
    /// Requests for metadata and observations wait for it, within their deadline, and so does
    /// [`next_obs`](Self::next_obs); a chunk that was decided on an observation of before is
    /// [discarded](crate::proto::timeline::Placement::discarded) by [`follow`](ClientCalls::follow).
    /// What moves the robot in another way fails meanwhile: [`reset`](Self::reset),
    /// [`step`](Self::step), and actions that are put or sent, none of which is kept for later. See
    /// [`Builder::reconnect`] for what becomes of the rest, and for what ends it.
    ///
    /// # Errors
    /// As there.
    pub fn supervised(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().reconnect(Reconnect::holding_calls()).connect(uri)
    }

    /// A client over a byte stream that is connected already, with the default settings; see
    /// [`Builder::over_stream`].
    ///
    /// # Errors
    /// When the server does not take the connection.
    pub fn over_stream(stream: impl Stream) -> Result<Self, ConnectError> {
        Self::builder().over_stream(stream)
    }

    /// Settings for a connection.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The robot's metadata. Blocks until the answer comes.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub fn metadata(&self) -> Result<Map, CallError> {
        self.wait_for(self.calls.request_metadata())
    }

    /// Resets the robot, and blocks until it is done. The observation is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub fn reset(&self) -> Result<ResetResult, CallError> {
        self.wait_for(self.calls.request_reset())
    }

    /// An observation made for this call. Blocks until it comes; it is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub fn observe(&self) -> Result<Arc<Observation>, CallError> {
        self.wait_for(self.calls.request_observation())
    }

    /// The legacy, coupled step: sends an action, `[N, D]`, and blocks until its result comes.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub fn step(&self, action: impl Into<Action>) -> Result<StepResult, CallError> {
        self.wait_for(self.calls.request_step(action.into()))
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
        self.calls.wait_next_obs_blocking(deadline)
    }

    /// Blocks until so few rows of the plan are left that it is time for the next chunk: no more than
    /// [`refill_at`](ClientCalls::refill_at) says. With a timeout, false when more are left then;
    /// without one it blocks as long as the connection lasts.
    ///
    /// ```no_run
    /// # fn infer(_: &chiral_blocking::proto::Observation) -> Vec<[f32; 7]> { Vec::new() }
    /// # let robot = chiral_blocking::PolicyClient::connect("ws://localhost:8765")?;
    /// robot.refill_at(10);
    /// loop {
    ///     robot.plan_low(None)?;
    ///     let observation = robot.observe()?;
    ///     let rows = infer(&observation);
    ///     robot.follow(&observation, rows)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn plan_low(&self, timeout: impl Into<Option<Duration>>) -> Result<bool, CallError> {
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        self.calls.wait_plan_low_blocking(deadline)
    }

    /// Sends an action at once, without waiting for a tick; see
    /// [`Client::send_action`](crate::proto::client::Client::send_action). Never blocks.
    ///
    /// # Errors
    /// When too many wait for the transport or the connection has ended; the action is in the
    /// error.
    pub fn send_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.calls.request_action(action.into())?;
        self.send_requests();
        Ok(())
    }

    /// The next event of the connection that this handle has not returned yet: that it was lost, made
    /// again, or has ended. Blocks while there is none, for `timeout` at the most: then it returns
    /// `None`, and so it does when it has ended and that was returned. A handle that does not look for
    /// long misses all but the last 64.
    pub fn next_connection_event(
        &self,
        timeout: impl Into<Option<Duration>>,
    ) -> Option<ConnectionEvent> {
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        self.calls.wait_connection_event_blocking(deadline)
    }

    /// Closes the connection, for all handles, and blocks until the server knows, for 7 s at the
    /// most. What was [sent](Self::send_action) goes out before; what waits for a tick does not.
    /// The robot applies nothing after the end: to be sure of the last action, wait for a
    /// [reset](Self::reset) first, which it answers after the actions before it.
    pub fn close(self) {
        self.calls.start_closing();
        block_on(self.calls.connection().wait_until_finished());
    }

    pub(crate) fn new(calls: ClientCalls, link: Arc<CurrentLink>, threads: Arc<Threads>) -> Self {
        Self { calls, link, _threads: Arc::new(JoinOnDrop(threads)) }
    }

    /// Sends what the `request_…` calls of [`ClientCalls`] have made: in this thread, if the stream
    /// takes it at once, for another one would have to wake up first. For callers who do not block
    /// until the answer comes but wait for it [in pieces](Pending::wait_for). Never blocks.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let robot = chiral_blocking::PolicyClient::connect("ws://localhost:8765")?;
    /// let mut reset = robot.request_reset()?;
    /// robot.send_requests();
    /// let result = loop {
    ///     match reset.wait_for(Duration::from_millis(50)) {
    ///         Some(result) => break result?,
    ///         None => println!("the robot is still moving"),
    ///     }
    /// };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_requests(&self) {
        if !self.link.try_send_inline() {
            self.calls.connection().wake_driver();
        }
    }

    fn wait_for<T>(&self, request: Result<Pending<T>, CallError>) -> Result<T, CallError> {
        let pending = request?;
        self.send_requests();
        block_on(pending)
    }
}

impl Deref for PolicyClient {
    type Target = ClientCalls;

    fn deref(&self) -> &ClientCalls {
        &self.calls
    }
}

impl std::fmt::Debug for PolicyClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyClient").field("error", &self.error()).finish_non_exhaustive()
    }
}
