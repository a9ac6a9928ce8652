use std::time::Instant;

use crate::ConnectionError;

/// Where a connection stands.
///
/// ```text
///             shut_down                  the last answer has left, or the deadline has come
///   Open ────────────────► ShuttingDown ───────────────────────────────────────────┐
///    │                          │                                                  ▼
///    └──────────────────────────┴───────────────────────────────────────────► Ended (untold)
///       a bad frame, a lost or closed transport, close, fail, a dropped handle     │
///                                                            poll_motion tells it  ▼
///                                                                            Ended (told)
/// ```
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// Requests are answered, actions told.
    Open,
    /// As open, but new requests are passed over.
    ShuttingDown {
        /// When to end at the latest.
        deadline: Instant,
    },
    /// Nothing comes in or goes out any more.
    Ended {
        /// Why.
        error: ConnectionError,
        /// Whether the robot was told.
        told: bool,
    },
}

impl Lifecycle {
    pub(super) fn error(&self) -> Option<&ConnectionError> {
        match self {
            Self::Ended { error, .. } => Some(error),
            Self::Open | Self::ShuttingDown { .. } => None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.error().is_some()
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shut_down_deadline().is_some()
    }

    pub(super) fn shut_down_deadline(&self) -> Option<Instant> {
        match self {
            Self::ShuttingDown { deadline } => Some(*deadline),
            Self::Open | Self::Ended { .. } => None,
        }
    }

    /// Begins to shut down, or moves the deadline.
    pub(super) fn shut_down(&mut self, deadline: Instant) {
        if !self.is_ended() {
            *self = Self::ShuttingDown { deadline };
        }
    }

    /// Ends, once; false when it has ended before.
    pub(super) fn end(&mut self, error: ConnectionError) -> bool {
        let ends = !self.is_ended();
        if ends {
            *self = Self::Ended { error, told: false };
        }
        ends
    }

    pub(super) fn is_end_untold(&self) -> bool {
        matches!(self, Self::Ended { told: false, .. })
    }

    /// The end, if the robot is still to be told.
    pub(super) fn tell_end(&mut self) -> Option<ConnectionError> {
        match self {
            Self::Ended { error, told: told @ false } => {
                *told = true;
                Some(error.clone())
            }
            _ => None,
        }
    }
}
