use std::collections::VecDeque;
use std::fmt;
use std::mem::discriminant;
use std::time::Duration;

use super::event::Event;
use crate::{ActionError, ArmingState};

/// Why the robot will not be told of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// A newer action came first: [`ActionQueue::Latest`](super::ActionQueue::Latest).
    Superseded,
    /// It waited too long: [`ActionQueue::MaxAge`](super::ActionQueue::MaxAge).
    TooOld,
    /// What waits took more than [`Config::queue_bytes`](super::Config::queue_bytes).
    OverBudget,
    /// It was decided on an observation over
    /// [`Config::max_obs_age`](super::Config::max_obs_age).
    StaleObservation {
        /// The observation's age.
        age: Duration,
        /// The age allowed.
        limit: Duration,
    },
    /// It does not fit [`Config::action_spec`](super::Config::action_spec).
    Refused(ActionError),
    /// The robot [is not armed](crate::Arming).
    NotArmed {
        /// What it is instead: disarmed or stopped.
        state: ArmingState,
    },
    /// It was decided on an observation of before the robot was last stopped.
    BeforeStop,
}

impl DropReason {
    /// Whether it is the same reason, with whatever details.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(one), Self::Refused(other)) => discriminant(one) == discriminant(other),
            _ => discriminant(self) == discriminant(other),
        }
    }
}

/// Completes the sentence "an action was dropped: …".
impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => f.write_str("a newer one came before the robot was free"),
            Self::TooOld => f.write_str("it waited longer than `ActionQueue::MaxAge` allows"),
            Self::OverBudget => f.write_str("what waits takes more than `Config::queue_bytes`"),
            Self::StaleObservation { age, limit } => write!(
                f,
                "it was decided on an observation {age:.1?} old, over the {limit:.1?} of `Config::max_obs_age`"
            ),
            Self::Refused(error) => error.fmt(f),
            Self::NotArmed { state } => {
                write!(f, "the robot is {state}, and has to be armed first")
            }
            Self::BeforeStop => f.write_str("it was decided before the robot was stopped"),
        }
    }
}

/// How many actions, of legacy steps too, were received and never told, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropCounts {
    /// A newer action came first.
    pub superseded: u64,
    /// It waited too long.
    pub too_old: u64,
    /// What waited took too many bytes.
    pub over_budget: u64,
    /// It was decided on an observation that is too old.
    pub stale_observation: u64,
    /// It does not fit the action's specification.
    pub refused: u64,
    /// The robot was not armed, or had been stopped since the action was decided.
    pub not_armed: u64,
    /// The connection ended before the robot was told.
    pub disconnected: u64,
}

impl DropCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { superseded, too_old, over_budget, stale_observation, .. } = *self;
        let Self { refused, not_armed, disconnected, .. } = *self;
        let outdated = superseded + too_old + over_budget + stale_observation;
        outdated + refused + not_armed + disconnected
    }
}

/// The total, and the reasons that occurred.
impl fmt::Display for DropCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.superseded, "superseded"),
            (self.too_old, "too old"),
            (self.over_budget, "over the byte budget"),
            (self.stale_observation, "of a stale observation"),
            (self.refused, "refused"),
            (self.not_armed, "not armed"),
            (self.disconnected, "untold at the end"),
        ];
        write!(f, "{}", self.total())?;
        let mut separator = " (";
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {reason}")?;
            separator = ", ";
        }
        f.write_str(if self.total() > 0 { ")" } else { "" })
    }
}

/// The actions that were dropped: counted, and to be told, merged by reason.
#[derive(Debug, Default)]
pub(super) struct Drops {
    pub(super) counts: DropCounts,
    /// At most one of each reason, with the latest details.
    untold: VecDeque<(u64, DropReason)>,
}

impl Drops {
    pub(super) fn record(&mut self, reason: DropReason) {
        let counts = &mut self.counts;
        *match &reason {
            DropReason::Superseded => &mut counts.superseded,
            DropReason::TooOld => &mut counts.too_old,
            DropReason::OverBudget => &mut counts.over_budget,
            DropReason::StaleObservation { .. } => &mut counts.stale_observation,
            DropReason::Refused(_) => &mut counts.refused,
            DropReason::NotArmed { .. } | DropReason::BeforeStop => &mut counts.not_armed,
        } += 1;
        let same = |(_, told): &&mut (u64, DropReason)| told.is_like(&reason);
        match self.untold.iter_mut().find(same) {
            Some((count, latest)) => (*count, *latest) = (*count + 1, reason),
            None => self.untold.push_back((1, reason)),
        }
    }

    /// The connection has ended with so many actions untold; nothing is told after that.
    pub(super) fn end(&mut self, untold: usize) {
        self.counts.disconnected += untold as u64;
        self.untold.clear();
    }

    pub(super) fn is_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        let (count, reason) = self.untold.pop_front()?;
        Some(Event::ActionsDropped { count, reason })
    }
}
