use std::time::{Duration, Instant};

use crate::pacer::after;

/// Barks once when no action has come for too long. The first action winds it up; a reset, which
/// leaves the robot at rest, lets it run down.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Option<Duration>,
    last_action: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self { patience, last_action: None }
    }

    pub(super) fn wind_up(&mut self, now: Instant) {
        self.last_action = Some(now);
    }

    pub(super) fn run_down(&mut self) {
        self.last_action = None;
    }

    /// How long it has been silent, when that is too long.
    pub(super) fn bark(&mut self, now: Instant) -> Option<Duration> {
        if now < self.next_timeout()? {
            return None;
        }
        self.last_action.take().map(|last| now.duration_since(last))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(after(self.last_action?, self.patience?))
    }
}
