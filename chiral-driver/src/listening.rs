use std::io;
use std::net::SocketAddr;

use chiral_proto::Map;
use chiral_proto::wire::Limits;

use crate::runtime::Runtime;
use crate::scheme::Scheme;

/// What a server listens with.
pub(crate) enum Listening<R: Runtime> {
    Socket(R::Listener, SocketAddr),
    #[cfg(feature = "zenoh")]
    Zenoh(Box<chiral_zenoh::Listener>),
}

/// Who has come.
pub(crate) enum Visitor<R: Runtime> {
    /// Before its handshake.
    Socket(R::Stream, SocketAddr),
    #[cfg(feature = "zenoh")]
    Zenoh(chiral_zenoh::Link),
}

impl<R: Runtime> Listening<R> {
    pub(crate) async fn bind(address: &str, limits: &Limits) -> io::Result<Self> {
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        match Scheme::of(address) {
            Scheme::WebSocket => {
                let address = address.strip_prefix("ws://").unwrap_or(address);
                let listener = R::bind(address.trim_end_matches('/')).await?;
                let address = R::local_addr(&listener)?;
                Ok(Self::Socket(listener, address))
            }
            Scheme::SecureWebSocket => Err(bad(format!("{address}: {}", Scheme::SERVE_TLS))),
            #[cfg(feature = "zenoh")]
            Scheme::Zenoh => {
                let config: chiral_zenoh::Config = address
                    .parse()
                    .map_err(|error: chiral_zenoh::UriError| bad(error.to_string()))?;
                let config = config.with_limits(limits.clone());
                let listener = chiral_zenoh::Listener::open(config).await;
                Ok(Self::Zenoh(Box::new(listener.map_err(io::Error::other)?)))
            }
            #[cfg(not(feature = "zenoh"))]
            Scheme::Zenoh => {
                let _ = limits;
                Err(bad(format!("{address}: {}", Scheme::WITHOUT_ZENOH)))
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Visitor<R>> {
        match self {
            Self::Socket(listener, _) => {
                R::accept(listener).await.map(|(stream, peer)| Visitor::Socket(stream, peer))
            }
            #[cfg(feature = "zenoh")]
            Self::Zenoh(listener) => Ok(Visitor::Zenoh(listener.accept().await)),
        }
    }

    #[cfg_attr(not(feature = "zenoh"), expect(clippy::unnecessary_wraps))]
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(_, address) => Some(*address),
            #[cfg(feature = "zenoh")]
            Self::Zenoh(_) => None,
        }
    }

    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Socket(_, address) => format!("ws://{address}"),
            #[cfg(feature = "zenoh")]
            Self::Zenoh(listener) => listener.uri(),
        }
    }

    /// Whether the network is told what the robot is, before any policy asks.
    pub(crate) fn wants_metadata(&self) -> bool {
        match self {
            Self::Socket(..) => false,
            #[cfg(feature = "zenoh")]
            Self::Zenoh(_) => true,
        }
    }

    /// Waits until the transport has taken back what it declared to the network.
    #[cfg_attr(not(feature = "zenoh"), expect(clippy::unused_async))]
    pub(crate) async fn close(&self) {
        match self {
            Self::Socket(..) => {}
            #[cfg(feature = "zenoh")]
            Self::Zenoh(listener) => {
                if let Err(error) = listener.close().await {
                    tracing::warn!("Zenoh is not shut down: {error}");
                }
            }
        }
    }

    /// Tells the network what the robot is.
    pub(crate) fn announce(&self, metadata: Map) {
        match self {
            Self::Socket(..) => drop(metadata),
            #[cfg(feature = "zenoh")]
            Self::Zenoh(listener) => listener.set_metadata(metadata),
        }
    }

    #[cfg(feature = "zenoh-shm")]
    pub(crate) fn shared_memory(&self) -> Option<chiral_zenoh::SharedMemory> {
        match self {
            Self::Socket(..) => None,
            Self::Zenoh(listener) => listener.shared_memory().cloned(),
        }
    }
}
