use std::collections::VecDeque;

use super::placement::{ChunkId, Span};

/// What was sent of late: which step each action on the wire reached, and which row each step was.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Number on the wire, and how many steps had been sent with it.
    sequence: VecDeque<(u64, u64)>,
    /// Steps that were sent over the connections before.
    steps_before: u64,
    /// Actions left, and were forgotten.
    is_truncated: bool,
    /// The rows of the last steps.
    rows: VecDeque<(ChunkId, usize)>,
}

impl Record {
    /// How far back it goes.
    pub(super) const LEN: usize = 1024;

    /// Forgets everything: another connection begins, after so many steps.
    pub(super) fn begin_connection(&mut self, steps: u64) {
        self.sequence.clear();
        self.rows.clear();
        self.is_truncated = false;
        self.steps_before = steps;
    }

    /// Notes an action that left as number `seq`, which grows; `steps` were sent with it.
    pub(super) fn note_sent(&mut self, seq: u64, steps: u64) {
        self.is_truncated |= push(&mut self.sequence, (seq, steps));
    }

    /// Notes the row that was sent as the next step.
    pub(super) fn note_row(&mut self, chunk: ChunkId, row: usize) {
        push(&mut self.rows, (chunk, row));
    }

    /// How many steps had been executed by a robot that had applied the action `applied`, zero for
    /// none of this connection's; `None` if that action left too long ago, or never.
    pub(super) fn steps_at(&self, applied: u64) -> Option<u64> {
        let last = self.sequence.back().map_or(0, |(seq, _)| *seq);
        if applied > last {
            return None;
        }
        let reached = self.sequence.partition_point(|(seq, _)| *seq <= applied);
        match reached.checked_sub(1) {
            Some(index) => Some(self.sequence[index].1),
            None => (!self.is_truncated).then_some(self.steps_before),
        }
    }

    /// The rows of the steps from `base` to the last one that was sent, which is `steps - 1`; `None`
    /// if they were sent too long ago.
    pub(super) fn rows_since(
        &self,
        base: u64,
        steps: u64,
    ) -> Option<impl Iterator<Item = (ChunkId, usize)>> {
        let since = usize::try_from(steps.saturating_sub(base)).ok()?;
        let start = self.rows.len().checked_sub(since)?;
        Some(self.rows.iter().skip(start).copied())
    }
}

/// Appends to what goes no further back than the record; says whether something was forgotten. Its
/// memory is taken at once, so that no tick has to wait for it later.
fn push<T>(recent: &mut VecDeque<T>, item: T) -> bool {
    if recent.is_empty() {
        recent.reserve_exact(Record::LEN);
    }
    let is_full = recent.len() == Record::LEN;
    if is_full {
        recent.pop_front();
    }
    recent.push_back(item);
    is_full
}

/// Rows in order, as spans.
pub(super) fn spans(rows: impl Iterator<Item = (ChunkId, usize)>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (chunk, row) in rows {
        match spans.last_mut() {
            Some(span) if span.chunk == chunk && span.rows().end == row => span.count += 1,
            _ => spans.push(Span { chunk, row, count: 1 }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_turned_into_steps() {
        let mut record = Record::default();
        assert_eq!(record.steps_at(0), Some(0));
        assert_eq!(record.steps_at(1), None, "never sent");
        // A row, a hold, two rows.
        for (seq, steps) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
            record.note_sent(seq, steps);
        }
        let reached = [0, 1, 2, 3, 4].map(|seq| record.steps_at(seq));
        assert_eq!(reached, [0, 1, 1, 2, 3].map(Some));
        assert_eq!(record.steps_at(5), None);
    }

    #[test]
    fn the_record_forgets_what_is_long_ago() {
        let mut record = Record::default();
        for seq in 1..=3000 {
            record.note_sent(seq, seq);
            record.note_row(ChunkId(seq), 0);
        }
        assert_eq!(record.sequence.len(), Record::LEN);
        assert_eq!(record.steps_at(0), None);
        assert_eq!(record.steps_at(1976), None);
        assert_eq!(record.steps_at(1977), Some(1977));
        assert!(record.rows_since(1975, 3000).is_none());
        assert_eq!(record.rows_since(1976, 3000).unwrap().count(), 1024);
        assert_eq!(record.rows_since(2999, 3000).unwrap().next(), Some((ChunkId(3000), 0)));
    }

    #[test]
    fn spans_join_consecutive_rows_of_a_chunk() {
        let [a, b] = [ChunkId(0), ChunkId(1)];
        let rows = [(a, 5), (a, 6), (b, 3), (b, 4), (b, 6), (a, 7)];
        let span = |chunk, row, count| Span { chunk, row, count };
        assert_eq!(
            spans(rows.into_iter()),
            [span(a, 5, 2), span(b, 3, 2), span(b, 6, 1), span(a, 7, 1)]
        );
    }
}
