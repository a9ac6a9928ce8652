//! What users may plug into chiral, written as they would write it: with the public interface alone.
//!
//! | module | is | plug |
//! |---|---|---|
//! | [`pipe`] | an in-memory pipe | bytes: `serve_stream` and `over_stream` |
//! | [`framed`] | frames with their length before them, over a Unix socket | frames: `Transport`, `Connector`, `Acceptor` |
//! | [`queue`] | an in-memory queue of messages | frames |
//!
//! The cases of the adapters' matrix run over each of them (`tests/matrix/outsider.rs`).
#![forbid(unsafe_code)]

pub mod framed;
pub mod names;
pub mod pipe;
pub mod queue;

use chiral_driver::ConnectError;

/// The robot's server did not admit the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the robot did not admit the policy: {reason}")]
pub struct Refused {
    /// The server's words.
    pub reason: String,
}

impl From<Refused> for ConnectError {
    fn from(refused: Refused) -> Self {
        Self::Transport(Box::new(refused))
    }
}
