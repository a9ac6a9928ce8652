//! Finds what is done again and again without moving anything.

use std::cell::Cell;

/// More polls than this, with no byte moved and no task finished between them, are a busy loop. The
/// driver needs a few for each task, and two for each of the up to 255 messages of one read.
const LIMIT: u32 = 1000;

thread_local! {
    static IDLE_POLLS: Cell<u32> = const { Cell::new(0) };
}

/// Something was polled and nothing came of it so far.
///
/// # Panics
/// When that has happened too often since something moved: that is a finding.
pub fn polled(what: &str) {
    IDLE_POLLS.set(IDLE_POLLS.get() + 1);
    assert!(IDLE_POLLS.get() < LIMIT, "a busy loop; the last poll was of {what}");
}

/// Something has moved: bytes, the end of a stream, a task to its end, or the time.
pub fn made() {
    IDLE_POLLS.set(0);
}
