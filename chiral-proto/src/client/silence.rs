use std::time::{Duration, Instant};

use crate::pacer::instant_after;

/// A shorter threshold counts as this one: what was asked at this instant is not silent yet.
const SHORTEST: Duration = Duration::from_millis(1);

/// Notices that nothing comes from the server although something is waited for.
///
/// ```text
///             nothing came for the threshold
///   Hearing ─────────────────────────────────► Silent
///      ▲                                         │
///      └──────────────── something came ─────────┘
/// ```
#[derive(Debug)]
pub(super) struct Silence {
    threshold: Option<Duration>,
    /// When something last came.
    heard: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Hearing,
    Silent { since: Instant },
}

impl Silence {
    pub(super) fn new(threshold: Option<Duration>) -> Self {
        let threshold = threshold.map(|threshold| threshold.max(SHORTEST));
        Self { threshold, heard: None, state: State::Hearing }
    }

    /// When something last came from the server.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Notes that something came; gives how long the silence was that it ended.
    pub(super) fn hear(&mut self, now: Instant) -> Option<Duration> {
        self.heard = Some(now);
        match std::mem::replace(&mut self.state, State::Hearing) {
            State::Silent { since } => Some(now.duration_since(since)),
            State::Hearing => None,
        }
    }

    /// Lets time pass; gives how long nothing has come, when that has become too long.
    /// `waiting_since`: since when the oldest answer has been waited for, if one is.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        waiting_since: Option<Instant>,
    ) -> Option<Duration> {
        if self.next_timeout(waiting_since).is_none_or(|timeout| timeout > now) {
            return None;
        }
        let since = self.since(waiting_since)?;
        self.state = State::Silent { since };
        Some(now.duration_since(since))
    }

    pub(super) fn next_timeout(&self, waiting_since: Option<Instant>) -> Option<Instant> {
        match self.state {
            State::Hearing => Some(instant_after(self.since(waiting_since)?, self.threshold?)),
            State::Silent { .. } => None,
        }
    }

    fn since(&self, waiting_since: Option<Instant>) -> Option<Instant> {
        let waiting_since = waiting_since?;
        Some(self.heard.map_or(waiting_since, |heard| heard.max(waiting_since)))
    }
}
