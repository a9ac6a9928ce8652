use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chiral_proto::server::{Config, Stats};
use chiral_proto::ws::{self, Keepalive, Request, Role, ServerHandshake, Session};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::office::{NoEntry, Office};
use crate::robot::Robot;
use crate::runtime::{Runtime, by};
use crate::shared::now;
use crate::transport::WebSocket;

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
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            machine: Config::default(),
            keepalive: Some(Keepalive::default()),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// Serves a robot to one policy at a time.
///
/// Cloning it gives another handle to the same server, to shut it down from elsewhere.
pub struct PolicyServer<R: Runtime> {
    listener: Option<Arc<R::Listener>>,
    office: Arc<Office>,
    runtime: PhantomData<fn() -> R>,
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
        let listener = Arc::new(R::bind(address).await?);
        Ok(Self { listener: Some(listener), ..Self::unbound(config) })
    }

    /// A server that listens nowhere: for connections that were accepted elsewhere,
    /// see `serve_websocket`.
    pub fn unbound(config: ServerConfig) -> Self {
        Self { listener: None, office: Office::new(config), runtime: PhantomData }
    }

    /// Where the server listens.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        R::local_addr(self.listener()?)
    }

    /// Serves the robot to one policy after the other, until [`shutdown`](Self::shutdown). Another
    /// policy that comes while one is connected is refused with 503 and a reason; the first one
    /// does not notice.
    ///
    /// To keep hold of the robot, give an `Arc` of it: that is a robot too.
    ///
    /// # Errors
    /// When the server was made [`unbound`](Self::unbound).
    pub async fn serve(&self, robot: impl Robot) -> io::Result<()> {
        let robot = Arc::new(robot);
        let listener = self.listener()?;
        loop {
            let next = async { Some(R::accept(listener).await) };
            let shut_down = async {
                self.office.until_shut_down().await;
                None
            };
            match or(shut_down, next).await {
                None => return Ok(()),
                Some(Ok((stream, peer))) => {
                    self.office.begin_handshake().await;
                    let (office, robot) = (Arc::clone(&self.office), Arc::clone(&robot));
                    R::spawn(async move {
                        receive::<R, _>(&office, stream, peer, robot).await;
                    });
                }
                Some(Err(error)) => {
                    tracing::warn!("no connection could be accepted: {error}");
                    R::sleep_until(now() + RECOVERY).await;
                }
            }
        }
    }

    /// Serves the robot over a WebSocket that is already open, from an HTTP server's upgrade, a
    /// proxy or a TLS stack, until the connection ends. When another policy is connected, the new
    /// one is told so (close code 1013) and `false` is returned.
    ///
    /// The WebSocket's own size limits apply besides those of the settings.
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
        match self.office.enter::<R>().await {
            Ok(shared) => {
                let transport = crate::transport::Tungstenite::new(stream);
                self.office.operate::<R, _>(shared, transport, Arc::new(robot)).await;
                true
            }
            Err(no_entry) => {
                let frame =
                    CloseFrame { code: CloseCode::Again, reason: no_entry.to_string().into() };
                // Whoever was refused and has hung up already needs no telling.
                let _ = stream.close(Some(frame)).await;
                false
            }
        }
    }

    /// Takes no more policies, lets the requests that are being answered finish, closes the
    /// connection with 1001 and returns when the robot is at rest.
    pub async fn shutdown(&self) {
        self.office.shut_down().await;
    }

    /// What was counted of the connection that there is now.
    pub fn stats(&self) -> Option<Stats> {
        self.office.stats()
    }

    fn listener(&self) -> io::Result<&R::Listener> {
        let unbound = "the server was made without an address: use `bind`, or `serve_websocket`";
        self.listener.as_deref().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, unbound))
    }
}

impl<R: Runtime> Clone for PolicyServer<R> {
    fn clone(&self) -> Self {
        Self {
            listener: self.listener.clone(),
            office: Arc::clone(&self.office),
            runtime: PhantomData,
        }
    }
}

impl<R: Runtime> fmt::Debug for PolicyServer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyServer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Takes a connection through its handshake and, when the robot is free, serves it.
async fn receive<R: Runtime, B: Robot>(
    office: &Arc<Office>,
    mut stream: R::Stream,
    peer: SocketAddr,
    robot: Arc<B>,
) {
    let request = by::<R, _>(now() + HANDSHAKE, shake_hands(&mut stream)).await;
    office.end_handshake();
    let request = match request {
        Some(Ok(request)) => request,
        Some(Err(error)) => return tracing::info!("{peer} was sent away: {error}"),
        None => return tracing::info!("{peer} was sent away: no handshake in {HANDSHAKE:?}"),
    };
    match office.enter::<R>().await {
        Ok(shared) => {
            let accepted = request.accept();
            if let Err(error) = stream.write_all(&accepted.response).await {
                office.leave(&shared);
                return tracing::info!("{peer} went during the handshake: {error}");
            }
            tracing::info!("policy connected from {peer}");
            let config = ws::Config {
                limits: office.config.machine.limits.clone(),
                keepalive: office.config.keepalive,
                ..ws::Config::default()
            };
            let session = Session::new(now(), Role::Server, &config, &accepted.surplus);
            let ended =
                office.operate::<R, _>(shared, WebSocket::new(stream, session), robot).await;
            tracing::info!("policy from {peer}: {ended}");
        }
        Err(no_entry) => refuse(&mut stream, request, &no_entry, peer).await,
    }
}

async fn refuse<S>(stream: &mut S, request: Request, no_entry: &NoEntry, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tracing::info!("{peer} was refused: {no_entry}");
    // Whoever was refused and has hung up already needs no telling.
    let _ = stream.write_all(&request.refuse(503, &no_entry.to_string())).await;
    let _ = stream.close().await;
}

async fn shake_hands<S>(stream: &mut S) -> io::Result<Request>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = ServerHandshake::default();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match handshake.receive(&chunk[..count]) {
            Ok(None) => {}
            Ok(Some(request)) => return Ok(request),
            Err(bad) => {
                stream.write_all(&bad.response()).await?;
                stream.close().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, bad.to_string()));
            }
        }
    }
}
