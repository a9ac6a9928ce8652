use std::time::Instant;

use super::event::{Misuse, NotQueuedReason};
use crate::ConnectionError;

/// Where a client is in its life.
///
/// ```text
///           shut_down                 nothing left to send, or the deadline
///   Open ──────────────► ShuttingDown ─────────────────────────────────────► Ended
///   ▲ │ │                      └── close, a lost connection, a bad frame ──────▲ ▲
///   │ │ └───────────────────────── close, a bad frame, and what else ends it ──┘ │
///   │ └─ the connection ended, ──► Interrupted ── close, shut_down, give_up ─────┘
///   │    and another may follow        │
///   └──────── begin_connection ────────┘
/// ```
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// Calls are taken.
    Open,
    /// Only actions that wait for no tick still leave, until `by` at the latest.
    ShuttingDown { by: Instant },
    /// There is no connection, and another one is expected.
    Interrupted { since: Instant, error: ConnectionError },
    /// Nothing happens any more.
    Ended(ConnectionError),
}

/// Whether a client has its connection, and what has become of it if not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Messages go both ways.
    Connected,
    /// The connection has ended, and is being made again.
    Interrupted {
        /// Since when there is none.
        since: Instant,
        /// Why it ended.
        error: ConnectionError,
    },
    /// This side is closing it: no calls are taken any more.
    Closing,
    /// It has ended, for good.
    Ended {
        /// Why.
        error: ConnectionError,
    },
}

impl Lifecycle {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        matches!(self, Self::ShuttingDown { .. })
    }

    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted { .. })
    }

    /// When it ends by itself, if it does.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::ShuttingDown { by } => Some(*by),
            Self::Open | Self::Interrupted { .. } | Self::Ended(_) => None,
        }
    }

    /// Why the connection has ended, if it has.
    pub(super) fn error(&self) -> Option<&ConnectionError> {
        match self {
            Self::Interrupted { error, .. } | Self::Ended(error) => Some(error),
            Self::Open | Self::ShuttingDown { .. } => None,
        }
    }

    /// Why no call is taken that needs the connection, if that is so.
    pub(super) fn check_open(&self) -> Result<(), Misuse> {
        Err(match self {
            Self::Open => return Ok(()),
            Self::ShuttingDown { .. } => Misuse::Disconnected(ConnectionError::ClosedLocally),
            Self::Interrupted { error, .. } => Misuse::Interrupted(error.clone()),
            Self::Ended(error) => Misuse::Disconnected(error.clone()),
        })
    }

    /// Why no action is taken, if that is so.
    pub(super) fn refusal(&self) -> Option<NotQueuedReason> {
        Some(match self {
            Self::Open => return None,
            Self::ShuttingDown { .. } => {
                NotQueuedReason::Disconnected(ConnectionError::ClosedLocally)
            }
            Self::Interrupted { error, .. } => NotQueuedReason::Interrupted(error.clone()),
            Self::Ended(error) => NotQueuedReason::Disconnected(error.clone()),
        })
    }

    pub(super) fn state(&self) -> ConnectionState {
        match self {
            Self::Open => ConnectionState::Connected,
            Self::ShuttingDown { .. } => ConnectionState::Closing,
            Self::Interrupted { since, error } => {
                ConnectionState::Interrupted { since: *since, error: error.clone() }
            }
            Self::Ended(error) => ConnectionState::Ended { error: error.clone() },
        }
    }
}
