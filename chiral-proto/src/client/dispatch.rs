use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Action;
use crate::pacer::{Pacer, Rate};

/// The bounded queue of actions and the grid on which they leave: one action a tick, an expired
/// one never, a missed tick skipped.
#[derive(Debug)]
pub(super) struct Dispatch {
    queue: VecDeque<Queued>,
    /// Actions that wait for no tick.
    urgent: VecDeque<Queued>,
    pub(super) capacity: usize,
    max_age: Option<Duration>,
    pacer: Option<Pacer>,
    /// A tick has come and its action has not left yet.
    due: bool,
    pub(super) counts: Counts,
}

/// An action, and when it was put.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) action: Action,
    pub(super) put_at: Instant,
}

/// What became of the ticks and of the actions that never left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) starved: u64,
    pub(super) missed: u64,
    pub(super) expired: u64,
    pub(super) dropped: u64,
}

impl Dispatch {
    pub(super) fn new(capacity: usize, max_age: Option<Duration>) -> Self {
        Self {
            queue: VecDeque::new(),
            urgent: VecDeque::new(),
            capacity,
            max_age,
            pacer: None,
            due: false,
            counts: Counts::default(),
        }
    }

    pub(super) fn start(&mut self, now: Instant, rate: Rate) {
        self.stop();
        self.pacer = Some(Pacer::new(now, rate));
    }

    pub(super) fn stop(&mut self) {
        self.pacer = None;
        self.counts.missed += u64::from(std::mem::take(&mut self.due));
    }

    pub(super) fn is_running(&self) -> bool {
        self.pacer.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Appends actions, all or none; expired ones leave their places to them.
    pub(super) fn put(&mut self, now: Instant, actions: Vec<Action>) -> Result<(), Vec<Action>> {
        self.drop_expired(now);
        if actions.len() > self.capacity - self.queue.len() {
            return Err(actions);
        }
        self.queue.extend(actions.into_iter().map(|action| Queued { action, put_at: now }));
        Ok(())
    }

    /// Takes an action that leaves with the next frame; gives it back when there is no place.
    pub(super) fn put_urgent(&mut self, now: Instant, action: Action) -> Option<Action> {
        self.drop_expired(now);
        if self.urgent.len() >= self.capacity {
            return Some(action);
        }
        self.urgent.push_back(Queued { action, put_at: now });
        None
    }

    /// How many actions wait for no tick.
    pub(super) fn urgent_len(&self) -> usize {
        self.urgent.len()
    }

    /// Empties the queue and returns how many actions were in it.
    pub(super) fn clear_queue(&mut self) -> usize {
        let dropped = self.queue.drain(..).count();
        self.counts.dropped += dropped as u64;
        dropped
    }

    /// As [`clear_queue`](Self::clear_queue), with the actions that wait for no tick.
    pub(super) fn clear(&mut self) -> usize {
        let urgent = self.urgent.drain(..).count();
        self.counts.dropped += urgent as u64;
        urgent + self.clear_queue()
    }

    /// Notes the ticks that have come up to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(pacer) = &mut self.pacer else { return };
        let ticks = pacer.ticks(now);
        if ticks == 0 {
            return;
        }
        // Of several ticks that came at once, and of one whose action could not leave before the
        // next, all but the last are missed.
        self.counts.missed += ticks - 1 + u64::from(self.due);
        self.drop_expired(now);
        self.due = !self.queue.is_empty();
        self.counts.starved += u64::from(!self.due);
    }

    /// The next action that waits for no tick, or the action of the tick that has come, if it has
    /// not left yet.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Queued> {
        self.drop_expired(now);
        if let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let next = self.queue.pop_front();
        self.counts.starved += u64::from(next.is_none());
        next
    }

    /// Whether an action may leave now.
    pub(super) fn has_due(&self) -> bool {
        self.due || !self.urgent.is_empty()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.pacer.as_ref().map(Pacer::next_tick)
    }

    // Actions were put one after the other, so the oldest is always in front.
    fn drop_expired(&mut self, now: Instant) {
        let Some(max_age) = self.max_age else { return };
        for queue in [&mut self.urgent, &mut self.queue] {
            while queue.front().is_some_and(|oldest| now.duration_since(oldest.put_at) > max_age) {
                queue.pop_front();
                self.counts.expired += 1;
            }
        }
    }
}
