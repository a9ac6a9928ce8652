use std::time::{Duration, Instant};

/// Lines in each interval.
const LINES: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps a stranger from filling the disk with lines of the log.
#[derive(Default)]
pub(super) struct LogLimit {
    start: Option<Instant>,
    lines: u32,
    passed_over: u64,
}

impl LogLimit {
    /// Whether a line may be logged now, and how many were not since the last one.
    pub(super) fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.start.is_none_or(|start| now.duration_since(start) >= INTERVAL) {
            self.start = Some(now);
            self.lines = 0;
        }
        if self.lines >= LINES {
            self.passed_over += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_over_the_limit_are_counted_and_reported_later() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        let logged = (0..1000).filter(|_| limit.allow(start) == Some(0)).count();
        assert_eq!(logged, LINES as usize);
        assert_eq!(limit.allow(start + INTERVAL), Some(990));
        assert_eq!(limit.allow(start + INTERVAL), Some(0));
    }
}
