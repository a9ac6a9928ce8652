use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use chiral_proto::client::Config;
use chiral_proto::ws::{self, ClientHandshake, HandshakeError, Keepalive, Role, Session, WsUri};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::client::PolicyClient;
use crate::error::ConnectError;
use crate::runtime::{Runtime, by};
use crate::scheme::Scheme;
use crate::shared::now;

/// How often a server that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(100);
/// How long a server that took the TCP connection may take to answer the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Settings of a [`PolicyClient`], and how to connect it.
#[derive(Debug, Clone)]
pub struct Builder<R> {
    config: Config,
    connect_timeout: Option<Duration>,
    request_timeout: Option<Duration>,
    keepalive: Option<Keepalive>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Default for Builder<R> {
    fn default() -> Self {
        Self {
            config: Config::default(),
            connect_timeout: None,
            request_timeout: None,
            keepalive: Some(Keepalive::default()),
            runtime: PhantomData,
        }
    }
}

impl<R: Runtime> Builder<R> {
    /// The state machine's settings: limits, the action queue, the stream's window.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How long [`connect`](Self::connect) waits for a server. Default: for ever.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long each call waits for its answer. Default: as long as the connection lasts.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// When to ping the server, and when to give it up; `None` for never. Default: every 20 s,
    /// and after 20 s without a sign of life.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// Connects to a server, and waits for one that is not up yet: it is tried every 100 ms, with
    /// one notice in the log.
    ///
    /// # Errors
    /// When the URI is bad, no server is there within the time allowed, or the server refuses the
    /// connection or is no WebSocket server.
    pub async fn connect(self, uri: &str) -> Result<PolicyClient<R>, ConnectError> {
        match Scheme::of(uri) {
            Scheme::WebSocket => self.connect_websocket(uri).await,
            Scheme::SecureWebSocket => Err(ConnectError::Transport {
                scheme: "wss://".to_owned(),
                hint: "open the TLS connection yourself and use `PolicyClient::from_websocket`",
            }),
            #[cfg(feature = "zenoh")]
            Scheme::Zenoh => self.connect_zenoh(uri.parse()?).await,
            #[cfg(not(feature = "zenoh"))]
            Scheme::Zenoh => {
                Err(ConnectError::Transport { scheme: uri.to_owned(), hint: Scheme::WITHOUT_ZENOH })
            }
        }
    }

    /// As [`connect`](Self::connect), over Zenoh as a configuration says.
    ///
    /// # Errors
    /// When the configuration cannot be used, no robot is there within the time allowed, or it is
    /// driven by another policy.
    #[cfg(feature = "zenoh")]
    pub async fn connect_zenoh(
        self,
        zenoh: chiral_zenoh::Config,
    ) -> Result<PolicyClient<R>, ConnectError> {
        let mut config = self.config;
        let zenoh = zenoh.with_limits(config.limits.clone());
        if zenoh.robot().is_none() {
            // A peer that knows no more than two keys may lose messages, and repeat metadata.
            config.lossy.get_or_insert_with(chiral_zenoh::lossy);
        }
        let link = chiral_zenoh::connect(zenoh, self.connect_timeout).await?;
        let counts = link.counts();
        let mut client = PolicyClient::start(config, self.request_timeout, |line| {
            let transport = crate::transport::Zenoh(link);
            R::spawn("chiral-line", crate::drive::drive::<R>(line.into(), transport));
        });
        client.zenoh = Some(counts);
        Ok(client)
    }

    async fn connect_websocket(self, uri: &str) -> Result<PolicyClient<R>, ConnectError> {
        let target: WsUri = uri.parse()?;
        let start = now();
        let deadline = self.connect_timeout.map(|timeout| start + timeout);
        let mut noticed = false;
        loop {
            let attempt = self.attempt(uri, &target, deadline).await?;
            let last = match attempt {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let retry_at = now() + RETRY;
            if deadline.is_some_and(|deadline| deadline <= retry_at) {
                let waited = now().duration_since(start);
                return Err(ConnectError::NoServer { uri: uri.to_owned(), waited, last });
            }
            if !std::mem::replace(&mut noticed, true) {
                tracing::info!("waiting for a server at {uri} ({last})");
            }
            R::sleep_until(retry_at).await;
        }
    }

    /// A client of a WebSocket that is already open, as [`PolicyClient::from_websocket`] makes it.
    /// Keepalive works there too; whole messages are its signs of life, so each must pass within
    /// the keepalive's interval and timeout together.
    #[cfg(feature = "async-tungstenite")]
    pub fn over_websocket<S>(self, stream: async_tungstenite::WebSocketStream<S>) -> PolicyClient<R>
    where
        S: futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static,
    {
        let transport = crate::transport::Tungstenite::new(now(), stream, self.keepalive);
        PolicyClient::start(self.config, self.request_timeout, |line| {
            R::spawn("chiral-line", crate::drive::drive::<R>(line.into(), transport));
        })
    }

    /// One try; the inner error is of a server that may still come.
    async fn attempt(
        &self,
        uri: &str,
        target: &WsUri,
        deadline: Option<Instant>,
    ) -> Result<io::Result<PolicyClient<R>>, ConnectError> {
        let until = now() + HANDSHAKE;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        let connecting = R::connect(target.host(), target.port(), until);
        let Some(connected) = by::<R, _>(until, connecting).await else {
            return Ok(Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the host")));
        };
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        let failed = |source| ConnectError::Handshake { uri: uri.to_owned(), source };
        let mut handshake =
            ClientHandshake::new(target.authority(), target.target(), &[], random()?)
                .map_err(failed)?;
        let surplus = match by::<R, _>(until, complete_handshake(&mut stream, &mut handshake)).await
        {
            Some(Ok(Ok(surplus))) => surplus,
            // A server that is just going, or a port that is forwarded to where none is yet.
            Some(Ok(Err(hung_up @ HandshakeError::Closed { received: 0 }))) => {
                return Ok(Err(io::Error::new(io::ErrorKind::UnexpectedEof, hung_up)));
            }
            Some(Ok(Err(error))) => return Err(failed(error)),
            Some(Err(error)) => return Ok(Err(error)),
            None => {
                let silent = "the server accepted the connection and then was silent";
                return Ok(Err(io::Error::new(io::ErrorKind::TimedOut, silent)));
            }
        };
        let config = ws::Config {
            limits: self.config.limits.clone(),
            keepalive: self.keepalive,
            ..ws::Config::default()
        };
        let session = Session::new(now(), Role::Client { seed: random()? }, &config, &surplus);
        let carry = |line| R::carry(line, stream, session);
        Ok(Ok(PolicyClient::start(self.config.clone(), self.request_timeout, carry)))
    }
}

async fn complete_handshake<S>(
    stream: &mut S,
    handshake: &mut ClientHandshake,
) -> io::Result<Result<bytes::Bytes, HandshakeError>>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
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
    }
}

fn random<const N: usize>() -> Result<[u8; N], ConnectError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ConnectError::Random(error.to_string()))?;
    Ok(bytes)
}
