//! chiral-blocking: each of its calls blocks anyway.

use std::sync::Arc;
use std::time::Duration;

use chiral_blocking::{CallError, ConnectError, PolicyClient, PolicyServer, ServerConfig};
use chiral_proto::client::{self, Misuse, NotQueued};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult, server,
};
use chiral_tests::Recorder;

use super::calls_that_do_not_wait;
use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};

pub(crate) static ADAPTER: Blocking = Blocking;

pub(crate) struct Blocking;

impl Adapter for Blocking {
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving> {
        let config = ServerConfig {
            machine: settings.machine,
            keepalive: settings.keepalive,
            shutdown_timeout: settings.shutdown_timeout,
            ..ServerConfig::default()
        };
        let server = PolicyServer::bind_with(address, config).expect("the address is free");
        server.spawn(robot).expect("the system has a thread left");
        Box::new(server)
    }

    fn connect(
        &self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        let mut builder =
            PolicyClient::builder().config(settings.machine).keepalive(settings.keepalive);
        if let Some(timeout) = settings.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = settings.request_timeout {
            builder = builder.request_timeout(timeout);
        }
        Ok(Arc::new(BlockingPolicy(builder.connect(uri)?)))
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

    fn close(&self) {
        self.0.clone().close();
    }

    calls_that_do_not_wait!();
}
