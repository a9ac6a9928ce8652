use std::time::Duration;

use crate::config::Config;

/// Why a link, a listener or a list of robots could not be had.
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
    #[error("no robot answered within {waited:?} ({config}): {last}")]
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
    /// The system has no thread to spare.
    #[error("no thread can be started: {0}")]
    Thread(String),
    /// What was waited for has been given up, or its thread has panicked.
    #[error("opening was given up")]
    GivenUp,
}

impl Error {
    /// What Zenoh says, with what it was asked.
    pub(crate) fn open(config: &Config, error: &zenoh::Error) -> Self {
        Self::Open { config: config.to_string(), reason: words(error) }
    }
}

/// Zenoh's words without the places in its source at which they were said.
pub(crate) fn words(error: &zenoh::Error) -> String {
    let text = error.to_string();
    let said = text.split(" at /").next().unwrap_or_default().trim();
    said.trim_end_matches('!').to_owned()
}
