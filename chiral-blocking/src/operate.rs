//! How a robot is operated for a policy that was let in.

use std::sync::Arc;

use chiral_driver::proto::server::Server;
use chiral_driver::robot::{CommandSlot, dispatch_on_threads};
use chiral_driver::server::{Lease, ServerState, machine_of_callbacks};
use chiral_driver::{ServerConfig, robot};
use futures_lite::future::block_on;

use crate::link::Link;
use crate::robot::{BlockingRobot, Robot};
use crate::threads::Threads;

/// How a robot is operated for a policy that was let in.
pub(crate) trait Operate: Clone + Send + Sync + 'static {
    /// The state machine of a new policy's connection.
    fn machine(&self, config: &ServerConfig) -> Server;

    /// Begins to operate the robot for a policy; `link` is its connection's if that is over a byte
    /// stream.
    fn start(&self, lease: Lease, link: Option<Arc<Link<ServerState>>>, threads: &Arc<Threads>);
}

/// A robot that is called.
pub(crate) struct Callbacks<B>(Arc<BlockingRobot<B>>);

impl<B: Robot> Callbacks<B> {
    pub(crate) fn new(robot: B) -> Self {
        Self(Arc::new(BlockingRobot(robot)))
    }

    /// The robot.
    pub(crate) fn robot(&self) -> &B {
        &self.0.0
    }
}

impl<B> Clone for Callbacks<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Robot> Operate for Callbacks<B> {
    fn machine(&self, config: &ServerConfig) -> Server {
        machine_of_callbacks(config, robot::Robot::sensors(&*self.0))
    }

    fn start(&self, lease: Lease, link: Option<Arc<Link<ServerState>>>, threads: &Arc<Threads>) {
        let threads = Arc::clone(threads);
        let spawn = move |name, task| threads.spawn(name, || block_on(task));
        let connection = Arc::clone(lease.connection());
        // The thread that has made an answer sends it: another one would have to wake up first.
        let send_replies = move || match &link {
            Some(link) => link.send_blocking(),
            None => connection.wake_driver(),
        };
        dispatch_on_threads(lease, Arc::clone(&self.0), spawn, send_replies);
    }
}

/// A robot that pulls its commands.
impl Operate for Arc<CommandSlot> {
    fn machine(&self, config: &ServerConfig) -> Server {
        CommandSlot::machine(self, config)
    }

    fn start(&self, lease: Lease, _: Option<Arc<Link<ServerState>>>, _: &Arc<Threads>) {
        self.put(lease);
    }
}
