//! What an adapter must be able to do to be tested: serve a robot, and be a policy.
//!
//! Every call blocks its thread until it is done, so that one suite fits all: those of an async
//! runtime run on it with its `block_on`.

use std::sync::Arc;
use std::time::Duration;

use chiral_driver::{CallError, ConnectError};
use chiral_proto::client::{self, Misuse, NotQueued};
use chiral_proto::ws::{HandshakeError, Keepalive};
use chiral_proto::{
    Action, ConnectionError, Map, Observation, Rate, ResetResult, StepResult, server,
};
use chiral_tests::Recorder;

/// A way to serve robots and to connect policies.
pub(crate) trait Adapter: Sync {
    /// Serves a robot in the background, on an address, `host:port`; port 0 stands for any.
    fn serve(
        &self,
        address: &str,
        robot: Arc<Recorder>,
        settings: ServerSettings,
    ) -> Box<dyn Serving>;

    /// Connects a policy.
    fn connect(&self, uri: &str, settings: ClientSettings)
    -> Result<Arc<dyn Policy>, ConnectError>;

    /// Where policies connect to, when a robot is served on an address that is not port 0.
    fn uri(&self, address: &str) -> String {
        format!("ws://{address}")
    }

    /// Whether a policy was not connected because the robot has another one.
    fn is_refusal(&self, error: &ConnectError) -> bool {
        let ConnectError::Handshake { source, .. } = error else { return false };
        let HandshakeError::Refused { status: 503, body, .. } = source else { return false };
        body == "this robot already has a policy; it takes one at a time"
    }

    /// Whether a policy is connected only when the robot has told what it is.
    fn requests_metadata_to_connect(&self) -> bool {
        false
    }
}

/// A robot that is being served. Its drop ends that without waiting for anything.
pub(crate) trait Serving: Send + Sync {
    /// Where policies connect to.
    fn uri(&self) -> String;

    /// Shuts the server down in an orderly way, and waits until it no longer serves.
    fn shut_down(&self);

    /// The statistics of the policy's connection, if there is one.
    fn stats(&self) -> Option<server::Stats>;
}

/// A handle to a policy's connection; the drop of the last one closes it.
pub(crate) trait Policy: Send + Sync {
    /// Another handle to the same connection.
    fn another(&self) -> Arc<dyn Policy>;

    // Those that wait for the robot.
    fn metadata(&self) -> Result<Map, CallError>;
    fn reset(&self) -> Result<ResetResult, CallError>;
    fn observe(&self) -> Result<Arc<Observation>, CallError>;
    fn step(&self, action: Action) -> Result<StepResult, CallError>;
    /// `None` when nothing newer came in time.
    fn next_obs_within(&self, timeout: Duration) -> Result<Option<Arc<Observation>>, CallError>;
    fn next_obs(&self) -> Result<Arc<Observation>, CallError>;
    /// For all handles.
    fn close(&self);

    // Those that do not wait.
    fn latest_obs(&self) -> Option<Arc<Observation>>;
    fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse>;
    fn stop_obs_stream(&self);
    fn put_action(&self, action: Action) -> Result<(), NotQueued>;
    fn send_action(&self, action: Action) -> Result<(), NotQueued>;
    fn put_chunk(&self, basis: &Observation, actions: Vec<Action>) -> Result<(), NotQueued>;
    fn replace_actions(
        &self,
        basis: &Observation,
        actions: Vec<Action>,
    ) -> Result<usize, NotQueued>;
    fn clear_actions(&self) -> usize;
    fn queued_actions(&self) -> usize;
    fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse>;
    fn stop_action_dispatch(&self);
    fn stats(&self) -> client::Stats;
    fn error(&self) -> Option<ConnectionError>;
}

/// A policy's settings.
#[derive(Clone)]
pub(crate) struct ClientSettings {
    pub(crate) machine: client::Config,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            machine: client::Config::default(),
            connect_timeout: None,
            request_timeout: None,
            keepalive: Some(Keepalive::default()),
        }
    }
}

/// A server's settings.
#[derive(Clone)]
pub(crate) struct ServerSettings {
    pub(crate) machine: server::Config,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) shutdown_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            machine: server::Config::default(),
            keepalive: Some(Keepalive::default()),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}
