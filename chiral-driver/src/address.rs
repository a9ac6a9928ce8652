//! Addresses: where a client connects to, and what a server listens on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a stream socket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamAddress {
    /// A TCP port of a host, by name or address (an IPv6 address without brackets).
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket, by its path.
    Unix(PathBuf),
}

impl StreamAddress {
    /// Finds out whether a socket can have this address at all.
    ///
    /// # Errors
    /// When it is a path that is empty or too long: about a hundred bytes are allowed.
    pub fn check(&self) -> io::Result<()> {
        #[cfg(unix)]
        if let Self::Unix(path) = self {
            if path.as_os_str().is_empty() {
                let expected = "found no path, expected unix:/path";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
            }
            std::os::unix::net::SocketAddr::from_pathname(path)?;
        }
        Ok(())
    }
}

impl From<SocketAddr> for StreamAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for StreamAddress {
    /// As in a URI: `ws://host:port` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "ws://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "ws://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// By which transport a URI is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `ws://…`, a bare `host:port`, and what cannot be read: its error then speaks of WebSocket.
    WebSocket,
    /// `wss://…`.
    SecureWebSocket,
    /// `unix:/path`, with the path.
    Unix(&'a str),
    /// Anything else that names a transport: `zenoh:…`, or `tcp/host:port` as Zenoh writes it.
    Other,
}

impl<'a> Scheme<'a> {
    /// Reads a URI's scheme, in upper or lower case. White space around the URI does not count.
    pub fn of(uri: &'a str) -> Self {
        let uri = uri.trim();
        let behind = |scheme: &str| {
            let start = uri.get(..scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then(|| &uri[scheme.len()..])
        };
        let is_endpoint = |(protocol, rest): (&str, &str)| {
            !rest.starts_with('/')
                && !protocol.is_empty()
                && protocol.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        if behind("wss://").is_some() || behind("https://").is_some() {
            Self::SecureWebSocket
        } else if behind("ws://").is_some() {
            Self::WebSocket
        } else if let Some(path) = behind("unix:") {
            Self::Unix(path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path))
        } else if behind("zenoh:").is_some() || uri.split_once('/').is_some_and(is_endpoint) {
            Self::Other
        } else {
            Self::WebSocket
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_names_the_transport() {
        for (uri, scheme) in [
            ("ws://localhost:8765/a", Scheme::WebSocket),
            ("0.0.0.0:8765", Scheme::WebSocket),
            ("localhost", Scheme::WebSocket),
            ("[::1]:8765", Scheme::WebSocket),
            ("http://localhost", Scheme::WebSocket),
            ("", Scheme::WebSocket),
            ("/tmp/socket", Scheme::WebSocket),
            ("wss://robot", Scheme::SecureWebSocket),
            ("unix:/run/arm.sock", Scheme::Unix("/run/arm.sock")),
            ("unix:///run/arm.sock", Scheme::Unix("/run/arm.sock")),
            ("unix:arm.sock", Scheme::Unix("arm.sock")),
            ("tcp/localhost:7447", Scheme::Other),
            ("unixsock-stream/a.sock", Scheme::Other),
            ("zenoh:?robot=arm-3", Scheme::Other),
            ("ZENOH:?robot=arm-3", Scheme::Other),
            ("WSS://robot", Scheme::SecureWebSocket),
            ("https://robot", Scheme::SecureWebSocket),
            ("Unix:arm.sock", Scheme::Unix("arm.sock")),
            (" unix:arm.sock\n", Scheme::Unix("arm.sock")),
            ("\ttcp/localhost:7447 ", Scheme::Other),
        ] {
            assert_eq!(Scheme::of(uri), scheme, "{uri}");
        }
    }

    #[test]
    fn addresses_are_written_as_uris() {
        let tcp = |host: &str| StreamAddress::Tcp { host: host.to_owned(), port: 80 };
        assert_eq!(tcp("::1").to_string(), "ws://[::1]:80");
        assert_eq!(tcp("robot").to_string(), "ws://robot:80");
        assert_eq!(StreamAddress::Unix("/run/a".into()).to_string(), "unix:/run/a");
    }
}
