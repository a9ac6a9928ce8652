use std::io;

use chiral_proto::wire::Limits;

use crate::address::{Scheme, StreamAddress};
use crate::error::WITHOUT_ZENOH;
use crate::runtime::Runtime;
use crate::transport::{Acceptor, Incoming};

/// What a server listens with.
pub(super) enum Listening<R: Runtime> {
    Socket(R::Listener, StreamAddress),
    Acceptor(Box<dyn Acceptor>),
}

/// What has come in.
pub(super) enum NewConnection<S> {
    /// A stream, before its handshake, and who it is.
    Stream(S, String),
    Transport(Incoming),
}

/// What an address to listen on means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenTarget {
    /// A stream socket.
    Socket(StreamAddress),
    /// Another transport: an [acceptor](Runtime::acceptor) is needed.
    Other,
}

impl ListenTarget {
    /// Reads an address: `host:port`, `ws://host:port`, `unix:/path`, or another transport's URI.
    ///
    /// # Errors
    /// When it cannot be read, or asks for what is not built in.
    pub fn of(address: &str) -> io::Result<Self> {
        let bad =
            |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {why}"));
        match Scheme::of(address) {
            Scheme::WebSocket => {
                let bare = address.strip_prefix("ws://").unwrap_or(address).trim_end_matches('/');
                let expected = "expected host:port, such as 127.0.0.1:8765";
                let (host, port) = bare.rsplit_once(':').ok_or_else(|| bad(expected))?;
                let port = port.parse().map_err(|_| bad(expected))?;
                if host.is_empty() || host.contains('/') {
                    return Err(bad(expected));
                }
                let host = host.trim_matches(['[', ']']).to_owned();
                Ok(Self::Socket(StreamAddress::Tcp { host, port }))
            }
            Scheme::SecureWebSocket => Err(bad(
                "accept the TLS connection yourself and use `PolicyServer::serve_stream`, \
                     or listen with ws:// behind a TLS proxy",
            )),
            Scheme::Unix(path) => Ok(Self::Socket(StreamAddress::Unix(path.into()))),
            Scheme::Other => Ok(Self::Other),
        }
    }
}

/// The error of an address for which the adapter has no acceptor.
pub fn no_acceptor(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {WITHOUT_ZENOH}"))
}

impl<R: Runtime> Listening<R> {
    pub(super) async fn bind(address: &str, limits: &Limits) -> io::Result<Self> {
        match ListenTarget::of(address)? {
            ListenTarget::Socket(target) => {
                let listener = R::listen(&target).await.map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("{address} cannot be listened on: {error}"),
                    )
                })?;
                let address = R::local_address(&listener)?;
                Ok(Self::Socket(listener, address))
            }
            ListenTarget::Other => {
                let acceptor = R::acceptor(address, limits).await;
                Ok(Self::Acceptor(acceptor.ok_or_else(|| no_acceptor(address))??))
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<NewConnection<R::Stream>> {
        match self {
            Self::Socket(listener, _) => {
                R::accept(listener).await.map(|(stream, peer)| NewConnection::Stream(stream, peer))
            }
            Self::Acceptor(acceptor) => acceptor.accept().await.map(NewConnection::Transport),
        }
    }

    pub(super) fn uri(&self) -> String {
        match self {
            Self::Socket(_, address) => address.to_string(),
            Self::Acceptor(acceptor) => acceptor.uri(),
        }
    }
}
