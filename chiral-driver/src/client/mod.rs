//! The policy's side: [`PolicyClient`], and what adapters make theirs from.

mod calls;
mod cancel;
mod connect;
mod connection_event;
mod race;
mod reconnect;
mod settings;
mod state;
mod waiting;

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use chiral_proto::client::Reconnect;
use chiral_proto::{Action, Map, Observation, ResetResult, StepResult};
use futures_io::{AsyncRead, AsyncWrite};

pub use calls::ClientCalls;
pub use cancel::CancelToken;
pub use connect::Builder;
pub use connection_event::{ConnectionEvent, OnConnection};
pub use race::Race;
pub use reconnect::{Outage, OutageProgress, Supervisor};
pub use settings::{ClientSettings, Headers, SocketRoute, Target, classify_handshake};
pub use state::{ClientState, Pending};
pub use waiting::{Failure, OnWaiting, Stage, WaitForServer, Waiting};

use crate::error::{CallError, ConnectError};
use crate::runtime::Runtime;

/// The policy's connection to a robot.
///
/// Beside its own methods it has those of [`ClientCalls`], which never wait. Cloning it gives
/// another handle to the same connection; calls may be made from many tasks at once, and each gets
/// its own answer. When the last handle is dropped the connection is closed.
pub struct PolicyClient<R> {
    calls: ClientCalls,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> PolicyClient<R> {
    /// Connects to a robot, and waits for one that is not up yet or has another policy; see
    /// [`Builder::connect`]. `uri` is `ws://host:port`, `host:port`, `unix:/path`, or what the
    /// adapter was built for beside these.
    ///
    /// # Errors
    /// When the URI is bad, or what is there will not take the connection.
    pub async fn connect(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(uri).await
    }

    /// As [`connect`](Self::connect), for a policy that is to live through a restart of its robot
    /// without knowing of it: a connection that is lost is made again, for as long as it takes.
    ///
    /// Requests for metadata and observations wait for it, within their deadline, and so does
    /// [`next_obs`](Self::next_obs); a chunk that was decided on an observation of before is
    /// [discarded](chiral_proto::timeline::Placement::discarded) by [`follow`](ClientCalls::follow).
    /// What moves the robot in another way fails meanwhile: [`reset`](Self::reset),
    /// [`step`](Self::step), and actions that are put or sent, none of which is kept for later. See
    /// [`Builder::reconnect`] for what becomes of the rest, and for what ends it.
    ///
    /// # Errors
    /// As there.
    pub async fn supervised(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().reconnect(Reconnect::holding_calls()).connect(uri).await
    }

    /// A client over a byte stream that is connected already, with the default settings; see
    /// [`Builder::over_stream`].
    ///
    /// # Errors
    /// When the server does not take the connection.
    pub async fn over_stream<S>(stream: S) -> Result<Self, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::builder().over_stream(stream).await
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
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::builder().over_websocket(stream)
    }

    fn new(calls: ClientCalls) -> Self {
        Self { calls, runtime: PhantomData }
    }
}

impl<R> PolicyClient<R> {
    /// The robot's metadata.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub async fn metadata(&self) -> Result<Map, CallError> {
        self.answer(self.calls.request_metadata()).await
    }

    /// Resets the robot. The observation is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub async fn reset(&self) -> Result<ResetResult, CallError> {
        self.answer(self.calls.request_reset()).await
    }

    /// An observation made for this call. It is then also the latest one.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first.
    pub async fn observe(&self) -> Result<Arc<Observation>, CallError> {
        self.answer(self.calls.request_observation()).await
    }

    /// The legacy, coupled step: sends an action, `[N, D]`, and waits for its result.
    ///
    /// # Errors
    /// When the connection ends or the time set by [`Builder::request_timeout`] passes first; in
    /// the latter case the robot may still be at it.
    pub async fn step(&self, action: impl Into<Action>) -> Result<StepResult, CallError> {
        self.answer(self.calls.request_step(action.into())).await
    }

    /// The newest observation that this handle's `next_obs` has not returned yet; waits for it
    /// when there is none.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn next_obs(&self) -> Result<Arc<Observation>, CallError> {
        self.calls.wait_next_obs().await
    }

    /// Waits until so few rows of the plan are left that it is time for the next chunk: no more than
    /// [`refill_at`](ClientCalls::refill_at) says.
    ///
    /// ```no_run
    /// # async fn run<R: chiral_driver::Runtime>(robot: chiral_driver::PolicyClient<R>) -> Result<(), Box<dyn std::error::Error>> {
    /// # fn infer(_: &chiral_driver::proto::Observation) -> Vec<[f32; 7]> { Vec::new() }
    /// robot.refill_at(10);
    /// loop {
    ///     robot.plan_low().await?;
    ///     let observation = robot.observe().await?;
    ///     let rows = infer(&observation);
    ///     robot.follow(&observation, rows)?;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn plan_low(&self) -> Result<(), CallError> {
        self.calls.wait_plan_low().await
    }

    /// The next event of the connection that this handle has not returned yet: that it was lost, made
    /// again, or has ended; waits for it. `None` when it has ended and that was returned. A handle that
    /// does not look for long misses all but the last 64.
    pub async fn next_connection_event(&self) -> Option<ConnectionEvent> {
        self.calls.wait_connection_event().await
    }

    /// Closes the connection, for all handles, and waits until the server knows. What was
    /// [sent](ClientCalls::send_action) goes out before; what waits for a tick does not. The robot
    /// applies nothing after the end: to be sure of the last action, wait for a [reset](Self::reset)
    /// first, which it answers after the actions before it.
    pub async fn close(self) {
        self.calls.start_closing();
        self.calls.connection().wait_until_finished().await;
    }

    /// Waits for the answer to a request that was just made.
    async fn answer<T>(&self, request: Result<Pending<T>, CallError>) -> Result<T, CallError> {
        let pending = request?;
        self.calls.connection().wake_driver();
        pending.await
    }
}

impl<R> Deref for PolicyClient<R> {
    type Target = ClientCalls;

    fn deref(&self) -> &ClientCalls {
        &self.calls
    }
}

impl<R> Clone for PolicyClient<R> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), runtime: PhantomData }
    }
}

impl<R> std::fmt::Debug for PolicyClient<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyClient").field("error", &self.error()).finish_non_exhaustive()
    }
}
