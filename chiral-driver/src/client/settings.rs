//! What connecting needs on any runtime: settings, and what a URI means.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chiral_proto::client::{Config, Reconnect, WhenLost};
use chiral_proto::pool::PoolMemory;
use chiral_proto::ws::{
    self, ClientHandshake, HandshakeError, Keepalive, Role, Session, WsUri, redacted,
};

use super::calls::{CallSettings, ClientCalls};
use super::cancel::CancelToken;
use super::connection_event::OnConnection;
use super::reconnect::Supervisor;
use super::waiting::{Failure, OnWaiting};
use crate::address::{Scheme, StreamAddress};
use crate::error::{ConnectError, WITHOUT_TLS};
use crate::security::Security;
#[cfg(feature = "tls")]
use crate::tls::{TlsClient, TlsError};
use crate::token::Token;
use crate::transport::{Connector, Extension};

/// Settings of a client, and what follows from them on any runtime.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The state machine's settings: limits, the action queue, the stream's window.
    pub machine: Config,
    /// How long connecting waits for a server that is not there yet, or does not take the
    /// connection yet; `None` for ever.
    pub connect_timeout: Option<Duration>,
    /// Gives up connecting, in an adapter whose calls block.
    pub cancel: CancelToken,
    /// What is called while connecting waits.
    pub on_waiting: OnWaiting,
    /// Header fields of the request with which a WebSocket begins, beside those of the handshake.
    pub headers: Headers,
    /// The token that the server asks for.
    pub token: Option<Token>,
    /// Whom to take for the server over TLS; `None`: whoever has a certificate that the system
    /// trusts.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsClient>,
    /// How long each call waits for its answer; `None`: as long as the machine's settings say.
    pub request_timeout: Option<Duration>,
    /// When to ping the server, and when to give it up; `None` for never.
    pub keepalive: Option<Keepalive>,
    /// How a connection that was lost is made again; `None`: it is not.
    pub reconnect: Option<Reconnect>,
    /// What is called when the connection is lost, made again, or ends.
    pub on_connection: OnConnection,
    /// Where large messages of the server are read into. Another transport than WebSocket has memory
    /// of its own.
    pub memory: PoolMemory,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            machine: Config::default(),
            connect_timeout: None,
            cancel: CancelToken::default(),
            on_waiting: OnWaiting::default(),
            headers: Headers::default(),
            token: None,
            #[cfg(feature = "tls")]
            tls: None,
            request_timeout: None,
            keepalive: Some(Keepalive::default()),
            reconnect: None,
            on_connection: OnConnection::default(),
            memory: PoolMemory::default(),
        }
    }
}

/// Header fields of a request. Their values may be secrets, so `Debug` shows their names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds a field, behind those that there are.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
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
        /// Whether it is over TLS.
        is_secure: bool,
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
            Scheme::SecureWebSocket if cfg!(not(feature = "tls")) => Err(without_tls()),
            Scheme::WebSocket | Scheme::SecureWebSocket => {
                let uri: WsUri = uri.parse()?;
                Ok(Self::Socket {
                    address: StreamAddress::Tcp { host: uri.host().to_owned(), port: uri.port() },
                    authority: uri.authority().to_owned(),
                    path: uri.target().to_owned(),
                    is_secure: uri.is_secure(),
                })
            }
            Scheme::Unix(path) => Ok(Self::Socket {
                address: StreamAddress::Unix(path.into()),
                authority: "localhost".to_owned(),
                path: "/".to_owned(),
                is_secure: false,
            }),
            Scheme::Other => Ok(Self::Other),
        }
    }
}

fn without_tls() -> ConnectError {
    ConnectError::NotBuiltIn { scheme: "wss://".to_owned(), hint: WITHOUT_TLS }
}

/// The way to a server behind a socket.
#[derive(Clone)]
pub struct SocketRoute {
    /// The URI that was given, which may hold secrets.
    pub uri: String,
    /// Where the socket is.
    pub address: StreamAddress,
    /// With what the stream is secured.
    pub security: Security,
    /// Host and port, for the handshake.
    pub authority: String,
    /// Path and query, for the handshake.
    pub path: String,
}

impl ClientSettings {
    /// The way to the server of a URI; `None` when it takes another transport, for which a
    /// [connector](crate::Runtime::connector) is needed. Tells the log of a token that others can read.
    ///
    /// # Errors
    /// When the URI cannot be read, asks for what is not built in, or is one without TLS and these
    /// settings are for TLS; when the system has no authorities to trust, or the host has a name for
    /// which there can be no certificate.
    pub fn route(&self, uri: &str) -> Result<Option<SocketRoute>, ConnectError> {
        let Target::Socket { address, authority, path, is_secure } = self.target(uri)? else {
            return Ok(None);
        };
        let security = self.security(uri, &address, is_secure)?;
        Ok(Some(SocketRoute { uri: uri.to_owned(), address, security, authority, path }))
    }

    fn target(&self, uri: &str) -> Result<Target, ConnectError> {
        let target = Target::of(uri)?;
        #[cfg(feature = "tls")]
        if self.tls.is_some() && !matches!(target, Target::Socket { is_secure: true, .. }) {
            return Err(ConnectError::WithoutTls { uri: redacted(uri) });
        }
        if self.token.is_none() {
            return Ok(target);
        }
        match &target {
            Target::Socket {
                address: StreamAddress::Tcp { host, .. }, is_secure: false, ..
            } if !is_loopback(host) => {
                tracing::warn!(
                    "the token for {} is sent without TLS, where others on the network can read \
                     it: connect with wss://",
                    redacted(uri)
                );
            }
            Target::Other => tracing::warn!(
                "the token for {} is not sent: only a WebSocket has a request that can carry it",
                redacted(uri)
            ),
            Target::Socket { .. } => {}
        }
        Ok(target)
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "nothing is to be set")
    )]
    fn security(
        &self,
        uri: &str,
        address: &StreamAddress,
        is_secure: bool,
    ) -> Result<Security, ConnectError> {
        #[cfg(feature = "tls")]
        if is_secure && let StreamAddress::Tcp { host, .. } = address {
            let connect = || {
                let tls = self.tls.clone().map_or_else(TlsClient::system_roots, Ok)?;
                tls.session(host)?;
                Ok(Security { tls: Some((tls, host.clone())) })
            };
            return connect().map_err(|error| ConnectError::Tls { uri: redacted(uri), error });
        }
        let _ = (uri, address, is_secure);
        Ok(Security::default())
    }

    /// The client's part of an opening handshake.
    ///
    /// # Errors
    /// When a header field cannot be sent, or the system has no random bytes.
    pub fn handshake(&self, authority: &str, path: &str) -> Result<ClientHandshake, ConnectError> {
        let authorization = self.token.as_ref().map(Token::authorization);
        let authorization = authorization.iter().map(|value| ("Authorization", &value[..]));
        let headers = self.headers.0.iter().map(|(name, value)| (&name[..], &value[..]));
        let headers: Vec<_> = authorization.chain(headers).collect();
        ClientHandshake::new(authority, path, &headers, random()?).map_err(ConnectError::Request)
    }

    /// The session that follows a handshake; `surplus` is what had arrived behind it.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn session(&self, now: Instant, surplus: &[u8]) -> Result<Session, ConnectError> {
        let config = ws::Config {
            limits: self.machine.limits.clone(),
            keepalive: self.keepalive,
            memory: self.memory.clone(),
            ..ws::Config::default()
        };
        Ok(Session::new(now, Role::Client { seed: random()? }, &config, surplus))
    }

    /// The handle of a client whose transport is connected, and cannot be connected again, and what
    /// supervises its connection.
    pub fn start(self, extension: Option<Extension>) -> (ClientCalls, Supervisor) {
        let calls = self.start_machine(extension, WhenLost::End);
        let supervisor = Supervisor::without_reconnect(Arc::clone(calls.connection()), self);
        (calls, supervisor)
    }

    /// As [`start`](Self::start), for a transport that can be connected again, to this URI.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn start_supervised(
        self,
        uri: &str,
        extension: Option<Extension>,
    ) -> Result<(ClientCalls, Supervisor), ConnectError> {
        let when_lost = self.reconnect.as_ref().map_or(WhenLost::End, Reconnect::when_lost);
        let calls = self.start_machine(extension, when_lost);
        let supervisor = Supervisor::new(Arc::clone(calls.connection()), self, uri)?;
        Ok((calls, supervisor))
    }

    fn start_machine(&self, extension: Option<Extension>, when_lost: WhenLost) -> ClientCalls {
        let machine = Config { when_lost, ..self.machine.clone() };
        let settings = CallSettings { request_timeout: self.request_timeout };
        ClientCalls::new(machine, settings, extension)
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

/// What to do about the outcome of a handshake. The inner error is of a server that may still take
/// the connection.
///
/// # Errors
/// When trying again would come to the same.
pub fn classify_handshake(
    uri: &str,
    outcome: io::Result<Result<Bytes, HandshakeError>>,
) -> Result<Result<Bytes, Failure>, ConnectError> {
    match outcome {
        Ok(Ok(surplus)) => Ok(Ok(surplus)),
        // A server that is just going, or a port that is forwarded to where none is yet.
        Ok(Err(hung_up @ HandshakeError::Closed { received: 0 })) => {
            Ok(Err(Failure::Absent(io::Error::new(io::ErrorKind::UnexpectedEof, hung_up))))
        }
        Ok(Err(refused)) if refused.is_transient() => Ok(Err(Failure::Refused(refused))),
        Ok(Err(error)) => Err(ConnectError::Handshake { uri: redacted(uri), error }),
        Err(error) => {
            #[cfg(feature = "tls")]
            if let Some(error) = final_tls_error(&error) {
                return Err(ConnectError::Tls { uri: redacted(uri), error: error.clone() });
            }
            Ok(Err(Failure::Absent(error)))
        }
    }
}

/// The failure of TLS behind an error, if it would fail so again.
#[cfg(feature = "tls")]
fn final_tls_error(error: &io::Error) -> Option<&TlsError> {
    let error = TlsError::behind(error);
    error.filter(|error| !matches!(error, TlsError::EndOfHandshake | TlsError::Truncated))
}

/// Whether a host, by name or address, is this computer.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], ConnectError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ConnectError::Random(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_uri_means_does_not_depend_on_how_it_is_written() {
        let plain = Target::of("ws://robot:8765/").expect("a URI");
        for uri in ["robot:8765", " ws://robot:8765\n", "WS://robot:8765", "http://robot:8765/"] {
            assert_eq!(Target::of(uri).expect(uri), plain, "{uri:?}");
        }
        let unix = Target::of("unix:/run/arm.sock").expect("a URI");
        for uri in ["UNIX:/run/arm.sock", "unix:///run/arm.sock", "unix:/run/arm.sock\n"] {
            assert_eq!(Target::of(uri).expect(uri), unix, "{uri:?}");
        }
    }

    #[test]
    fn a_secure_uri_is_never_connected_to_in_the_clear() {
        for uri in ["wss://robot", "WSS://robot:8765", "https://robot", " Https://robot/"] {
            match Target::of(uri) {
                Ok(Target::Socket { is_secure, .. }) => {
                    assert!(is_secure && cfg!(feature = "tls"), "{uri}");
                }
                Err(ConnectError::NotBuiltIn { .. }) if cfg!(not(feature = "tls")) => {}
                other => panic!("{uri}: {other:?}"),
            }
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn settings_for_tls_are_never_ignored() {
        let tls = TlsClient::pin(&"0".repeat(64)).expect("it is one");
        let settings = ClientSettings { tls: Some(tls), ..ClientSettings::default() };
        for uri in ["ws://robot:1", "robot:1", "unix:/run/arm.sock", "tcp/robot:7447", "zenoh:"] {
            let error = settings.target(uri).expect_err(uri);
            assert!(matches!(error, ConnectError::WithoutTls { .. }), "{uri}: {error}");
        }
        settings.target("wss://robot:1").expect("it is over TLS");
    }

    #[test]
    fn this_computer_is_told_from_others() {
        for host in
            ["localhost", "LOCALHOST.", "arm.localhost", "127.0.0.2", "::1", "::ffff:127.0.0.1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["robot", "localhost.example.com", "10.0.0.1", "0.0.0.0", "::", "fe80::1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn secrets_in_headers_are_not_shown() {
        let mut settings = ClientSettings::default();
        settings.headers.push("Authorization", "Bearer abc");
        let shown = format!("{settings:?}");
        assert!(shown.contains("Authorization") && !shown.contains("abc"), "{shown}");
        let token = Token::new("a-token-not-to-be-shown").expect("it is one");
        let settings = ClientSettings { token: Some(token), ..ClientSettings::default() };
        let handshake = settings.handshake("robot:8765", "/").expect("a request");
        let request = String::from_utf8_lossy(handshake.request());
        assert!(request.contains("\r\nAuthorization: Bearer a-token-not-to-be-shown\r\n"));
        assert!(!format!("{settings:?}").contains("not-to-be-shown"), "{settings:?}");
    }
}
