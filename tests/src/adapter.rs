//! What an adapter must be able to do to be tested and measured: serve a robot, and be a policy.
//!
//! Every call blocks its thread until it is done, so that one suite fits all: those of an async
//! runtime run on it with its `block_on`.

#![expect(clippy::missing_errors_doc, reason = "the errors are those of the adapters' own calls")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Recorder;
pub use chiral_driver::client::ClientSettings;
use chiral_driver::client::ConnectionEvent;
use chiral_driver::server::Accept;
use chiral_driver::{CallError, ConnectError, TlsServer, Token};
use chiral_proto::client::{self, ConnectionState, Misuse, NotFresh, NotQueued};
use chiral_proto::timeline::{Placement, Starved};
use chiral_proto::ws::{HandshakeError, Keepalive};
use chiral_proto::{
    Action, ActionDeclaration, ActionSpec, ConnectionError, ContractStatus, Map, Observation, Rate,
    ResetResult, StepResult, server,
};

/// A way to serve robots and to connect policies.
pub trait Adapter: Sync {
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
        let ConnectError::Handshake { error: source, .. } = error else { return false };
        let HandshakeError::Refused { status: 503, body, .. } = source else { return false };
        body == "this robot already has a policy; it takes one at a time"
    }

    /// Whether a policy is connected only when the robot has told what it is.
    fn requests_metadata_to_connect(&self) -> bool {
        false
    }
}

/// A robot that is being served. Its drop ends that without waiting for anything.
pub trait Serving: Send + Sync {
    /// Where policies connect to.
    fn uri(&self) -> String;

    /// Shuts the server down in an orderly way, and waits until it no longer serves.
    fn shut_down(&self);

    /// The statistics of the policy's connection, if there is one.
    fn stats(&self) -> Option<server::Stats>;

    /// Arms the robot; false when no policy is connected.
    fn arm(&self) -> bool;

    /// Stops the robot until it is armed; false when no policy is connected.
    fn stop_motion(&self) -> bool;
}

/// Called after each observation, with the number of them so far.
pub type AfterEach = Box<dyn FnMut(usize) + Send>;

/// Makes the next action.
pub type MakeAction = Box<dyn FnMut() -> Action + Send>;

/// A handle to a policy's connection; the drop of the last one closes it.
pub trait Policy: Send + Sync {
    /// Another handle to the same connection.
    fn another(&self) -> Arc<dyn Policy>;

    // Those that wait for the robot.
    /// What the robot says of itself.
    fn metadata(&self) -> Result<Map, CallError>;
    /// Resets the robot.
    fn reset(&self) -> Result<ResetResult, CallError>;
    /// An observation made for this call.
    fn observe(&self) -> Result<Arc<Observation>, CallError>;
    /// The legacy step.
    fn step(&self, action: Action) -> Result<StepResult, CallError>;
    /// `None` when nothing newer came in time.
    fn next_obs_within(&self, timeout: Duration) -> Result<Option<Arc<Observation>>, CallError>;
    /// The next observation of the stream.
    fn next_obs(&self) -> Result<Arc<Observation>, CallError>;
    /// Waits until few rows of the plan are left.
    fn plan_low(&self) -> Result<(), CallError>;
    /// What has happened to the connection; `None` when nothing does in time, or any more.
    fn next_connection_event_within(&self, timeout: Duration) -> Option<ConnectionEvent>;
    /// For all handles.
    fn close(&self);

    // Those that are timed where a policy of this adapter would be: in a task, or in this thread.
    /// Makes so many observations, one after the other, and returns how long each took.
    fn time_observations(&self, count: usize, after: AfterEach)
    -> Result<Vec<Duration>, CallError>;
    /// Sends actions at a rate, the first one at once, until the end.
    fn send_actions(&self, rate: Rate, end: Instant, action: MakeAction) -> Result<(), NotQueued>;

    // Those that do not wait.
    /// The latest observation, if there is one.
    fn latest_obs(&self) -> Option<Arc<Observation>>;
    /// The newest observation that was not returned yet, without waiting for one.
    fn try_next_obs(&self) -> Result<Option<Arc<Observation>>, CallError>;
    /// The latest observation, unless it is older than this.
    fn fresh_obs(&self, max_age: Duration) -> Result<Arc<Observation>, NotFresh>;
    /// Starts the stream of observations.
    fn start_obs_stream(&self, rate: Rate) -> Result<(), Misuse>;
    /// Stops it.
    fn stop_obs_stream(&self);
    /// Puts a chunk where it belongs.
    fn follow(&self, basis: &Observation, rows: Vec<Action>) -> Result<Placement, NotQueued>;
    /// At how many rows the plan is low.
    fn refill_at(&self, rows: usize);
    /// What is sent at a tick that finds no row.
    fn set_starved(&self, starved: Starved) -> Result<(), Misuse>;
    /// What is known of the robot's actions.
    fn declared_actions(&self) -> ActionDeclaration;
    /// The robot's contract, as far as it is known.
    fn contract(&self) -> ActionSpec;
    /// How the robot says that the connection keeps to it.
    fn contract_status(&self) -> Option<ContractStatus>;
    /// Queues an action for the dispatch.
    fn put_action(&self, action: Action) -> Result<(), NotQueued>;
    /// Sends an action at once.
    fn send_action(&self, action: Action) -> Result<(), NotQueued>;
    /// Queues actions that were decided on an observation.
    fn put_chunk(&self, basis: &Observation, actions: Vec<Action>) -> Result<(), NotQueued>;
    /// As `put_chunk`, in place of what is queued; how many that was.
    fn replace_actions(
        &self,
        basis: &Observation,
        actions: Vec<Action>,
    ) -> Result<usize, NotQueued>;
    /// Empties the queue; how many actions were in it.
    fn clear_actions(&self) -> usize;
    /// How many actions are queued.
    fn queued_actions(&self) -> usize;
    /// Starts the dispatch of the queue.
    fn start_action_dispatch(&self, rate: Rate) -> Result<(), Misuse>;
    /// Stops it.
    fn stop_action_dispatch(&self);
    /// The statistics of the connection.
    fn stats(&self) -> client::Stats;
    /// Whether nothing comes although something is waited for.
    fn is_silent(&self) -> bool;
    /// What ended the connection, if it has ended.
    fn error(&self) -> Option<ConnectionError>;
    /// Whether there is a connection.
    fn connection_state(&self) -> ConnectionState;
    /// Whether observations came through shared memory; `None` when not over Zenoh.
    #[cfg(feature = "zenoh")]
    fn shares_memory(&self) -> Option<bool>;
}

/// A server's settings.
#[derive(Clone)]
pub struct ServerSettings {
    /// The settings of its machines.
    pub machine: server::Config,
    /// When to ping; `None` for never.
    pub keepalive: Option<Keepalive>,
    /// How long a shutdown waits for the policy.
    pub shutdown_timeout: Duration,
    /// Whether the newest policy gets the robot.
    pub take_over: bool,
    /// The token that it asks for.
    pub token: Option<Token>,
    /// Its certificate and key.
    pub tls: Option<TlsServer>,
    /// What looks at requests.
    pub accept: Accept,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            // A recorder is to get every action.
            machine: server::Config {
                action_queue: server::ActionQueue::InOrder { capacity: 4096 },
                ..server::Config::default()
            },
            keepalive: Some(Keepalive::default()),
            shutdown_timeout: Duration::from_secs(5),
            take_over: false,
            token: None,
            tls: None,
            accept: Accept::default(),
        }
    }
}
