//! Helpers of the module's unit tests.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Where virtual time begins.
#[expect(clippy::disallowed_methods, reason = "an instant has no other origin")]
pub(super) fn epoch() -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    *EPOCH
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
