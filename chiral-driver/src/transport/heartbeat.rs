use std::time::Instant;

use chiral_proto::ws::Keepalive;

/// Pings for a WebSocket whose message layer shows whole messages only: a sign of life is any
/// message, and progress is a message that was flushed.
pub(super) struct Heartbeat {
    keepalive: Option<Keepalive>,
    last_ping: Instant,
    state: State,
}

enum State {
    Resting,
    /// A ping is to be handed over, behind what is being written.
    Wanted {
        since: Instant,
    },
    /// A ping was handed over and is not flushed yet.
    Flushing {
        since: Instant,
    },
    Sent {
        since: Instant,
    },
}

impl Heartbeat {
    pub(super) fn new(now: Instant, keepalive: Option<Keepalive>) -> Self {
        Self { keepalive, last_ping: now, state: State::Resting }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let Keepalive { interval, timeout } = self.keepalive?;
        match self.state {
            State::Resting => self.last_ping.checked_add(interval),
            State::Wanted { since } | State::Flushing { since } | State::Sent { since } => {
                since.checked_add(timeout)
            }
        }
    }

    /// Wants a ping, or finds that the peer is gone, when that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        if let State::Resting = self.state {
            self.last_ping = now;
            self.state = State::Wanted { since: now };
            return Ok(());
        }
        let timeout = self.keepalive.map(|keepalive| keepalive.timeout).unwrap_or_default();
        Err(format!("the peer is unresponsive: nothing came from it for {timeout:?} after a ping"))
    }

    /// Whether to hand a ping over now; said once.
    pub(super) fn wants_ping(&mut self) -> bool {
        let State::Wanted { since } = self.state else { return false };
        self.state = State::Flushing { since };
        true
    }

    /// Everything handed over has been flushed.
    pub(super) fn flushed(&mut self, now: Instant) {
        match &mut self.state {
            State::Resting | State::Sent { .. } => {}
            State::Wanted { since } => *since = now,
            State::Flushing { .. } => self.state = State::Sent { since: now },
        }
    }

    /// A message came.
    pub(super) fn heard(&mut self) {
        // What comes before the ping is out is no answer to it, but proves as much.
        self.state = match self.state {
            State::Wanted { since } => State::Wanted { since },
            _ => State::Resting,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn heartbeat(now: Instant) -> Heartbeat {
        Heartbeat::new(now, Some(Keepalive { interval: 20 * SECOND, timeout: 10 * SECOND }))
    }

    #[test]
    fn pings_are_sent_at_the_interval_while_the_peer_answers() {
        let start = Instant::now();
        let mut heartbeat = heartbeat(start);
        for round in 1..4 {
            let due = start + 20 * SECOND * round;
            assert_eq!(heartbeat.deadline(), Some(due));
            assert_eq!(heartbeat.handle_timeout(start + SECOND * (20 * round - 1)), Ok(()));
            assert!(!heartbeat.wants_ping());
            assert_eq!(heartbeat.handle_timeout(due), Ok(()));
            assert!(heartbeat.wants_ping() && !heartbeat.wants_ping());
            heartbeat.flushed(due);
            heartbeat.heard();
        }
    }

    #[test]
    fn an_unanswered_ping_or_a_blocked_write_times_out() {
        let start = Instant::now();
        let mut blocked = heartbeat(start);
        assert_eq!(blocked.handle_timeout(start + 20 * SECOND), Ok(()));
        assert_eq!(blocked.handle_timeout(start + 29 * SECOND), Ok(()));
        assert!(blocked.handle_timeout(start + 30 * SECOND).is_err());

        let mut silent = heartbeat(start);
        assert_eq!(silent.handle_timeout(start + 20 * SECOND), Ok(()));
        silent.flushed(start + 25 * SECOND); // a message of ours went out first
        assert!(silent.wants_ping());
        silent.flushed(start + 26 * SECOND);
        silent.flushed(start + 35 * SECOND); // the kernel taking messages is no sign of life
        assert_eq!(silent.deadline(), Some(start + 36 * SECOND));
        assert!(silent.handle_timeout(start + 36 * SECOND).is_err());
    }

    #[test]
    fn without_keepalive_there_is_no_deadline() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, None);
        assert_eq!(heartbeat.deadline(), None);
        assert_eq!(heartbeat.handle_timeout(start + 1000 * SECOND), Ok(()));
        assert!(!heartbeat.wants_ping());
    }
}
