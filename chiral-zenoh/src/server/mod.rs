mod accept_queue;
mod compatible;
mod named;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use chiral_proto::Map;
use chiral_proto::wire::ServerMessage;
use zenoh::{Session, Wait};

use crate::authentication::Secret;
use crate::background::Background;
use crate::config::{Config, Endpoint, Role};
use crate::encode::Encoder;
use crate::error::Error;
use crate::transport::ZenohTransport;
use accept_queue::AcceptQueue;

/// The robot's side: accepts policies, one at a time.
///
/// ```no_run
/// use chiral_zenoh::{Config, Listener};
///
/// let config: Config = "tcp/0.0.0.0:7447".parse()?;
/// let listener = Listener::open(config).wait()?; // or `.await`, on any runtime
/// let transport = futures_lite::future::block_on(listener.accept());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it stops accepting, as [`close`](Self::close) does, without waiting; the connection
/// that was accepted goes on.
pub struct Listener {
    accept_queue: Arc<AcceptQueue>,
    endpoints: Vec<Endpoint>,
    /// With which a policy connects.
    client_config: Config,
    metadata: Metadata,
    takes_over: Arc<AtomicBool>,
    /// Stops accepting. It may block, so it is called on a thread.
    stop: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    #[cfg(feature = "shm")]
    memory: Option<crate::SharedMemory>,
}

/// The `metadata_response` frame for who lists the robots.
type Metadata = Arc<Mutex<Bytes>>;

/// What both modes need to accept policies.
struct ServerContext {
    session: Session,
    accept_queue: Arc<AcceptQueue>,
    encoder: Encoder,
    config: Config,
    secret: Option<Secret>,
    metadata: Metadata,
    /// The newest policy gets the robot.
    takes_over: Arc<AtomicBool>,
}

impl Listener {
    /// Opens a Zenoh session and begins to accept policies.
    ///
    /// The result fails when the configuration cannot be used, nothing can be listened on or
    /// connected to, or a robot of the name is on the network already.
    pub fn open(config: Config) -> Background<Self> {
        Background::spawn(move |cancel| {
            let secret = config.secret()?;
            let (zenoh, endpoints) = config.to_zenoh(Role::Server)?;
            let fail = |error: zenoh::Error| Error::open(&config, &error);
            let session = zenoh::open(zenoh).wait().map_err(fail)?;
            let accept_queue = Arc::new(AcceptQueue::default());
            let metadata = Metadata::new(Mutex::new(metadata_frame(Map::new())));
            let takes_over = Arc::<AtomicBool>::default();
            #[cfg(feature = "shm")]
            let memory = crate::SharedMemory::of(&config);
            #[cfg(feature = "shm")]
            let encoder = Encoder { memory: memory.clone() };
            #[cfg(not(feature = "shm"))]
            let encoder = Encoder::default();
            let context = ServerContext {
                session,
                accept_queue: Arc::clone(&accept_queue),
                encoder,
                config: config.clone(),
                secret,
                metadata: Arc::clone(&metadata),
                takes_over: Arc::clone(&takes_over),
            };
            let stop: Box<dyn FnOnce() + Send> = match config.robot() {
                None => Box::new(compatible::accept_policies(context).map_err(fail)?),
                Some(robot) => {
                    let robot = robot.clone();
                    Box::new(named::accept_policies(context, &robot, cancel)?)
                }
            };
            Ok(Self {
                accept_queue,
                client_config: config.for_clients(&endpoints),
                endpoints,
                metadata,
                takes_over,
                stop: Mutex::new(Some(stop)),
                #[cfg(feature = "shm")]
                memory,
            })
        })
    }

    /// The connection of the next policy. In compatible mode its first message is the metadata
    /// request with which the policy looked for the robot.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<ZenohTransport> {
        self.accept_queue.poll_pop(cx)
    }

    /// As [`poll_accept`](Self::poll_accept), as a future.
    pub async fn accept(&self) -> ZenohTransport {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// What is listened on; ports that were given as 0 are the chosen ones here. Empty for a robot
    /// that only connects to a router.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Stops accepting, and waits until everything is undeclared: to be awaited before the program
    /// ends, so that Zenoh is not shut down under it. Connections are to be closed before.
    pub fn close(&self) -> Background<()> {
        let stop = self.take_stop();
        Background::spawn(move |_| {
            stop.into_iter().for_each(|stop| stop());
            Ok(())
        })
    }

    /// Whether the robot has a name, under which [`robots`](crate::robots) lists it.
    pub(crate) fn is_named(&self) -> bool {
        self.client_config.robot().is_some()
    }

    fn take_stop(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The URI with which a policy connects: to what is listened on, or else to the router.
    pub fn uri(&self) -> String {
        self.client_config.to_string()
    }

    /// Sets what [`robots`](crate::robots) lists as this robot's metadata. Default: nothing.
    pub fn set_metadata(&self, metadata: Map) {
        *self.metadata.lock().unwrap_or_else(PoisonError::into_inner) = metadata_frame(metadata);
    }

    /// Accepts a policy of a named robot although another one is connected: whoever accepts is to
    /// close the connection of the one before. Default: the newer one is refused. In compatible mode
    /// it has no effect: Zenoh lets in one session at a time.
    pub fn let_take_over(&self) {
        self.takes_over.store(true, Ordering::Relaxed);
    }

    /// The shared memory, for sensors that write to it directly; `None` when it was not asked for.
    #[cfg(feature = "shm")]
    pub fn shared_memory(&self) -> Option<&crate::SharedMemory> {
        self.memory.as_ref()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(stop) = self.take_stop() else { return };
        let thread = std::thread::Builder::new().name("chiral-zenoh-stop".to_owned());
        if let Err(error) = thread.spawn(stop) {
            tracing::error!("Zenoh is not shut down: {}", Error::Thread(error.to_string()));
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

fn metadata_frame(metadata: Map) -> Bytes {
    ServerMessage::Metadata(metadata).encode().to_bytes()
}
