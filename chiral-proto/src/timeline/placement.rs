use std::fmt;
use std::ops::Range;

/// A chunk, by the order in which its client was given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub(crate) u64);

impl ChunkId {
    /// The chunk's number: 0 for the first that its client was given.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chunk {}", self.0)
    }
}

/// How many steps were sent between the capture of an observation and now.
///
/// It is exact where the robot tells which action was the last that it had applied. A robot that
/// does not tell leaves a range: the capture was some time between the request and the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The least that it may be: what was sent since the reply arrived.
    pub min: u64,
    /// The most that it may be: what was sent since the request left.
    pub max: u64,
}

impl Delay {
    /// Whether it is known exactly.
    pub fn is_exact(self) -> bool {
        self.min == self.max
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() {
            write!(f, "{} steps", self.min)
        } else {
            write!(f, "{} to {} steps", self.min, self.max)
        }
    }
}

/// Where a chunk came to lie in the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The chunk's id.
    pub chunk: ChunkId,
    /// The step of row 0. Steps are counted from 0 over the life of the client: step `n` is the `n`-th
    /// planned row that is sent.
    pub base: u64,
    /// The rows, from row 0 on, whose steps had passed already.
    pub skipped: usize,
    /// How many steps were sent since the observation was taken; `None` if that cannot be said of
    /// the observation, which is an error for [`Anchor::Observation`](super::Anchor::Observation).
    pub delay: Option<Delay>,
    /// Old rows that stayed where the chunk has rows too.
    pub kept: usize,
    /// Old rows that were averaged with rows of the chunk.
    pub blended: usize,
    /// Old rows that made way.
    pub replaced: usize,
    /// The first step at which a row of the chunk will be sent; `None` if there is none.
    pub first: Option<u64>,
    /// The delay is longer than [`FollowOptions::max_delay`](super::FollowOptions::max_delay).
    pub late: bool,
    /// The chunk was left out: because it is late, or because it was decided on an observation that
    /// came through a connection which was lost
    /// ([`WhenLost::HoldCalls`](crate::client::WhenLost::HoldCalls)).
    pub discarded: bool,
}

/// Consecutive rows of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The chunk.
    pub chunk: ChunkId,
    /// The first of the rows, counted from 0.
    pub row: usize,
    /// How many rows.
    pub count: usize,
}

impl Span {
    /// The rows, to slice what the policy keeps of the chunk.
    pub fn rows(&self) -> Range<usize> {
        self.row..self.row + self.count
    }
}

/// What a policy that continues its own plan needs to know before it infers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanContext {
    /// The first step that the robot had not executed when the observation was taken: the
    /// [base](Placement::base) of a chunk that is inferred from it.
    pub base: u64,
    /// What is planned from that step on, in order: first what was sent since, then what is still to
    /// be sent. Only the places of the rows, not their values: the policy slices what it keeps of
    /// its chunks, in its own units. Where rows were averaged the newest chunk is named. Empty when
    /// nothing is planned, and for an observation of more than 1024 steps ago.
    pub spans: Vec<Span>,
    /// How many steps were sent since the observation was taken, so far.
    pub delay: Delay,
    /// How many steps will be sent, most likely, until a chunk that is inferred from the observation
    /// is placed: what nine in ten of the last 32 inferences stayed below, the first one of all left
    /// out. `None` before the second inference, and while no dispatch is running.
    pub expected_delay: Option<u64>,
}

impl PlanContext {
    /// How many rows are planned from [`base`](Self::base) on.
    pub fn remaining(&self) -> usize {
        self.spans.iter().map(|span| span.count).sum()
    }
}
