/// By which transport an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `ws://…`, a bare `host:port`, and what cannot be read: its error then speaks of WebSocket.
    WebSocket,
    /// `wss://…`.
    SecureWebSocket,
    /// `zenoh:…`, or an endpoint as Zenoh writes them: `tcp/host:port`, `tls/…`.
    Zenoh,
}

impl Scheme {
    pub(crate) const SERVE_TLS: &'static str =
        "accept the TLS connection yourself and use `PolicyServer::serve_websocket`";
    #[cfg(not(feature = "zenoh"))]
    pub(crate) const WITHOUT_ZENOH: &'static str =
        "the program was built without Zenoh, build it with the feature `zenoh`";

    pub(crate) fn of(address: &str) -> Self {
        let is_endpoint = |(protocol, rest): (&str, &str)| {
            !rest.starts_with('/')
                && !protocol.is_empty()
                && protocol.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        if address.starts_with("wss://") {
            Self::SecureWebSocket
        } else if address.starts_with("ws://") {
            Self::WebSocket
        } else if address.starts_with("zenoh:") || address.split_once('/').is_some_and(is_endpoint)
        {
            Self::Zenoh
        } else {
            Self::WebSocket
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_is_seen_from_the_address() {
        for (address, scheme) in [
            ("ws://localhost:8765/a", Scheme::WebSocket),
            ("0.0.0.0:8765", Scheme::WebSocket),
            ("localhost", Scheme::WebSocket),
            ("[::1]:8765", Scheme::WebSocket),
            ("http://localhost", Scheme::WebSocket),
            ("", Scheme::WebSocket),
            ("/tmp/socket", Scheme::WebSocket),
            ("wss://robot", Scheme::SecureWebSocket),
            ("tcp/localhost:7447", Scheme::Zenoh),
            ("unixsock-stream/a.sock", Scheme::Zenoh),
            ("zenoh:?robot=arm-3", Scheme::Zenoh),
        ] {
            assert_eq!(Scheme::of(address), scheme, "{address}");
        }
    }
}
