//! What a timeline must do, written as plainly as can be: a list of rows, a rule for each step, and
//! the definitions of the documentation at their word.

use std::time::{Duration, Instant};

pub(crate) type Values = [f64; 2];

/// A planned row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// All plans of the step that an ensemble averages, the oldest first; of other rows the one.
    plans: Vec<Values>,
    pub(crate) chunk: u64,
    pub(crate) row: usize,
    pub(crate) put_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Merge {
    Replace,
    KeepFirst(usize),
    Append,
    Constant(f64),
    Crossfade(usize),
    Ensemble,
}

/// How a chunk is placed: its rows, and from which step on.
pub(crate) struct Chunk {
    pub(crate) rows: Vec<Values>,
    pub(crate) base: u64,
    pub(crate) merge: Merge,
    /// Only the first dimension is averaged.
    pub(crate) masked: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) skipped: usize,
    pub(crate) first: Option<u64>,
}

pub(crate) struct Reference {
    pub(crate) capacity: usize,
    pub(crate) max_age: Option<Duration>,
    /// The decay of ensembles.
    pub(crate) m: f64,
    pub(crate) plan: Vec<Row>,
    /// Chunk and row of every step that was sent.
    pub(crate) sent: Vec<(u64, usize)>,
    pub(crate) chunks: u64,
    pub(crate) skipped: u64,
}

impl Reference {
    pub(crate) fn steps(&self) -> u64 {
        self.sent.len() as u64
    }

    pub(crate) fn end(&self) -> u64 {
        self.steps() + self.plan.len() as u64
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        let max_age = self.max_age;
        self.plan.retain(|row| max_age.is_none_or(|max_age| now - row.put_at <= max_age));
    }

    /// The row that is sent as the next step.
    pub(crate) fn send(&mut self, now: Instant) -> Option<Row> {
        self.expire(now);
        if self.plan.is_empty() {
            return None;
        }
        let row = self.plan.remove(0);
        self.sent.push((row.chunk, row.row));
        Some(row)
    }

    /// `None` if it is refused: it does not fit, or begins behind the end.
    pub(crate) fn place(&mut self, now: Instant, chunk: &Chunk) -> Option<Placed> {
        self.expire(now);
        let (next, old_end) = (self.steps(), self.end());
        if chunk.base > old_end {
            return None;
        }
        let new_end = chunk.base + chunk.rows.len() as u64;
        let mut plan = Vec::new();
        let mut first = None;
        let mut both = 0;
        for step in next..old_end.max(new_end) {
            let old = self.plan.get((step - next) as usize);
            let new = step
                .checked_sub(chunk.base)
                .and_then(|i| Some((i as usize, chunk.rows.get(i as usize)?)));
            let stays = match chunk.merge {
                Merge::KeepFirst(count) => step - next < count as u64,
                Merge::Append => true,
                _ => false,
            };
            match (old, new) {
                (Some(old), _) if step < chunk.base || stays => plan.push(old.clone()),
                (old, Some((row, values))) => {
                    let plans = match old {
                        Some(old) => self.merged(old, *values, chunk, both),
                        None => vec![*values],
                    };
                    both += usize::from(old.is_some());
                    first.get_or_insert(step);
                    plan.push(Row { plans, chunk: self.chunks, row, put_at: now });
                }
                // Beyond the new chunk's end the old plan is over.
                (_, None) => {}
            }
        }
        if plan.len() > self.capacity {
            return None;
        }
        self.plan = plan;
        self.chunks += 1;
        let skipped = next.saturating_sub(chunk.base).min(chunk.rows.len() as u64);
        self.skipped += skipped;
        Some(Placed { skipped: skipped as usize, first })
    }

    /// The plans of the `j`-th step that both have.
    fn merged(&self, old: &Row, new: Values, chunk: &Chunk, j: usize) -> Vec<Values> {
        let weight = match chunk.merge {
            Merge::Constant(weight) => weight,
            Merge::Crossfade(len) if j < len => (j + 1) as f64 / (len + 1) as f64,
            Merge::Ensemble => {
                let mut plans = old.plans.clone();
                plans.push(new);
                return plans;
            }
            _ => 1.0,
        };
        let old = self.values(old);
        let blend = |i: usize| (1.0 - weight) * old[i] + weight * new[i];
        vec![[blend(0), if chunk.masked { new[1] } else { blend(1) }]]
    }

    /// The mean with the weights exp(-m·i), i = 0 the oldest.
    pub(crate) fn values(&self, row: &Row) -> Values {
        let weights: Vec<f64> = (0..row.plans.len()).map(|i| (-self.m * i as f64).exp()).collect();
        let mean = |dimension: usize| {
            let weighted = row.plans.iter().zip(&weights).map(|(plan, w)| plan[dimension] * w);
            weighted.sum::<f64>() / weights.iter().sum::<f64>()
        };
        [mean(0), mean(1)]
    }
}
