//! A policy's connection through any adapter.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use chiral_driver::{CallError, PolicyClient, Runtime};
use chiral_proto::client::{Config, Misuse, NotQueued, Stats};
use chiral_proto::{Action, Map, Observation, Rate, ResetResult};
use futures_lite::future::or;

use super::Adapter;
use super::host::{Host, Smol, Tokio};
use crate::ticks::Ticks;

/// How to connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// `None`: for ever.
    pub(crate) connect_timeout: Option<Duration>,
    /// `None`: as long as the connection lasts.
    pub(crate) request_timeout: Option<Duration>,
}

/// The builders of the adapters are of two types with the same methods.
macro_rules! configured {
    ($builder:expr, $settings:expr) => {{
        let Settings { config, connect_timeout, request_timeout } = $settings;
        let mut builder = $builder.config(config);
        if let Some(timeout) = connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = request_timeout {
            builder = builder.request_timeout(timeout);
        }
        builder
    }};
}

/// An observation, and how long it took.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) observation: Arc<Observation>,
    /// When it was asked for, and when it was there.
    pub(crate) asked: Instant,
    pub(crate) came: Instant,
}

impl Observed {
    pub(crate) fn took(&self) -> Duration {
        self.came.duration_since(self.asked)
    }
}

/// A policy's connection to a robot, through any adapter. Calls block while they wait.
pub(crate) enum Client {
    Tokio(Hosted<Tokio>),
    Smol(Hosted<Smol>),
    Blocking(chiral_blocking::PolicyClient),
}

/// Makes the same call of every adapter's client.
macro_rules! of_any {
    ($client:expr, $inner:ident => $call:expr) => {
        match $client {
            Client::Tokio($inner) => $call,
            Client::Smol($inner) => $call,
            Client::Blocking($inner) => $call,
        }
    };
}

impl Client {
    pub(crate) fn connect(adapter: Adapter, uri: &str, settings: Settings) -> anyhow::Result<Self> {
        Ok(match adapter {
            Adapter::Tokio => Self::Tokio(Hosted::connect(uri, settings)?),
            Adapter::Smol => Self::Smol(Hosted::connect(uri, settings)?),
            Adapter::Blocking => {
                let builder = configured!(chiral_blocking::PolicyClient::builder(), settings);
                Self::Blocking(builder.connect(uri)?)
            }
        })
    }

    pub(crate) fn metadata(&self) -> Result<Map, CallError> {
        of_any!(self, client => client.metadata())
    }

    pub(crate) fn reset(&self) -> Result<ResetResult, CallError> {
        of_any!(self, client => client.reset())
    }

    /// An observation made for this call. How long it took is measured where a policy of this
    /// adapter would be.
    pub(crate) fn observe(&self) -> Result<Observed, CallError> {
        match self {
            Self::Tokio(client) => client.observe(),
            Self::Smol(client) => client.observe(),
            Self::Blocking(client) => {
                let asked = Instant::now();
                let observation = client.observe()?;
                Ok(Observed { observation, asked, came: Instant::now() })
            }
        }
    }

    /// The next observation of the stream; `None` when none comes in time.
    pub(crate) fn next_obs(
        &self,
        timeout: Duration,
    ) -> Result<Option<Arc<Observation>>, CallError> {
        of_any!(self, client => client.next_obs(timeout))
    }

    pub(crate) fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse> {
        of_any!(self, client => client.start_obs_stream(rate))
    }

    pub(crate) fn stop_obs_stream(&self) {
        of_any!(self, client => client.stop_obs_stream());
    }

    pub(crate) fn put_action(&self, action: impl Into<Action>) -> Result<(), NotQueued> {
        of_any!(self, client => client.put_action(action))
    }

    pub(crate) fn put_chunk<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<(), NotQueued> {
        of_any!(self, client => client.put_chunk(observation, actions))
    }

    pub(crate) fn replace_actions<A: Into<Action>>(
        &self,
        observation: &Observation,
        actions: impl IntoIterator<Item = A>,
    ) -> Result<usize, NotQueued> {
        of_any!(self, client => client.replace_actions(observation, actions))
    }

    pub(crate) fn clear_actions(&self) -> usize {
        of_any!(self, client => client.clear_actions())
    }

    pub(crate) fn queued_actions(&self) -> usize {
        of_any!(self, client => client.queued_actions())
    }

    pub(crate) fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse> {
        of_any!(self, client => client.start_action_dispatch(rate))
    }

    pub(crate) fn stop_action_dispatch(&self) {
        of_any!(self, client => client.stop_action_dispatch());
    }

    /// Sends an action at once, and then at the rate until the end, from where a policy of this
    /// adapter would.
    pub(crate) fn send_at(
        &self,
        rate: Rate,
        end: Instant,
        mut action: impl FnMut() -> Action + Send + 'static,
    ) -> Result<(), NotQueued> {
        match self {
            Self::Tokio(client) => client.send_at(rate, end, action),
            Self::Smol(client) => client.send_at(rate, end, action),
            Self::Blocking(client) => {
                let mut ticks = Ticks::starting(Instant::now(), rate);
                loop {
                    client.send_action(action())?;
                    let now = Instant::now();
                    let next = ticks.next(now);
                    if next >= end {
                        return Ok(());
                    }
                    std::thread::sleep(next.saturating_duration_since(now));
                }
            }
        }
    }

    /// Whether observations came through shared memory; `None` when not over Zenoh.
    #[cfg(feature = "zenoh")]
    pub(crate) fn shares_memory(&self) -> Option<bool> {
        let stats = of_any!(self, client => client.zenoh_stats())?;
        Some(stats.uses_shared_memory())
    }

    /// There is no Zenoh in this program.
    #[cfg(not(feature = "zenoh"))]
    #[expect(clippy::unused_self, reason = "it is as with Zenoh")]
    pub(crate) fn shares_memory(&self) -> Option<bool> {
        None
    }

    pub(crate) fn stats(&self) -> Stats {
        of_any!(self, client => client.stats())
    }

    /// Says goodbye, and waits until the server knows.
    pub(crate) fn close(self) {
        of_any!(self, client => client.close());
    }

    /// As [`close`](Self::close), but waits no longer than that; the rest is left to a thread.
    pub(crate) fn close_within(self, timeout: Duration) -> anyhow::Result<()> {
        let (done, closed) = mpsc::channel();
        std::thread::Builder::new().name("goodbye".to_owned()).spawn(move || {
            self.close();
            // Nobody may be waiting any more.
            let _ = done.send(());
        })?;
        // Whether the server has taken note makes no difference.
        let _ = closed.recv_timeout(timeout);
        Ok(())
    }
}

/// A connection through an async adapter, with its runtime.
pub(crate) struct Hosted<H: Host> {
    // Before the runtime: its drop says goodbye.
    client: PolicyClient<H::Runtime>,
    host: H,
}

impl<H: Host> std::ops::Deref for Hosted<H> {
    type Target = PolicyClient<H::Runtime>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl<H: Host> Hosted<H> {
    pub(crate) fn new(host: H, client: PolicyClient<H::Runtime>) -> Self {
        Self { client, host }
    }

    fn connect(uri: &str, settings: Settings) -> anyhow::Result<Self> {
        let host = H::start()?;
        let builder = configured!(PolicyClient::<H::Runtime>::builder(), settings);
        let client = host.wait(builder.connect(uri))?;
        Ok(Self::new(host, client))
    }

    fn metadata(&self) -> Result<Map, CallError> {
        self.host.wait(self.client.metadata())
    }

    fn reset(&self) -> Result<ResetResult, CallError> {
        self.host.wait(self.client.reset())
    }

    fn observe(&self) -> Result<Observed, CallError> {
        let client = self.client.clone();
        self.host.run(async move {
            let asked = Instant::now();
            let observation = client.observe().await?;
            Ok(Observed { observation, asked, came: Instant::now() })
        })
    }

    fn next_obs(&self, timeout: Duration) -> Result<Option<Arc<Observation>>, CallError> {
        let next = async { self.client.next_obs().await.map(Some) };
        let late = async {
            H::Runtime::sleep_until(Instant::now() + timeout).await;
            Ok(None)
        };
        self.host.wait(or(next, late))
    }

    fn send_at(
        &self,
        rate: Rate,
        end: Instant,
        mut action: impl FnMut() -> Action + Send + 'static,
    ) -> Result<(), NotQueued> {
        let client = self.client.clone();
        self.host.run(async move {
            let mut ticks = Ticks::starting(Instant::now(), rate);
            loop {
                client.send_action(action())?;
                let next = ticks.next(Instant::now());
                if next >= end {
                    return Ok(());
                }
                H::Runtime::sleep_until(next).await;
            }
        })
    }

    fn close(self) {
        self.host.wait(self.client.close());
    }
}
