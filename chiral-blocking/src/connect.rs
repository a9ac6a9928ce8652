use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiral_driver::address::StreamAddress;
use chiral_driver::client::{
    ClientSettings, Target, WaitForServer, classify_handshake, handshake_timed_out,
};
use chiral_driver::proto::bytes::Bytes;
use chiral_driver::proto::client::Config;
use chiral_driver::proto::ws::{HandshakeError, Keepalive};
use chiral_driver::{ConnectError, Connector, Transport};
use futures_lite::future::block_on;

use crate::client::PolicyClient;
use crate::connector::connector;
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

    /// How long [`connect`](Self::connect) waits for a server. Default: for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.0.connect_timeout = Some(timeout);
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

    /// Connects to a server, and blocks until one is up: it is tried every 100 ms, with one notice
    /// in the log.
    ///
    /// # Errors
    /// When the URI is bad, no server is there within the time allowed, or the server refuses the
    /// connection or is no WebSocket server.
    pub fn connect(self, uri: &str) -> Result<PolicyClient, ConnectError> {
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
        let connecting = connector.connect(&settings.machine.limits, settings.connect_timeout);
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
        let start = Instant::now();
        let deadline = self.0.handshake_deadline(start, None);
        match self.complete_handshake(&stream, URI, "localhost", "/", deadline)? {
            Ok(surplus) => self.over_session(stream, &surplus),
            Err(last) => {
                let waited = start.elapsed();
                Err(ConnectError::NoServer { uri: URI.to_owned(), waited, last })
            }
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
            let deadline = self.0.handshake_deadline(Instant::now(), Some(&wait));
            let last = match connect(address, deadline) {
                Err(error) => error,
                Ok(stream) => {
                    match self.complete_handshake(&stream, uri, authority, path, deadline)? {
                        Ok(surplus) => return self.over_session(stream, &surplus),
                        Err(error) => error,
                    }
                }
            };
            let retry_at = wait.retry_at(last)?;
            std::thread::sleep(retry_at.saturating_duration_since(Instant::now()));
        }
    }

    /// One handshake; the inner error is of a server that may still come.
    fn complete_handshake(
        &self,
        stream: &impl Stream,
        uri: &str,
        authority: &str,
        path: &str,
        deadline: Instant,
    ) -> Result<io::Result<Bytes>, ConnectError> {
        let mut handshake = self.0.handshake(uri, authority, path)?;
        let exchange = || -> io::Result<Result<Bytes, HandshakeError>> {
            stream.set_timeouts(Some(HANDSHAKE_STEP), Some(HANDSHAKE_STEP))?;
            write_all(stream, handshake.request())?;
            let mut chunk = [0; 4096];
            loop {
                if deadline <= Instant::now() {
                    return Err(handshake_timed_out());
                }
                match stream.read(&mut chunk) {
                    Ok(0) => return Ok(Err(handshake.end_of_stream())),
                    Ok(count) => match handshake.receive(&chunk[..count]) {
                        Ok(None) => {}
                        Ok(Some(surplus)) => return Ok(Ok(surplus)),
                        Err(error) => return Ok(Err(error)),
                    },
                    Err(error) if is_timeout(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        classify_handshake(uri, { exchange }())
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

/// Connects a socket: to the first of a host's addresses that answers.
fn connect(address: &StreamAddress, deadline: Instant) -> io::Result<Box<dyn Stream>> {
    address.check()?;
    let (host, port) = match address {
        StreamAddress::Tcp { host, port } => (host, *port),
        #[cfg(unix)]
        StreamAddress::Unix(path) => {
            return Ok(Box::new(std::os::unix::net::UnixStream::connect(path)?));
        }
        _ => return Err(unsupported(address)),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (&**host, port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                #[cfg(unix)]
                if chiral_driver::limit_unsent(&stream).is_ok() {
                    return Ok(Box::new(PolicyTcp(stream)));
                }
                return Ok(Box::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(crate) fn unsupported(address: &StreamAddress) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{address} is not supported here"))
}
