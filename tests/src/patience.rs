use std::time::{Duration, Instant};

/// How long a test still waits for something.
///
/// A machine that stands still for a while, as virtual ones do, costs one look's worth of it, and
/// not the test.
pub struct Patience {
    left: Duration,
    looked_at: Instant,
}

impl Patience {
    /// The longest time between two looks that counts, and so the longest to sleep between them.
    pub const LOOK: Duration = Duration::from_millis(100);

    /// Patience for so long.
    pub fn new(limit: Duration) -> Self {
        Self { left: limit, looked_at: Instant::now() }
    }

    /// Whether it is over. To be asked at each look.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.looked_at).min(Self::LOOK));
        self.looked_at = now;
        self.left.is_zero()
    }
}
