//! Where bytes land that may be anything: headers, control frames, small messages.

use std::fmt;

/// A buffer that is filled behind and emptied in front.
pub(super) struct Stage {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Stage {
    /// A buffer of `capacity` bytes, or more when `filled`, which it holds, is longer.
    pub(super) fn new(capacity: usize, filled: &[u8]) -> Self {
        let mut bytes = vec![0; capacity.max(filled.len())].into_boxed_slice();
        bytes[..filled.len()].copy_from_slice(filled);
        Self { bytes, start: 0, end: filled.len() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// The room behind what is filled; what is filled moves to the front for it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        &mut self.bytes[self.end..]
    }

    /// Counts `count` bytes of the room as filled.
    pub(super) fn fill(&mut self, count: usize) {
        self.end += count;
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stage({} of {} bytes)", self.end - self.start, self.bytes.len())
    }
}
