use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use zenoh::config::EndPoint;

/// Where Zenoh listens, or connects to, in its own notation: `tcp/host:port`.
///
/// Zenoh's parameters may follow, as in `tcp/10.0.0.7:7447#iface=eth0`. Which protocols there are
/// beside `tcp` depends on the features that Zenoh was built with: `tls/host:port` needs this
/// crate's feature `tls`.
///
/// ```
/// use chiral_zenoh::Endpoint;
///
/// let endpoint: Endpoint = "tcp/robot.local:7447".parse()?;
/// assert_eq!((endpoint.protocol(), endpoint.address()), ("tcp", "robot.local:7447"));
///
/// let error = "robot.local:7447".parse::<Endpoint>().unwrap_err();
/// assert!(error.to_string().contains("expected tcp/host:port"));
/// # Ok::<(), chiral_zenoh::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(EndPoint);

/// How long somebody may take to take a connection.
const KNOCK: Duration = Duration::from_millis(200);

impl Endpoint {
    /// The protocol: what stands before the slash.
    pub fn protocol(&self) -> &str {
        let text = self.0.as_str();
        text.split_once('/').map_or(text, |(protocol, _)| protocol)
    }

    /// The address: for `tcp` and `tls`, host and port.
    pub fn address(&self) -> &str {
        let text = self.0.as_str();
        let rest = text.split_once('/').map_or("", |(_, rest)| rest);
        rest.split(['?', '#']).next().unwrap_or_default()
    }

    /// The whole as Zenoh reads it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether somebody takes TCP connections there.
    pub(crate) fn is_listened_on(&self) -> bool {
        let addresses = self.address().to_socket_addrs().into_iter().flatten();
        let is_tcp = matches!(self.protocol(), "tcp" | "tls");
        let mut addresses = addresses.filter(|_| is_tcp);
        addresses.any(|address| TcpStream::connect_timeout(&address, KNOCK).is_ok())
    }

    /// The endpoint itself, or, for port 0, one with a port that is free now: Zenoh would choose
    /// one too, but not tell which.
    pub(crate) fn with_free_port(&self) -> std::io::Result<Self> {
        let Some(host) = self.address().strip_suffix(":0") else { return Ok(self.clone()) };
        let address: Vec<SocketAddr> = self.address().to_socket_addrs()?.collect();
        let port = TcpListener::bind(&address[..])?.local_addr()?.port();
        let text = self.as_str().replacen(self.address(), &format!("{host}:{port}"), 1);
        Ok(Self(text.parse().expect("only the port has changed")))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fail =
            |found: &str| EndpointError { endpoint: text.to_owned(), found: found.to_owned() };
        if !text.contains('/') {
            return Err(fail("no protocol"));
        }
        if text.contains("://") {
            return Err(fail("a URI of another transport"));
        }
        let endpoint: EndPoint = text.parse().map_err(|error| fail(&format!("{error}")))?;
        let endpoint = Self(endpoint);
        if matches!(endpoint.protocol(), "tcp" | "tls") {
            let Some((host, port)) = endpoint.address().rsplit_once(':') else {
                return Err(fail("no port"));
            };
            if host.is_empty() {
                return Err(fail("no host"));
            }
            if host.contains(':') && !host.starts_with('[') {
                return Err(fail("an IPv6 address without brackets"));
            }
            if port.parse::<u16>().is_err() {
                return Err(fail(&format!("the port {port:?}")));
            }
        }
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint {endpoint:?}: found {found}, expected tcp/host:port with a port up to 65535")]
pub struct EndpointError {
    endpoint: String,
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_endpoints_are_rejected_with_a_reason() {
        for (text, found) in [
            ("", "no protocol"),
            ("localhost:7447", "no protocol"),
            ("ws://localhost:8765", "a URI of another transport"),
            ("tcp/", "must be of the form"),
            ("tcp/localhost", "no port"),
            ("tcp/:7447", "no host"),
            ("tcp/::1:7447", "an IPv6 address without brackets"),
            ("tcp/localhost:70000", "the port \"70000\""),
            ("tcp/localhost:7447?", "must be of the form"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn port_0_is_replaced_by_a_free_port() {
        let endpoint: Endpoint = "tcp/127.0.0.1:0#iface=lo".parse().expect("it is well formed");
        let chosen = endpoint.with_free_port().expect("a port is free");
        assert!(!chosen.address().ends_with(":0"));
        assert!(chosen.as_str().ends_with("#iface=lo"));
        assert_eq!(chosen.with_free_port().expect("nothing to choose"), chosen);
    }
}
