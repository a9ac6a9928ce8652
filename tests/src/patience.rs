use std::time::{Duration, Instant};

/// A timeout that does not count pauses of the whole machine.
///
/// Only time between two checks counts, and no more than [`LOOK`](Self::LOOK) of it: a virtual
/// machine that is suspended for a while costs one check, and does not fail the test.
pub struct Patience {
    left: Duration,
    looked_at: Instant,
}

impl Patience {
    /// The most time between two checks that counts, and so the longest sleep between them.
    pub const LOOK: Duration = Duration::from_millis(100);

    /// A timeout of this length.
    pub fn new(limit: Duration) -> Self {
        Self { left: limit, looked_at: Instant::now() }
    }

    /// Whether it is over. To be called at each check.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.looked_at).min(Self::LOOK));
        self.looked_at = now;
        self.left.is_zero()
    }
}
