use std::time::{Duration, Instant};

use crate::pacer::instant_after;

/// Notices when no action has come for too long.
///
/// ```text
///             action                    deadline has come
///   Armed ───────────────► Armed    Armed ───────────────► Fired (an alarm to tell)
///
///            reset or step                   action, or the answer leaves
///   any ─────────────────────► Paused     Paused, Fired ──────────────────► Armed
/// ```
#[derive(Debug)]
pub(super) struct Watchdog {
    timeout: Option<Duration>,
    /// The last sign of life; `None` while paused and once fired.
    since: Option<Instant>,
    /// It has fired, and the robot is not told yet.
    alarm: Option<Duration>,
    /// The last sign of life that was given to the robot.
    given: Option<Instant>,
    /// The robot was told of an alarm since.
    was_told: bool,
}

impl Watchdog {
    pub(super) fn new(now: Instant, timeout: Option<Duration>) -> Self {
        Self { timeout, since: Some(now), alarm: None, given: Some(now), was_told: false }
    }

    /// An action has come. An alarm that the robot was not told of is over: the action is newer.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = Some(now);
        self.alarm = None;
    }

    /// The robot is given the action that came at this instant.
    pub(super) fn note_given(&mut self, came: Instant) {
        self.given = Some(came);
        self.was_told = false;
    }

    /// The action that came last is not given to the robot: it was no sign of life. What the robot was
    /// told before it is not told again.
    pub(super) fn take_back(&mut self) {
        self.since = if self.was_told { None } else { self.given };
    }

    /// The robot is armed: from now on the policy can act.
    pub(super) fn arm(&mut self, now: Instant) {
        self.pause();
        self.resume(now);
    }

    /// The answer of a reset or of a step leaves: from now on the policy can act again. An action
    /// that came meanwhile counts from when it came.
    pub(super) fn resume(&mut self, now: Instant) {
        self.given = Some(*self.since.get_or_insert(now));
        self.was_told = false;
    }

    pub(super) fn pause(&mut self) {
        self.since = None;
        self.alarm = None;
    }

    /// Fires, when it has been silent for too long.
    pub(super) fn check(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|timeout| timeout <= now) {
            self.alarm = self.since.take().map(|since| now.duration_since(since));
        }
    }

    pub(super) fn has_alarm(&self) -> bool {
        self.alarm.is_some()
    }

    /// How long it had been silent when it fired, if the robot is to be told.
    pub(super) fn take_alarm(&mut self) -> Option<Duration> {
        self.was_told |= self.alarm.is_some();
        self.alarm.take()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(instant_after(self.since?, self.timeout?))
    }
}
