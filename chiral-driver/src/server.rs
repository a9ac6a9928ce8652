use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chiral_proto::Map;
use chiral_proto::sensors::Sensors;
use chiral_proto::server::{Config, Stats};
use chiral_proto::ws::{self, BadRequest, Keepalive, Request, Role, ServerHandshake, Session};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::drive::HANG_UP;
#[cfg(feature = "async-tungstenite")]
use crate::drive::drive;
use crate::office::Office;
use crate::operate::called::call_robot;
use crate::operate::pulled::{Commands, Seat};
use crate::robot::Robot;
use crate::runtime::{Runtime, by};
use crate::shared::now;
use crate::turn::Turn;

/// How long a client may take over its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait before accepting again when the system has no means for a connection.
const RECOVERY: Duration = Duration::from_millis(100);

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
    address: Option<SocketAddr>,
    /// Until the server is shut down.
    listener: Mutex<Option<Arc<R::Listener>>>,
}

impl<R: Runtime> Drop for Desk<R> {
    fn drop(&mut self) {
        self.office.take_leave(Duration::ZERO);
    }
}

impl<R: Runtime> PolicyServer<R> {
    /// A server that listens on an address, `host:port`; port 0 lets the system choose one, which
    /// [`local_addr`](Self::local_addr) then says.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: &str) -> io::Result<Self> {
        Self::bind_with(address, ServerConfig::default()).await
    }

    /// As [`bind`](Self::bind), with settings.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind_with(address: &str, config: ServerConfig) -> io::Result<Self> {
        let listener = R::bind(address).await?;
        let address = R::local_addr(&listener)?;
        Ok(Self::new(config, Some((address, listener))))
    }

    /// A server that listens nowhere: for connections that were accepted elsewhere,
    /// see `serve_websocket`.
    pub fn unbound(config: ServerConfig) -> Self {
        Self::new(config, None)
    }

    fn new(config: ServerConfig, listening: Option<(SocketAddr, R::Listener)>) -> Self {
        let office = Office::new(config);
        let (address, listener) = listening.unzip();
        let listener = Mutex::new(listener.map(Arc::new));
        Self { desk: Arc::new(Desk { office, address, listener }) }
    }

    /// Where the server listens.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.desk.address.ok_or_else(unbound)
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
        let Some(listener) = self.listener()? else { return Ok(()) };
        let robot = Arc::new(robot);
        let operate = move |turn| call_robot::<R>(turn, Arc::clone(&robot));
        attend::<R>(Arc::clone(&self.desk.office), listener, operate).await;
        Ok(())
    }

    /// Serves a robot that pulls its commands in a loop of its own, in the background, until
    /// [`shutdown`](Self::shutdown) or until the commands, which hold a handle to the server, are
    /// dropped; otherwise as [`serve`](Self::serve) does.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound) or has been shut down.
    pub fn pull(&self, sensors: &Sensors, metadata: Map) -> io::Result<Commands> {
        let listener = self.listener()?.ok_or_else(unbound)?;
        let seat = Seat::new(sensors.clone(), metadata);
        let (office, place) = (Arc::clone(&self.desk.office), Arc::clone(&seat));
        R::spawn("chiral-accept", async move {
            let taking = Arc::clone(&place);
            let attending = attend::<R>(office, listener, move |turn| taking.take(turn));
            or(place.until_left(), attending).await;
        });
        Ok(Commands::new(seat, self.clone()))
    }

    /// What the server listens with; `None` after it was shut down.
    fn listener(&self) -> io::Result<Option<Arc<R::Listener>>> {
        let listener = self.desk.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if listener.is_none() && !self.desk.office.is_shutting_down() {
            return Err(unbound());
        }
        Ok(listener)
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
        self.desk.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.desk.office.shut_down().await;
    }

    /// Stops listening and closes the connection that there is, without waiting for anything, as
    /// the drop of the last handle does.
    pub fn stop(&self) {
        self.desk.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.desk.office.take_leave(Duration::ZERO);
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.desk.office.stats()
    }
}

fn unbound() -> io::Error {
    let what_to_do = "the server was made without an address: use `bind`, or `serve_websocket`";
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

/// Takes in one policy after the other, until the server is shut down; `operate` begins to operate
/// the robot for a turn.
async fn attend<R: Runtime>(
    office: Arc<Office>,
    listener: Arc<R::Listener>,
    operate: impl Fn(Turn) + Clone + Send + 'static,
) {
    loop {
        let next = async { Some(R::accept(&listener).await) };
        let shut_down = async {
            office.until_shut_down().await;
            None
        };
        match or(shut_down, next).await {
            None => return,
            Some(Ok((stream, peer))) => {
                let reception = receive::<R>(Arc::clone(&office), stream, peer, operate.clone());
                R::spawn("chiral-policy", reception);
            }
            Some(Err(error)) => {
                tracing::warn!("no connection could be accepted: {error}");
                R::sleep_until(now() + RECOVERY).await;
            }
        }
    }
}

/// Takes a connection through its handshake and, when the robot is free, serves it.
async fn receive<R: Runtime>(
    office: Arc<Office>,
    mut stream: R::Stream,
    peer: SocketAddr,
    operate: impl FnOnce(Turn) + Send,
) {
    let arrival = office.arrive();
    let given_up = async {
        office.until_unwanted(arrival).await;
        None
    };
    let handshake = or(by::<R, _>(now() + HANDSHAKE, shake_hands(&mut stream)), given_up).await;
    let request = match handshake {
        Some(Ok(Ok(request))) => request,
        Some(Ok(Err(bad))) => {
            tracing::info!("{peer} was sent away: {bad}");
            return send_away::<R>(stream, &bad.response()).await;
        }
        Some(Err(error)) => return tracing::info!("{peer} went during its handshake: {error}"),
        None => return tracing::info!("{peer} was given up: its handshake took too long"),
    };
    match office.enter::<R>().await {
        Ok(shared) => {
            let accepted = request.accept();
            if let Err(error) = stream.write_all(&accepted.response).await {
                office.leave(&shared);
                return tracing::info!("{peer} went during its handshake: {error}");
            }
            tracing::info!("policy connected from {peer}");
            let config = ws::Config {
                limits: office.config.machine.limits.clone(),
                keepalive: office.config.keepalive,
                ..ws::Config::default()
            };
            let session = Session::new(now(), Role::Server, &config, &accepted.surplus);
            let ended = office.serve(shared, operate, |line| R::carry(line, stream, session)).await;
            tracing::info!("policy from {peer}: {ended}");
        }
        Err(no_entry) => {
            tracing::info!("{peer} was refused: {no_entry}");
            send_away::<R>(stream, &request.refuse(503, &no_entry.to_string())).await;
        }
    }
}

/// Sends a last word, and waits a moment for the peer to hang up: a socket closed with unread
/// bytes would take the word back.
async fn send_away<R: Runtime>(mut stream: R::Stream, response: &[u8]) {
    let parting = async {
        stream.write_all(response).await?;
        stream.close().await?;
        let mut waste = [0; 256];
        while stream.read(&mut waste).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever has hung up already needs no telling.
    let _ = by::<R, _>(now() + HANG_UP, parting).await;
}

async fn shake_hands<S>(stream: &mut S) -> io::Result<Result<Request, BadRequest>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = ServerHandshake::default();
    // On the heap, to keep the caller's future small.
    let mut chunk = vec![0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(shaken) = handshake.receive(&chunk[..count]).transpose() {
            return Ok(shaken);
        }
    }
}
