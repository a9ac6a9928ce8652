//! Arguments that make no sense.

use std::fmt;
use std::io::ErrorKind;

use chiral_driver::ConnectError;

/// An argument that makes no sense, found by a check of our own; clap finds the others. The program
/// then ends with [`EXIT_CODE`](Self::EXIT_CODE).
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    /// As clap's.
    pub(crate) const EXIT_CODE: u8 = 2;

    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }

    /// Whether the arguments are to blame for an error.
    pub(crate) fn is_behind(error: &anyhow::Error) -> bool {
        let is_bad_uri = |error: &ConnectError| match error {
            ConnectError::Uri(_)
            | ConnectError::NotBuiltIn { .. }
            | ConnectError::WithoutTls { .. } => true,
            // An address that can be nobody's, such as a path that is too long for a socket.
            ConnectError::NoServer { last, .. } => {
                matches!(last.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidFilename)
            }
            #[cfg(feature = "zenoh")]
            ConnectError::Transport(error) => error.is::<chiral_zenoh::UriError>(),
            _ => false,
        };
        error.is::<Self>() || error.downcast_ref().is_some_and(is_bad_uri)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Returns a [`UsageError`] unless the condition holds.
macro_rules! ensure_usage {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::usage::UsageError::new(format!($($message)+)).into());
        }
    };
}
pub(crate) use ensure_usage;
