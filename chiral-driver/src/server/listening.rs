use std::io;
use std::net::IpAddr;

use super::config::ServerConfig;
use crate::address::{Scheme, StreamAddress};
use crate::error::{WITHOUT_TLS, WITHOUT_ZENOH};
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
    /// Reads an address: `host:port`, `ws://host:port`, `wss://host:port`, `unix:/path`, or another
    /// transport's URI.
    ///
    /// # Errors
    /// When it cannot be read, or asks for what is not built in.
    pub fn of(address: &str) -> io::Result<Self> {
        let bad =
            |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {why}"));
        match Scheme::of(address) {
            Scheme::WebSocket | Scheme::SecureWebSocket => {
                let expected = "expected host:port, such as 127.0.0.1:8765";
                let bare = address.trim();
                // What a URI has behind host and port, a server does not look at.
                let behind_scheme = match bare.split_once("://") {
                    Some((scheme, rest)) if is_websocket(scheme) => {
                        rest.split(['/', '?']).next().unwrap_or_default()
                    }
                    Some(_) => return Err(bad(expected)),
                    None => bare.trim_end_matches('/'),
                };
                let (host, port) = behind_scheme.rsplit_once(':').ok_or_else(|| bad(expected))?;
                let port = port.parse().map_err(|_| bad(expected))?;
                let host = unbracketed(host).ok_or_else(|| bad(expected))?.to_owned();
                Ok(Self::Socket(StreamAddress::Tcp { host, port }))
            }
            Scheme::Unix(path) => Ok(Self::Socket(StreamAddress::Unix(path.into()))),
            Scheme::Other => Ok(Self::Other),
        }
    }
}

/// A host without the brackets around an IPv6 address, if it can be one.
fn unbracketed(host: &str) -> Option<&str> {
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?,
        None => host,
    };
    let is_strange = |c: char| c.is_whitespace() || c.is_control() || "[]/?#@\\".contains(c);
    (!host.is_empty() && !host.contains(is_strange)).then_some(host)
}

/// Whether a scheme is that of a WebSocket; `http` means the same, as in browsers.
fn is_websocket(scheme: &str) -> bool {
    ["ws", "http", "wss", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Finds out whether a server with these settings can be bound to a socket.
///
/// # Errors
/// When one of them is for TLS and the other is not.
pub fn check_socket(
    address: &str,
    target: &StreamAddress,
    config: &ServerConfig,
) -> io::Result<()> {
    let asks_for_tls = Scheme::of(address) == Scheme::SecureWebSocket;
    let why = if asks_for_tls && cfg!(not(feature = "tls")) {
        WITHOUT_TLS
    } else if asks_for_tls && !config.has_tls() {
        "a server that speaks TLS needs a certificate and its key: set `ServerConfig::tls`"
    } else if config.has_tls() && matches!(target, StreamAddress::Unix(_)) {
        "`ServerConfig::tls` is for TCP: who may connect to a Unix socket is said by the \
         permissions of its file"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {why}")))
}

/// The URI with which clients reach a socket.
pub fn uri_of(address: &StreamAddress, config: &ServerConfig) -> String {
    let uri = address.to_string();
    match uri.strip_prefix("ws://") {
        Some(rest) if config.has_tls() => format!("wss://{rest}"),
        _ => uri,
    }
}

/// Tells the log of a server that anybody on the network can use, or listen to.
pub fn warn_if_exposed(address: &StreamAddress, config: &ServerConfig) {
    if let Some(warning) = exposure(address, config) {
        tracing::warn!(
            "{} can be reached from other computers: {warning}",
            uri_of(address, config)
        );
    }
}

fn exposure(address: &StreamAddress, config: &ServerConfig) -> Option<&'static str> {
    let StreamAddress::Tcp { host, .. } = address else { return None };
    let is_loopback =
        host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if is_loopback {
        None
    } else if !config.authenticates() {
        Some(
            "whoever reaches it can drive the robot; set `ServerConfig::token` (and \
             `ServerConfig::tls`), or listen on 127.0.0.1",
        )
    } else if config.token.is_some() && !config.has_tls() {
        Some(
            "whoever reads the traffic can read the token, and then drive the robot; set \
             `ServerConfig::tls`, or listen on 127.0.0.1",
        )
    } else {
        None
    }
}

/// Finds out whether a server with these settings can be bound to a transport other than WebSocket.
///
/// # Errors
/// When it has TLS, or is to look at requests: there are none there, and everybody would be let in.
pub fn check_acceptor(address: &str, config: &ServerConfig) -> io::Result<()> {
    let set = [
        (config.token.is_some(), "`ServerConfig::token` is looked for in"),
        (config.has_tls(), "`ServerConfig::tls` is for"),
        (config.accept.is_set(), "`ServerConfig::accept` looks at"),
    ];
    if let Some((_, what)) = set.into_iter().find(|(is_set, _)| *is_set) {
        let why = format!(
            "{what} requests for a WebSocket, and there are none here: restrict access by the \
             transport's own means"
        );
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
                check_socket(address, &target, config)?;
                let listener = R::listen(&target).await.map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("{address} cannot be listened on: {error}"),
                    )
                })?;
                let address = R::local_address(&listener)?;
                warn_if_exposed(&address, config);
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

    pub(super) fn uri(&self, config: &ServerConfig) -> String {
        match self {
            Self::Socket(_, address) => uri_of(address, config),
            Self::Acceptor(acceptor) => acceptor.uri(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

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
            "wss://127.0.0.1:8765",
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
        for address in [
            "",
            "8765",
            ":8765",
            "localhost",
            "localhost:http",
            "/a:1",
            "ftp://a:1",
            "[]:1",
            "]:1",
            "[::1:1",
            "[[::1]]:1",
            "a b:1",
            "a?b:1",
            "me@a:1",
        ] {
            let error = ListenTarget::of(address).expect_err(address);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
            assert!(error.to_string().contains("expected host:port"), "{error}");
        }
        let target = StreamAddress::Tcp { host: "localhost".to_owned(), port: 1 };
        for address in ["wss://localhost:1", "HTTPS://localhost:1"] {
            let error = check_socket(address, &target, &ServerConfig::default());
            let error = error.expect_err(address).to_string();
            let what = if cfg!(feature = "tls") { "ServerConfig::tls" } else { "feature `tls`" };
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_server_that_strangers_can_reach_is_told_of() {
        let exposed = |host: &str, config: &ServerConfig| {
            exposure(&StreamAddress::Tcp { host: host.to_owned(), port: 1 }, config)
        };
        let open = ServerConfig::default();
        let token = Token::new("sixteen-letters-or-more").expect("it is one");
        let with_token = ServerConfig::default().token(token);
        let with_hook = ServerConfig::default().accept(|_| Ok(()));
        for host in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(exposed(host, &open), None, "{host}");
        }
        for host in ["0.0.0.0", "::", "192.168.1.7", "fe80::1", "::ffff:10.0.0.1"] {
            let warning = exposed(host, &open).expect(host);
            assert!(
                warning.contains("can drive the robot; set `ServerConfig::token`"),
                "{warning}"
            );
            let warning = exposed(host, &with_token).expect(host);
            assert!(warning.contains("read the token"), "{warning}");
            assert_eq!(exposed(host, &with_hook), None, "{host}");
        }
        assert_eq!(exposure(&StreamAddress::Unix("/run/arm.sock".into()), &open), None);
    }

    #[test]
    fn a_server_that_asks_for_a_token_is_bound_to_no_other_transport() {
        let token = Token::new("sixteen-letters-or-more").expect("it is one");
        let config = ServerConfig::default().token(token);
        let error = check_acceptor("tcp/127.0.0.1:0", &config).expect_err("it is refused");
        assert!(error.to_string().contains("`ServerConfig::token`"), "{error}");
        check_acceptor("tcp/127.0.0.1:0", &ServerConfig::default()).expect("it is nobody's secret");
    }
}
