use std::fmt;
use std::time::{Duration, Instant};

use crate::stats::{Histogram, write_parts};
use crate::{Action, ActionTiming, ContractStatus, Sent, Timing};

/// The robot's part of the timing extension: which of the policy's actions it has had, and where
/// their time went.
#[derive(Debug)]
pub(super) struct ActionClock {
    /// When the connection began.
    start: Instant,
    /// The policy understands the extension: it has numbered something.
    is_understood: bool,
    /// The highest number of an action that has come; 0 before the first.
    highest: u64,
    pub(super) stats: LatencyStats,
}

/// Where the time went of the actions that the robot was given. Each part is a difference of one
/// clock; the parts of an action add up to its `age`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// The last numbered action.
    pub last: Option<ActionTiming>,
    /// See [`ActionTiming::age`]; of every policy whose actions tell their observation.
    pub age: Histogram,
    /// See [`ActionTiming::sensor_wait`].
    pub sensor_wait: Histogram,
    /// See [`ActionTiming::network`].
    pub network: Histogram,
    /// For how long the policy held the observation; see [`Sent::hold`].
    pub hold: Histogram,
    /// See [`ActionTiming::queue`]; of every action.
    pub queue: Histogram,
}

impl ActionClock {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, is_understood: false, highest: 0, stats: LatencyStats::default() }
    }

    /// The policy has shown that it understands the extension.
    pub(super) fn understand(&mut self) {
        self.is_understood = true;
    }

    /// An action has come. A number that is not higher than those before says nothing.
    pub(super) fn arrive(&mut self, sent: &mut Option<Sent>) {
        self.is_understood |= sent.is_some();
        *sent = sent.take().filter(|sent| sent.seq > self.highest);
        self.highest = sent.map_or(self.highest, |sent| sent.seq);
    }

    /// When the observation was taken on which an action was decided, if the policy says it.
    pub(super) fn taken_at(&self, action: &Action) -> Option<Instant> {
        let snap = action.obs_timestamps.as_ref()?.snap?;
        self.start.checked_add(snap)
    }

    /// The robot is given an action, at this age of what it was decided on, and after it `waited`.
    pub(super) fn give(
        &mut self,
        now: Instant,
        action: &Action,
        waited: Duration,
        age: Option<Duration>,
    ) {
        let Self { start, stats, .. } = self;
        stats.queue.record(waited);
        stats.age.record_known(age);
        let Some(Sent { seq, hold }) = action.sent else { return };
        let snap = action.obs_timestamps.as_ref().and_then(|timestamps| timestamps.snap);
        let since_snap = snap.and_then(|snap| rest(now.duration_since(*start), snap));
        let timing = ActionTiming {
            seq,
            age,
            sensor_wait: age.zip(since_snap).and_then(|(age, since)| rest(age, since)),
            network: since_snap
                .zip(hold)
                .and_then(|(since, hold)| rest(since, hold.saturating_add(waited))),
            queue: waited,
        };
        stats.sensor_wait.record_known(timing.sensor_wait);
        stats.network.record_known(timing.network);
        stats.hold.record_known(hold);
        stats.last = Some(timing);
    }

    /// The number of the last action that the robot is done with, when the first numbered one that
    /// still waits has this number.
    pub(super) fn applied(&self, waiting: Option<u64>) -> u64 {
        waiting.map_or(self.highest, |seq| seq - 1)
    }

    /// What to say of time in an observation that was taken then, if the policy understands it.
    pub(super) fn tell(
        &self,
        taken: Instant,
        applied: u64,
        contract: Option<ContractStatus>,
        ages: impl FnOnce() -> Vec<Option<Duration>>,
    ) -> Option<Timing> {
        self.is_understood.then(|| Timing {
            applied,
            snap: taken.duration_since(self.start),
            ages: ages(),
            last: self.stats.last,
            contract,
        })
    }
}

/// What is left of a time. `None` when the part is longer: then one of the two was not measured,
/// but made up.
fn rest(whole: Duration, part: Duration) -> Option<Duration> {
    /// Clocks are read one after the other, do not run alike to the last digit, and are rounded.
    const INACCURACY: Duration = Duration::from_millis(1);
    (part <= whole.saturating_add(INACCURACY)).then(|| whole.saturating_sub(part))
}

/// One line: the median of each part, in the order in which the time passes.
impl fmt::Display for LatencyStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("sensor wait", &self.sensor_wait),
            ("network, both ways", &self.network),
            ("policy", &self.hold),
            ("robot queue", &self.queue),
        ];
        write_parts(f, &self.age, &parts)
    }
}
