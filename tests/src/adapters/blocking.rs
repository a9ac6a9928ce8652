//! chiral-blocking: each of its calls blocks anyway.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Recorder;
use chiral_blocking::{
    Builder, CallError, ConnectError, ConnectionEvent, PolicyClient, PolicyServer, Robot,
    ServerConfig,
};
use chiral_proto::client::{self, Misuse, NotFresh, NotQueued};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult, server,
};

use super::calls_that_do_not_wait;
use crate::adapter::{
    Adapter, AfterEach, ClientSettings, MakeAction, Policy, ServerSettings, Serving,
};

/// chiral-blocking.
pub static ADAPTER: Blocking = Blocking;

/// The adapter.
pub struct Blocking;

impl Blocking {
    /// Binds a server and serves the robot that is made for it, in the background.
    ///
    /// # Errors
    /// When it cannot listen at the address, or there is no robot.
    pub fn start<R: Robot>(
        &self,
        address: &str,
        config: ServerConfig,
        robot: impl FnOnce(&PolicyServer) -> io::Result<R>,
    ) -> io::Result<Box<dyn Serving>> {
        let server = PolicyServer::bind_with(address, config)?;
        server.spawn(robot(&server)?)?;
        Ok(Box::new(server))
    }

    /// A policy on a client that is connected already.
    pub fn policy(&self, client: PolicyClient) -> Arc<dyn Policy> {
        Arc::new(BlockingPolicy(client))
    }

    /// A server's settings.
    pub fn config(&self, settings: ServerSettings) -> ServerConfig {
        ServerConfig {
            machine: settings.machine,
            keepalive: settings.keepalive,
            shutdown_timeout: settings.shutdown_timeout,
            take_over: settings.take_over,
            accept: settings.accept,
            token: settings.token,
            tls: settings.tls,
            ..ServerConfig::default()
        }
    }

    /// A policy's settings.
    pub fn builder(&self, settings: ClientSettings) -> Builder {
        settings.into()
    }
}

impl Adapter for Blocking {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        self.start(address, self.config(settings), |_| Ok(robot)).expect("the address is free")
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        Ok(self.policy(self.builder(settings).connect(uri)?))
    }
}

impl Serving for PolicyServer {
    fn uri(&self) -> String {
        PolicyServer::uri(self).expect("it is bound")
    }

    fn shut_down(&self) {
        self.shutdown();
    }

    fn stats(&self) -> Option<server::Stats> {
        self.stats()
    }

    fn arm(&self) -> bool {
        Self::arm(self)
    }

    fn stop_motion(&self) -> bool {
        Self::stop_motion(self)
    }
}

struct BlockingPolicy(PolicyClient);

impl Policy for BlockingPolicy {
    fn another(&self) -> Arc<dyn Policy> {
        Arc::new(Self(self.0.clone()))
    }

    fn metadata(&self) -> Result<Map, CallError> {
        self.0.metadata()
    }

    fn reset(&self) -> Result<ResetResult, CallError> {
        self.0.reset()
    }

    fn observe(&self) -> Result<Arc<Observation>, CallError> {
        self.0.observe()
    }

    fn step(&self, action: Action) -> Result<StepResult, CallError> {
        self.0.step(action)
    }

    fn next_obs_within(&self, timeout: Duration) -> Result<Option<Arc<Observation>>, CallError> {
        self.0.next_obs(timeout)
    }

    fn next_obs(&self) -> Result<Arc<Observation>, CallError> {
        Ok(self.0.next_obs(None)?.expect("it comes, or the connection ends"))
    }

    fn plan_low(&self) -> Result<(), CallError> {
        self.0.plan_low(None).map(|is_low| assert!(is_low, "without a timeout it is"))
    }

    fn next_connection_event_within(&self, timeout: Duration) -> Option<ConnectionEvent> {
        self.0.next_connection_event(timeout)
    }

    fn close(&self) {
        self.0.clone().close();
    }

    fn time_observations(
        &self,
        count: usize,
        mut after: AfterEach,
    ) -> Result<Vec<Duration>, CallError> {
        let observe = |done| {
            let asked = Instant::now();
            self.0.observe()?;
            let took = asked.elapsed();
            after(done);
            Ok(took)
        };
        (1..=count).map(observe).collect()
    }

    fn send_actions(
        &self,
        rate: Rate,
        end: Instant,
        mut action: MakeAction,
    ) -> Result<(), NotQueued> {
        let mut next = Instant::now();
        while next < end {
            self.0.send_action(action())?;
            let now = Instant::now();
            next = (next + rate.period()).max(now);
            std::thread::sleep(next - now);
        }
        Ok(())
    }

    calls_that_do_not_wait!();
}
