use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chiral_driver::address::StreamAddress;
use chiral_driver::proto::sensors::Sensors;
use chiral_driver::proto::server::Stats;
use chiral_driver::proto::{ConnectionError, Map};
use chiral_driver::robot::CommandSlot;
use chiral_driver::server::{
    Admission, ListenTarget, check_acceptor, check_socket, uri_of, warn_if_exposed,
};
use chiral_driver::{Acceptor, Commands, ServeError, ServerConfig, Transport};
use futures_lite::future::block_on;

use crate::accept::{Host, Listening};
use crate::connector::acceptor;
use crate::listener::Listener;
use crate::operate::Callbacks;
use crate::robot::Robot;
use crate::stream::Stream;

/// Serves a robot to one policy at a time.
///
/// Cloning it gives another handle to the same server, to shut it down from elsewhere. When the
/// last handle is dropped the server stops listening, closes the connection that there is, and
/// waits for its threads: for what the robot is at, and for up to some seconds for a policy that
/// does not take note of the end.
#[derive(Clone)]
pub struct PolicyServer(Arc<Shared>);

/// What all handles share. Its drop is the last handle's.
struct Shared {
    host: Host,
    /// Where it listens.
    address: Option<StreamAddress>,
    uri: Option<String>,
    /// Until the server is shut down.
    listening: Mutex<Option<Arc<Listening>>>,
    /// The same, until nobody accepts with it any more.
    accepting: Weak<Listening>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop_listening();
        self.host.admission.start_shutdown(Duration::ZERO);
        self.host.threads.join();
    }
}

impl Shared {
    fn stop_listening(&self) -> Option<Arc<Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PolicyServer {
    /// A server that listens on an address: `host:port` or `ws://host:port`, where port 0 lets
    /// the system choose one; `unix:/path`; or what the crate was built for beside these.
    /// [`uri`](Self::uri) then says how clients reach it.
    ///
    /// Whoever reaches the address can drive the robot: listen on `127.0.0.1` unless the network is
    /// one that you trust. At `unix:/path` that is whoever may write to the socket's file: the
    /// process's own user and the superuser with the usual umask of 022, its group too with 002.
    /// The file is removed when the server stops listening.
    ///
    /// # Errors
    /// When the address cannot be read or listened on.
    pub fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, ServerConfig::default())
    }

    /// As [`bind`](Self::bind), with settings. The robot has threads of its own whatever they say.
    ///
    /// # Errors
    /// When the address cannot be read or listened on.
    pub fn bind_with(address: &str, config: ServerConfig) -> io::Result<Self> {
        match ListenTarget::of(address)? {
            ListenTarget::Socket(target) => {
                check_socket(address, &target, &config)?;
                let listener = Listener::bind(&target).map_err(|error| {
                    let why = format!("{address} cannot be listened on: {error}");
                    io::Error::new(error.kind(), why)
                })?;
                let address = listener.local_address()?;
                let uri = uri_of(&address, &config);
                warn_if_exposed(&address, &config);
                let listening = Listening::Socket(listener);
                Ok(Self::new(config, Some(address), Some((uri, listening))))
            }
            ListenTarget::Other => {
                check_acceptor(address, &config)?;
                let acceptor = acceptor(address.trim(), &config.machine.limits)?;
                let uri = acceptor.uri();
                Ok(Self::new(config, None, Some((uri, Listening::Acceptor(acceptor)))))
            }
        }
    }

    /// A server of policies that come over a transport of another kind.
    pub fn accepting(acceptor: impl Acceptor, config: ServerConfig) -> Self {
        let (uri, listening) = (acceptor.uri(), Listening::Acceptor(Box::new(acceptor)));
        Self::new(config, None, Some((uri, listening)))
    }

    /// A server that listens nowhere: for connections that were accepted elsewhere, see
    /// [`serve_stream`](Self::serve_stream).
    pub fn unbound(config: ServerConfig) -> Self {
        Self::new(config, None, None)
    }

    fn new(
        config: ServerConfig,
        address: Option<StreamAddress>,
        listening: Option<(String, Listening)>,
    ) -> Self {
        if let Some((_, Listening::Acceptor(acceptor))) = &listening
            && config.take_over
        {
            acceptor.let_take_over();
        }
        let (uri, listening) = listening.unzip();
        let listening = listening.map(Arc::new);
        let accepting = listening.as_ref().map(Arc::downgrade).unwrap_or_default();
        let host = Host { admission: Admission::new(config), threads: Arc::default() };
        Self(Arc::new(Shared { host, address, uri, listening: Mutex::new(listening), accepting }))
    }

    /// The TCP address on which the server listens.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound), or does not listen on TCP.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(StreamAddress::Tcp { host, port }) = &self.0.address {
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
        self.0.uri.clone().ok_or_else(|| not_listening("listens nowhere: use `bind`"))
    }

    /// Serves the robot to one policy after the other, and blocks until
    /// [`shutdown`](Self::shutdown), which is to be called from elsewhere. Another policy that
    /// comes while one is connected is refused with 503 and a reason, once that one has given a
    /// sign of life; it does not notice. With [`ServerConfig::take_over`] it gets the robot instead.
    ///
    /// To keep hold of the robot, give an `Arc` of it: that is a robot too, an `Arc<dyn Robot>`
    /// included.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound).
    pub fn serve(&self, robot: impl Robot) -> io::Result<()> {
        let Some(listening) = self.listening()? else { return Ok(()) };
        serve(&self.0.host, &listening, &Callbacks::new(robot));
        Ok(())
    }

    /// As [`serve`](Self::serve), but in a thread of its own, and without blocking.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound), or the system has no thread to give.
    pub fn spawn(&self, robot: impl Robot) -> io::Result<()> {
        let Some(listening) = self.listening()? else { return Ok(()) };
        let (host, robot) = (self.0.host.clone(), Callbacks::new(robot));
        self.0.host.threads.spawn("chiral-accept", move || serve(&host, &listening, &robot))
    }

    /// Serves a robot that pulls its commands in a loop of its own, in the background and without
    /// blocking, until [`shutdown`](Self::shutdown) or until the commands, which hold a handle to
    /// the server, are dropped.
    ///
    /// # Errors
    /// When the server is [`unbound`](Self::unbound) or has been shut down, or the system has no
    /// thread to give.
    pub fn pull(&self, sensors: &Sensors, metadata: Map) -> io::Result<Commands> {
        let listening = self.listening()?.ok_or_else(|| not_listening("has been shut down"))?;
        let accepting = Arc::downgrade(&listening);
        let config = self.0.host.admission.config().clone();
        let announce = move |metadata: &Map| {
            if let Some(Listening::Acceptor(acceptor)) = accepting.upgrade().as_deref() {
                acceptor.set_metadata(config.announced(metadata.clone(), true));
            }
        };
        announce(&metadata);
        let slot = CommandSlot::new(sensors.clone(), metadata);
        let (host, filled) = (self.0.host.clone(), Arc::clone(&slot));
        self.0.host.threads.spawn("chiral-accept", move || {
            host.accept_policies(&listening, &filled, || filled.is_closed());
        })?;
        Ok(Commands::new(slot).keeping(self.clone()).announcing(announce))
    }

    /// What the server listens with; `None` after it was shut down.
    fn listening(&self) -> io::Result<Option<Arc<Listening>>> {
        self.uri()?;
        Ok(self.0.listening.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Serves the robot over any ordered byte stream that is connected already, blocks until the
    /// connection ends, and returns why it did: a TLS connection, a pair of pipes, a socket of your
    /// own. The client's WebSocket handshake is read from it. `peer` is its address, `host:port`: for
    /// the log, and because wrong tokens, and connections that wait, are counted by host.
    ///
    /// # Errors
    /// When the handshake fails or another policy is connected; the client has been told.
    pub fn serve_stream(
        &self,
        stream: impl Stream,
        peer: &str,
        robot: impl Robot,
    ) -> Result<ConnectionError, ServeError> {
        let arrival = self.0.host.admission.arrive(peer);
        self.0.host.serve_stream(arrival, Box::new(stream), peer, &Callbacks::new(robot))
    }

    /// As [`serve_stream`](Self::serve_stream), over a transport that is connected already.
    ///
    /// # Errors
    /// When another policy is connected; the client has been told (close code 1013).
    pub fn serve_transport(
        &self,
        transport: impl Transport,
        peer: &str,
        robot: impl Robot,
    ) -> Result<ConnectionError, ServeError> {
        let arrival = self.0.host.admission.arrive(peer);
        self.0.host.serve_transport(arrival, transport, peer, &Callbacks::new(robot))
    }

    /// Stops listening, lets the requests that are being answered finish, closes the connection
    /// with 1001 and returns when the robot is at rest. Blocks for
    /// [`shutdown_timeout`](ServerConfig::shutdown_timeout) and what the robot takes beyond it.
    pub fn shutdown(&self) {
        let listening = self.0.stop_listening();
        let admission = &self.0.host.admission;
        admission.start_shutdown(admission.config().shutdown_timeout);
        block_on(admission.wait_until_free());
        if let Some(Listening::Acceptor(acceptor)) = listening.as_deref()
            && let Err(error) = block_on(acceptor.close())
        {
            tracing::warn!("the transport is not shut down: {error}");
        }
        drop(listening);
        while self.0.accepting.strong_count() > 0 {
            // The accepting thread looks up often.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops listening and closes the connection that there is, without waiting for anything.
    pub fn stop(&self) {
        self.0.stop_listening();
        self.0.host.admission.start_shutdown(Duration::ZERO);
    }

    /// Arms the robot: lets the actions of the policy that is connected move it, after a stop too. Which
    /// other things do, the robot's [`ActionSpec`](chiral_driver::proto::ActionSpec) declares: by default a new
    /// connection. False when no policy is connected; the next one is not armed by it.
    pub fn arm(&self) -> bool {
        self.0.host.admission.arm()
    }

    /// Stops the robot, for its own program and its operator: what waits is dropped, the robot is
    /// told to hold still, and no action comes until it is armed again. The policy stays connected.
    /// False when there is none. It is no emergency stop: that one must work without this program.
    pub fn stop_motion(&self) -> bool {
        self.0.host.admission.stop_motion()
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.0.host.admission.stats()
    }

    /// What the transport of the connection that there is now has beyond its frames, if that is a
    /// `T`. Over Zenoh: `chiral_zenoh::Counts`.
    pub fn transport_extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.host.admission.extension()?.downcast().ok()
    }

    /// What the transport on which the server listens has beyond its connections, if that is a
    /// `T`. Over Zenoh with shared memory: `chiral_zenoh::SharedMemory`.
    pub fn acceptor_extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        match &*self.listening().ok()?? {
            Listening::Socket(_) => None,
            Listening::Acceptor(acceptor) => acceptor.extension()?.downcast().ok(),
        }
    }
}

/// Serves a robot that is called, until the server is shut down.
fn serve<B: Robot>(host: &Host, listening: &Listening, robot: &Callbacks<B>) {
    if let Listening::Acceptor(acceptor) = listening
        && acceptor.wants_metadata()
    {
        // A robot that fails at it says so to the policy that asks.
        let metadata = catch_unwind(AssertUnwindSafe(|| robot.robot().metadata()));
        let announced = |metadata| host.admission.config().announced(metadata, false);
        metadata.into_iter().flatten().map(announced).for_each(|all| acceptor.set_metadata(all));
    }
    host.accept_policies(listening, robot, || false);
}

fn not_listening(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("the server {what}"))
}

impl std::fmt::Debug for PolicyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyServer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
