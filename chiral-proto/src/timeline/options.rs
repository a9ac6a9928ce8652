/// Where the rows of a chunk belong in the timeline: the step of row 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Anchor {
    /// Row 0 belongs to the first step that the robot had not executed when the observation was
    /// taken, row `i` to the `i`-th step after it. Rows whose step has passed are skipped. The
    /// default.
    #[default]
    Observation,
    /// Row 0 is the next to be sent, however long the policy took.
    Next,
    /// Row 0 is for this step, counted as [`Placement::base`](super::Placement::base) is.
    At(u64),
    /// Row 0 follows the last row of the plan.
    End,
}

/// What becomes of the rows that are planned already, from the new chunk's base on. In each case
/// old rows beyond the end of the new chunk are dropped, but for [`Append`](Self::Append).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Merge {
    /// The new rows stand alone. The default.
    #[default]
    Replace,
    /// So many of the rows that would be sent next stay as they are; behind them the new rows stand
    /// alone.
    KeepFirst(usize),
    /// All rows that are planned stay; new rows follow for the steps behind them.
    Append,
    /// For a step that both plan: `(1 - w) * old + w * new`.
    Blend(Weights),
    /// For a step that was planned several times, the mean of all its plans with the weights
    /// `exp(-m * i)`, `i = 0` for the oldest, as ACT does it (there with `m` = 0.01, and a chunk for
    /// every step). Zero is the plain mean; the larger `m`, the more the oldest plan counts.
    TemporalEnsemble {
        /// How fast the weights fall; finite.
        m: f64,
    },
}

/// The weight of the new row where an old and a new one are blended.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Weights {
    /// The same for every step, from 0 (all old) to 1 (all new).
    Constant(f64),
    /// A ramp over so many steps `n`, from the first that both plan: `(j + 1) / (n + 1)` for the
    /// `j`-th, and 1 behind it.
    Crossfade(usize),
}

/// What to do with a chunk that comes later than its policy can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenLate {
    /// It is placed as any other; it is counted, and the placement tells.
    Play,
    /// It is left out, and the old plan goes on. If every chunk is late, the robot stops at the end
    /// of the plan.
    Discard,
}

/// How a chunk is placed in the timeline. The default is what
/// [`Client::follow`](crate::client::Client::follow) does.
///
/// ```
/// use chiral_proto::timeline::{Anchor, FollowOptions, Merge, WhenLate, Weights};
///
/// // The seam between two chunks over five steps; the gripper, dimension 6, is never averaged. A
/// // chunk that is more than 12 steps late is not played.
/// let options = FollowOptions::new()
///     .merge(Merge::Blend(Weights::Crossfade(5)))
///     .average_only(0..6)
///     .max_delay(12, WhenLate::Discard);
/// // What `replace_actions` does.
/// let now = FollowOptions::new().anchor(Anchor::Next);
/// # assert_ne!(options, now);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FollowOptions {
    pub(crate) anchor: Anchor,
    pub(crate) merge: Merge,
    /// The dimensions that are averaged; all, if not said.
    pub(crate) averaged: Option<Vec<usize>>,
    pub(crate) max_delay: Option<(u64, WhenLate)>,
}

impl FollowOptions {
    /// The default: anchored at the observation, replacing the old plan.
    pub const fn new() -> Self {
        Self { anchor: Anchor::Observation, merge: Merge::Replace, averaged: None, max_delay: None }
    }

    /// Where the rows belong.
    #[must_use]
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// What becomes of the rows that are planned already.
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Averages only these dimensions, in a blend or an ensemble; the others take the new value.
    /// What must not be averaged: a gripper that is open or shut, a quaternion, a rotation in six
    /// numbers. A dimension is an index along the last axis of the action.
    #[must_use]
    pub fn average_only(mut self, dimensions: impl IntoIterator<Item = usize>) -> Self {
        self.averaged = Some(dimensions.into_iter().collect());
        self
    }

    /// The longest delay that the policy can bear, in steps, and what to do beyond it. The delay is
    /// the number of steps sent since the observation was taken; where it is not known exactly, the
    /// least that it may be.
    #[must_use]
    pub fn max_delay(mut self, steps: u64, when_late: WhenLate) -> Self {
        self.max_delay = Some((steps, when_late));
        self
    }
}
