//! A robot's server on any adapter.

use std::io;
use std::sync::Arc;

use chiral_driver::{PolicyServer, ServerConfig};

use super::Adapter;
use super::host::{Host, Smol, Tokio};
use super::robot::{OnTasks, Robot};
use crate::robot::Memory;

/// The servers of the adapters are of two types with the same methods.
#[cfg(feature = "zenoh-shm")]
macro_rules! memory_of {
    ($server:expr) => {
        Memory { shared: $server.shared_memory() }
    };
}
#[cfg(not(feature = "zenoh-shm"))]
macro_rules! memory_of {
    ($server:expr) => {
        Memory::default()
    };
}

/// A robot's server, on any adapter, at work in the background. Dropped, it stops.
pub(crate) enum Server {
    Tokio(Hosted<Tokio>),
    Smol(Hosted<Smol>),
    Blocking(chiral_blocking::PolicyServer),
}

impl Server {
    /// Serves a robot at an address, `host:port` or a URI of Zenoh's; port 0 lets the system
    /// choose.
    pub(crate) fn start<B: Robot>(
        adapter: Adapter,
        address: &str,
        robot: Arc<B>,
    ) -> anyhow::Result<Self> {
        Self::start_with(adapter, address, |_| Ok(robot))
    }

    /// As [`start`](Self::start), for a robot whose cameras write where the server takes it from.
    pub(crate) fn start_with<B: Robot>(
        adapter: Adapter,
        address: &str,
        robot: impl FnOnce(&Memory) -> anyhow::Result<Arc<B>>,
    ) -> anyhow::Result<Self> {
        Ok(match adapter {
            Adapter::Tokio => Self::Tokio(Hosted::start(address, robot)?),
            Adapter::Smol => Self::Smol(Hosted::start(address, robot)?),
            Adapter::Blocking => {
                let server = chiral_blocking::PolicyServer::bind(address)?;
                server.spawn(robot(&memory_of!(server))?)?;
                Self::Blocking(server)
            }
        })
    }

    /// Where policies find the robot.
    pub(crate) fn uri(&self) -> io::Result<String> {
        match self {
            Self::Tokio(server) => server.server.uri(),
            Self::Smol(server) => server.server.uri(),
            Self::Blocking(server) => server.uri(),
        }
    }

    /// Tells the policy, and returns when the robot is at rest.
    pub(crate) fn shutdown(&self) {
        match self {
            Self::Tokio(server) => server.shutdown(),
            Self::Smol(server) => server.shutdown(),
            Self::Blocking(server) => server.shutdown(),
        }
    }
}

/// A server on an async adapter, with its runtime.
pub(crate) struct Hosted<H: Host> {
    server: PolicyServer<H::Runtime>,
    host: H,
}

impl<H: Host> Hosted<H> {
    fn start<B: Robot>(
        address: &str,
        robot: impl FnOnce(&Memory) -> anyhow::Result<Arc<B>>,
    ) -> anyhow::Result<Self> {
        let host = H::start()?;
        let config = ServerConfig { robot_threads: B::BLOCKS, ..ServerConfig::default() };
        let server = host.wait(PolicyServer::bind_with(address, config))?;
        let robot = robot(&memory_of!(server))?;
        let serving = server.clone();
        host.spawn(async move {
            if let Err(error) = serving.serve(OnTasks::<B, H::Runtime>::new(robot)).await {
                tracing::error!("the robot is not served: {error}");
            }
        });
        Ok(Self { server, host })
    }

    fn shutdown(&self) {
        self.host.wait(self.server.shutdown());
    }
}

impl<H: Host> Drop for Hosted<H> {
    fn drop(&mut self) {
        // The task that serves holds a handle too.
        self.server.stop();
    }
}
