mod accept;
mod compatible;
mod named;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use chiral_proto::Map;
use chiral_proto::wire::ServerMessage;
use zenoh::{Session, Wait};

use crate::config::{Config, Endpoint, Role};
use crate::error::Error;
use crate::layout::Layout;
use crate::link::Link;
use crate::opening::Opening;
use accept::Accept;

/// The robot's side: waits for policies, one at a time.
///
/// ```no_run
/// use chiral_zenoh::{Config, Listener};
///
/// let config: Config = "tcp/0.0.0.0:7447".parse()?;
/// let listener = Listener::open(config).wait()?; // or `.await`, on any runtime
/// let link = futures_lite::future::block_on(listener.accept());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it lets no more policies in, as [`close`](Self::close) does, and waits for nothing; the
/// link that was accepted lives on.
pub struct Listener {
    accept: Arc<Accept>,
    endpoints: Vec<Endpoint>,
    meeting: Config,
    metadata: Metadata,
    /// Ends what waits for policies. It may block, so it is called on a thread.
    stop: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    #[cfg(feature = "shm")]
    memory: Option<crate::SharedMemory>,
}

/// The frame that tells what a robot is, for who lists the robots.
type Metadata = Arc<Mutex<Bytes>>;

/// What every way of waiting for policies needs.
struct Post {
    session: Session,
    accept: Arc<Accept>,
    layout: Layout,
    config: Config,
    metadata: Metadata,
}

impl Listener {
    /// Opens Zenoh and begins to wait for policies.
    ///
    /// The result fails when the configuration cannot be used, nothing can be listened on or
    /// connected to, or a robot of the name is on the network already.
    pub fn open(config: Config) -> Opening<Self> {
        Opening::spawn(move |given_up| {
            let (zenoh, endpoints) = config.to_zenoh(Role::Server)?;
            let fail = |error: zenoh::Error| Error::open(&config, &error);
            let session = zenoh::open(zenoh).wait().map_err(fail)?;
            let accept = Arc::new(Accept::default());
            let metadata = Metadata::new(Mutex::new(frame_of(Map::new())));
            #[cfg(feature = "shm")]
            let memory = crate::SharedMemory::of(&config);
            #[cfg(feature = "shm")]
            let layout = Layout { memory: memory.clone() };
            #[cfg(not(feature = "shm"))]
            let layout = Layout::default();
            let post = Post {
                session,
                accept: Arc::clone(&accept),
                layout,
                config: config.clone(),
                metadata: Arc::clone(&metadata),
            };
            let stop: Box<dyn FnOnce() + Send> = match config.robot() {
                None => Box::new(compatible::wait_for_policies(post).map_err(fail)?),
                Some(robot) => {
                    let robot = robot.clone();
                    Box::new(named::wait_for_policies(post, &robot, given_up)?)
                }
            };
            Ok(Self {
                accept,
                meeting: config.meeting(&endpoints),
                endpoints,
                metadata,
                stop: Mutex::new(Some(stop)),
                #[cfg(feature = "shm")]
                memory,
            })
        })
    }

    /// The link to the next policy. In compatible mode its first message is the one with which
    /// the policy asked whether somebody is there.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Link> {
        self.accept.poll(cx)
    }

    /// As [`poll_accept`](Self::poll_accept), as a future.
    pub async fn accept(&self) -> Link {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// What is listened on; ports that were given as 0 are the chosen ones here. Empty for a robot
    /// that only connects to a router.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Lets no more policies in, and waits until everything is taken back: to be awaited before the
    /// program ends, so that Zenoh is not shut down under it. Links are to be closed before.
    pub fn close(&self) -> Opening<()> {
        let stop = self.take_stop();
        Opening::spawn(move |_| {
            stop.into_iter().for_each(|stop| stop());
            Ok(())
        })
    }

    fn take_stop(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The URI with which a policy connects: to what is listened on, or else to the router.
    pub fn uri(&self) -> String {
        self.meeting.to_string()
    }

    /// What [`robots`](crate::robots) tells of this robot. Default: nothing.
    pub fn set_metadata(&self, metadata: Map) {
        *self.metadata.lock().unwrap_or_else(PoisonError::into_inner) = frame_of(metadata);
    }

    /// The shared memory, for sensors that write there at once; `None` when it was not asked for.
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

fn frame_of(metadata: Map) -> Bytes {
    ServerMessage::Metadata(metadata).encode().to_bytes()
}
