use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chiral_proto::client::{
    Client, Config, Event, Misuse, NotQueued, RequestError, RequestId, RequestKey, Stats,
};
use chiral_proto::{Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult};
use futures_channel::oneshot;

use crate::connect::Builder;
use crate::error::{CallError, ConnectError};
use crate::line::Line;
use crate::runtime::Runtime;
use crate::shared::{Shared, Side};

/// How long the actions sent right before the end may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The policy's connection to a robot.
///
/// Cloning it gives another handle to the same connection; calls may be made from many tasks at
/// once, and each gets its own answer. When the last handle is dropped the connection is closed.
pub struct PolicyClient<R> {
    link: Arc<Link>,
    /// The newest observation that this handle's `next_obs` returned, by its number.
    seen: AtomicU64,
    request_timeout: Option<Duration>,
    #[cfg(feature = "zenoh")]
    pub(crate) zenoh: Option<chiral_zenoh::Counts>,
    runtime: PhantomData<fn() -> R>,
}

/// What all handles share. Its drop is the last handle's.
struct Link(Arc<Shared<ClientSide>>);

impl Drop for Link {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Link {
    fn hang_up(&self) {
        self.0.call(|side, now| side.machine.shut_down(now, now + LAST_WORDS));
    }
}

/// The client's machine and the callers who wait for it.
pub(crate) struct ClientSide {
    machine: Client,
    calls: HashMap<RequestKey, Call>,
    /// How many observations came; the latest one's number.
    observed: u64,
    latest: Option<Arc<Observation>>,
    news: Arc<event_listener::Event>,
}

type Answer<T> = oneshot::Sender<Result<T, RequestError>>;

enum Call {
    Metadata(Answer<Map>),
    Reset(Answer<ResetResult>),
    Observe(Answer<Arc<Observation>>),
    Step(Answer<StepResult>),
}

impl Side for ClientSide {
    type Machine = Client;

    fn machine(&mut self) -> &mut Client {
        &mut self.machine
    }

    fn tell(&mut self) -> bool {
        let mut woken = 0;
        while let Some(event) = self.machine.poll_event() {
            // A caller who no longer waits has dropped the other end; the answer goes with it.
            match event {
                Event::Metadata { id, metadata } => {
                    if let Some(Call::Metadata(caller)) = self.calls.remove(&id.key()) {
                        woken += usize::from(caller.send(Ok(metadata)).is_ok());
                    }
                }
                Event::Reset { id, result } => {
                    if let Some(Call::Reset(caller)) = self.calls.remove(&id.key()) {
                        woken += usize::from(caller.send(Ok(result)).is_ok());
                    }
                }
                Event::Observation { id, observation } => {
                    if let Some(Call::Observe(caller)) = self.calls.remove(&id.key()) {
                        woken += usize::from(caller.send(Ok(observation)).is_ok());
                    }
                }
                Event::Step { id, result } => {
                    if let Some(Call::Step(caller)) = self.calls.remove(&id.key()) {
                        woken += usize::from(caller.send(Ok(result)).is_ok());
                    }
                }
                Event::Failed { id, error } => woken += usize::from(self.fail(id, error)),
                Event::Streamed(_) => {}
                Event::Disconnected(_) => woken += self.news.notify(usize::MAX),
            }
        }
        let latest = self.machine.latest_observation();
        let is_same = match (latest, &self.latest) {
            (Some(latest), Some(known)) => Arc::ptr_eq(latest, known),
            (latest, known) => latest.is_none() && known.is_none(),
        };
        if !is_same {
            self.latest = latest.cloned();
            self.observed += 1;
            woken += self.news.notify(usize::MAX);
        }
        woken > 0
    }
}

impl ClientSide {
    fn fail(&mut self, id: RequestKey, error: RequestError) -> bool {
        match self.calls.remove(&id) {
            Some(Call::Metadata(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Reset(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Observe(caller)) => caller.send(Err(error)).is_ok(),
            Some(Call::Step(caller)) => caller.send(Err(error)).is_ok(),
            None => false,
        }
    }
}

impl<R: Runtime> PolicyClient<R> {
    /// Connects to a server, and waits for one that is not up yet: it is tried every 100 ms.
    ///
    /// # Errors
    /// When the URI is bad, or the server is there and does not take the connection.
    pub async fn connect(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(uri).await
    }

    /// Settings for a connection.
    pub fn builder() -> Builder<R> {
        Builder::default()
    }

    /// A client of a WebSocket that is already open: from a proxy, a TLS stack, an HTTP client. It
    /// has the default settings; [`Builder::over_websocket`] takes others.
    ///
    /// The WebSocket's own message size limits apply too, and its defaults are too small for large
    /// observations: raise them where the WebSocket is made.
    #[cfg(feature = "async-tungstenite")]
    pub fn from_websocket<S>(stream: async_tungstenite::WebSocketStream<S>) -> Self
    where
        S: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static,
    {
        Self::builder().over_websocket(stream)
    }

    /// A client whose line `carry` drives.
    pub(crate) fn start(
        config: Config,
        request_timeout: Option<Duration>,
        carry: impl FnOnce(Line),
    ) -> Self {
        let shared = Shared::new(ClientSide {
            machine: Client::new(config),
            calls: HashMap::new(),
            observed: 0,
            latest: None,
            news: Arc::default(),
        });
        carry(Line::new(Arc::clone(&shared), || {}));
        Self {
            link: Arc::new(Link(shared)),
            seen: AtomicU64::new(0),
            request_timeout,
            #[cfg(feature = "zenoh")]
            zenoh: None,
            runtime: PhantomData,
        }
    }
}

impl<R> PolicyClient<R> {
    // ---- requests -----------------------------------------------------------------------------

    /// The robot's metadata.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub async fn metadata(&self) -> Result<Map, CallError> {
        self.ask(Client::request_metadata, Call::Metadata).await
    }

    /// Resets the robot. The observation is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub async fn reset(&self) -> Result<ResetResult, CallError> {
        self.ask(Client::request_reset, Call::Reset).await
    }

    /// An observation made for this call. It is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub async fn observe(&self) -> Result<Arc<Observation>, CallError> {
        self.ask(Client::request_observation, Call::Observe).await
    }

    /// The legacy, coupled step: sends an action, `[N, D]`, and waits for its result.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub async fn step(&self, action: impl Into<Action>) -> Result<StepResult, CallError> {
        let action = action.into();
        let request =
            |client: &mut Client, now, deadline| client.request_step(now, action, deadline);
        self.ask(request, Call::Step).await
    }

    async fn ask<Kind, T>(
        &self,
        request: impl FnOnce(&mut Client, Instant, Option<Instant>) -> Result<RequestId<Kind>, Misuse>,
        call: impl FnOnce(Answer<T>) -> Call,
    ) -> Result<T, CallError> {
        let (caller, answer) = oneshot::channel();
        self.link.0.call(|side, now| {
            let deadline = self.request_timeout.map(|timeout| now + timeout);
            let id = request(&mut side.machine, now, deadline)?;
            side.calls.insert(id.key(), call(caller));
            Ok::<_, Misuse>(())
        })?;
        let dropped = || RequestError::Disconnected(ConnectionError::ClosedLocally);
        Ok(answer.await.unwrap_or_else(|_| Err(dropped()))?)
    }

    // ---- observations -------------------------------------------------------------------------

    /// Asks for observations at a fixed rate from now on; see
    /// [`Client::start_obs_stream`](chiral_proto::client::Client::start_obs_stream).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse> {
        self.link.0.call(|side, now| side.machine.start_obs_stream(now, rate))
    }

    /// Stops asking for observations.
    pub fn stop_obs_stream(&self) {
        self.link.0.call(|side, _| side.machine.stop_obs_stream());
    }

    /// The newest observation that any answer brought; `None` before the first.
    pub fn latest_obs(&self) -> Option<Arc<Observation>> {
        self.link.0.lock().latest.clone()
    }

    /// The newest observation that this handle's `next_obs` has not returned yet; waits for it
    /// when there is none.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn next_obs(&self) -> Result<Arc<Observation>, CallError> {
        loop {
            let news = {
                let side = self.link.0.lock();
                if side.observed > self.seen.load(Ordering::Relaxed)
                    && let Some(latest) = &side.latest
                {
                    self.seen.store(side.observed, Ordering::Relaxed);
                    return Ok(Arc::clone(latest));
                }
                if let Some(error) = side.machine.error() {
                    return Err(RequestError::Disconnected(error.clone()).into());
                }
                side.news.listen()
            };
            news.await;
        }
    }

    // ---- actions ------------------------------------------------------------------------------

    /// Appends an action to the queue; see
    /// [`Client::put_action`](chiral_proto::client::Client::put_action). Never waits.
    ///
    /// # Errors
    /// When the queue is full or the connection has ended; the action is in the error.
    pub fn put_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.link.0.call(|side, now| side.machine.put_action(now, action.into()))
    }

    /// Sends an action at once, without waiting for a tick; see
    /// [`Client::send_action`](chiral_proto::client::Client::send_action). Never waits.
    ///
    /// # Errors
    /// When too many wait for the transport or the connection has ended; the action is in the
    /// error.
    pub fn send_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        self.link.0.call(|side, now| side.machine.send_action(now, action.into()))
    }

    /// Appends the actions of a plan, bound to the observation on which it was made; see
    /// [`Client::put_chunk`](chiral_proto::client::Client::put_chunk). Never waits.
    ///
    /// # Errors
    /// When they do not all fit or the connection has ended; the actions are in the error.
    pub fn put_chunk<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<(), NotQueued> {
        let actions: Vec<Action> = actions.into_iter().map(Into::into).collect();
        self.link.0.call(|side, now| side.machine.put_chunk(now, observation, actions))
    }

    /// Puts a new plan in the place of what is left of the old one; see
    /// [`Client::replace_actions`](chiral_proto::client::Client::replace_actions). Never waits.
    ///
    /// # Errors
    /// When the plan does not fit or the connection has ended; the actions are in the error.
    pub fn replace_actions<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<usize, NotQueued> {
        let actions: Vec<Action> = actions.into_iter().map(Into::into).collect();
        self.link.0.call(|side, now| side.machine.replace_actions(now, observation, actions))
    }

    /// Drops the actions that have not left yet, and returns how many there were.
    pub fn clear_actions(&self) -> usize {
        self.link.0.call(|side, _| side.machine.clear_actions())
    }

    /// How many actions wait in the queue.
    pub fn queued_actions(&self) -> usize {
        self.link.0.lock().machine.queued_actions()
    }

    /// Sends one queued action a tick from now on; see
    /// [`Client::start_action_dispatch`](chiral_proto::client::Client::start_action_dispatch).
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse> {
        self.link.0.call(|side, now| side.machine.start_action_dispatch(now, rate))
    }

    /// Stops sending queued actions; they stay in the queue.
    pub fn stop_action_dispatch(&self) {
        self.link.0.call(|side, _| side.machine.stop_action_dispatch());
    }

    // ---- the connection -----------------------------------------------------------------------

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        self.link.0.lock().machine.stats()
    }

    /// What the link over Zenoh has carried, and whether through shared memory; `None` on another
    /// transport.
    #[cfg(feature = "zenoh")]
    pub fn zenoh_stats(&self) -> Option<chiral_zenoh::Stats> {
        self.zenoh.as_ref().map(chiral_zenoh::Counts::read)
    }

    /// Why the connection has ended, if it has.
    pub fn error(&self) -> Option<ConnectionError> {
        self.link.0.error()
    }

    /// Closes the connection, for all handles, and waits until the server knows. What was
    /// [sent](Self::send_action) goes out before; what waits for a tick does not.
    pub async fn close(self) {
        self.link.hang_up();
        self.link.0.wait_for_end().await;
    }
}

impl<R> Clone for PolicyClient<R> {
    fn clone(&self) -> Self {
        Self {
            link: Arc::clone(&self.link),
            seen: AtomicU64::new(self.seen.load(Ordering::Relaxed)),
            request_timeout: self.request_timeout,
            #[cfg(feature = "zenoh")]
            zenoh: self.zenoh.clone(),
            runtime: PhantomData,
        }
    }
}

impl<R> std::fmt::Debug for PolicyClient<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyClient").field("error", &self.link.0.error()).finish_non_exhaustive()
    }
}
