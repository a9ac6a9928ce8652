use std::time::Duration;

use crate::config::Config;

/// Why a connection, a listener or a list of robots could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration, or Zenoh's own configuration file, cannot be used.
    #[error("{0}")]
    Config(String),
    /// Zenoh could not listen or connect.
    #[error("Zenoh cannot be opened ({config}): {reason}")]
    Open {
        /// The configuration as a URI.
        config: String,
        /// What Zenoh said.
        reason: String,
    },
    /// No robot was there in the time allowed.
    #[error("no robot answered within {waited:.1?} ({config}): {last}")]
    NoRobot {
        /// The configuration as a URI.
        config: String,
        /// How long was waited.
        waited: Duration,
        /// What stood in the way last.
        last: String,
    },
    /// The robot is there and is driven by another policy.
    #[error("the robot refuses this policy: {0}")]
    Busy(String),
    /// A robot of this name is on the network already.
    #[error(
        "found a robot named `{0}` on this network already, expected none: give each robot a name \
         of its own"
    )]
    NameTaken(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// The system has no thread to spare.
    #[error("no thread can be started: {0}")]
    Thread(String),
    /// The call was cancelled, or its thread has panicked.
    #[error("the call was cancelled")]
    Cancelled,
}

impl Error {
    /// Zenoh's error, with the configuration that it was given.
    pub(crate) fn open(config: &Config, error: &zenoh::Error) -> Self {
        Self::Open { config: config.to_string(), reason: message_of(error) }
    }
}

/// The message of Zenoh's error, without the places in its source.
pub(crate) fn message_of(error: &zenoh::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at /").next().unwrap_or_default().trim();
    message.trim_end_matches('!').to_owned()
}
