//! What the leak tests of the async adapters share.

use std::net::SocketAddr;
use std::sync::Arc;

use chiral_driver::{PolicyClient, PolicyServer, Robot, RobotError, Runtime, ServerConfig};
use chiral_proto::sensors::Sensors;
use chiral_proto::{Action, CameraConfig, ConnectionError, ProprioConfig, Rate};

use crate::census::{Adapter, Departures, assert_no_leaks, assert_reconnects_do_not_leak, quick};

/// An async runtime.
pub(crate) trait Executor: Runtime {
    /// Runs a future on the current thread.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// How many tasks there are, if the runtime tells.
    fn tasks() -> usize;
}

struct Arm {
    sensors: Sensors,
    departures: Arc<Departures>,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    async fn apply_action(&self, _action: Action) -> Result<(), RobotError> {
        Ok(())
    }

    async fn on_disconnect(&self, _reason: &ConnectionError) {
        self.departures.note();
    }
}

/// A robot that is being served.
struct Served<R: Executor> {
    server: PolicyServer<R>,
    robot: Arc<Arm>,
}

impl<R: Executor> Served<R> {
    fn start(robot_threads: bool, departures: Arc<Departures>) -> Self {
        let camera = CameraConfig::new("wrist_cam", [48, 64, 3]).depth([48, 64]);
        let sensors = Sensors::new([camera], [ProprioConfig::new("joint_pos", 7)]).unwrap();
        let robot = Arc::new(Arm { sensors, departures });
        let config = ServerConfig { robot_threads, ..ServerConfig::default() };
        let moved = Arc::clone(&robot);
        let server = R::block_on(async {
            let server = PolicyServer::<R>::bind_with("127.0.0.1:0", config).await.unwrap();
            let handle = server.clone();
            R::spawn("serve", async move { handle.serve(moved).await.unwrap() });
            server
        });
        Self { server, robot }
    }
}

impl<R: Executor> Adapter for Served<R> {
    type Client = PolicyClient<R>;

    fn address(&self) -> SocketAddr {
        self.server.local_addr().unwrap()
    }

    fn connect(&self) -> PolicyClient<R> {
        R::block_on(PolicyClient::connect(&format!("ws://{}", self.address()))).unwrap()
    }

    fn use_once(&self, client: &PolicyClient<R>) {
        client.send_action([0.5; 7]).unwrap();
        R::block_on(client.observe()).unwrap();
    }

    fn start_streaming(&self, client: &PolicyClient<R>) {
        client.start_obs_stream(Rate::hz(1_000.0).unwrap()).unwrap();
        client.start_action_dispatch(Rate::hz(1_000.0).unwrap()).unwrap();
        let observation = R::block_on(client.next_obs()).unwrap();
        client.put_chunk(&observation, [[0.5; 7]; 100]).unwrap();
    }

    fn close(&self, client: PolicyClient<R>) {
        R::block_on(client.close());
    }

    fn tasks(&self) -> usize {
        // The server's tasks hold the robot.
        R::tasks() + Arc::strong_count(&self.robot)
    }

    fn shut_down(self) {
        R::block_on(self.server.shutdown());
    }
}

/// Asserts that a thousand connections do not leak, with the robot's code as tasks of the runtime
/// and on threads of its own.
pub(crate) fn assert_adapter_does_not_leak<R: Executor>() {
    for robot_threads in [false, true] {
        let departures = Arc::new(Departures::default());
        let served = Served::<R>::start(robot_threads, Arc::clone(&departures));
        assert_no_leaks(served, &departures);
    }
    let connect = |uri: &str| {
        R::block_on(PolicyClient::<R>::builder().reconnect(quick()).connect(uri)).unwrap()
    };
    assert_reconnects_do_not_leak(connect, &R::tasks);
}
