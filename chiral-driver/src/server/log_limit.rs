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

/// Keeps what happens again and again from filling the log: of each kind the first is told, then at
/// intervals how many there were.
pub(super) struct Repeated<K>(Vec<(K, Instant, u64)>);

impl<K: Clone> Repeated<K> {
    /// With room for some kinds: a control loop that finds a new one is not to allocate.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(8))
    }

    /// Whether something of a kind is to be told now that has happened so many times more: how many
    /// times it has happened since it was last told.
    pub(super) fn note(
        &mut self,
        now: Instant,
        count: u64,
        kind: &K,
        is_like: impl Fn(&K, &K) -> bool,
    ) -> Option<u64> {
        let Some((_, told, untold)) = self.0.iter_mut().find(|(known, ..)| is_like(known, kind))
        else {
            self.0.push((kind.clone(), now, 0));
            return Some(count);
        };
        *untold += count;
        if now.saturating_duration_since(*told) < INTERVAL {
            return None;
        }
        *told = now;
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_told_and_then_how_many_came_in_each_interval() {
        let start = Instant::now();
        let mut repeated = Repeated::new();
        let mut note = |now, kind| repeated.note(now, 1, &kind, |one, other| one == other);
        assert_eq!((note(start, "bounds"), note(start, "step")), (Some(1), Some(1)));
        assert!((0..99).all(|_| note(start, "bounds").is_none()));
        assert_eq!(note(start + INTERVAL, "bounds"), Some(100));
        assert_eq!(note(start + INTERVAL, "bounds"), None);
        assert_eq!(note(start + INTERVAL, "step"), Some(1));
    }

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
