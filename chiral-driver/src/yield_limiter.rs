use std::time::{Duration, Instant};

/// How often a thread gives way at most.
const INTERVAL: Duration = Duration::from_millis(5);

/// Lets other threads have the processor now and then, amid a long message.
///
/// The system likes to run both ends of a loopback connection on one processor. Whoever copies an
/// image there keeps it for milliseconds, and an action beside it waits. But to give way after each
/// piece would leave a whole time slice to a thread that computes beside it, such as the policy
/// itself, and the image would take many times as long (`chiral bench`).
#[derive(Debug, Default)]
pub struct YieldLimiter {
    last: Option<Instant>,
}

impl YieldLimiter {
    /// To be called after each piece of a long message.
    pub fn after_piece(&mut self) {
        let now = Instant::now();
        match self.last {
            Some(last) if now.duration_since(last) < INTERVAL => {}
            _ => {
                std::thread::yield_now();
                self.last = Some(now);
            }
        }
    }
}
