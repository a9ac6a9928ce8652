use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::{Config, Reconnect};
use chiral_proto::ws::{ClientHandshake, HandshakeError, Keepalive};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::PolicyClient;
use super::connection_event::{ConnectionEvent, OnConnection};
use super::race::Race;
use super::reconnect::{OutageProgress, Supervisor};
use super::settings::{ClientSettings, SocketRoute, classify_handshake};
use super::waiting::{Failure, OnWaiting, Stage, WaitForServer, Waiting};
use crate::address::StreamAddress;
use crate::driver::drive;
use crate::error::ConnectError;
use crate::runtime::{Runtime, until};
use crate::security::MaybeSecure;
#[cfg(feature = "tls")]
use crate::tls::TlsClient;
use crate::token::Token;
use crate::transport::{Connector, Transport, WebSocket};

/// Settings of a [`PolicyClient`], and how to connect it.
#[derive(Debug, Clone)]
pub struct Builder<R> {
    settings: ClientSettings,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Default for Builder<R> {
    fn default() -> Self {
        ClientSettings::default().into()
    }
}

impl<R> From<ClientSettings> for Builder<R> {
    fn from(settings: ClientSettings) -> Self {
        Self { settings, runtime: PhantomData }
    }
}

impl<R: Runtime> Builder<R> {
    /// The state machine's settings: limits, the action queue, the stream's window.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.settings.machine = config;
        self
    }

    /// How long [`connect`](Self::connect) waits for a server that is not there yet, or whose robot
    /// has another policy. Default: for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = Some(timeout);
        self
    }

    /// Has a function called every second while [`connect`](Self::connect) waits, from the first
    /// second on: for what, and what stands in the way. It must not block. Default: nothing; the
    /// log is told in any case, after a second and then rarely.
    #[must_use]
    pub fn on_waiting(mut self, call: impl Fn(&Waiting<'_>) + Send + Sync + 'static) -> Self {
        self.settings.on_waiting = OnWaiting::new(call);
        self
    }

    /// Adds a header field to the request with which a WebSocket begins, for example
    /// `Authorization`. Over Zenoh there is no request, and nothing that a field could be sent in.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push(name, value);
        self
    }

    /// Shows the server this token, which it asks for: in the request with which a WebSocket begins.
    /// Over `ws://` others on the network can read it, and the log is warned; connect with `wss://`.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.settings.token = Some(token);
        self
    }

    /// Whom to take for the server, for `wss://`: it has one certificate, or one that an authority
    /// of yours has signed. Default: one that the system trusts. A URI without TLS is then an error.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// How long each call waits for its answer. Default: as the state machine's settings say.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = Some(timeout);
        self
    }

    /// When to ping the server, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.settings.keepalive = keepalive.into();
        self
    }

    /// Has a connection that was lost made again. Default: it is not.
    ///
    /// The observation stream and the dispatch of actions go on at their rates. Requests in flight
    /// fail, and say whether they had been sent; nothing that was queued or planned before is sent any
    /// more, and a chunk that was decided on an observation of before is refused. While there is no
    /// connection calls fail with [`Misuse::Interrupted`](chiral_proto::client::Misuse::Interrupted) or
    /// [`NotQueuedReason::Interrupted`](chiral_proto::client::NotQueuedReason::Interrupted), unless
    /// [they wait](Reconnect::hold_calls). The robot's metadata, if it was read, is read again.
    ///
    /// What cannot pass ends the client: a server that refuses the connection (but for the HTTP
    /// statuses 429, 502, 503 and 504), a broken rule of the protocol, and that another policy has
    /// taken the robot over, which is not taken back; see
    /// [`ConnectionError::may_pass`](chiral_proto::ConnectionError::may_pass). A robot that has another
    /// policy is waited for.
    ///
    /// It is for [`connect`](Self::connect) and [`connect_with`](Self::connect_with): a stream or a
    /// transport that you bring has no address at which it could be made again, and ends.
    #[must_use]
    pub fn reconnect(mut self, reconnect: impl Into<Option<Reconnect>>) -> Self {
        self.settings.reconnect = reconnect.into();
        self
    }

    /// Has a function called when the connection is lost, made again, or has ended, in the task of the
    /// connection: it must not block. Default: nothing; the log is told of what is lost and made again in any case.
    #[must_use]
    pub fn on_connection(
        mut self,
        call: impl Fn(&ConnectionEvent) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_connection = OnConnection::new(call);
        self
    }

    /// Connects to a robot, and waits for it: for a server that is not up yet, which is tried every
    /// 100 ms, and for its turn at a robot that has another policy, or at a server that is busy (the
    /// HTTP statuses 429, 502, 503 and 504), which is tried ever more rarely, down to once a second.
    /// All of a host's addresses are tried, each beside those before it that have not answered
    /// within 250 ms.
    ///
    /// # Errors
    /// When the URI is bad, no host has its name, the time allowed is over, the server refuses the
    /// connection for another reason, or is no WebSocket server.
    pub async fn connect(self, uri: &str) -> Result<PolicyClient<R>, ConnectError> {
        let uri = uri.trim();
        if let Some(route) = self.settings.route(uri)? {
            return self.connect_over(Route::Socket(route)).await;
        }
        let connector = R::connector(uri).ok_or_else(|| ConnectError::no_connector(uri))?;
        self.connect_with(connector?).await
    }

    /// Connects over a transport of another kind.
    ///
    /// # Errors
    /// The connector's.
    pub async fn connect_with(
        mut self,
        connector: impl Connector,
    ) -> Result<PolicyClient<R>, ConnectError> {
        self.settings = self.settings.for_connector(&connector);
        self.connect_over(Route::Other(Box::new(connector))).await
    }

    async fn connect_over(self, route: Route) -> Result<PolicyClient<R>, ConnectError> {
        let wait = WaitForServer::new(&route.uri(), &self.settings);
        let transport = self.make_transport(&route, wait).await?;
        let settings = self.settings.clone();
        let (calls, supervisor) = settings.start_supervised(&route.uri(), transport.extension())?;
        R::spawn("chiral-connection", supervise(self, supervisor, transport, Some(route)));
        Ok(PolicyClient::new(calls))
    }

    async fn make_transport(
        &self,
        route: &Route,
        wait: WaitForServer,
    ) -> Result<Box<dyn Transport>, ConnectError> {
        match route {
            Route::Other(connector) => connector.connect(&self.settings.machine.limits, wait).await,
            Route::Socket(route) => {
                let (stream, surplus) = self.connect_socket(wait, route).await?;
                let session = self.settings.session(Instant::now(), &surplus)?;
                Ok(Box::new(WebSocket::new(stream, session)))
            }
        }
    }

    /// A client over a transport that is connected already.
    pub fn over_transport(self, transport: impl Transport) -> PolicyClient<R> {
        let (calls, supervisor) = self.settings.clone().start(transport.extension());
        R::spawn("chiral-connection", supervise(self, supervisor, transport, None));
        PolicyClient::new(calls)
    }

    /// A client over any ordered byte stream that is connected already: a TLS connection, a pipe,
    /// a socket of your own. The WebSocket handshake is made on it.
    ///
    /// # Errors
    /// When the server does not take the connection or does not answer within 10 s.
    pub async fn over_stream<S>(self, mut stream: S) -> Result<PolicyClient<R>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        const URI: &str = "the stream";
        let mut wait = WaitForServer::new(URI, &ClientSettings::default());
        let stage = Mutex::new(Stage::Handshake);
        let shaking = self.complete_handshake(&mut stream, URI, "localhost", "/");
        match finish_try::<R, _>(&mut wait, &stage, shaking).await? {
            Ok(surplus) => self.over_session(stream, &surplus),
            Err(failure) => Err(failure.into_error(URI, wait.waited())),
        }
    }

    /// A client of a WebSocket that is already open, as [`PolicyClient::from_websocket`] makes it.
    /// Keepalive works there too; whole messages are its signs of life, so each must pass within
    /// the keepalive's interval and timeout together.
    #[cfg(feature = "async-tungstenite")]
    pub fn over_websocket<S>(self, stream: async_tungstenite::WebSocketStream<S>) -> PolicyClient<R>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let keepalive = self.settings.keepalive;
        self.over_transport(crate::transport::Tungstenite::new(Instant::now(), stream, keepalive))
    }

    async fn connect_socket(
        &self,
        mut wait: WaitForServer,
        route: &SocketRoute,
    ) -> Result<(MaybeSecure<R::Stream>, Bytes), ConnectError> {
        loop {
            let stage = Mutex::new(Stage::LookUp);
            let attempt = self.attempt(route, &stage);
            match finish_try::<R, _>(&mut wait, &stage, attempt).await? {
                Ok(connected) => return Ok(connected),
                Err(failure) => R::timer(wait.retry_at(failure)?).await,
            }
        }
    }

    /// One try to connect; the inner error is of a server that may still take the connection.
    async fn attempt(
        &self,
        route: &SocketRoute,
        stage: &Mutex<Stage>,
    ) -> Result<Result<(MaybeSecure<R::Stream>, Bytes), Failure>, ConnectError> {
        let SocketRoute { uri, address, security, authority, path } = route;
        let enter = |next| *lock(stage) = next;
        let connected = match address {
            StreamAddress::Unix(path) => match address.check() {
                Ok(()) => {
                    enter(Stage::Connect);
                    R::connect_unix(path).await
                }
                Err(error) => Err(error),
            },
            StreamAddress::Tcp { host, port } => {
                let addresses = match host.parse::<IpAddr>() {
                    Ok(ip) => vec![SocketAddr::new(ip, *port)],
                    Err(_) => match R::look_up(host, *port).await {
                        Ok(addresses) => addresses,
                        Err(error) => return Ok(Err(Failure::of_look_up(error))),
                    },
                };
                enter(Stage::Connect);
                connect_first::<R>(addresses).await
            }
        };
        let secured = connected.and_then(|stream| MaybeSecure::connect(stream, security));
        let mut stream = match secured {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(Failure::Absent(error))),
        };
        enter(Stage::Handshake);
        let shaken = self.complete_handshake(&mut stream, uri, authority, path).await?;
        Ok(shaken.map(|surplus| (stream, surplus)))
    }

    /// One handshake; the inner error is of a server that may still take the connection.
    async fn complete_handshake<S>(
        &self,
        stream: &mut S,
        uri: &str,
        authority: &str,
        path: &str,
    ) -> Result<Result<Bytes, Failure>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut handshake = self.settings.handshake(authority, path)?;
        classify_handshake(uri, exchange(stream, &mut handshake).await)
    }

    fn over_session<S>(self, stream: S, surplus: &[u8]) -> Result<PolicyClient<R>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let session = self.settings.session(Instant::now(), surplus)?;
        Ok(self.over_transport(WebSocket::new(stream, session)))
    }
}

/// Where a client connects to.
enum Route {
    Socket(SocketRoute),
    Other(Box<dyn Connector>),
}

impl Route {
    fn uri(&self) -> String {
        match self {
            Self::Socket(route) => route.uri.clone(),
            Self::Other(connector) => connector.uri(),
        }
    }
}

/// Drives a client's connection to its end, and connects again where there is a route.
async fn supervise<R: Runtime>(
    builder: Builder<R>,
    mut supervisor: Supervisor,
    transport: impl Transport,
    route: Option<Route>,
) {
    let connection = Arc::clone(supervisor.connection());
    drive::<R, _>(Arc::clone(&connection), transport, None).await;
    while let Some(outage) = supervisor.outage() {
        let Some(route) = &route else { return };
        let connecting = builder.make_transport(route, supervisor.wait(&outage));
        let mut connecting = pin!(connecting);
        let mut timer: Option<R::Timer> = None;
        let connected = poll_fn(|cx| {
            loop {
                let until = match outage.poll(cx, connecting.as_mut()) {
                    OutageProgress::Connected(outcome) => return Poll::Ready(Some(outcome)),
                    OutageProgress::Over => return Poll::Ready(None),
                    OutageProgress::Waiting { until: None } => return Poll::Pending,
                    OutageProgress::Waiting { until: Some(until) } => until,
                };
                let timer = timer.insert(R::timer(until));
                if Pin::new(timer).poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        let Some(outcome) = connected.await else { continue };
        let (outcome, transport) = match outcome {
            Ok(transport) => (Ok(transport.extension()), Some(transport)),
            Err(error) => (Err(error), None),
        };
        supervisor.resume(outcome);
        if let Some(transport) = transport {
            drive::<R, _>(Arc::clone(&connection), transport, None).await;
        }
    }
}

/// Runs one try to connect to its end, which is the deadline at the latest, and tells meanwhile what
/// is waited for.
async fn finish_try<R: Runtime, T>(
    wait: &mut WaitForServer,
    stage: &Mutex<Stage>,
    attempt: impl Future<Output = Result<Result<T, Failure>, ConnectError>>,
) -> Result<Result<T, Failure>, ConnectError> {
    let mut attempt = pin!(until::<R, _>(wait.try_deadline(), attempt));
    loop {
        if let Some(outcome) = until::<R, _>(wait.notice_at(), attempt.as_mut()).await {
            return outcome.unwrap_or_else(|| Ok(Err(lock(stage).timed_out())));
        }
        let stage = *lock(stage);
        wait.notice(stage.when_slow());
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to whichever of the addresses answers first.
async fn connect_first<R: Runtime>(addresses: Vec<SocketAddr>) -> io::Result<R::Stream> {
    type Attempt<S> = Pin<Box<dyn Future<Output = io::Result<S>> + Send>>;
    let mut race = Race::new(addresses);
    let mut attempts: Vec<(SocketAddr, Attempt<R::Stream>)> = Vec::new();
    let mut timer: Option<R::Timer> = None;
    poll_fn(move |cx| {
        loop {
            if let Some(address) = race.start_next(Instant::now()) {
                attempts.push((address, Box::pin(R::connect_tcp(address))));
                timer = race.next_start().map(R::timer);
            }
            let mut index = 0;
            let mut has_failed = false;
            while let Some((address, attempt)) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        race.fail(Instant::now(), *address, error);
                        drop(attempts.swap_remove(index));
                        has_failed = true;
                    }
                    Poll::Pending => index += 1,
                }
            }
            if let Some(error) = race.error() {
                return Poll::Ready(Err(error));
            }
            let is_due = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
            if !is_due && !has_failed {
                return Poll::Pending;
            }
            if is_due {
                timer = race.next_start().map(R::timer);
            }
        }
    })
    .await
}

/// Sends the client's part of the handshake and reads the server's.
async fn exchange<S>(
    stream: &mut S,
    handshake: &mut ClientHandshake,
) -> io::Result<Result<Bytes, HandshakeError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(handshake.request()).await?;
    stream.flush().await?;
    // On the heap, to keep the caller's future small.
    let mut chunk = vec![0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(Err(handshake.end_of_stream()));
        }
        match handshake.receive(&chunk[..count]) {
            Ok(None) => {}
            Ok(Some(surplus)) => return Ok(Ok(surplus)),
            Err(error) => return Ok(Err(error)),
        }
        // A server that goes on sending must not keep the deadline from being noticed.
        futures_lite::future::yield_now().await;
    }
}
