use std::time::{Duration, Instant};

use crate::pacer::after;

/// Barks once when no action has come for too long. An action winds it up, and so does the answer
/// of a step, before which its policy cannot act again; a reset, which leaves the robot at rest,
/// lets it run down.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Option<Duration>,
    last_action: Option<Instant>,
    /// It barked, and the robot is not told yet.
    alarm: Option<Duration>,
}

impl Watchdog {
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self { patience, last_action: None, alarm: None }
    }

    /// An alarm that the robot was not told of is over: what came now is newer.
    pub(super) fn wind_up(&mut self, now: Instant) {
        self.last_action = Some(now);
        self.alarm = None;
    }

    pub(super) fn run_down(&mut self) {
        self.last_action = None;
        self.alarm = None;
    }

    /// Barks, when it has been silent for too long.
    pub(super) fn check(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|timeout| timeout <= now) {
            self.alarm = self.last_action.take().map(|last| now.duration_since(last));
        }
    }

    pub(super) fn has_alarm(&self) -> bool {
        self.alarm.is_some()
    }

    /// How long it had been silent when it barked, if the robot is to be told.
    pub(super) fn take_alarm(&mut self) -> Option<Duration> {
        self.alarm.take()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(after(self.last_action?, self.patience?))
    }
}
