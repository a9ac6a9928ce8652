use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chiral_driver::proto::Map;
use chiral_driver::proto::sensors::Sensors;
use chiral_driver::proto::server::Stats;
use chiral_driver::{Commands, ServerConfig};

use crate::robot::{OnThreads, Robot};
use crate::threads::{Group, Threads, block_on};

type Inner = chiral_driver::PolicyServer<Threads>;

/// Serves a robot to one policy at a time.
///
/// Cloning it gives another handle to the same server, to shut it down from elsewhere. When the
/// last handle is dropped the server stops listening, closes the connection that there is, and
/// waits for its threads: for what the robot is at, and for up to some seconds for a policy that
/// does not take note of the end.
#[derive(Clone, Debug)]
pub struct PolicyServer {
    inner: Inner,
    crew: Arc<Crew>,
}

/// The server's threads. Its drop is the last handle's.
struct Crew {
    inner: Inner,
    threads: Arc<Group>,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.inner.stop();
        self.threads.join();
    }
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crew")
    }
}

impl PolicyServer {
    /// A server that listens on an address: `host:port`, or `ws://host:port`, where port 0 lets
    /// the system choose one; or, with the feature `zenoh`, on an endpoint of Zenoh's,
    /// `tcp/host:port` or `zenoh:…`. [`uri`](Self::uri) then says how clients reach it.
    ///
    /// # Errors
    /// When the address cannot be read or listened on.
    pub fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, ServerConfig::default())
    }

    /// As [`bind`](Self::bind), with settings. The robot has threads of its own whatever they say.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind_with(address: &str, config: ServerConfig) -> io::Result<Self> {
        let config = ServerConfig { robot_threads: true, ..config };
        let inner = block_on(Inner::bind_with(address, config))?;
        let crew = Arc::new(Crew { inner: inner.clone(), threads: Arc::default() });
        Ok(Self { inner, crew })
    }

    /// The socket's address on which the server listens.
    ///
    /// # Errors
    /// When it listens on Zenoh.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The URI with which a client on the same host connects: `ws://host:port`, or an endpoint of
    /// Zenoh's.
    ///
    /// # Errors
    /// None that a server made by [`bind`](Self::bind) has.
    pub fn uri(&self) -> io::Result<String> {
        self.inner.uri()
    }

    /// Serves the robot to one policy after the other, and blocks until
    /// [`shutdown`](Self::shutdown), which is to be called from elsewhere. Another policy that
    /// comes while one is connected is refused with 503 and a reason; the first one does not
    /// notice.
    ///
    /// To keep hold of the robot, give an `Arc` of it: that is a robot too.
    ///
    /// # Errors
    /// None that a server made by [`bind`](Self::bind) has.
    pub fn serve(&self, robot: impl Robot) -> io::Result<()> {
        self.crew.threads.enter(|| block_on(self.inner.serve(OnThreads(robot))))
    }

    /// As [`serve`](Self::serve), but in a thread of its own, and without blocking.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn spawn(&self, robot: impl Robot) -> io::Result<()> {
        let inner = self.inner.clone();
        self.crew.threads.spawn("chiral-accept", move || {
            if let Err(error) = block_on(inner.serve(OnThreads(robot))) {
                tracing::error!("the robot is not served: {error}");
            }
        })
    }

    /// Serves a robot that pulls its commands in a loop of its own, in the background and without
    /// blocking, until [`shutdown`](Self::shutdown) or until the commands, which hold a handle to
    /// the server, are dropped.
    ///
    /// # Errors
    /// When the server has been shut down.
    pub fn pull(&self, sensors: &Sensors, metadata: Map) -> io::Result<Commands> {
        let commands = self.crew.threads.enter(|| self.inner.pull(sensors, metadata))?;
        Ok(commands.keeping(self.clone()))
    }

    /// Stops listening, lets the requests that are being answered finish, closes the connection
    /// with 1001 and returns when the robot is at rest. Blocks for
    /// [`shutdown_timeout`](ServerConfig::shutdown_timeout) and what the robot takes beyond it.
    pub fn shutdown(&self) {
        block_on(self.inner.shutdown());
        while self.inner.is_listening() {
            // The accepting thread looks up often.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.inner.stats()
    }

    /// What the link over Zenoh that there is now has carried, and whether through shared memory.
    #[cfg(feature = "zenoh")]
    pub fn zenoh_stats(&self) -> Option<crate::zenoh::Stats> {
        self.inner.zenoh_stats()
    }

    /// The shared memory of a server on Zenoh that was asked to use it: what sensors write there
    /// at once is never copied.
    #[cfg(feature = "zenoh-shm")]
    pub fn shared_memory(&self) -> Option<crate::zenoh::SharedMemory> {
        self.inner.shared_memory()
    }
}
