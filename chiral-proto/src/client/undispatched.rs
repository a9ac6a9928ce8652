use std::time::{Duration, Instant};

use super::dispatch::Dispatch;
use crate::pacer::instant_after;

/// Notices, once, that actions wait in the queue and no dispatch sends them.
#[derive(Debug)]
pub(super) struct Undispatched {
    /// How long they may wait.
    limit: Option<Duration>,
    /// When a dispatch was last seen running.
    dispatched: Option<Instant>,
    told: bool,
}

impl Undispatched {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, dispatched: None, told: false }
    }

    /// Lets time pass; gives how many actions wait, when they have waited for too long.
    pub(super) fn advance(&mut self, now: Instant, dispatch: &Dispatch) -> Option<usize> {
        if dispatch.is_running() {
            self.dispatched = Some(now);
        }
        if self.next_timeout(dispatch).is_none_or(|timeout| timeout > now) {
            return None;
        }
        self.told = true;
        Some(dispatch.timeline.len())
    }

    pub(super) fn next_timeout(&self, dispatch: &Dispatch) -> Option<Instant> {
        if self.told || dispatch.is_running() {
            return None;
        }
        let waiting_since = dispatch.waiting_since()?;
        let since = self.dispatched.map_or(waiting_since, |until| until.max(waiting_since));
        Some(instant_after(since, self.limit?))
    }
}
