//! The robot's side: [`PolicyServer`], and what adapters make theirs from.

mod accept;
mod accept_hook;
mod admission;
mod arrivals;
mod config;
mod listening;
mod log_limit;
mod operate;
mod state;
mod wrong_tokens;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chiral_proto::sensors::Sensors;
use chiral_proto::server::Stats;
use chiral_proto::{ConnectionError, Map};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::FutureExt;
use futures_lite::future::or;

pub use accept::{
    ACCEPT_RETRY, DRAIN_LIMIT, FIRST_MESSAGE_TIMEOUT, HANDSHAKE_TIMEOUT, ServeError,
    finish_refused, session, warn_if_mute,
};
pub use accept_hook::{Accept, Rejection};
pub use admission::{Admission, AdmissionRequest, Admitting, EVICTION_STEP, Lease, Refusal};
pub use arrivals::Arrival;
pub use config::{FailureText, ServerConfig, Watchdog};
pub use listening::{
    ListenTarget, check_acceptor, check_socket, no_acceptor, uri_of, warn_if_exposed,
};
pub use operate::machine_of_callbacks;
pub use state::ServerState;

use crate::address::StreamAddress;
use crate::robot::{CommandSlot, Commands, Robot};
use crate::runtime::Runtime;
use crate::transport::{Acceptor, Transport};
use accept::{accept_policies, serve_stream, serve_transport};
use listening::Listening;
use operate::Callbacks;

/// Serves a robot to one policy at a time.
///
/// Cloning it gives another handle to the same server, to shut it down from elsewhere. When the
/// last handle is dropped (a future of [`serve`](Self::serve) holds one too) the server stops
/// listening and closes the connection that there is, without waiting for anything.
pub struct PolicyServer<R: Runtime> {
    shared: Arc<StopOnDrop<R>>,
}

/// What all handles share. Its drop is the last handle's.
struct StopOnDrop<R: Runtime> {
    admission: Arc<Admission>,
    /// Where it listens.
    address: Option<StreamAddress>,
    uri: Option<String>,
    /// Until the server is shut down.
    listening: Mutex<Option<Arc<Listening<R>>>>,
    /// The same, until nobody accepts with it any more.
    accepting: Weak<Listening<R>>,
}

impl<R: Runtime> Drop for StopOnDrop<R> {
    fn drop(&mut self) {
        self.admission.start_shutdown(Duration::ZERO);
    }
}

impl<R: Runtime> PolicyServer<R> {
    /// A server that listens on an address: `host:port` or `ws://host:port`, where port 0 lets
    /// the system choose one; `unix:/path`; or what the adapter was built for beside these.
    /// [`uri`](Self::uri) then says how clients reach it.
    ///
    /// Whoever reaches the address can drive the robot: listen on `127.0.0.1` unless the network is
    /// one that you trust. At `unix:/path` that is whoever may write to the socket's file: the
    /// process's own user and the superuser with the usual umask of 022, its group too with 002.
    /// The file is removed when the server stops listening.
    ///
    /// # Errors
    /// When the address cannot be read or listened on.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, ServerConfig::default()).await
    }

    /// As [`bind`](Self::bind), with settings.
    ///
    /// # Errors
    /// When the address cannot be read or listened on.
    pub async fn bind_with(address: &str, config: ServerConfig) -> io::Result<Self> {
        let listening = Listening::bind(address, &config).await?;
        Ok(Self::new(config, Some(listening)))
    }

    /// A server of policies that come over a transport of another kind.
    pub fn accepting(acceptor: impl Acceptor, config: ServerConfig) -> Self {
        Self::new(config, Some(Listening::Acceptor(Box::new(acceptor))))
    }

    /// A server that listens nowhere: for connections that were accepted elsewhere, see
    /// [`serve_stream`](Self::serve_stream).
    pub fn unbound(config: ServerConfig) -> Self {
        Self::new(config, None)
    }

    fn new(config: ServerConfig, listening: Option<Listening<R>>) -> Self {
        let address = match &listening {
            Some(Listening::Socket(_, address)) => Some(address.clone()),
            _ => None,
        };
        if let Some(Listening::Acceptor(acceptor)) = &listening
            && config.take_over
        {
            acceptor.let_take_over();
        }
        let uri = listening.as_ref().map(|listening| listening.uri(&config));
        let listening = listening.map(Arc::new);
        let accepting = listening.as_ref().map(Arc::downgrade).unwrap_or_default();
        let listening = Mutex::new(listening);
        let admission = Admission::new(config);
        Self { shared: Arc::new(StopOnDrop { admission, address, uri, listening, accepting }) }
    }

    /// The TCP address on which the server listens.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound), or does not listen on TCP.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(StreamAddress::Tcp { host, port }) = &self.shared.address {
            return Ok(SocketAddr::new(host.parse().map_err(io::Error::other)?, *port));
        }
        self.uri()?;
        Err(not_listening("does not listen on TCP: ask for its `uri`"))
    }

    /// The URI with which a client on the same host connects: `ws://host:port`, `unix:/path`, or
    /// another transport's.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound).
    pub fn uri(&self) -> io::Result<String> {
        self.shared.uri.clone().ok_or_else(|| not_listening("listens nowhere: use `bind`"))
    }

    /// Serves the robot to one policy after the other, until [`shutdown`](Self::shutdown). Another
    /// policy that comes while one is connected is refused with 503 and a reason, once that one
    /// has given a sign of life; it does not notice. With [`ServerConfig::take_over`] it gets the
    /// robot instead. To stop accepting, drop the future; a policy
    /// that is connected stays.
    ///
    /// To keep hold of the robot, give an `Arc` of it: that is a robot too.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound).
    pub async fn serve(&self, robot: impl Robot) -> io::Result<()> {
        let Some(listening) = self.listening()? else { return Ok(()) };
        let robot = Arc::new(robot);
        if let Listening::Acceptor(acceptor) = &*listening
            && acceptor.wants_metadata()
        {
            // A robot that fails at it says so to the policy that asks.
            let metadata = AssertUnwindSafe(async { robot.metadata().await }).catch_unwind().await;
            let admission = self.admission();
            let announced = |metadata| admission.config().announced(metadata, false);
            metadata
                .into_iter()
                .flatten()
                .map(announced)
                .for_each(|all| acceptor.set_metadata(all));
        }
        accept_policies::<R>(self.admission(), listening, Callbacks::<R, _>::new(robot)).await;
        Ok(())
    }

    /// Serves a robot that pulls its commands in a loop of its own, in the background, until
    /// [`shutdown`](Self::shutdown) or until the commands, which hold a handle to the server, are
    /// dropped; otherwise as [`serve`](Self::serve) does.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound) or has been shut down.
    pub fn pull(&self, sensors: &Sensors, metadata: Map) -> io::Result<Commands> {
        let listening = self.listening()?;
        let listening = listening.ok_or_else(|| not_listening("has been shut down"))?;
        let accepting = Arc::downgrade(&listening);
        let config = self.admission().config().clone();
        let announce = move |metadata: &Map| {
            if let Some(Listening::Acceptor(acceptor)) = accepting.upgrade().as_deref() {
                acceptor.set_metadata(config.announced(metadata.clone(), true));
            }
        };
        announce(&metadata);
        let slot = CommandSlot::new(sensors.clone(), metadata);
        let (admission, filled) = (self.admission(), Arc::clone(&slot));
        R::spawn("chiral-accept", async move {
            let accepting = accept_policies::<R>(admission, listening, Arc::clone(&filled));
            or(filled.wait_until_closed(), accepting).await;
        });
        Ok(Commands::new(slot).keeping(self.clone()).announcing(announce))
    }

    fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.shared.admission)
    }

    /// What the server listens with; `None` after it was shut down.
    fn listening(&self) -> io::Result<Option<Arc<Listening<R>>>> {
        self.uri()?;
        Ok(self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Whether there is still a listening socket: for a moment, too, after the end, until
    /// [`serve`](Self::serve) has noticed it.
    pub fn is_listening(&self) -> bool {
        self.shared.accepting.strong_count() > 0
    }

    fn stop_listening(&self) -> Option<Arc<Listening<R>>> {
        self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Serves the robot over any ordered byte stream that is connected already, until the
    /// connection ends, and returns why it did: a TLS connection, an HTTP server's upgrade, a pipe,
    /// a socket of your own. The client's WebSocket handshake is read from it. `peer` is its address,
    /// `host:port`: for the log, and because wrong tokens, and connections that wait, are counted by
    /// host. Dropping the future closes the connection.
    ///
    /// # Errors
    /// When the handshake fails or another policy is connected; the client has been told.
    pub async fn serve_stream<S>(
        &self,
        stream: S,
        peer: &str,
        robot: impl Robot,
    ) -> Result<ConnectionError, ServeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let admission = self.admission();
        let arrival = admission.arrive(peer);
        let robot = Callbacks::<R, _>::new(Arc::new(robot));
        serve_stream::<R, _>(&admission, arrival, stream, peer, robot).await
    }

    /// As [`serve_stream`](Self::serve_stream), over a transport that is connected already.
    ///
    /// # Errors
    /// When another policy is connected; the client has been told (close code 1013).
    pub async fn serve_transport(
        &self,
        transport: impl Transport,
        peer: &str,
        robot: impl Robot,
    ) -> Result<ConnectionError, Refusal> {
        let admission = self.admission();
        let arrival = admission.arrive(peer);
        let robot = Callbacks::<R, _>::new(Arc::new(robot));
        serve_transport::<R>(&admission, arrival, transport, peer, robot).await
    }

    /// As [`serve_stream`](Self::serve_stream), over a WebSocket that is already open.
    ///
    /// The WebSocket's own message size limits apply besides those of the settings. The settings'
    /// keepalive sees whole messages only, so each must pass within its interval and timeout
    /// together.
    ///
    /// # Errors
    /// When another policy is connected; the client has been told (close code 1013).
    #[cfg(feature = "async-tungstenite")]
    pub async fn serve_websocket<S>(
        &self,
        stream: async_tungstenite::WebSocketStream<S>,
        robot: impl Robot,
    ) -> Result<ConnectionError, Refusal>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let keepalive = self.shared.admission.config().keepalive;
        let now = std::time::Instant::now();
        let transport = crate::transport::Tungstenite::new(now, stream, keepalive);
        self.serve_transport(transport, "a WebSocket", robot).await
    }

    /// Stops listening, lets the requests that are being answered finish, closes the connection
    /// with 1001 and returns when the robot is at rest.
    pub async fn shutdown(&self) {
        let listening = self.stop_listening();
        let admission = &self.shared.admission;
        admission.start_shutdown(admission.config().shutdown_timeout);
        admission.wait_until_free().await;
        if let Some(Listening::Acceptor(acceptor)) = listening.as_deref()
            && let Err(error) = acceptor.close().await
        {
            tracing::warn!("the transport is not shut down: {error}");
        }
    }

    /// Stops listening and closes the connection that there is, without waiting for anything, as
    /// the drop of the last handle does.
    pub fn stop(&self) {
        self.stop_listening();
        self.shared.admission.start_shutdown(Duration::ZERO);
    }

    /// Arms the robot: lets the actions of the policy that is connected move it, after a stop too. Which
    /// other things do, the robot's [`ActionSpec`](chiral_proto::ActionSpec) declares: by default a new
    /// connection. False when no policy is connected; the next one is not armed by it.
    pub fn arm(&self) -> bool {
        self.shared.admission.arm()
    }

    /// Stops the robot, for its own program and its operator: what waits is dropped, the robot is
    /// told to hold still, and no action comes until it is armed again. The policy stays connected.
    /// False when there is none. It is no emergency stop: that one must work without this program.
    pub fn stop_motion(&self) -> bool {
        self.shared.admission.stop_motion()
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.shared.admission.stats()
    }

    /// What the transport of the connection that there is now has beyond its frames, if that is a
    /// `T`. Over Zenoh: `chiral_zenoh::Counts`.
    pub fn transport_extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.shared.admission.extension()?.downcast().ok()
    }

    /// What the transport on which the server listens has beyond its connections, if that is a
    /// `T`. Over Zenoh with shared memory: `chiral_zenoh::SharedMemory`.
    pub fn acceptor_extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        match &*self.listening().ok()?? {
            Listening::Socket(..) => None,
            Listening::Acceptor(acceptor) => acceptor.extension()?.downcast().ok(),
        }
    }
}

fn not_listening(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("the server {what}"))
}

impl<R: Runtime> Clone for PolicyServer<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R: Runtime> fmt::Debug for PolicyServer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyServer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
