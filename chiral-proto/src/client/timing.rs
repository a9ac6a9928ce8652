use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::stats::{Histogram, write_parts};
use crate::{Action, ActionTiming, Sent};

/// The policy's part of the timing extension: numbers the actions that leave, and puts what the
/// robot tells of them together with what is known here.
#[derive(Debug, Default)]
pub(super) struct ActionClock {
    /// How many actions have left.
    sent: u64,
    /// The latest of them, in their order.
    recent: VecDeque<SentAction>,
    /// The number of the last action of which the robot has told.
    told: u64,
    pub(super) stats: LatencyStats,
}

/// An action that has left.
#[derive(Debug)]
struct SentAction {
    seq: u64,
    inference: Option<Duration>,
    queue: Duration,
}

/// Where the time went that lies between what the sensors captured and the action that the robot
/// was given. Each part is a difference of one clock.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LatencyStats {
    /// The last action of which the robot has told, whole.
    pub last: Option<ActionLatency>,
    /// See [`ActionTiming::age`].
    pub age: Histogram,
    /// See [`ActionTiming::sensor_wait`].
    pub sensor_wait: Histogram,
    /// See [`ActionTiming::network`].
    pub network: Histogram,
    /// From the arrival of the observation to the actions' being put; of every action that was put
    /// bound to an observation.
    pub inference: Histogram,
    /// From an action's being put to its leaving; of every action.
    pub queue: Histogram,
    /// See [`ActionTiming::queue`].
    pub robot_queue: Histogram,
}

/// Where the time of one action went. The parts add up to its [`age`](ActionTiming::age).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActionLatency {
    /// What the robot told.
    pub robot: ActionTiming,
    /// From the arrival of the observation to the action's being put; `None` if it was bound to
    /// its observation only when it left.
    pub inference: Option<Duration>,
    /// From the action's being put to its leaving.
    pub queue: Duration,
}

impl ActionClock {
    /// How many actions are remembered until the robot tells of them.
    const REMEMBERED: usize = 256;

    /// How many actions have left.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// An action that was put at this instant leaves.
    pub(super) fn leave(&mut self, now: Instant, put_at: Instant, action: &mut Action, tell: bool) {
        self.sent += 1;
        let received = action.obs_timestamps.as_ref().and_then(|timestamps| timestamps.received);
        let queue = now.duration_since(put_at);
        let inference = received.and_then(|received| put_at.checked_duration_since(received));
        self.stats.queue.record(queue);
        self.stats.inference.record_known(inference);
        if !tell {
            action.sent = None;
            return;
        }
        let hold = received.map(|received| now.saturating_duration_since(received));
        action.sent = Some(Sent { seq: self.sent, hold });
        if self.recent.len() == Self::REMEMBERED {
            self.recent.pop_front();
        } else if self.recent.is_empty() {
            self.recent.reserve_exact(Self::REMEMBERED);
        }
        self.recent.push_back(SentAction { seq: self.sent, inference, queue });
    }

    /// Another connection has been made: its actions are numbered from 1 again.
    pub(super) fn begin_connection(&mut self) {
        (self.sent, self.told) = (0, 0);
        self.recent.clear();
    }

    /// The robot has told where the time of an action went.
    pub(super) fn note(&mut self, robot: ActionTiming) {
        let is_news = robot.seq > self.told;
        let Some(left) = self.recent.iter().find(|left| is_news && left.seq == robot.seq) else {
            return;
        };
        self.told = robot.seq;
        let ActionTiming { age, sensor_wait, network, queue, .. } = robot;
        let stats = &mut self.stats;
        for (histogram, time) in [
            (&mut stats.age, age),
            (&mut stats.sensor_wait, sensor_wait),
            (&mut stats.network, network),
            (&mut stats.robot_queue, Some(queue)),
        ] {
            histogram.record_known(time);
        }
        stats.last = Some(ActionLatency { robot, inference: left.inference, queue: left.queue });
    }
}

/// One line: the median of each part, in the order in which the time passes.
impl fmt::Display for LatencyStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("sensor wait", &self.sensor_wait),
            ("network, both ways", &self.network),
            ("inference", &self.inference),
            ("queue", &self.queue),
            ("robot queue", &self.robot_queue),
        ];
        write_parts(f, &self.age, &parts)
    }
}
