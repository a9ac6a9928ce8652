use std::time::Instant;

use crate::ConnectionError;

/// Where a client is in its life.
///
/// ```text
///           shut_down                 nothing left to send, or the deadline
///   Open ──────────────► ShuttingDown ─────────────────────────────────────► Ended
///     └────────────────────────┴──── close, a lost connection, a bad frame ────┘
/// ```
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// Calls are taken.
    Open,
    /// Only actions that wait for no tick still leave, until `by` at the latest.
    ShuttingDown { by: Instant },
    /// Nothing happens any more.
    Ended(ConnectionError),
}

impl Lifecycle {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        matches!(self, Self::ShuttingDown { .. })
    }

    /// When it ends by itself, if it does.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::ShuttingDown { by } => Some(*by),
            Self::Open | Self::Ended(_) => None,
        }
    }

    /// Why the connection has ended, if it has.
    pub(super) fn error(&self) -> Option<&ConnectionError> {
        match self {
            Self::Ended(error) => Some(error),
            Self::Open | Self::ShuttingDown { .. } => None,
        }
    }

    /// Why no call is taken, if that is so.
    pub(super) fn refusal(&self) -> Option<&ConnectionError> {
        match self {
            Self::Open => None,
            Self::ShuttingDown { .. } => Some(&ConnectionError::ClosedLocally),
            Self::Ended(error) => Some(error),
        }
    }
}
