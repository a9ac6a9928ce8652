use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chiral_proto::client::{
    Client, Config, ConnectionState, Misuse, NotFresh, NotQueued, RequestId, Stats,
};
use chiral_proto::timeline::{BasisError, FollowOptions, Placement, PlanContext, Starved};
use chiral_proto::{
    Action, ActionDeclaration, ActionSpec, ConnectionError, ContractStatus, Map, Observation, Rate,
    ResetResult, StepResult, instant_after,
};
use event_listener::{EventListener, Listener as _};

use super::connection_event::ConnectionEvent;
use super::state::{Answer, Call, ClientState, Pending};
use crate::connection::Connection;
use crate::error::CallError;
use crate::transport::Extension;

/// How long the actions sent right before the end may take to leave.
const LAST_ACTIONS_TIMEOUT: Duration = Duration::from_secs(1);

/// The calls of a client that do not wait for the network, the same for each adapter's
/// `PolicyClient`, which derefs to it; and what an adapter makes the others from.
///
/// Cloning it gives another handle to the same connection. When the last handle is dropped the
/// connection is closed.
pub struct ClientCalls {
    connection: Arc<CloseOnDrop>,
    /// The newest observation that this handle's `next_obs` returned, by its number.
    seen: AtomicU64,
    /// How many events of the connection this handle has returned, or missed.
    seen_events: AtomicU64,
    settings: CallSettings,
}

/// What the calls of a client need beside its machine.
#[derive(Clone, Default)]
pub(super) struct CallSettings {
    pub(super) request_timeout: Option<Duration>,
}

/// What all handles share. Its drop is the last handle's.
struct CloseOnDrop(Arc<Connection<ClientState>>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        start_closing(&self.0);
    }
}

fn start_closing(connection: &Connection<ClientState>) {
    connection.call(|state, now| state.machine.shut_down(now, now + LAST_ACTIONS_TIMEOUT));
}

impl ClientCalls {
    pub(super) fn new(
        config: Config,
        settings: CallSettings,
        extension: Option<Extension>,
    ) -> Self {
        let mut machine = Client::new(config);
        machine.refill_at(0);
        let connection = Connection::new(ClientState::new(machine, extension));
        let connection = Arc::new(CloseOnDrop(connection));
        let (seen, seen_events) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { connection, seen, seen_events, settings }
    }

    /// The connection, for its driver.
    pub fn connection(&self) -> &Arc<Connection<ClientState>> {
        &self.connection.0
    }

    // ---- requests, for an adapter -------------------------------------------------------------
    // They do not wake the driver: the caller does, or sends them itself.

    /// Asks for the robot's metadata.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_metadata(&self) -> Result<Pending<Map>, CallError> {
        self.request(Client::request_metadata, Call::Metadata)
    }

    /// Asks the robot to reset itself.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_reset(&self) -> Result<Pending<ResetResult>, CallError> {
        self.request(Client::request_reset, Call::Reset)
    }

    /// Asks for an observation.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_observation(&self) -> Result<Pending<Arc<Observation>>, CallError> {
        self.request(Client::request_observation, Call::Observe)
    }

    /// Sends an action, `[N, D]`, and asks for its result.
    ///
    /// # Errors
    /// When the connection has ended or too many requests are waiting.
    pub fn request_step(&self, action: Action) -> Result<Pending<StepResult>, CallError> {
        self.request(|client, now, by| client.request_step(now, action, by), Call::Step)
    }

    fn request<Kind, T>(
        &self,
        request: impl FnOnce(&mut Client, Instant, Option<Instant>) -> Result<RequestId<Kind>, Misuse>,
        call: impl FnOnce(Answer<T>) -> Call,
    ) -> Result<Pending<T>, CallError> {
        let (answer, pending) = Pending::new();
        let (requested, _) = self.connection.0.change(|state, now| {
            let deadline = self.settings.request_timeout.map(|timeout| instant_after(now, timeout));
            let id = request(&mut state.machine, now, deadline)?;
            state.register_call(id.key(), call(answer));
            Ok::<_, Misuse>(())
        });
        requested?;
        Ok(pending)
    }

    /// As [`send_action`](Self::send_action), but the driver is not woken.
    ///
    /// # Errors
    /// As there.
    pub fn request_action(&self, action: Action) -> Result<(), NotQueued> {
        self.connection.0.change(|state, now| state.machine.send_action(now, action)).0
    }

    /// The newest observation that this handle has not returned yet, or what to wait for.
    fn poll_next_obs(&self) -> Result<Result<Arc<Observation>, EventListener>, CallError> {
        let mut state = self.connection.0.lock();
        if let Some(latest) = state.latest()
            && latest.number > self.seen.load(Ordering::Relaxed)
        {
            self.seen.store(latest.number, Ordering::Relaxed);
            return Ok(Ok(Arc::clone(&latest.observation)));
        }
        if let Some(error) = state.take_stream_error() {
            return Err(error.into());
        }
        state.check_awaited()?;
        Ok(Err(state.listen()))
    }

    /// The newest observation that this handle has not returned yet; waits for it.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn wait_next_obs(&self) -> Result<Arc<Observation>, CallError> {
        loop {
            match self.poll_next_obs()? {
                Ok(observation) => return Ok(observation),
                Err(next) => next.await,
            }
        }
    }

    /// As [`wait_next_obs`](Self::wait_next_obs), blocking the thread; `None` when there is none by
    /// the deadline.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn wait_next_obs_blocking(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<Arc<Observation>>, CallError> {
        loop {
            match (self.poll_next_obs()?, deadline) {
                (Ok(observation), _) => return Ok(Some(observation)),
                (Err(next), None) => next.wait(),
                (Err(next), Some(deadline)) => {
                    if next.wait_deadline(deadline).is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// `None` when few rows of the plan are left; else what to wait for.
    fn poll_plan_low(&self) -> Result<Option<EventListener>, CallError> {
        let state = self.connection.0.lock();
        state.check_awaited()?;
        // While there is no connection, no plan is asked for.
        let waits = !state.machine.is_plan_low() || state.machine.is_interrupted();
        Ok(waits.then(|| state.listen_plan_low()))
    }

    /// Waits until no more rows of the plan are left than [`refill_at`](Self::refill_at) says.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn wait_plan_low(&self) -> Result<(), CallError> {
        while let Some(low) = self.poll_plan_low()? {
            low.await;
        }
        Ok(())
    }

    /// As [`wait_plan_low`](Self::wait_plan_low), blocking the thread; false when more rows are left
    /// at the deadline.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn wait_plan_low_blocking(&self, deadline: Option<Instant>) -> Result<bool, CallError> {
        while let Some(low) = self.poll_plan_low()? {
            match deadline {
                None => low.wait(),
                Some(deadline) if low.wait_deadline(deadline).is_none() => return Ok(false),
                Some(_) => {}
            }
        }
        Ok(true)
    }

    /// The next event of the connection that this handle has not returned yet, or what to wait for;
    /// nothing when it has ended and that was returned.
    fn poll_connection_event(&self) -> Result<ConnectionEvent, Option<EventListener>> {
        let state = self.connection.0.lock();
        let (event, seen) = state.connection_event(self.seen_events.load(Ordering::Relaxed))?;
        self.seen_events.store(seen, Ordering::Relaxed);
        Ok(event)
    }

    /// The next event of the connection that this handle has not returned yet; waits for it. `None`
    /// when it has ended and that was returned.
    pub async fn wait_connection_event(&self) -> Option<ConnectionEvent> {
        loop {
            match self.poll_connection_event() {
                Ok(event) => return Some(event),
                Err(next) => next?.await,
            }
        }
    }

    /// As [`wait_connection_event`](Self::wait_connection_event), blocking the thread; also `None`
    /// when there is none by the deadline.
    pub fn wait_connection_event_blocking(
        &self,
        deadline: Option<Instant>,
    ) -> Option<ConnectionEvent> {
        loop {
            match (self.poll_connection_event(), deadline) {
                (Ok(event), _) => return Some(event),
                (Err(next), None) => next?.wait(),
                (Err(next), Some(deadline)) => {
                    next?.wait_deadline(deadline)?;
                }
            }
        }
    }

    /// Begins to close the connection, for all handles: what was [sent](Self::send_action) goes out
    /// before.
    pub fn start_closing(&self) {
        start_closing(&self.connection.0);
    }

    // ---- observations -------------------------------------------------------------------------

    /// Asks for observations at a fixed rate from now on; see
    /// [`Client::start_obs_stream`](chiral_proto::client::Client::start_obs_stream).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse> {
        self.connection.0.call(|state, now| state.machine.start_obs_stream(now, rate))
    }

    /// Stops asking for observations.
    pub fn stop_obs_stream(&self) {
        self.connection.0.call(|state, _| state.machine.stop_obs_stream());
    }

    /// The newest observation that any answer brought; `None` before the first, and after the
    /// connection was lost before the first of the next one. Never waits.
    pub fn latest_obs(&self) -> Option<Arc<Observation>> {
        Some(Arc::clone(&self.connection.0.lock().latest()?.observation))
    }

    /// As [`latest_obs`](Self::latest_obs), unless it is known to be older than this; see
    /// [`Client::fresh_observation`](chiral_proto::client::Client::fresh_observation). Never waits.
    ///
    /// # Errors
    /// When it is older, or there is none.
    pub fn fresh_obs(&self, max_age: Duration) -> Result<Arc<Observation>, NotFresh> {
        let state = self.connection.0.lock();
        let latest = state.machine.fresh_observation(Instant::now(), max_age)?;
        Ok(Arc::clone(&latest.observation))
    }

    /// The newest observation that this handle has not returned yet, if there is one. Never waits.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn try_next_obs(&self) -> Result<Option<Arc<Observation>>, CallError> {
        Ok(self.poll_next_obs()?.ok())
    }

    // ---- actions ------------------------------------------------------------------------------

    /// Puts a chunk where it belongs: row `i` is for the `i`-th step after the observation on which
    /// the policy decided it was taken. Rows whose step was sent in the meantime are skipped, the
    /// others replace what is left of the old plan; see
    /// [`Client::follow`](chiral_proto::client::Client::follow). Never waits.
    ///
    /// # Errors
    /// When the rows do not all fit, the robot's [contract](Self::contract) does not allow one, the
    /// observation is of before the last reset or came through
    /// another connection, or the connection has ended; the actions are in the error.
    pub fn follow<A: Into<Action>>(
        &self,
        observation: &Observation,
        rows: impl IntoIterator<Item = A>,
    ) -> Result<Placement, NotQueued> {
        self.follow_with(observation, rows, &FollowOptions::new())
    }

    /// As [`follow`](Self::follow), with another anchor or merge, or a longest delay; see
    /// [`Client::follow_with`](chiral_proto::client::Client::follow_with). Never waits.
    ///
    /// # Errors
    /// As there; also when the anchor is behind the end of the plan, or rows cannot be averaged.
    pub fn follow_with<A: Into<Action>>(
        &self,
        observation: &Observation,
        rows: impl IntoIterator<Item = A>,
        options: &FollowOptions,
    ) -> Result<Placement, NotQueued> {
        let rows: Vec<Action> = rows.into_iter().map(Into::into).collect();
        self.connection
            .0
            .call(|state, now| state.machine.follow_with(now, observation, rows, options))
    }

    /// What a policy needs to know before it infers from an observation: which rows of its chunks
    /// the robot executes from there on, and how many steps the inference will take; see
    /// [`PlanContext`].
    ///
    /// # Errors
    /// When the observation is of before the last reset or came through another connection.
    pub fn plan_context(&self, observation: &Observation) -> Result<PlanContext, BasisError> {
        self.connection.0.lock().machine.plan_context(observation)
    }

    /// Sets at how many rows of the plan, or fewer, it is time for the next chunk. Each adapter's
    /// `PolicyClient` has a `plan_low` that waits for it. Default: none are left.
    pub fn refill_at(&self, rows: usize) {
        self.connection.0.call(|state, _| state.machine.refill_at(rows));
    }

    /// Whether no more rows of the plan are left than [`refill_at`](Self::refill_at) says.
    pub fn is_plan_low(&self) -> bool {
        self.connection.0.lock().machine.is_plan_low()
    }

    /// Appends an action to the queue; see
    /// [`Client::put_action`](chiral_proto::client::Client::put_action). Never waits.
    ///
    /// # Errors
    /// When the queue is full, the robot's [contract](Self::contract) does not allow the action, or the
    /// connection has ended; the action is in the error.
    pub fn put_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.connection.0.call(|state, now| state.machine.put_action(now, action.into()))
    }

    /// Sends an action at once, without waiting for a tick; see
    /// [`Client::send_action`](chiral_proto::client::Client::send_action). Never waits.
    ///
    /// # Errors
    /// When too many wait for the transport, the robot's [contract](Self::contract) does not allow the
    /// action, or the connection has ended; the action is in the error.
    pub fn send_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.connection.0.call(|state, now| state.machine.send_action(now, action.into()))
    }

    /// Appends the actions of a plan, bound to the observation on which it was made; see
    /// [`Client::put_chunk`](chiral_proto::client::Client::put_chunk). Never waits.
    ///
    /// # Errors
    /// When they do not all fit, the robot's [contract](Self::contract) does not allow one, or the
    /// connection has ended; the actions are in the error.
    pub fn put_chunk<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<(), NotQueued> {
        let actions: Vec<Action> = actions.into_iter().map(Into::into).collect();
        self.connection.0.call(|state, now| state.machine.put_chunk(now, observation, actions))
    }

    /// Puts a new plan in the place of what is left of the old one, and returns how many actions
    /// were dropped; see
    /// [`Client::replace_actions`](chiral_proto::client::Client::replace_actions). Never waits.
    ///
    /// # Errors
    /// When the plan does not fit, the robot's [contract](Self::contract) does not allow an action of it,
    /// or the connection has ended; the actions are in the error.
    pub fn replace_actions<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<usize, NotQueued> {
        let actions: Vec<Action> = actions.into_iter().map(Into::into).collect();
        let replace = |client: &mut Client, now| client.replace_actions(now, observation, actions);
        self.connection.0.call(|state, now| replace(&mut state.machine, now))
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    pub fn clear_actions(&self) -> usize {
        self.connection.0.call(|state, _| state.machine.clear_actions())
    }

    /// How many actions wait in the queue.
    pub fn queued_actions(&self) -> usize {
        self.connection.0.lock().machine.queued_actions()
    }

    /// Sends one queued action a tick from now on; see
    /// [`Client::start_action_dispatch`](chiral_proto::client::Client::start_action_dispatch).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse> {
        self.connection.0.call(|state, now| state.machine.start_action_dispatch(now, rate))
    }

    /// Stops sending queued actions; they stay in the queue.
    pub fn stop_action_dispatch(&self) {
        self.connection.0.call(|state, _| state.machine.stop_action_dispatch());
    }

    /// What is sent at a tick that finds no row; see
    /// [`Client::set_starved`](chiral_proto::client::Client::set_starved).
    ///
    /// # Errors
    /// When it does not fit what is known of the robot's actions.
    pub fn set_starved(&self, starved: Starved) -> Result<(), Misuse> {
        self.connection.0.call(|state, _| state.machine.set_starved(starved))
    }

    /// Sends `points` actions to a row, on the straight line between the rows; see
    /// [`Client::interpolate`](chiral_proto::client::Client::interpolate).
    ///
    /// # Errors
    /// When it does not fit what is known of the robot's actions, or would be too fast.
    pub fn interpolate(&self, points: u32) -> Result<(), Misuse> {
        self.connection.0.call(|state, now| state.machine.interpolate(now, points))
    }

    /// What is known of the robot's actions: what its metadata declared when it last came, or what
    /// [`declare_actions`](Self::declare_actions) said since.
    pub fn declared_actions(&self) -> ActionDeclaration {
        self.connection.0.lock().machine.declared_actions().clone()
    }

    /// Says what the robot's actions are, for a robot whose metadata does not. The log has a line if
    /// a setting does not fit, and is undone.
    ///
    /// # Panics
    /// When its bounds or largest steps are none: without a number, not finite, a lower bound above the
    /// upper one, or a negative step.
    pub fn declare_actions(&self, declared: ActionDeclaration) {
        self.connection.0.call(|state, now| state.machine.declare_actions(now, declared));
    }

    /// The robot's contract, as far as it is known: what its metadata said when it last came. By it
    /// each action that is put or sent is checked, or clamped; see
    /// [`Client::contract`](chiral_proto::client::Client::contract).
    pub fn contract(&self) -> ActionSpec {
        self.connection.0.lock().machine.contract().clone()
    }

    /// How the robot says that this connection keeps to its contract: whether it is armed, how many
    /// actions come on time, are refused or clamped; in the latest observation that said it. `None` for
    /// a robot that declares none, or before.
    pub fn contract_status(&self) -> Option<ContractStatus> {
        self.connection.0.lock().machine.contract_status()
    }

    // ---- the connection -----------------------------------------------------------------------

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.connection.0.lock().machine.stats(Instant::now())
    }

    /// Whether nothing at all has come from the robot for longer than
    /// [`Config::silence`](chiral_proto::client::Config::silence), although something is waited
    /// for: the link may be dead, and the policy blind. The log has a line when it begins and ends.
    pub fn is_silent(&self) -> bool {
        self.connection.0.lock().is_silent()
    }

    /// Why the connection has ended, if it has, for good: not while it is being made again, see
    /// [`connection_state`](Self::connection_state).
    pub fn error(&self) -> Option<ConnectionError> {
        match self.connection.0.state() {
            ConnectionState::Ended { error } => Some(error),
            _ => None,
        }
    }

    /// Whether there is a connection, and what has become of it if not.
    pub fn connection_state(&self) -> ConnectionState {
        self.connection.0.state()
    }

    /// What the transport has beyond its frames, such as statistics of its own, if that is a `T`.
    /// Over Zenoh: `chiral_zenoh::Counts`.
    pub fn transport_extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.connection.0.lock().extension()?.downcast().ok()
    }
}

impl Clone for ClientCalls {
    fn clone(&self) -> Self {
        Self {
            connection: Arc::clone(&self.connection),
            seen: AtomicU64::new(self.seen.load(Ordering::Relaxed)),
            seen_events: AtomicU64::new(self.seen_events.load(Ordering::Relaxed)),
            settings: self.settings.clone(),
        }
    }
}

impl std::fmt::Debug for ClientCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCalls").field("error", &self.error()).finish_non_exhaustive()
    }
}
