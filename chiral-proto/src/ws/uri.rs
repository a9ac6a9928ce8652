use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use tungstenite::http::Uri;

/// Where a WebSocket server is: `ws://host:port/path` or `wss://…`. `http` and `https` mean the
/// same, as in browsers, and `host:port` is one with `ws://`.
///
/// ```
/// use chiral_proto::ws::WsUri;
///
/// let uri: WsUri = "ws://robot.local:8765/left?arm=1".parse()?;
/// assert_eq!((uri.host(), uri.port(), uri.is_secure()), ("robot.local", 8765, false));
/// assert_eq!((uri.authority(), uri.target()), ("robot.local:8765", "/left?arm=1"));
///
/// let uri: WsUri = "wss://[::1]".parse()?;
/// assert_eq!((uri.host(), uri.port(), uri.authority()), ("::1", 443, "[::1]"));
///
/// let uri: WsUri = "localhost:8765".parse()?;
/// assert_eq!(uri.to_string(), "ws://localhost:8765/");
///
/// let error = "localhost".parse::<WsUri>().unwrap_err();
/// assert!(error.to_string().contains("expected ws://host:port"));
/// # Ok::<(), chiral_proto::ws::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsUri {
    is_secure: bool,
    authority: String,
    host: String,
    port: u16,
    target: String,
}

impl WsUri {
    /// The host to connect to; an IPv6 address is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to. Default: 80, and 443 for `wss`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is to be encrypted: `wss`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port as written, for the `Host` header of a
    /// [`ClientHandshake`](super::ClientHandshake).
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query, for the request line; at least `/`.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl FromStr for WsUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        let fail = |problem| UriError { uri: redacted(text), problem };
        let with_scheme = is_bare_address(text).then(|| format!("ws://{text}"));
        let uri = with_scheme.as_deref().unwrap_or(text);
        let uri: Uri = uri.parse().map_err(|_| fail("no valid URI"))?;
        let scheme = uri.scheme_str().map(str::to_ascii_lowercase);
        let is_secure = match scheme.as_deref() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(fail("no ws or wss scheme")),
        };
        if text.contains('#') {
            return Err(fail("a fragment"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| fail("no host"))?;
        let host = authority.host();
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
            None if !host.contains(['[', ']']) => host,
            _ => return Err(fail("brackets around what is no IPv6 address")),
        };
        if authority.as_str().contains('@') {
            return Err(fail("a user name (set the request header `Authorization` instead)"));
        }
        let is_bare = matches!(&authority.as_str()[authority.host().len()..], "" | ":");
        let port = match authority.port_u16() {
            Some(port) => port,
            None if is_bare => [80, 443][usize::from(is_secure)],
            None => return Err(fail("no port number behind the colon")),
        };
        Ok(Self {
            is_secure,
            authority: authority.as_str().trim_end_matches(':').to_owned(),
            host: host.to_owned(),
            port,
            target: match uri.path_and_query().map_or("/", |target| target.as_str()) {
                query if query.starts_with('?') => format!("/{query}"),
                target => target.to_owned(),
            },
        })
    }
}

/// Whether a text is `host:port`, with or without a path behind it.
fn is_bare_address(text: &str) -> bool {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// A WebSocket's URI, as written, fit for a log or an error: without what may be secret in it, user
/// name, password and query. Other texts stay as they are.
///
/// ```
/// use chiral_proto::ws::redacted;
///
/// let uri = "ws://me:secret@robot:8765/arm?token=1234";
/// assert_eq!(redacted(uri), "ws://***@robot:8765/arm?***");
/// assert_eq!(redacted("zenoh:?robot=arm-3"), "zenoh:?robot=arm-3");
/// ```
pub fn redacted(uri: &str) -> String {
    let scheme_end = uri.find("://").filter(|end| !uri[..*end].contains(['/', '?', '#']));
    let start = scheme_end.map_or(0, |end| end + 3);
    if start == 0 && uri.starts_with("zenoh:") {
        return uri.to_owned();
    }
    let end = uri[start..].find(['/', '?', '#']).map_or(uri.len(), |end| start + end);
    let (user, host) = match uri[start..end].rfind('@') {
        Some(at) => ("***", &uri[start + at..end]),
        None => ("", &uri[start..end]),
    };
    let (path, query) = match uri[end..].split_once('?') {
        Some((path, _)) => (path, "?***"),
        None => (&uri[end..], ""),
    };
    format!("{}{user}{host}{path}{query}", &uri[..start])
}

impl fmt::Display for WsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority, self.target)
    }
}

/// A text that is no WebSocket server's URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{uri}`: found {problem}, expected ws://host:port, wss://host:port or host:port, then a path if any"
)]
pub struct UriError {
    uri: String,
    problem: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_websocket_uris_are_rejected_with_a_reason() {
        for (text, problem) in [
            ("", "no valid URI"),
            ("ws://", "no valid URI"),
            ("ftp://localhost", "no ws or wss scheme"),
            ("tcp/localhost:7447", "no valid URI"),
            ("ws://localhost:port", "no port number"),
            ("ws://localhost:99999", "no port number"),
            ("ws://:8765", "no host"),
            (":8765", "no host"),
            ("[]:8765", "brackets around what is no IPv6 address"),
            ("ws://[robot]:8765", "brackets around what is no IPv6 address"),
            ("robot[::1]:8765", "brackets around what is no IPv6 address"),
            ("ws://[127.0.0.1]", "brackets around what is no IPv6 address"),
            ("localhost", "no ws or wss scheme"),
            ("tcp://localhost:8765", "no ws or wss scheme"),
            ("me:secret@localhost:8765", "a user name"),
            ("ws://me:secret@localhost", "a user name"),
            ("ws://localhost/#top", "a fragment"),
        ] {
            let error = text.parse::<WsUri>().expect_err(text).to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn equivalent_uris_parse_to_the_same_value() {
        let plain: WsUri = "ws://localhost:80/".parse().expect("as it should be");
        for text in [
            "WS://localhost:80",
            " ws://localhost:80/\n",
            "http://localhost:80/",
            "localhost:80",
            "localhost:80/",
        ] {
            assert_eq!(text.parse::<WsUri>().as_ref(), Ok(&plain), "{text:?}");
        }
        let uri: WsUri = "ws://localhost:80?arm=1".parse().expect("a query needs no path");
        assert_eq!(uri.target(), "/?arm=1");
        let uri: WsUri = "https://localhost:/".parse().expect("an empty port is the default");
        assert_eq!((uri.authority(), uri.port(), uri.is_secure()), ("localhost", 443, true));
    }

    #[test]
    fn secrets_in_uris_are_not_printed() {
        for text in [
            "ws://me:se@cret@localhost/a@b",
            "me:secret@localhost",
            "ws://me@localhost/?token=secret",
            "me@localhost?token=secret?secret",
        ] {
            let error = text.parse::<WsUri>().expect_err(text).to_string();
            assert!(!error.contains("cret") && error.contains("***@localhost"), "{error}");
        }
        for plain in ["ws://localhost:80/a@b", "unix:/run/a.sock", "tcp/a:1#iface=lo", "zenoh:?a=b"]
        {
            assert_eq!(redacted(plain), plain);
        }
        assert_eq!(redacted("robot:1/?token=secret&next=http://x"), "robot:1/?***");
    }

    #[test]
    fn websocket_uris_round_trip() {
        for text in ["ws://localhost:8765/", "wss://[::1]:443/a?b=c", "ws://10.0.0.7/"] {
            assert_eq!(text.parse::<WsUri>().expect(text).to_string(), text);
        }
    }
}
