use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use chiral_driver::TlsClient;
use chiral_driver::address::StreamAddress;
use chiral_driver::client::{
    CancelToken, ClientSettings, ConnectionEvent, Failure, OnConnection, OnWaiting, SocketRoute,
    Stage, WaitForServer, Waiting, classify_handshake,
};
use chiral_driver::proto::bytes::Bytes;
use chiral_driver::proto::client::{Config, Reconnect};
use chiral_driver::proto::pool::{BufferSource, PoolMemory};
use chiral_driver::proto::ws::{HandshakeError, Keepalive};
use chiral_driver::{ConnectError, Connector, Security, Token, Transport};
use futures_lite::future::{block_on, or};

use crate::client::PolicyClient;
use crate::connector::connector;
use crate::dial;
use crate::reconnect::{CurrentLink, supervise_frames, supervise_link};
#[cfg(feature = "tls")]
use crate::secure::Secure;
#[cfg(unix)]
use crate::stream::PolicyTcp;
use crate::stream::{Stream, is_timeout, write_all};
use crate::threads::Threads;

/// How long a call may block during a handshake before the deadline is looked at.
const HANDSHAKE_STEP: Duration = Duration::from_millis(50);

/// Settings of a [`PolicyClient`], and how to connect it.
#[derive(Debug, Clone, Default)]
pub struct Builder(ClientSettings);

impl From<ClientSettings> for Builder {
    fn from(settings: ClientSettings) -> Self {
        Self(settings)
    }
}

impl Builder {
    /// The state machine's settings: limits, the action queue, the stream's window.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.0.machine = config;
        self
    }

    /// How long [`connect`](Self::connect) waits for a server that is not there yet, or whose robot
    /// has another policy. Default: for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.connect_timeout = Some(timeout);
        self
    }

    /// Lets another thread give [`connect`](Self::connect) up, which then fails within a tenth of a
    /// second. Default: nobody does.
    #[must_use]
    pub fn cancel(mut self, cancel: CancelToken) -> Self {
        self.0.cancel = cancel;
        self
    }

    /// Where large messages of the server are read into, in whose memory the arrays of observations
    /// then lie: page-locked memory from which a GPU copies, for example. Default: the heap, to which
    /// messages also go for which the source has no memory left. Another transport than WebSocket has
    /// memory of its own.
    ///
    /// ```
    /// use chiral_blocking::PolicyClient;
    /// use chiral_blocking::proto::pool::{BufferMemory, BufferSource};
    ///
    /// /// Stands for an allocator of page-locked memory.
    /// struct PageLocked;
    ///
    /// impl BufferSource for PageLocked {
    ///     fn allocate(&self, len: usize) -> Option<Box<dyn BufferMemory>> {
    ///         Some(Box::new(vec![0_u8; len]))
    ///     }
    /// }
    ///
    /// let builder = PolicyClient::builder().memory(PageLocked);
    /// ```
    #[must_use]
    pub fn memory(mut self, source: impl BufferSource) -> Self {
        self.0.memory = PoolMemory::of(source);
        self
    }

    /// Has a function called every second while [`connect`](Self::connect) waits, from the first
    /// second on: for what, and what stands in the way. Default: nothing; the log is told in any
    /// case, after a second and then rarely.
    #[must_use]
    pub fn on_waiting(mut self, call: impl Fn(&Waiting<'_>) + Send + Sync + 'static) -> Self {
        self.0.on_waiting = OnWaiting::new(call);
        self
    }

    /// Adds a header field to the request with which a WebSocket begins, for example
    /// `Authorization`. Over Zenoh there is no request, and nothing that a field could be sent in.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.push(name, value);
        self
    }

    /// Shows the server this token, which it asks for: in the request with which a WebSocket begins.
    /// Over `ws://` others on the network can read it, and the log is warned; connect with `wss://`.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.0.token = Some(token);
        self
    }

    /// Whom to take for the server, for `wss://`: it has one certificate, or one that an authority
    /// of yours has signed. Default: one that the system trusts. A URI without TLS is then an error.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsClient) -> Self {
        self.0.tls = Some(tls);
        self
    }

    /// How long each call waits for its answer. Default: as the state machine's settings say.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.0.request_timeout = Some(timeout);
        self
    }

    /// When to ping the server, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.0.keepalive = keepalive.into();
        self
    }

    /// Has a connection that was lost made again. Default: it is not.
    ///
    /// The observation stream and the dispatch of actions go on at their rates. Requests in flight
    /// fail, and say whether they had been sent; nothing that was queued or planned before is sent any
    /// more, and a chunk that was decided on an observation of before is refused. While there is no
    /// connection calls fail with [`Misuse::Interrupted`](crate::proto::client::Misuse::Interrupted) or
    /// [`NotQueuedReason::Interrupted`](crate::proto::client::NotQueuedReason::Interrupted), unless
    /// [they wait](Reconnect::hold_calls). The robot's metadata, if it was read, is read again.
    ///
    /// What cannot pass ends the client: a server that refuses the connection (but for the HTTP
    /// statuses 429, 502, 503 and 504), a broken rule of the protocol, and that another policy has
    /// taken the robot over, which is not taken back; see
    /// [`ConnectionError::may_pass`](crate::proto::ConnectionError::may_pass). A robot that has another
    /// policy is waited for.
    ///
    /// It is for [`connect`](Self::connect) and [`connect_with`](Self::connect_with): a stream or a
    /// transport that you bring has no address at which it could be made again, and ends.
    #[must_use]
    pub fn reconnect(mut self, reconnect: impl Into<Option<Reconnect>>) -> Self {
        self.0.reconnect = reconnect.into();
        self
    }

    /// Has a function called when the connection is lost, made again, or has ended, in the thread of
    /// the connection: it must not block. Default: nothing; the log is told of what is lost and made again in any case.
    #[must_use]
    pub fn on_connection(
        mut self,
        call: impl Fn(&ConnectionEvent) + Send + Sync + 'static,
    ) -> Self {
        self.0.on_connection = OnConnection::new(call);
        self
    }

    /// Connects to a robot, and blocks until it has: for a server that is not up yet, which is tried
    /// every 100 ms, and for its turn at a robot that has another policy, or at a server that is busy
    /// (the HTTP statuses 429, 502, 503 and 504), which is tried ever more rarely, down to once a
    /// second. All of a host's addresses are tried, each beside those before it that have not
    /// answered within 250 ms.
    ///
    /// # Errors
    /// When the URI is bad, no host has its name, the time allowed is over, the server refuses the
    /// connection for another reason, or is no WebSocket server.
    pub fn connect(self, uri: &str) -> Result<PolicyClient, ConnectError> {
        let uri = uri.trim();
        match self.0.route(uri)? {
            Some(route) => {
                let wait = WaitForServer::new(uri, &self.0);
                let (stream, surplus) = self.connect_socket(&route, wait)?;
                self.over_session(stream, &surplus, Some(route))
            }
            None => self.connect_with(connector(uri)?),
        }
    }

    /// Connects over a transport of another kind.
    ///
    /// # Errors
    /// The connector's.
    pub fn connect_with(self, connector: impl Connector) -> Result<PolicyClient, ConnectError> {
        let settings = self.0.for_connector(&connector);
        let wait = WaitForServer::new(&connector.uri(), &settings);
        let connecting = connector.connect(&settings.machine.limits, wait);
        let cancelled = async {
            settings.cancel.cancelled().await;
            Err(ConnectError::Cancelled)
        };
        let transport = block_on(or(connecting, cancelled))?;
        let (calls, supervisor) =
            settings.start_supervised(&connector.uri(), transport.extension())?;
        let threads = Arc::<Threads>::default();
        supervise_frames(supervisor, transport, Some(Box::new(connector)), &threads)
            .map_err(ConnectError::Thread)?;
        Ok(PolicyClient::new(calls, CurrentLink::none(), threads))
    }

    /// A client over a transport that is connected already.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn over_transport(self, transport: impl Transport) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::<Threads>::default();
        let (calls, supervisor) = self.0.start(transport.extension());
        supervise_frames(supervisor, transport, None, &threads).map_err(ConnectError::Thread)?;
        Ok(PolicyClient::new(calls, CurrentLink::none(), threads))
    }

    /// A client over any ordered byte stream that is connected already: a TLS connection, a pipe,
    /// a socket of your own. The WebSocket handshake is made on it.
    ///
    /// # Errors
    /// When the server does not take the connection or does not answer within 10 s.
    pub fn over_stream(self, stream: impl Stream) -> Result<PolicyClient, ConnectError> {
        const URI: &str = "the stream";
        let mut wait = WaitForServer::new(URI, &ClientSettings::default());
        let deadline = wait.try_deadline();
        match self.complete_handshake(&stream, URI, "localhost", "/", deadline, &mut wait)? {
            Ok(surplus) => self.over_session(Box::new(stream), &surplus, None),
            Err(failure) => Err(failure.into_error(URI, wait.waited())),
        }
    }

    /// A connection whose handshake is done, and what had arrived behind that.
    pub(crate) fn connect_socket(
        &self,
        route: &SocketRoute,
        mut wait: WaitForServer,
    ) -> Result<(Box<dyn Stream>, Bytes), ConnectError> {
        let SocketRoute { uri, address, security, authority, path } = route;
        loop {
            let deadline = wait.try_deadline();
            let connected = connect(address, deadline, &mut wait);
            let secured = connected.and_then(|stream| secure(stream, security));
            let failure = match secured {
                Err(failure) => failure,
                Ok(stream) => {
                    let shaken = self
                        .complete_handshake(&stream, uri, authority, path, deadline, &mut wait)?;
                    match shaken {
                        Ok(surplus) => {
                            wait.check_cancelled()?;
                            return Ok((stream, surplus));
                        }
                        Err(failure) => failure,
                    }
                }
            };
            let retry_at = wait.retry_at(failure)?;
            wait.sleep_until(retry_at);
        }
    }

    /// One handshake; the inner error is of a server that may still take the connection.
    fn complete_handshake(
        &self,
        stream: &impl Stream,
        uri: &str,
        authority: &str,
        path: &str,
        deadline: Instant,
        wait: &mut WaitForServer,
    ) -> Result<Result<Bytes, Failure>, ConnectError> {
        let mut handshake = self.0.handshake(authority, path)?;
        let mut exchange = || -> io::Result<Option<Result<Bytes, HandshakeError>>> {
            stream.set_timeouts(Some(HANDSHAKE_STEP), Some(HANDSHAKE_STEP))?;
            if !write_all(stream, handshake.request(), deadline)? {
                return Ok(None);
            }
            let mut chunk = [0; 4096];
            loop {
                if deadline <= Instant::now() || wait.check_cancelled().is_err() {
                    return Ok(None);
                }
                wait.notice(Stage::Handshake.when_slow());
                match stream.read(&mut chunk) {
                    Ok(0) => return Ok(Some(Err(handshake.end_of_stream()))),
                    Ok(count) => match handshake.receive(&chunk[..count]) {
                        Ok(None) => {}
                        Ok(Some(surplus)) => return Ok(Some(Ok(surplus))),
                        Err(error) => return Ok(Some(Err(error))),
                    },
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        match exchange().transpose() {
            Some(outcome) => classify_handshake(uri, outcome),
            None => Ok(Err(Stage::Handshake.timed_out())),
        }
    }

    fn over_session(
        self,
        stream: Box<dyn Stream>,
        surplus: &[u8],
        route: Option<SocketRoute>,
    ) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::<Threads>::default();
        let session = self.0.session(Instant::now(), surplus)?;
        let (calls, supervisor) = match &route {
            Some(route) => self.0.start_supervised(&route.uri, None)?,
            None => self.0.start(None),
        };
        let link = supervise_link(supervisor, stream, session, route, &threads);
        let link = link.map_err(ConnectError::Thread)?;
        Ok(PolicyClient::new(calls, link, threads))
    }
}

/// Speaks TLS over a stream, if the client is to.
#[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "as with TLS"))]
fn secure(stream: Box<dyn Stream>, security: &Security) -> Result<Box<dyn Stream>, Failure> {
    #[cfg(feature = "tls")]
    if let Some(session) = security.session().map_err(|error| Failure::Absent(error.into()))? {
        return Ok(Box::new(Secure::new(stream, session)));
    }
    let _ = security;
    Ok(stream)
}

/// Connects a socket.
fn connect(
    address: &StreamAddress,
    deadline: Instant,
    wait: &mut WaitForServer,
) -> Result<Box<dyn Stream>, Failure> {
    let stream = match address {
        StreamAddress::Tcp { host, port } => dial::connect(host, *port, deadline, wait)?,
        #[cfg(unix)]
        StreamAddress::Unix(path) => {
            address.check().map_err(Failure::Absent)?;
            return Ok(Box::new(chiral_driver::connect_unix(path).map_err(Failure::Absent)?));
        }
        _ => return Err(Failure::Absent(unsupported(address))),
    };
    stream.set_nodelay(true).map_err(Failure::Absent)?;
    #[cfg(unix)]
    if chiral_driver::limit_unsent(&stream).is_ok() {
        return Ok(Box::new(PolicyTcp(stream)));
    }
    Ok(Box::new(stream))
}

pub(crate) fn unsupported(address: &StreamAddress) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not supported here"))
}
