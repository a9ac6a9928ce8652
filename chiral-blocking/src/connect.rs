use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::address::StreamAddress;
use chiral_driver::client::{
    ClientSettings, Failure, OnWaiting, Stage, Target, WaitForServer, Waiting, classify_handshake,
};
use chiral_driver::proto::bytes::Bytes;
use chiral_driver::proto::client::Config;
use chiral_driver::proto::ws::{HandshakeError, Keepalive};
use chiral_driver::{ConnectError, Connector, Transport};
use futures_lite::future::block_on;

use crate::client::PolicyClient;
use crate::connector::connector;
use crate::dial;
use crate::link::Link;
#[cfg(unix)]
use crate::stream::PolicyTcp;
use crate::stream::{Stream, is_timeout, write_all};
use crate::threads::Threads;
use crate::transport::drive;

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
        match Target::of(uri)? {
            Target::Socket { address, authority, path } => {
                self.connect_socket(uri, &address, &authority, &path)
            }
            Target::Other => self.connect_with(&*connector(uri)?),
        }
    }

    /// Connects over a transport of another kind.
    ///
    /// # Errors
    /// The connector's.
    pub fn connect_with(self, connector: &dyn Connector) -> Result<PolicyClient, ConnectError> {
        let settings = self.0.for_connector(connector);
        let wait = WaitForServer::new(&connector.uri(), &settings);
        let connecting = connector.connect(&settings.machine.limits, wait);
        Self(settings).over_transport(block_on(connecting)?)
    }

    /// A client over a transport that is connected already.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn over_transport(self, transport: impl Transport) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::<Threads>::default();
        let calls = self.0.start(transport.extension());
        drive(Arc::clone(calls.connection()), transport, &threads).map_err(ConnectError::Thread)?;
        Ok(PolicyClient::new(calls, None, threads))
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
            Ok(surplus) => self.over_session(stream, &surplus),
            Err(failure) => Err(failure.into_error(URI, wait.waited())),
        }
    }

    fn connect_socket(
        self,
        uri: &str,
        address: &StreamAddress,
        authority: &str,
        path: &str,
    ) -> Result<PolicyClient, ConnectError> {
        let mut wait = WaitForServer::new(uri, &self.0);
        loop {
            let deadline = wait.try_deadline();
            let failure = match connect(address, deadline, &mut wait) {
                Err(failure) => failure,
                Ok(stream) => {
                    let shaken = self
                        .complete_handshake(&stream, uri, authority, path, deadline, &mut wait)?;
                    match shaken {
                        Ok(surplus) => return self.over_session(stream, &surplus),
                        Err(failure) => failure,
                    }
                }
            };
            let retry_at = wait.retry_at(failure)?;
            std::thread::sleep(retry_at.saturating_duration_since(Instant::now()));
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
            write_all(stream, handshake.request())?;
            let mut chunk = [0; 4096];
            loop {
                if deadline <= Instant::now() {
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
        stream: impl Stream,
        surplus: &[u8],
    ) -> Result<PolicyClient, ConnectError> {
        let threads = Arc::<Threads>::default();
        let session = self.0.session(Instant::now(), surplus)?;
        let calls = self.0.start(None);
        let link = Link::start(Arc::clone(calls.connection()), stream, session, &threads)
            .map_err(ConnectError::Thread)?;
        Ok(PolicyClient::new(calls, Some(link), threads))
    }
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
            let stream = std::os::unix::net::UnixStream::connect(path).map_err(Failure::Absent)?;
            return Ok(Box::new(stream));
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
