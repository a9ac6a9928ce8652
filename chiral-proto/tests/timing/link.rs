//! A policy and a robot whose frames the tests carry, and a robot's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chiral_proto::client::{self, Client};
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{self, Server};
use chiral_proto::wire::Frame;
use chiral_proto::{Action, CameraConfig, Observation, WhenStale};

use super::support::*;

pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) sensors: Sensors,
    start: Instant,
    /// The time since the connection began.
    pub(crate) elapsed: Duration,
    /// The robot's own clock, in nanoseconds: it began a thousand seconds earlier.
    clock: Arc<AtomicU64>,
}

/// What the robot's clock showed when the connection began.
const BEFORE: Duration = Duration::from_secs(1000);

impl Link {
    /// A robot with two cameras, `cam` and `other`, whose observations are taken when they leave.
    pub(crate) fn new(client: client::Config, server: server::Config) -> Self {
        Self::with_cameras(client, server, |camera| camera)
    }

    /// As by default, of cameras with this maximal age.
    pub(crate) fn with_max_age(max_age: Duration) -> Self {
        let hold = |camera: CameraConfig| camera.max_age(max_age, WhenStale::Hold);
        Self::with_cameras(client::Config::default(), server::Config::default(), hold)
    }

    fn with_cameras(
        client: client::Config,
        server: server::Config,
        configure: impl Fn(CameraConfig) -> CameraConfig,
    ) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = {
            let clock = Arc::clone(&clock);
            move || Duration::from_nanos(clock.load(Ordering::Relaxed)).as_secs_f64()
        };
        let camera = |name| configure(CameraConfig::new(name, [1, 1, 3]));
        let cameras = ["cam", "other"].map(camera);
        let sensors = Sensors::with_clock(cameras, [], seconds).unwrap();
        let start = start();
        let mut server = Server::new(start, server);
        server.set_default_observation(sensors.clone());
        let client = Client::new(client);
        let mut link = Self { client, server, sensors, start, elapsed: Duration::ZERO, clock };
        link.wait(Duration::ZERO);
        link
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.elapsed += time;
        self.clock.store((BEFORE + self.elapsed).as_nanos() as u64, Ordering::Relaxed);
        self.client.handle_timeout(self.now());
        self.server.handle_timeout(self.now());
    }

    pub(crate) fn capture(&self, camera: &str) {
        self.sensors.update_image(camera, &[7_u8; 3]).unwrap();
    }

    /// The next frame of the policy, on its way.
    pub(crate) fn policy_sends(&mut self) -> Frame {
        self.client.poll_transmit(self.now()).expect("a frame of the policy")
    }

    /// The next frame of the robot, on its way.
    pub(crate) fn robot_sends(&mut self) -> Frame {
        self.server.poll_transmit(self.now()).expect("a frame of the robot")
    }

    pub(crate) fn robot_hears(&mut self, frame: &Frame) {
        self.server.handle_frame(self.now(), frame);
    }

    pub(crate) fn policy_hears(&mut self, frame: &Frame) {
        self.client.handle_frame(self.now(), frame);
    }

    /// The action that the robot is given now.
    pub(crate) fn robot_is_given(&mut self) -> Action {
        match self.server.poll_event(self.now()) {
            Some(server::Event::Action(action)) => action,
            other => panic!("{other:?} instead of an action"),
        }
    }

    /// Sends an action over a network that takes no time; the robot has not taken it yet.
    pub(crate) fn send(&mut self, action: Action) {
        self.client.send_action(self.now(), action).unwrap();
        let frame = self.policy_sends();
        self.robot_hears(&frame);
    }

    /// Asks for an observation that is this long under way in either direction.
    pub(crate) fn observe(&mut self, up: Duration, down: Duration) -> Arc<Observation> {
        self.client.request_observation(self.now(), None).unwrap();
        let request = self.policy_sends();
        self.wait(up);
        self.robot_hears(&request);
        let answer = self.robot_sends();
        self.wait(down);
        self.policy_hears(&answer);
        Arc::clone(&self.client.latest_observation().expect("it has come").observation)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new(client::Config::default(), server::Config::default())
    }
}
