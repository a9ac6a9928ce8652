//! The action timeline: which row of which chunk is sent at which step.
//!
//! A policy that plans in chunks thinks while the robot moves. By the time that a chunk is there, the
//! robot has gone on, along the chunk before, and the first rows of the new one are of the past. To
//! send them nevertheless makes an arm go back to where it was, chunk for chunk; to guess from a clock
//! how many there are makes it jump.
//!
//! Nothing is guessed here. A **step** is a planned row that was sent: step `n` is the `n`-th of a
//! connection, counted from 0. A tick that finds nothing to send, and a tick that is missed, are no
//! steps, so a robot that stands still does not move on in its timeline. An observation is stamped by
//! the client with the first step that the robot had not executed when it was taken (its *base*), and
//! [`Client::follow`](crate::client::Client::follow) gives row `i` of a chunk to step `base + i`. Rows
//! whose step has been sent are skipped: exactly what was executed in the meantime, never more.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use chiral_proto::client::{Client, Config, Event};
//! use chiral_proto::wire::ServerMessage;
//! use chiral_proto::{Action, Observation, Rate};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
//! let mut now = Instant::now();
//! let mut client = Client::new(Config::default());
//! client.start_action_dispatch(now, Rate::hz(10)?)?;
//! # fn observe(client: &mut Client, now: Instant) -> std::sync::Arc<Observation> {
//! #     client.request_observation(now, None).unwrap();
//! #     while client.poll_transmit(now).is_some() {}
//! #     let reply = ServerMessage::Observation(Observation::default()).encode();
//! #     client.handle_message(now, reply.to_bytes());
//! #     let Some(Event::Observation { observation, .. }) = client.poll_event() else { panic!() };
//! #     observation
//! # }
//! // Ten joint targets, 0.1 s apart.
//! let chunk = |from: u8| (from..from + 10).map(|target| Action::from([f32::from(target)]));
//!
//! // The robot stands still: nothing has passed, however long the policy takes.
//! let observation = observe(&mut client, now);
//! now += Duration::from_millis(150);
//! let placement = client.follow(now, &observation, chunk(0))?;
//! assert_eq!((placement.base, placement.skipped), (0, 0));
//!
//! // Three rows are sent, then the policy looks again.
//! for _ in 0..3 {
//!     now += Duration::from_millis(100);
//!     assert!(client.poll_transmit(now).is_some());
//! }
//! let observation = observe(&mut client, now);
//! // Two more are sent while it thinks: they are the first two of the new chunk.
//! for _ in 0..2 {
//!     now += Duration::from_millis(100);
//!     assert!(client.poll_transmit(now).is_some());
//! }
//! let placement = client.follow(now, &observation, chunk(3))?;
//! assert_eq!((placement.base, placement.skipped, placement.first), (3, 2, Some(5)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a chunking policy does
//! ```text
//! loop {
//!     wait until few rows are left        refill_at, Event::PlanLow
//!     observe
//!     plan_context(&observation)          which rows of its old chunk the robot will execute
//!     infer
//!     follow(&observation, rows)          → Placement: what was skipped, and the actual delay
//! }
//! ```
//!
//! # What is settled by [`FollowOptions`]
//! Where the rows belong ([`Anchor`]), what becomes of rows that are planned already ([`Merge`]), which
//! dimensions may be averaged, and how late a chunk may come.
//!
//! A **reset** begins a new *epoch*: it drops the plan, and a chunk that was decided on an observation
//! of before is refused. So does the loss of the connection, in a client that is
//! [connected again](crate::client::Client::begin_connection); its steps are counted on. A **starved**
//! tick, one that finds no row, sends what [`Starved`] says.

mod delays;
mod merge;
mod options;
mod placement;
mod record;
mod stamp;
mod starved;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use merge::MergeError;
pub(crate) use merge::mix;
pub use options::{Anchor, FollowOptions, Merge, Weights, WhenLate};
pub use placement::{ChunkId, Delay, Placement, PlanContext, Span};
pub(crate) use stamp::Asked;
pub use stamp::{BasisError, Stamp};
pub use starved::Starved;

use crate::{Action, Observation};
use delays::Delays;
use merge::Averaging;
use record::Record;
use stamp::Noted;

/// What was planned and what was sent of it. The front row of the plan is the one of the next step.
#[derive(Debug)]
pub(crate) struct Timeline {
    plan: VecDeque<Row>,
    /// Steps that were sent: the number of the next one.
    steps: u64,
    /// Resets and lost connections so far.
    epoch: u64,
    /// The epoch that began when the last connection was lost; 0 if none was.
    connection_epoch: u64,
    capacity: usize,
    max_age: Option<Duration>,
    next_chunk: u64,
    record: Record,
    delays: Delays,
    refill_at: Option<usize>,
    /// The plan has changed since it was last told to be low.
    is_low_untold: bool,
    /// Tells this client's observations from others'.
    client: Arc<()>,
    pub(crate) counts: Counts,
}

/// One planned action.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) action: Action,
    pub(crate) put_at: Instant,
    chunk: ChunkId,
    /// Its place in the chunk.
    index: usize,
    /// Of how many plans it is the mean, in an ensemble.
    plans: u32,
}

/// What became of rows that were not sent as they were planned, and of chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) expired: u64,
    /// Cleared, replaced, or not needed because the old row stayed.
    pub(crate) dropped: u64,
    pub(crate) skipped: u64,
    pub(crate) blended: u64,
    pub(crate) late: u64,
    pub(crate) discarded: u64,
}

/// Why a chunk was not placed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    Full { waiting: usize, capacity: usize },
    Basis(BasisError),
    Gap { at: u64, end: u64 },
    Merge(MergeError),
}

impl Timeline {
    pub(crate) fn new(capacity: usize, max_age: Option<Duration>) -> Self {
        Self {
            plan: VecDeque::new(),
            steps: 0,
            epoch: 0,
            connection_epoch: 0,
            capacity,
            max_age,
            next_chunk: 0,
            record: Record::default(),
            delays: Delays::default(),
            refill_at: None,
            is_low_untold: false,
            client: Arc::new(()),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.plan.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn next_row(&self) -> Option<&Row> {
        self.plan.front()
    }

    /// Where the timeline is now, for a request that leaves.
    pub(crate) fn asked(&self) -> Asked {
        Asked { steps: self.steps, epoch: self.epoch }
    }

    // ---- observations -------------------------------------------------------------------------

    /// The stamp of an observation that arrives now. `applied`: the number on the wire of the last
    /// action that the robot had applied, zero for none; `None` if the robot does not tell.
    pub(crate) fn stamp(&self, asked: Asked, applied: Option<u64>) -> Stamp {
        Stamp(Some(Arc::new(Noted {
            client: Arc::clone(&self.client),
            epoch: asked.epoch,
            asked: asked.steps,
            arrived: self.steps,
            executed: applied.and_then(|applied| self.record.steps_at(applied)),
        })))
    }

    fn basis<'a>(&self, observation: &'a Observation) -> Result<&'a Noted, BasisError> {
        match &observation.stamp.0 {
            Some(noted) if !Arc::ptr_eq(&noted.client, &self.client) => Err(BasisError::Foreign),
            Some(noted) if noted.epoch < self.connection_epoch => Err(BasisError::FormerConnection),
            Some(noted) if noted.epoch < self.epoch => Err(BasisError::FormerEpoch),
            Some(noted) => Ok(noted),
            None => Err(BasisError::Foreign),
        }
    }

    fn delay(&self, noted: &Noted) -> Delay {
        match noted.executed {
            Some(executed) => Delay { min: self.steps - executed, max: self.steps - executed },
            None => Delay { min: self.steps - noted.arrived, max: self.steps - noted.asked },
        }
    }

    pub(crate) fn context(
        &self,
        observation: &Observation,
        period: Option<Duration>,
    ) -> Result<PlanContext, BasisError> {
        let noted = self.basis(observation)?;
        let base = noted.base();
        let planned = self.plan.iter().map(|row| (row.chunk, row.index));
        let sent = self.record.rows_since(base, self.steps);
        let spans = sent.map_or_else(Vec::new, |sent| record::spans(sent.chain(planned)));
        // What was sent before the observation arrived is known, what the policy takes is expected.
        let on_the_way = noted.arrived.saturating_sub(base);
        let inference = period.and_then(|period| self.delays.expected_steps(period));
        Ok(PlanContext {
            base,
            spans,
            delay: self.delay(noted),
            expected_delay: inference.map(|steps| steps.saturating_add(on_the_way)),
        })
    }

    // ---- the plan -----------------------------------------------------------------------------

    /// Puts rows into the plan: all that are not past, or none.
    pub(crate) fn place(
        &mut self,
        now: Instant,
        observation: Option<&Observation>,
        rows: Vec<Action>,
        options: &FollowOptions,
    ) -> Result<Placement, (Vec<Action>, Refusal)> {
        match self.fit(observation, &rows, options) {
            Ok((fit, averaging)) => Ok(self.commit(now, rows, &fit, averaging.as_ref())),
            Err(refusal) => Err((rows, refusal)),
        }
    }

    /// Where rows would come to lie, or why they cannot. Changes nothing.
    fn fit<'a>(
        &self,
        observation: Option<&Observation>,
        rows: &[Action],
        options: &'a FollowOptions,
    ) -> Result<(Fit, Option<Averaging<'a>>), Refusal> {
        let basis = observation.map(|observation| self.basis(observation));
        let noted = match basis {
            Some(Ok(noted)) => Some(noted),
            // One of another robot may be the basis of an action, one of before the reset never.
            Some(Err(BasisError::Foreign)) if options.anchor != Anchor::Observation => None,
            Some(Err(error)) => return Err(Refusal::Basis(error)),
            None => None,
        };
        let end = self.steps + self.plan.len() as u64;
        let base = match options.anchor {
            Anchor::Observation => noted.map_or(self.steps, Noted::base),
            Anchor::Next => self.steps,
            Anchor::At(step) => step,
            Anchor::End => end,
        };
        if base > end {
            return Err(Refusal::Gap { at: base, end });
        }
        let delay = noted.map(|noted| self.delay(noted));
        let max_delay = options.max_delay.filter(|(max, _)| delay.is_some_and(|d| d.min > *max));
        let arrival = observation.and_then(|observation| observation.arrival);
        let inferred_from = arrival.filter(|_| options.anchor == Anchor::Observation);
        let past = usize::try_from(self.steps.saturating_sub(base)).unwrap_or(usize::MAX);
        let skipped = past.min(rows.len());
        let overlap_at = base.saturating_sub(self.steps) as usize;
        let kept_to = match options.merge {
            Merge::KeepFirst(count) => count.clamp(overlap_at, self.plan.len()),
            Merge::Append => self.plan.len(),
            _ => overlap_at,
        };
        let fit = Fit {
            base,
            skipped,
            overlap_at,
            kept_to,
            delay,
            late: max_delay.is_some(),
            discarded: matches!(max_delay, Some((_, WhenLate::Discard))),
            arrived_at: inferred_from.map(|arrival| arrival.received),
        };
        let averaging = Averaging::of(options).map_err(Refusal::Merge)?;
        if fit.discarded {
            return Ok((fit, averaging));
        }
        let fresh = &rows[skipped..];
        let added = fresh.len().saturating_sub(kept_to - overlap_at);
        if added > 0 && kept_to + added > self.capacity {
            return Err(Refusal::Full { waiting: kept_to, capacity: self.capacity });
        }
        if let Some(averaging) = &averaging {
            for (old, new) in self.plan.range(overlap_at..).zip(fresh) {
                averaging.check(&old.action, new).map_err(Refusal::Merge)?;
            }
        }
        Ok((fit, averaging))
    }

    fn commit(
        &mut self,
        now: Instant,
        rows: Vec<Action>,
        fit: &Fit,
        averaging: Option<&Averaging<'_>>,
    ) -> Placement {
        let chunk = ChunkId(self.next_chunk);
        self.next_chunk += 1;
        if let Some(arrived_at) = fit.arrived_at {
            self.delays.record(now.saturating_duration_since(arrived_at));
        }
        self.counts.late += u64::from(fit.late);
        let mut placement = Placement {
            chunk,
            base: fit.base,
            skipped: fit.skipped,
            delay: fit.delay,
            kept: 0,
            blended: 0,
            replaced: 0,
            first: None,
            late: fit.late,
            discarded: fit.discarded,
        };
        if fit.discarded {
            self.counts.discarded += 1;
            self.counts.dropped += rows.len() as u64;
            placement.skipped = 0;
            return placement;
        }
        let mut fresh = rows.into_iter().enumerate().skip(fit.skipped);
        // Rows of the chunk for steps at which the old row stays.
        placement.kept = fresh.by_ref().take(fit.kept_to - fit.overlap_at).count();
        let mut at = fit.kept_to;
        for (index, action) in fresh {
            let mut new = Row { action, put_at: now, chunk, index, plans: 1 };
            placement.first.get_or_insert(self.steps + at as u64);
            if let Some(old) = self.plan.get_mut(at) {
                let averaged = averaging
                    .map(|averaging| (averaging, averaging.weight(at - fit.overlap_at, old.plans)))
                    .filter(|(_, (weight, _))| *weight < 1.0);
                if let Some((averaging, (weight, plans))) = averaged {
                    new.action.values = averaging.average(&old.action, &new.action, weight);
                    new.plans = plans;
                    placement.blended += 1;
                } else {
                    placement.replaced += 1;
                }
                *old = new;
            } else {
                self.plan.push_back(new);
            }
            at += 1;
        }
        let beyond = self.plan.len() - at.min(self.plan.len());
        self.plan.truncate(at);
        placement.replaced += beyond;
        self.counts.skipped += placement.skipped as u64;
        self.counts.blended += placement.blended as u64;
        self.counts.dropped += (placement.kept + placement.replaced) as u64;
        self.is_low_untold = true;
        placement
    }

    /// Empties the plan and returns how many rows were in it.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.plan.drain(..).count();
        self.counts.dropped += dropped as u64;
        dropped
    }

    /// A reset was asked for: nothing that was planned before it is sent any more.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.clear();
    }

    /// The connection is lost: nothing that was planned, or is decided on what was seen, through it
    /// is sent any more.
    pub(crate) fn end_connection(&mut self) {
        self.begin_epoch();
        self.connection_epoch = self.epoch;
    }

    /// Another connection has been made. The robot counts what it applies from none on.
    pub(crate) fn begin_connection(&mut self) {
        self.record.begin_connection(self.steps);
        self.is_low_untold = true;
    }

    /// Leaves a chunk out that was decided on what was seen through a connection which was lost.
    pub(crate) fn discard(&mut self, rows: &[Action]) -> Placement {
        let chunk = ChunkId(self.next_chunk);
        self.next_chunk += 1;
        self.counts.discarded += 1;
        self.counts.dropped += rows.len() as u64;
        Placement {
            chunk,
            base: self.steps,
            skipped: 0,
            delay: None,
            kept: 0,
            blended: 0,
            replaced: 0,
            first: None,
            late: false,
            discarded: true,
        }
    }

    /// As [`context`](Self::context), of a plan of which nothing is left.
    pub(crate) fn empty_context(&self) -> PlanContext {
        PlanContext {
            base: self.steps,
            spans: Vec::new(),
            delay: Delay { min: 0, max: 0 },
            expected_delay: None,
        }
    }

    // Rows were put one after the other, so the oldest is always in front.
    pub(crate) fn drop_expired(&mut self, now: Instant) {
        let Some(max_age) = self.max_age else { return };
        while self.plan.front().is_some_and(|row| now.duration_since(row.put_at) > max_age) {
            self.plan.pop_front();
            self.counts.expired += 1;
        }
    }

    // ---- what is sent -------------------------------------------------------------------------

    /// Takes the row of the next step, which is sent now.
    pub(crate) fn take_step(&mut self, now: Instant) -> Option<Row> {
        self.drop_expired(now);
        let row = self.plan.pop_front()?;
        self.record.note_row(row.chunk, row.index);
        self.steps += 1;
        Some(row)
    }

    /// Notes that an action left as number `seq` on the wire, a step or not.
    pub(crate) fn note_sent(&mut self, seq: u64) {
        self.record.note_sent(seq, self.steps);
    }

    // ---- refilling ----------------------------------------------------------------------------

    pub(crate) fn set_refill_at(&mut self, rows: usize) {
        self.refill_at = Some(rows);
        self.is_low_untold = true;
    }

    pub(crate) fn refill_at(&self) -> Option<usize> {
        self.refill_at
    }

    /// How many rows remain, if it is time for the next chunk and was not told yet.
    pub(crate) fn take_low(&mut self) -> Option<usize> {
        let is_low = self.is_low_untold && self.refill_at.is_some_and(|at| self.plan.len() <= at);
        if is_low {
            self.is_low_untold = false;
        }
        is_low.then_some(self.plan.len())
    }
}

/// Where the rows of a chunk come to lie; places in the plan are counted from its front.
struct Fit {
    base: u64,
    skipped: usize,
    /// The place of the first row that is not past.
    overlap_at: usize,
    /// Up to here the old rows stay.
    kept_to: usize,
    delay: Option<Delay>,
    late: bool,
    discarded: bool,
    /// When the observation arrived from which the chunk was inferred.
    arrived_at: Option<Instant>,
}
