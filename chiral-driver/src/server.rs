use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chiral_proto::Map;
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Config, Stats};
use chiral_proto::ws::Keepalive;
#[cfg(feature = "async-tungstenite")]
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::FutureExt;
use futures_lite::future::or;

#[cfg(feature = "async-tungstenite")]
use crate::drive::{HANG_UP, drive};
use crate::listening::Listening;
use crate::office::Office;
use crate::operate::called::call_robot;
use crate::operate::pulled::{Commands, Seat};
use crate::reception::attend;
use crate::robot::Robot;
use crate::runtime::Runtime;
#[cfg(feature = "async-tungstenite")]
use crate::{runtime::by, shared::now};

/// Settings of a [`PolicyServer`].
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The state machine's settings: limits, backlog, watchdog.
    pub machine: Config,
    /// When to ping the client, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    pub keepalive: Option<Keepalive>,
    /// How long [`shutdown`](PolicyServer::shutdown) waits for requests that are being answered.
    /// Default: 5 s.
    pub shutdown_timeout: Duration,
    /// Runs the robot's code in two threads of its own while a policy is connected, one for what
    /// moves the robot and one for what observes it. Default: `false`, as tasks of the runtime.
    ///
    /// For a robot whose methods block their thread, on a driver library or a lock: as tasks they
    /// would hold up the runtime. The threads' wake-ups add some 0.1 ms to each call.
    pub robot_threads: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            machine: Config::default(),
            keepalive: Some(Keepalive::default()),
            shutdown_timeout: Duration::from_secs(5),
            robot_threads: false,
        }
    }
}

/// Serves a robot to one policy at a time.
///
/// Cloning it gives another handle to the same server, to shut it down from elsewhere. When the
/// last handle is dropped (a future of [`serve`](Self::serve) holds one too) the server stops
/// listening and closes the connection that there is, without waiting for anything.
pub struct PolicyServer<R: Runtime> {
    desk: Arc<Desk<R>>,
}

/// What all handles share. Its drop is the last handle's.
struct Desk<R: Runtime> {
    office: Arc<Office>,
    /// Where it listens, as its system and as its clients say.
    address: Option<SocketAddr>,
    uri: Option<String>,
    /// Until the server is shut down.
    listening: Mutex<Option<Arc<Listening<R>>>>,
    /// The same, until nobody accepts with it any more.
    listens: Weak<Listening<R>>,
}

impl<R: Runtime> Drop for Desk<R> {
    fn drop(&mut self) {
        self.office.take_leave(Duration::ZERO);
    }
}

impl<R: Runtime> PolicyServer<R> {
    /// A server that listens on an address: `host:port`, or `ws://host:port`, where port 0 lets
    /// the system choose one; or, with the feature `zenoh`, on an endpoint of Zenoh's,
    /// `tcp/host:port` or `zenoh:…`. [`uri`](Self::uri) then says how clients reach it.
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
        let listening = Listening::bind(address, &config.machine.limits).await?;
        Ok(Self::new(config, Some(listening)))
    }

    /// A server that listens nowhere: for connections that were accepted elsewhere,
    /// see `serve_websocket`.
    pub fn unbound(config: ServerConfig) -> Self {
        Self::new(config, None)
    }

    fn new(config: ServerConfig, listening: Option<Listening<R>>) -> Self {
        let office = Office::new(config);
        let address = listening.as_ref().and_then(Listening::local_addr);
        let uri = listening.as_ref().map(Listening::uri);
        let listening = listening.map(Arc::new);
        let listens = listening.as_ref().map(Arc::downgrade).unwrap_or_default();
        let listening = Mutex::new(listening);
        Self { desk: Arc::new(Desk { office, address, uri, listening, listens }) }
    }

    /// The socket's address on which the server listens.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound), or listens on Zenoh.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.desk.address.ok_or_else(unbound)
    }

    /// The URI with which a client on the same host connects: `ws://host:port`, or an endpoint of
    /// Zenoh's.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound).
    pub fn uri(&self) -> io::Result<String> {
        self.desk.uri.clone().ok_or_else(unbound)
    }

    /// Serves the robot to one policy after the other, until [`shutdown`](Self::shutdown). Another
    /// policy that comes while one is connected is refused with 503 and a reason; the first one
    /// does not notice. To stop accepting, drop the future; a policy that is connected stays.
    ///
    /// To keep hold of the robot, give an `Arc` of it: that is a robot too.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound).
    pub async fn serve(&self, robot: impl Robot) -> io::Result<()> {
        let Some(listening) = self.listening()? else { return Ok(()) };
        let robot = Arc::new(robot);
        if listening.wants_metadata() {
            // A robot that fails at it says so to the policy that asks.
            let metadata = AssertUnwindSafe(async { robot.metadata().await }).catch_unwind().await;
            metadata.into_iter().flatten().for_each(|metadata| listening.announce(metadata));
        }
        let operate = move |turn| call_robot::<R>(turn, Arc::clone(&robot));
        attend::<R>(Arc::clone(&self.desk.office), listening, operate).await;
        Ok(())
    }

    /// Serves a robot that pulls its commands in a loop of its own, in the background, until
    /// [`shutdown`](Self::shutdown) or until the commands, which hold a handle to the server, are
    /// dropped; otherwise as [`serve`](Self::serve) does.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound) or has been shut down.
    pub fn pull(&self, sensors: &Sensors, metadata: Map) -> io::Result<Commands> {
        let listening = self.listening()?.ok_or_else(unbound)?;
        listening.announce(metadata.clone());
        let seat = Seat::new(sensors.clone(), metadata);
        let (office, place) = (Arc::clone(&self.desk.office), Arc::clone(&seat));
        R::spawn("chiral-accept", async move {
            let taking = Arc::clone(&place);
            let attending = attend::<R>(office, listening, move |turn| taking.take(turn));
            or(place.until_left(), attending).await;
        });
        Ok(Commands::new(seat, self.clone()))
    }

    /// What the server listens with; `None` after it was shut down.
    fn listening(&self) -> io::Result<Option<Arc<Listening<R>>>> {
        let listening = self.desk.listening.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.desk.uri.is_none() {
            return Err(unbound());
        }
        Ok(listening)
    }

    /// Whether there is still a listening socket: for a moment, too, after the end, until
    /// [`serve`](Self::serve) has noticed it.
    pub fn is_listening(&self) -> bool {
        self.desk.listens.strong_count() > 0
    }

    fn stop_listening(&self) -> Option<Arc<Listening<R>>> {
        self.desk.listening.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Serves the robot over a WebSocket that is already open, from an HTTP server's upgrade, a
    /// proxy or a TLS stack, until the connection ends. When another policy is connected, the new
    /// one is told so (close code 1013) and `false` is returned. Dropping the future closes the
    /// connection.
    ///
    /// The WebSocket's own message size limits apply besides those of the settings. The settings'
    /// keepalive sees whole messages only, so each must pass within its interval and timeout
    /// together.
    #[cfg(feature = "async-tungstenite")]
    pub async fn serve_websocket<S>(
        &self,
        mut stream: async_tungstenite::WebSocketStream<S>,
        robot: impl Robot,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        use async_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
        use futures_lite::StreamExt;
        let office = &self.desk.office;
        match office.enter::<R>().await {
            Ok(shared) => {
                let keepalive = office.config.keepalive;
                let transport = crate::transport::Tungstenite::new(now(), stream, keepalive);
                let operate = |turn| call_robot::<R>(turn, Arc::new(robot));
                let carry = |line| R::spawn("chiral-line", drive::<R>(Arc::new(line), transport));
                office.serve(shared, operate, carry).await;
                true
            }
            Err(no_entry) => {
                let reason = no_entry.to_string().into();
                let parting = async {
                    stream.close(Some(CloseFrame { code: CloseCode::Again, reason })).await?;
                    // Until the peer has answered.
                    while stream.try_next().await?.is_some() {}
                    Ok::<_, async_tungstenite::tungstenite::Error>(())
                };
                // Whoever has hung up already needs no telling.
                let _ = by::<R, _>(now() + HANG_UP, parting).await;
                false
            }
        }
    }

    /// Stops listening, lets the requests that are being answered finish, closes the connection
    /// with 1001 and returns when the robot is at rest.
    pub async fn shutdown(&self) {
        let listening = self.stop_listening();
        self.desk.office.shut_down().await;
        if let Some(listening) = listening {
            listening.close().await;
        }
    }

    /// Stops listening and closes the connection that there is, without waiting for anything, as
    /// the drop of the last handle does.
    pub fn stop(&self) {
        self.stop_listening();
        self.desk.office.take_leave(Duration::ZERO);
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.desk.office.stats()
    }

    /// What the link over Zenoh that there is now has carried, and whether through shared memory.
    #[cfg(feature = "zenoh")]
    pub fn zenoh_stats(&self) -> Option<chiral_zenoh::Stats> {
        self.desk.office.zenoh_stats()
    }

    /// The shared memory of a server on Zenoh that was asked to use it: what sensors write there
    /// at once is never copied.
    #[cfg(feature = "zenoh-shm")]
    pub fn shared_memory(&self) -> Option<chiral_zenoh::SharedMemory> {
        self.listening().ok()??.shared_memory()
    }
}

fn unbound() -> io::Error {
    let what_to_do = "the server has no such address: use `bind` (`uri` if it is on Zenoh), or \
                      `serve_websocket`";
    io::Error::new(io::ErrorKind::NotConnected, what_to_do)
}

impl<R: Runtime> Clone for PolicyServer<R> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk) }
    }
}

impl<R: Runtime> fmt::Debug for PolicyServer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyServer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
