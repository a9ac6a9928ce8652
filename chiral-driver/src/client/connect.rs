use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use chiral_proto::client::Config;
use chiral_proto::ws::{ClientHandshake, HandshakeError, Keepalive};
use futures_io::{AsyncRead, AsyncWrite};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::PolicyClient;
use super::settings::{
    ClientSettings, Target, WaitForServer, classify_handshake, handshake_timed_out,
};
use crate::address::StreamAddress;
use crate::driver::drive;
use crate::error::ConnectError;
use crate::runtime::{Runtime, until};
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

    /// How long [`connect`](Self::connect) waits for a server. Default: for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = Some(timeout);
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

    /// Connects to a server, and waits for one that is not up yet: it is tried every 100 ms, with
    /// one notice in the log.
    ///
    /// # Errors
    /// When the URI is bad, no server is there within the time allowed, or the server refuses the
    /// connection or is no WebSocket server.
    pub async fn connect(self, uri: &str) -> Result<PolicyClient<R>, ConnectError> {
        match Target::of(uri)? {
            Target::Socket { address, authority, path } => {
                self.connect_socket(uri, &address, &authority, &path).await
            }
            Target::Other => {
                let connector = R::connector(uri).ok_or_else(|| ConnectError::no_connector(uri))?;
                self.connect_with(&*connector?).await
            }
        }
    }

    /// Connects over a transport of another kind.
    ///
    /// # Errors
    /// The connector's.
    pub async fn connect_with(
        self,
        connector: &dyn Connector,
    ) -> Result<PolicyClient<R>, ConnectError> {
        let settings = self.settings.for_connector(connector);
        let connecting = connector.connect(&settings.machine.limits, settings.connect_timeout);
        let transport = connecting.await?;
        Ok(start(settings, transport))
    }

    /// A client over a transport that is connected already.
    pub fn over_transport(self, transport: impl Transport) -> PolicyClient<R> {
        start(self.settings, transport)
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
        let deadline = self.settings.handshake_deadline(Instant::now(), None);
        let start = Instant::now();
        match self.complete_handshake(&mut stream, URI, "localhost", "/", deadline).await? {
            Ok(surplus) => self.over_session(stream, &surplus),
            Err(last) => {
                let waited = start.elapsed();
                Err(ConnectError::NoServer { uri: URI.to_owned(), waited, last })
            }
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
        self,
        uri: &str,
        address: &StreamAddress,
        authority: &str,
        path: &str,
    ) -> Result<PolicyClient<R>, ConnectError> {
        let mut wait = WaitForServer::new(uri, &self.settings);
        loop {
            let deadline = self.settings.handshake_deadline(Instant::now(), Some(&wait));
            let connecting = async {
                address.check()?;
                R::connect(address).await
            };
            let last = match until::<R, _>(deadline, connecting).await {
                None => io::Error::new(io::ErrorKind::TimedOut, "no answer from the host"),
                Some(Err(error)) => error,
                Some(Ok(mut stream)) => {
                    match self
                        .complete_handshake(&mut stream, uri, authority, path, deadline)
                        .await?
                    {
                        Ok(surplus) => return self.over_session(stream, &surplus),
                        Err(error) => error,
                    }
                }
            };
            R::timer(wait.retry_at(last)?).await;
        }
    }

    /// One handshake; the inner error is of a server that may still come.
    async fn complete_handshake<S>(
        &self,
        stream: &mut S,
        uri: &str,
        authority: &str,
        path: &str,
        deadline: Instant,
    ) -> Result<io::Result<bytes::Bytes>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut handshake = self.settings.handshake(uri, authority, path)?;
        let outcome = until::<R, _>(deadline, exchange(stream, &mut handshake)).await;
        classify_handshake(uri, outcome.unwrap_or_else(|| Err(handshake_timed_out())))
    }

    fn over_session<S>(self, stream: S, surplus: &[u8]) -> Result<PolicyClient<R>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let session = self.settings.session(Instant::now(), surplus)?;
        Ok(self.over_transport(WebSocket::new(stream, session)))
    }
}

fn start<R: Runtime>(settings: ClientSettings, transport: impl Transport) -> PolicyClient<R> {
    let calls = settings.start(transport.extension());
    let connection = calls.connection().clone();
    R::spawn("chiral-connection", drive::<R, _>(connection, transport, None));
    PolicyClient::new(calls)
}

/// Sends the client's part of the handshake and reads the server's.
async fn exchange<S>(
    stream: &mut S,
    handshake: &mut ClientHandshake,
) -> io::Result<Result<bytes::Bytes, HandshakeError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(handshake.request()).await?;
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
