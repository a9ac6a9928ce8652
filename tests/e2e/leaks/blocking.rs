//! Leaks of a thousand connections with chiral-blocking.
#![cfg(target_os = "linux")]

mod census;

use std::net::SocketAddr;
use std::sync::Arc;

use chiral_blocking::{PolicyClient, PolicyServer, Robot, RobotError};
use chiral_proto::sensors::Sensors;
use chiral_proto::{Action, CameraConfig, ConnectionError, ProprioConfig, Rate};

use census::{Adapter, Departures, assert_no_leaks, assert_reconnects_do_not_leak, quick};

struct Arm {
    sensors: Sensors,
    departures: Arc<Departures>,
}

impl Robot for Arm {
    fn sensors(&self) -> &Sensors {
        &self.sensors
    }

    fn apply_action(&self, _action: Action) -> Result<(), RobotError> {
        Ok(())
    }

    fn on_disconnect(&self, _reason: &ConnectionError) {
        self.departures.note();
    }
}

struct Served {
    server: PolicyServer,
    robot: Arc<Arm>,
}

impl Adapter for Served {
    type Client = PolicyClient;

    fn address(&self) -> SocketAddr {
        self.server.local_addr().unwrap()
    }

    fn connect(&self) -> PolicyClient {
        PolicyClient::connect(&format!("ws://{}", self.address())).unwrap()
    }

    fn use_once(&self, client: &PolicyClient) {
        client.send_action([0.5; 7]).unwrap();
        client.observe().unwrap();
    }

    fn start_streaming(&self, client: &PolicyClient) {
        client.start_obs_stream(Rate::hz(1_000.0).unwrap()).unwrap();
        client.start_action_dispatch(Rate::hz(1_000.0).unwrap()).unwrap();
        let observation = client.next_obs(None).unwrap().unwrap();
        client.put_chunk(&observation, [[0.5; 7]; 100]).unwrap();
    }

    fn close(&self, client: PolicyClient) {
        client.close();
    }

    fn tasks(&self) -> usize {
        // The server's threads hold the robot.
        Arc::strong_count(&self.robot)
    }

    fn shut_down(self) {
        self.server.shutdown();
    }
}

#[test]
fn a_thousand_connections_do_not_leak() {
    let camera = CameraConfig::new("wrist_cam", [48, 64, 3]).depth([48, 64]);
    let sensors = Sensors::new([camera], [ProprioConfig::new("joint_pos", 7)]).unwrap();
    let departures = Arc::new(Departures::default());
    let robot = Arc::new(Arm { sensors, departures: Arc::clone(&departures) });
    let server = PolicyServer::bind("127.0.0.1:0").unwrap();
    server.spawn(Arc::clone(&robot)).unwrap();
    assert_no_leaks(Served { server, robot }, &departures);
    // Here, for nothing else may run in this process meanwhile.
    let connect = |uri: &str| PolicyClient::builder().reconnect(quick()).connect(uri).unwrap();
    assert_reconnects_do_not_leak(connect, &|| 0);
}
