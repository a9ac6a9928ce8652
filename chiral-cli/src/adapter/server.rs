//! A robot's server on any adapter.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use chiral_driver::{PolicyServer, ServerConfig};

use super::Adapter;
use super::host::{Host, Smol, Tokio};
use super::robot::{OnTasks, Robot};

/// A robot's server, on any adapter, at work in the background. Dropped, it stops.
pub(crate) enum Server {
    Tokio(Hosted<Tokio>),
    Smol(Hosted<Smol>),
    Blocking(chiral_blocking::PolicyServer),
}

impl Server {
    /// Serves a robot at an address, `host:port`; port 0 lets the system choose.
    pub(crate) fn start<B: Robot>(
        adapter: Adapter,
        address: &str,
        robot: Arc<B>,
    ) -> io::Result<Self> {
        Ok(match adapter {
            Adapter::Tokio => Self::Tokio(Hosted::start(address, robot)?),
            Adapter::Smol => Self::Smol(Hosted::start(address, robot)?),
            Adapter::Blocking => {
                let server = chiral_blocking::PolicyServer::bind(address)?;
                server.spawn(robot)?;
                Self::Blocking(server)
            }
        })
    }

    /// Where policies find the robot.
    pub(crate) fn uri(&self) -> io::Result<String> {
        let address = match self {
            Self::Tokio(server) => server.local_addr(),
            Self::Smol(server) => server.local_addr(),
            Self::Blocking(server) => server.local_addr(),
        };
        Ok(format!("ws://{}", address?))
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
    fn start<B: Robot>(address: &str, robot: Arc<B>) -> io::Result<Self> {
        let host = H::start()?;
        let config = ServerConfig { robot_threads: B::BLOCKS, ..ServerConfig::default() };
        let server = host.wait(PolicyServer::bind_with(address, config))?;
        let serving = server.clone();
        host.spawn(async move {
            if let Err(error) = serving.serve(OnTasks::<B, H::Runtime>::new(robot)).await {
                tracing::error!("the robot is not served: {error}");
            }
        });
        Ok(Self { server, host })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.server.local_addr()
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
