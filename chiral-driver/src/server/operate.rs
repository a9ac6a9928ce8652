//! How a robot is operated for a policy that was let in.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Server;

use super::admission::Lease;
use super::config::ServerConfig;
use crate::robot::{CommandSlot, Robot, dispatch, dispatch_on_threads};
use crate::runtime::Runtime;
use crate::transport::BoxFuture;

/// How a robot is operated for a policy that was let in.
pub(super) trait Operate: Clone + Send + Sync + 'static {
    /// The state machine of a new policy's connection.
    fn machine(&self, config: &ServerConfig) -> Server;

    /// Begins to operate the robot for a policy. What it returns is run with the connection, to
    /// its end.
    fn start(&self, lease: Lease) -> Option<BoxFuture<'static, ()>>;
}

/// The machine of a robot that is called.
pub fn machine_of_callbacks(config: &ServerConfig, sensors: &Sensors) -> Server {
    let mut server = Server::new(Instant::now(), config.machine(false));
    server.set_sensors(sensors.clone());
    server
}

/// A robot that is called.
pub(super) struct Callbacks<R, B> {
    robot: Arc<B>,
    runtime: PhantomData<fn() -> R>,
}

impl<R, B> Callbacks<R, B> {
    pub(super) fn new(robot: Arc<B>) -> Self {
        Self { robot, runtime: PhantomData }
    }
}

impl<R, B> Clone for Callbacks<R, B> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.robot))
    }
}

impl<R: Runtime, B: Robot> Operate for Callbacks<R, B> {
    fn machine(&self, config: &ServerConfig) -> Server {
        machine_of_callbacks(config, self.robot.sensors())
    }

    fn start(&self, lease: Lease) -> Option<BoxFuture<'static, ()>> {
        let robot = Arc::clone(&self.robot);
        if !lease.config().robot_threads {
            return Some(dispatch(lease, robot));
        }
        let connection = Arc::clone(lease.connection());
        let wake = move || connection.wake_driver();
        dispatch_on_threads(lease, robot, |name, task| R::spawn_thread(name, task), wake);
        None
    }
}

/// A robot that pulls its commands.
impl Operate for Arc<CommandSlot> {
    fn machine(&self, config: &ServerConfig) -> Server {
        CommandSlot::machine(self, config)
    }

    fn start(&self, lease: Lease) -> Option<BoxFuture<'static, ()>> {
        self.put(lease);
        None
    }
}
