//! A client adapter and a server adapter, and what most cases begin with.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use chiral_driver::ConnectError;
use chiral_proto::{Action, Observation, Rate};
use chiral_tests::Recorder;

use crate::adapter::{Adapter, ClientSettings, Policy, ServerSettings, Serving};
use crate::network::{self, Network, Relay};
use crate::supervise::{eventually, soon};

/// The two sides of a case.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) server: Server,
}

/// The adapter of a case's policies.
#[derive(Clone, Copy)]
pub(crate) struct Client(pub(crate) &'static dyn Adapter);

/// The adapter of a case's robots, and the network on which it serves them.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) adapter: &'static dyn Adapter,
    pub(crate) network: &'static dyn Network,
}

impl Pair {
    /// Serves a robot, and connects a policy to it.
    #[track_caller]
    pub(crate) fn meet(self, robot: Recorder) -> (Served, Arc<dyn Policy>) {
        let served = self.server.serve(robot);
        let policy = self.client.connect(&served.uri);
        (served, policy)
    }
}

impl Client {
    /// Connects a policy with the default settings.
    #[track_caller]
    pub(crate) fn connect(self, uri: &str) -> Arc<dyn Policy> {
        self.try_connect(uri, ClientSettings::default()).expect("the server takes it")
    }

    /// Connects a policy.
    #[track_caller]
    pub(crate) fn try_connect(
        self,
        uri: &str,
        settings: ClientSettings,
    ) -> Result<Arc<dyn Policy>, ConnectError> {
        soon(|| self.0.connect(uri, settings))
    }
}

impl Server {
    /// Serves a robot with the default settings.
    pub(crate) fn serve(self, robot: Recorder) -> Served {
        self.serve_with(robot, ServerSettings::default())
    }

    /// Serves a robot.
    pub(crate) fn serve_with(self, robot: Recorder, settings: ServerSettings) -> Served {
        self.start(&self.network.any_address(), robot, settings)
    }

    /// Serves a robot at an address of the test's own.
    pub(crate) fn serve_at(self, address: &str, robot: Recorder) -> Served {
        self.start(address, robot, ServerSettings::default())
    }

    /// Serves a robot at an address of the test's own.
    pub(crate) fn serve_with_at(
        self,
        address: &str,
        robot: Recorder,
        settings: ServerSettings,
    ) -> Served {
        self.start(address, robot, settings)
    }

    fn start(self, address: &str, robot: Recorder, settings: ServerSettings) -> Served {
        let robot = Arc::new(robot);
        let server = self.adapter.serve(address, Arc::clone(&robot), settings);
        let uri = server.uri();
        Served { server, robot: Robot(robot), uri, network: self.network }
    }
}

/// A robot that is being served.
pub(crate) struct Served {
    // First, so that its drop comes before the server's, which may wait for it.
    pub(crate) robot: Robot,
    pub(crate) server: Box<dyn Serving>,
    pub(crate) uri: String,
    pub(crate) network: &'static dyn Network,
}

impl Served {
    /// Frames that the server has received from the policy that there is. A policy that asks before
    /// it is connected has sent some by then.
    pub(crate) fn frames_received(&self) -> u64 {
        self.server.stats().map_or(0, |stats| stats.frames_received)
    }

    /// The server's TCP socket.
    pub(crate) fn socket(&self) -> SocketAddr {
        network::address_of(&self.uri)
    }

    /// Its address on its network.
    pub(crate) fn address(&self) -> String {
        self.network.address_of(&self.uri)
    }

    /// Goes between the robot and its policies.
    pub(crate) fn relay(&self) -> Box<dyn Relay> {
        self.network.relay(&self.uri)
    }

    /// Asserts that nobody listens any more, or not for long.
    #[track_caller]
    pub(crate) fn assert_closed(&self) {
        assert_closed(self.network, &self.uri);
    }
}

/// A test's hold on its robot, which holds it up no longer than the test goes on: also when it
/// fails, and the robot has threads that are to be joined.
pub(crate) struct Robot(pub(crate) Arc<Recorder>);

impl Deref for Robot {
    type Target = Recorder;

    fn deref(&self) -> &Recorder {
        &self.0
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.0.release_all();
    }
}

/// Asserts that nobody listens at a URI any more, or not for long.
#[track_caller]
pub(crate) fn assert_closed(network: &dyn Network, uri: &str) {
    eventually(|| !network.is_listening(uri));
}

pub(crate) fn hz(hz: f64) -> Rate {
    Rate::hz(hz).expect("it is a rate")
}

/// A one-dimensional action.
pub(crate) fn action(value: u16) -> Action {
    Action::from([f32::from(value)])
}

/// One-dimensional actions.
pub(crate) fn actions(values: impl IntoIterator<Item = u16>) -> Vec<Action> {
    values.into_iter().map(action).collect()
}

/// The values of one-dimensional actions.
pub(crate) fn values(actions: &[Action]) -> Vec<f32> {
    actions.iter().map(|action| action.to_f32()[0]).collect()
}

/// For what kind of work an observation was made.
pub(crate) fn kind_of_observation(observation: &Observation) -> String {
    let kind = observation.extra.get("for").expect("it says for what");
    kind.as_str().expect("in words").to_owned()
}
