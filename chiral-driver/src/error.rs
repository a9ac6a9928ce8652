use std::io;
use std::time::Duration;

use chiral_proto::client::{Misuse, RequestError};
use chiral_proto::ws::{HandshakeError, UriError};

/// Why a client could not be connected.
#[derive(Debug, thiserror::Error)]
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
    /// No host has this name.
    #[error("no host of this name is found for {uri}: {source}; check the spelling")]
    UnknownHost {
        /// Where the server was looked for.
        uri: String,
        /// What the system said.
        source: io::Error,
    },
    /// The handshake's request cannot be written, because of a header field that was set.
    #[error("the request cannot be sent: {0}")]
    Request(HandshakeError),
    /// A server is there, and the opening handshake failed: it is no WebSocket server, or it
    /// refused.
    #[error("the server at {uri} did not take the connection: {source}")]
    Handshake {
        /// Where the server is.
        uri: String,
        /// What went wrong.
        source: HandshakeError,
    },
    /// A transport other than WebSocket could not be connected; the error is its own.
    #[error(transparent)]
    Transport(Box<dyn std::error::Error + Send + Sync>),
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
        Self::NotBuiltIn { scheme: uri.to_owned(), hint: WITHOUT_ZENOH }
    }
}

/// What to do about a URI that only another transport understands.
pub(crate) const WITHOUT_ZENOH: &str =
    "the program was built without Zenoh, build it with the feature `zenoh`";

/// Why a call of a [`PolicyClient`](crate::PolicyClient) got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call could not be made.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The call was made and not answered.
    #[error(transparent)]
    Unanswered(#[from] RequestError),
}
