use std::io;

use super::config::ServerConfig;
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
                let expected = "expected host:port, such as 127.0.0.1:8765";
                let bare = address.trim();
                // What a URI has behind host and port, a server does not look at.
                let behind_scheme = match bare.split_once("://") {
                    Some((scheme, rest)) if is_plain(scheme) => {
                        rest.split(['/', '?']).next().unwrap_or_default()
                    }
                    Some(_) => return Err(bad(expected)),
                    None => bare.trim_end_matches('/'),
                };
                let (host, port) = behind_scheme.rsplit_once(':').ok_or_else(|| bad(expected))?;
                let port = port.parse().map_err(|_| bad(expected))?;
                if host.is_empty() || host.contains(['/', '@']) {
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

/// Whether a scheme is that of a WebSocket without TLS; `http` means the same, as in browsers.
fn is_plain(scheme: &str) -> bool {
    ["ws", "http"].iter().any(|plain| plain.eq_ignore_ascii_case(scheme))
}

/// Finds out whether a server with these settings can be bound to a transport other than WebSocket.
///
/// # Errors
/// When it is to look at requests: there are none there, and everybody would be let in.
pub fn check_acceptor(address: &str, config: &ServerConfig) -> io::Result<()> {
    if config.accept.is_set() {
        let why = "`ServerConfig::accept` looks at requests for a WebSocket, and there are none here: \
                   restrict access by the transport's own means";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {why}")));
    }
    Ok(())
}

/// The error of an address for which the adapter has no acceptor.
pub fn no_acceptor(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {WITHOUT_ZENOH}"))
}

impl<R: Runtime> Listening<R> {
    pub(super) async fn bind(address: &str, config: &ServerConfig) -> io::Result<Self> {
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
                check_acceptor(address, config)?;
                let acceptor = R::acceptor(address.trim(), &config.machine.limits).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_means_does_not_depend_on_how_it_is_written() {
        for address in [
            "127.0.0.1:8765",
            " 127.0.0.1:8765\n",
            "127.0.0.1:8765/",
            "ws://127.0.0.1:8765",
            "WS://127.0.0.1:8765/",
            "ws://127.0.0.1:8765/left?arm=1",
            "http://127.0.0.1:8765",
        ] {
            let tcp = StreamAddress::Tcp { host: "127.0.0.1".to_owned(), port: 8765 };
            assert_eq!(ListenTarget::of(address).expect(address), ListenTarget::Socket(tcp));
        }
        let v6 = StreamAddress::Tcp { host: "::1".to_owned(), port: 1 };
        assert_eq!(ListenTarget::of("[::1]:1").expect("v6"), ListenTarget::Socket(v6));
        let unix = ListenTarget::Socket(StreamAddress::Unix("/run/a".into()));
        assert_eq!(ListenTarget::of(" UNIX:/run/a\n").expect("a path"), unix);
    }

    #[test]
    fn addresses_that_nobody_can_mean_are_refused() {
        for address in ["", "8765", ":8765", "localhost", "localhost:http", "/a:1", "ftp://a:1"] {
            let error = ListenTarget::of(address).expect_err(address);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
            assert!(error.to_string().contains("expected host:port"), "{error}");
        }
        for address in ["wss://localhost:1", "HTTPS://localhost:1"] {
            let error = ListenTarget::of(address).expect_err(address).to_string();
            assert!(error.contains("accept the TLS connection yourself"), "{error}");
        }
    }
}
