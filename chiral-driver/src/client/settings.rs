//! What connecting needs on any runtime: settings, what a URI means, and when to try again.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::Config;
use chiral_proto::ws::{
    self, ClientHandshake, HandshakeError, Keepalive, Role, Session, WsUri, redacted,
};

use super::calls::{CallSettings, ClientCalls};
use crate::address::{Scheme, StreamAddress};
use crate::error::ConnectError;
use crate::transport::{Connector, Extension};

/// How often a server that is not there yet is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server that took the connection may take to answer the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a client, and what follows from them on any runtime.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The state machine's settings: limits, the action queue, the stream's window.
    pub machine: Config,
    /// How long connecting waits for a server; `None` for ever.
    pub connect_timeout: Option<Duration>,
    /// How long each call waits for its answer; `None`: as long as the machine's settings say.
    pub request_timeout: Option<Duration>,
    /// When to ping the server, and when to give it up; `None` for never.
    pub keepalive: Option<Keepalive>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            machine: Config::default(),
            connect_timeout: None,
            request_timeout: None,
            keepalive: Some(Keepalive::default()),
        }
    }
}

/// What a URI means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A WebSocket over a stream socket.
    Socket {
        /// Where the socket is.
        address: StreamAddress,
        /// Host and port, for the handshake.
        authority: String,
        /// Path and query, for the handshake.
        path: String,
    },
    /// Another transport: a [connector](crate::Runtime::connector) is needed.
    Other,
}

impl Target {
    /// Reads a URI.
    ///
    /// # Errors
    /// When it cannot be read, or asks for what is not built in.
    pub fn of(uri: &str) -> Result<Self, ConnectError> {
        match Scheme::of(uri) {
            Scheme::WebSocket => {
                let uri: WsUri = uri.parse()?;
                Ok(Self::Socket {
                    address: StreamAddress::Tcp { host: uri.host().to_owned(), port: uri.port() },
                    authority: uri.authority().to_owned(),
                    path: uri.target().to_owned(),
                })
            }
            Scheme::SecureWebSocket => Err(ConnectError::NotBuiltIn {
                scheme: "wss://".to_owned(),
                hint: "open the TLS connection yourself and use `PolicyClient::over_stream`, or connect \
                       with ws:// to a TLS tunnel on this computer",
            }),
            Scheme::Unix(path) => Ok(Self::Socket {
                address: StreamAddress::Unix(path.into()),
                authority: "localhost".to_owned(),
                path: "/".to_owned(),
            }),
            Scheme::Other => Ok(Self::Other),
        }
    }
}

impl ClientSettings {
    /// When a handshake that begins now is given up.
    pub fn handshake_deadline(&self, now: Instant, wait: Option<&WaitForServer>) -> Instant {
        let deadline = now + HANDSHAKE_TIMEOUT;
        let until = wait.and_then(|wait| wait.deadline);
        until.map_or(deadline, |until| deadline.min(until))
    }

    /// The client's part of an opening handshake.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn handshake(
        &self,
        uri: &str,
        authority: &str,
        path: &str,
    ) -> Result<ClientHandshake, ConnectError> {
        ClientHandshake::new(authority, path, &[], random()?)
            .map_err(|error| ConnectError::Handshake { uri: redacted(uri), error })
    }

    /// The session that follows a handshake; `surplus` is what had arrived behind it.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn session(&self, now: Instant, surplus: &[u8]) -> Result<Session, ConnectError> {
        let config = ws::Config {
            limits: self.machine.limits.clone(),
            keepalive: self.keepalive,
            ..ws::Config::default()
        };
        Ok(Session::new(now, Role::Client { seed: random()? }, &config, surplus))
    }

    /// The handle of a client whose transport is connected.
    pub fn start(self, extension: Option<Extension>) -> ClientCalls {
        let settings = CallSettings { request_timeout: self.request_timeout, extension };
        ClientCalls::new(self.machine, settings)
    }

    /// As they are for a connector's transport.
    #[must_use]
    pub fn for_connector(mut self, connector: &dyn Connector) -> Self {
        if self.machine.lossy.is_none() {
            self.machine.lossy = connector.lossy();
        }
        self
    }
}

/// What to do about a try to connect that came to nothing.
///
/// The inner error is of a server that may still come.
///
/// # Errors
/// When trying again would come to the same.
pub fn classify_handshake(
    uri: &str,
    outcome: io::Result<Result<Bytes, HandshakeError>>,
) -> Result<io::Result<Bytes>, ConnectError> {
    match outcome {
        Ok(Ok(surplus)) => Ok(Ok(surplus)),
        // A server that is just going, or a port that is forwarded to where none is yet.
        Ok(Err(hung_up @ HandshakeError::Closed { received: 0 })) => {
            Ok(Err(io::Error::new(io::ErrorKind::UnexpectedEof, hung_up)))
        }
        Ok(Err(error)) => Err(ConnectError::Handshake { uri: redacted(uri), error }),
        Err(error) => Ok(Err(error)),
    }
}

/// The error of a server that took the connection and did not answer in time.
pub fn handshake_timed_out() -> io::Error {
    let silent = "the server accepted the connection and then was silent";
    io::Error::new(io::ErrorKind::TimedOut, silent)
}

/// The wait for a server that is not there yet.
#[derive(Debug)]
pub struct WaitForServer {
    uri: String,
    start: Instant,
    deadline: Option<Instant>,
    noticed: bool,
}

impl WaitForServer {
    /// A wait that begins now.
    pub fn new(uri: &str, settings: &ClientSettings) -> Self {
        let start = Instant::now();
        let deadline = settings.connect_timeout.and_then(|timeout| start.checked_add(timeout));
        Self { uri: redacted(uri), start, deadline, noticed: false }
    }

    /// When to try again after a try that failed.
    ///
    /// # Errors
    /// When the time for connecting is over by then, or the address can be nobody's, such as a path
    /// that is too long for a Unix socket.
    pub fn retry_at(&mut self, last: io::Error) -> Result<Instant, ConnectError> {
        let now = Instant::now();
        let retry_at = now + RETRY_INTERVAL;
        let is_hopeless = matches!(
            last.kind(),
            io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::Unsupported
        );
        if is_hopeless || self.deadline.is_some_and(|deadline| deadline <= retry_at) {
            let waited = now.duration_since(self.start);
            return Err(ConnectError::NoServer { uri: self.uri.clone(), waited, last });
        }
        if !std::mem::replace(&mut self.noticed, true) {
            tracing::info!("waiting for a server at {} ({last})", self.uri);
        }
        Ok(retry_at)
    }
}

fn random<const N: usize>() -> Result<[u8; N], ConnectError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ConnectError::Random(error.to_string()))?;
    Ok(bytes)
}
