use std::fmt;
use std::io;
use std::time::Duration;

use chiral_proto::client::{Misuse, RequestError};
use chiral_proto::ws::{HandshakeError, UriError, redacted};

/// Why a client could not be connected. Its text has no user name, password or query of the URI.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URI cannot be read.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The URI asks for a transport that is not built in.
    #[error("{scheme} is not built in: {hint}")]
    NotBuiltIn {
        /// The URI's scheme, or the URI.
        scheme: String,
        /// What to do.
        hint: &'static str,
    },
    /// No server was there in time.
    #[error("no server at {uri} within {waited:.1?}; the last try: {last}")]
    NoServer {
        /// Where the server was looked for.
        uri: String,
        /// For how long.
        waited: Duration,
        /// What the last try met.
        last: io::Error,
    },
    /// The URI is one without TLS, and there are settings for TLS.
    #[error(
        "{uri} is a connection without TLS, and TLS is set up for this client: connect with wss://"
    )]
    WithoutTls {
        /// Where the server is looked for.
        uri: String,
    },
    /// A server is there, and no TLS connection came about: it is not the one that this client
    /// trusts, does not trust this client, or does not speak TLS.
    #[cfg(feature = "tls")]
    #[error("no TLS connection to the server at {uri}: {error}")]
    Tls {
        /// Where the server is.
        uri: String,
        /// What went wrong.
        error: crate::tls::TlsError,
    },
    /// No host has this name.
    #[error("no host of this name is found for {uri}: {error}; check the spelling")]
    UnknownHost {
        /// Where the server was looked for.
        uri: String,
        /// What the system said.
        error: io::Error,
    },
    /// The handshake's request cannot be written, because of a header field that was set.
    #[error("the request cannot be sent: {0}")]
    Request(HandshakeError),
    /// A server is there, and the opening handshake failed: it is no WebSocket server, or it
    /// refused.
    #[error("the server at {uri} did not take the connection: {error}")]
    Handshake {
        /// Where the server is.
        uri: String,
        /// What went wrong.
        error: HandshakeError,
    },
    /// A transport other than WebSocket could not be connected; the error is its own.
    #[error(transparent)]
    Transport(Box<dyn std::error::Error + Send + Sync>),
    /// Connecting was given up, by a [`CancelToken`](crate::client::CancelToken).
    #[error("connecting was cancelled")]
    Cancelled,
    /// The system has no random bytes for the WebSocket's keys.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// The system has no thread for the connection.
    #[error("the operating system gave no thread for the connection: {0}")]
    Thread(io::Error),
}

impl ConnectError {
    /// The error of a URI for which the adapter has no connector.
    pub fn no_connector(uri: &str) -> Self {
        Self::NotBuiltIn { scheme: redacted(uri), hint: WITHOUT_ZENOH }
    }
}

// A program whose `main` returns an error prints its `Debug`: that is to be read as well as its
// `Display`.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What to do about a URI that only another transport understands.
pub(crate) const WITHOUT_TLS: &str =
    "the program was built without TLS, build it with the feature `tls`";

pub(crate) const WITHOUT_ZENOH: &str =
    "the program was built without Zenoh, build it with the feature `zenoh`";

/// Why a call of a [`PolicyClient`](crate::PolicyClient) got no answer.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call could not be made.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The call was made and not answered.
    #[error(transparent)]
    Unanswered(#[from] RequestError),
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use chiral_proto::ws::{ServerHandshake, WsUri};

    use super::*;
    use crate::server::{Refusal, ServeError};

    /// Checks an error as a printer shows it that prints the causes too, such as `{:#}` of anyhow.
    #[track_caller]
    fn check(error: &(dyn Error + 'static)) {
        let chain = std::iter::successors(Some(error), |&error| error.source());
        let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(!text.contains('\n') && !text.ends_with([':', ';', '.']), "{text:?}");
        assert!(!text.contains("secret"), "{text:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        let mut clauses: Vec<_> = text.split(": ").collect();
        let count = clauses.len();
        clauses.sort_unstable();
        clauses.dedup();
        assert_eq!(clauses.len(), count, "something is printed twice: {text:?}");
    }

    fn refused() -> HandshakeError {
        HandshakeError::Refused {
            status: 503,
            reason: "Service Unavailable".to_owned(),
            location: None,
            body: Refusal::Taken.to_string(),
        }
    }

    fn failure() -> io::Error {
        io::Error::other("no route to the host")
    }

    #[test]
    fn errors_of_connecting_print_nothing_twice_and_no_secret() {
        let uri = redacted("ws://me:secret@robot:8765/?token=secret");
        for error in [
            ConnectError::Uri("ws://me:secret@robot/".parse::<WsUri>().unwrap_err()),
            ConnectError::no_connector("tcp/robot:7447"),
            ConnectError::NoServer {
                uri: uri.clone(),
                waited: Duration::from_secs(5),
                last: failure(),
            },
            ConnectError::Handshake { uri, error: refused() },
            ConnectError::Transport(Box::new(failure())),
            ConnectError::Random("there are none".to_owned()),
            ConnectError::Thread(failure()),
        ] {
            check(&error);
        }
    }

    #[test]
    fn errors_of_calls_and_of_serving_print_nothing_twice() {
        check(&CallError::from(Misuse::TooManyRequests { limit: 64 }));
        let ended = || chiral_proto::ConnectionError::ClosedByPeer {
            code: Some(1001),
            reason: "the robot's server is shutting down".to_owned(),
        };
        check(&CallError::from(Misuse::Disconnected(ended())));
        check(&CallError::from(RequestError::Disconnected(ended())));
        let bad = ServerHandshake::default().receive(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        check(&ServeError::BadHandshake(bad));
        check(&ServeError::HandshakeTimedOut);
        check(&ServeError::from(failure()));
        for refusal in [Refusal::Taken, Refusal::Busy, Refusal::Evicted, Refusal::ShuttingDown] {
            check(&refusal);
            check(&ServeError::Refused(refusal));
        }
    }
}
