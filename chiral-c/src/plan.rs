//! The action timeline: where chunks come to lie.

use chiral_blocking::proto::timeline::{Anchor, FollowOptions, Merge, Weights, WhenLate};

use crate::actions::actions;
use crate::client::chiral_client;
use crate::error::{CHIRAL_NOT_QUEUED, CHIRAL_OK, Failure, chiral_status, guard};
use crate::memory;
use crate::observation::chiral_observation;
use crate::sized::{self, sized};

/// Row 0 belongs to the first step that the robot had not executed when the observation was taken;
/// rows whose step has passed are skipped.
pub const CHIRAL_ANCHOR_OBSERVATION: i32 = 0;
/// Row 0 is the next to be sent, however long the policy took.
pub const CHIRAL_ANCHOR_NEXT: i32 = 1;
/// Row 0 is for the step `anchor_step`.
pub const CHIRAL_ANCHOR_AT: i32 = 2;
/// Row 0 follows the last row of the plan.
pub const CHIRAL_ANCHOR_END: i32 = 3;

/// The new rows stand alone.
pub const CHIRAL_MERGE_REPLACE: i32 = 0;
/// `merge_rows` of the rows that would be sent next stay.
pub const CHIRAL_MERGE_KEEP_FIRST: i32 = 1;
/// All rows that are planned stay.
pub const CHIRAL_MERGE_APPEND: i32 = 2;
/// The mean of old and new, the new with the weight `merge_weight`, from 0 to 1.
pub const CHIRAL_MERGE_BLEND: i32 = 3;
/// From old to new over `merge_rows` steps.
pub const CHIRAL_MERGE_CROSSFADE: i32 = 4;
/// The mean of all plans for a step with the weights `exp(-m * i)`, where `m` is `merge_weight` and
/// `i` is 0 for the oldest.
pub const CHIRAL_MERGE_ENSEMBLE: i32 = 5;

/// There is no longest delay.
pub const CHIRAL_LATE_NEVER: i32 = 0;
/// A chunk that is late is placed as any other, and said to be late.
pub const CHIRAL_LATE_PLAY: i32 = 1;
/// A chunk that is late is left out.
pub const CHIRAL_LATE_DISCARD: i32 = 2;

/// How a chunk is placed in the plan. All zero: anchored at the observation, replacing the old plan.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_follow_options {
    /// `sizeof(chiral_follow_options)`.
    pub size: usize,
    /// Where the rows belong: one of `CHIRAL_ANCHOR_…`.
    pub anchor: i32,
    /// The step of `CHIRAL_ANCHOR_AT`.
    pub anchor_step: u64,
    /// What becomes of the rows that are planned already: one of `CHIRAL_MERGE_…`.
    pub merge: i32,
    /// How many rows, where `merge` needs it.
    pub merge_rows: usize,
    /// The weight, where `merge` needs it.
    pub merge_weight: f64,
    /// The dimensions that may be averaged; null for all.
    pub averaged: *const usize,
    /// How many they are.
    pub averaged_count: usize,
    /// What to do with a chunk whose delay is longer than `max_delay`: one of `CHIRAL_LATE_…`.
    pub when_late: i32,
    /// In steps.
    pub max_delay: u64,
}

/// Where a chunk came to lie.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_placement {
    /// `sizeof(chiral_placement)`.
    pub size: usize,
    /// The chunk's number, counted from 0.
    pub chunk: u64,
    /// The step of row 0.
    pub base: u64,
    /// The rows, from row 0 on, whose steps had passed already.
    pub skipped: usize,
    /// Old rows that stayed where the chunk has rows too.
    pub kept: usize,
    /// Old rows that were averaged with rows of the chunk.
    pub blended: usize,
    /// Old rows that made way.
    pub replaced: usize,
    /// The first step at which a row of the chunk will be sent, if there is one.
    pub first: u64,
    /// How many steps were sent since the observation was taken: the least and the most.
    pub delay_min: u64,
    /// The most; the same where it is known exactly.
    pub delay_max: u64,
    /// Whether `first` says something.
    pub has_first: bool,
    /// Whether the delay is known.
    pub has_delay: bool,
    /// The delay is longer than the options allow.
    pub late: bool,
    /// The chunk was left out because it is late.
    pub discarded: bool,
}

/// What a policy that goes on with its own plan needs to know before it infers.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct chiral_plan_context {
    /// `sizeof(chiral_plan_context)`.
    pub size: usize,
    /// The first step that the robot had not executed when the observation was taken.
    pub base: u64,
    /// How many steps were sent since: the least.
    pub delay_min: u64,
    /// The most; the same where it is known exactly.
    pub delay_max: u64,
    /// How many steps will be sent, most likely, until a chunk inferred from it is placed.
    pub expected_delay: u64,
    /// Whether `expected_delay` says something.
    pub has_expected_delay: bool,
    /// How many spans of rows are planned from `base` on.
    pub spans: usize,
}

sized!(chiral_follow_options, chiral_placement, chiral_plan_context);

/// Puts a chunk of `count` rows of `width` values each where it belongs: row `i` is for the `i`-th
/// step after `observation` was taken, rows whose step has passed are skipped, and the others replace
/// the old plan. `options` say otherwise, and may be null. `placement` may be null.
///
/// With `CHIRAL_ANCHOR_NEXT` it is what `replace_actions` is elsewhere; `observation` is then only
/// what the rows say they were decided on.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_follow(
    client: *const chiral_client,
    observation: *const chiral_observation,
    values: *const f32,
    count: usize,
    width: usize,
    options: *const chiral_follow_options,
    placement: *mut chiral_placement,
) -> chiral_status {
    guard(|| {
        if !placement.is_null() {
            // SAFETY: as the header asks of callers.
            unsafe { sized::check_place(placement)? };
        }
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow(observation, "observation")? };
        // SAFETY: as the header asks of callers.
        let rows = unsafe { actions(values, count, width)? };
        // SAFETY: as the header asks of callers.
        let options = unsafe { sized::read_or_default(options)? };
        // SAFETY: as the header asks of callers.
        let options = unsafe { options.read()? };
        let placed = client.0.follow_with(&observation.shared, rows, &options)?;
        if placement.is_null() {
            return Ok(CHIRAL_OK);
        }
        let value = chiral_placement {
            chunk: placed.chunk.number(),
            base: placed.base,
            skipped: placed.skipped,
            kept: placed.kept,
            blended: placed.blended,
            replaced: placed.replaced,
            first: placed.first.unwrap_or_default(),
            delay_min: placed.delay.map_or(0, |delay| delay.min),
            delay_max: placed.delay.map_or(0, |delay| delay.max),
            has_first: placed.first.is_some(),
            has_delay: placed.delay.is_some(),
            late: placed.late,
            discarded: placed.discarded,
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(placement, &value)? };
        Ok(CHIRAL_OK)
    })
}

impl chiral_follow_options {
    /// # Safety
    /// Its pointers are valid.
    unsafe fn read(&self) -> Result<FollowOptions, Failure> {
        let no = |what, value| Failure::misuse(format_args!("{value} is no {what}"));
        let anchor = match self.anchor {
            CHIRAL_ANCHOR_OBSERVATION => Anchor::Observation,
            CHIRAL_ANCHOR_NEXT => Anchor::Next,
            CHIRAL_ANCHOR_AT => Anchor::At(self.anchor_step),
            CHIRAL_ANCHOR_END => Anchor::End,
            other => return Err(no("anchor", other)),
        };
        let merge = match self.merge {
            CHIRAL_MERGE_REPLACE => Merge::Replace,
            CHIRAL_MERGE_KEEP_FIRST => Merge::KeepFirst(self.merge_rows),
            CHIRAL_MERGE_APPEND => Merge::Append,
            CHIRAL_MERGE_BLEND => Merge::Blend(Weights::Constant(self.merge_weight)),
            CHIRAL_MERGE_CROSSFADE => Merge::Blend(Weights::Crossfade(self.merge_rows)),
            CHIRAL_MERGE_ENSEMBLE => Merge::TemporalEnsemble { m: self.merge_weight },
            other => return Err(no("merge", other)),
        };
        let mut options = FollowOptions::new().anchor(anchor).merge(merge);
        if !self.averaged.is_null() {
            // SAFETY: the caller's promise.
            let averaged =
                unsafe { memory::slice(self.averaged, self.averaged_count, "averaged")? };
            options = options.average_only(averaged.iter().copied());
        }
        match self.when_late {
            CHIRAL_LATE_NEVER => Ok(options),
            CHIRAL_LATE_PLAY => Ok(options.max_delay(self.max_delay, WhenLate::Play)),
            CHIRAL_LATE_DISCARD => Ok(options.max_delay(self.max_delay, WhenLate::Discard)),
            other => Err(no("way with late chunks", other)),
        }
    }
}

/// What a policy needs to know before it infers from an observation: which rows of its own chunks the
/// robot executes from there on, and how many steps the inference will take.
///
/// `spans` gets three numbers for each span of consecutive rows: the chunk's number, the first row,
/// and how many rows; `capacity` says for how many spans there is room. `context->spans` says how
/// many there are.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_plan_context(
    client: *const chiral_client,
    observation: *const chiral_observation,
    context: *mut chiral_plan_context,
    spans: *mut u64,
    capacity: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        let client = unsafe { memory::borrow(client, "client")? };
        // SAFETY: as the header asks of callers.
        let observation = unsafe { memory::borrow(observation, "observation")? };
        let len = capacity.checked_mul(3);
        let len = len.ok_or_else(|| Failure::misuse("there cannot be so many spans"))?;
        // SAFETY: as the header asks of callers.
        let places = unsafe { memory::places(spans, len, "spans")? };
        let found = client
            .0
            .plan_context(&observation.shared)
            .map_err(|error| Failure::new(CHIRAL_NOT_QUEUED, error))?;
        let numbers = found
            .spans
            .iter()
            .flat_map(|span| [span.chunk.number(), span.row as u64, span.count as u64]);
        for (place, number) in places.iter_mut().zip(numbers) {
            place.write(number);
        }
        let value = chiral_plan_context {
            base: found.base,
            delay_min: found.delay.min,
            delay_max: found.delay.max,
            expected_delay: found.expected_delay.unwrap_or_default(),
            has_expected_delay: found.expected_delay.is_some(),
            spans: found.spans.len(),
            ..sized::zeroed()
        };
        // SAFETY: as the header asks of callers.
        unsafe { sized::write(context, &value)? };
        Ok(CHIRAL_OK)
    })
}

/// Sets at how many rows of the plan, or fewer, it is time for the next chunk, for
/// `chiral_client_plan_low`. At first: none.
///
/// Any thread; never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chiral_client_refill_at(
    client: *const chiral_client,
    rows: usize,
) -> chiral_status {
    guard(|| {
        // SAFETY: as the header asks of callers.
        unsafe { memory::borrow(client, "client")? }.0.refill_at(rows);
        Ok(CHIRAL_OK)
    })
}
