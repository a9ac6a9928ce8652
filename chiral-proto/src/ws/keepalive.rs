//! Pings at a fixed interval, and the verdict on a peer that gives no sign of life.

use std::time::{Duration, Instant};

/// When to ping, and how long to wait for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Time between pings. Default: 20 s.
    pub interval: Duration,
    /// Time that a peer may be silent after a ping. Default: 20 s.
    ///
    /// A sign of life is any received byte, not just the pong, which cannot overtake a large
    /// message that is still arriving; and, while the ping waits behind a message of this side,
    /// any byte that the socket takes.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(20) }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Dead,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    config: Keepalive,
    last_ping: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Until the next ping.
    Resting,
    /// A ping waits behind a message; `since` is the last sign of life.
    Queued { since: Instant },
    /// The socket took the ping.
    Sent { since: Instant },
}

impl Heartbeat {
    pub(super) fn new(config: Keepalive, now: Instant) -> Self {
        Self { config, last_ping: now, state: State::Resting }
    }

    /// When `due` has something to say; never for times beyond what an `Instant` can hold.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Resting => self.last_ping.checked_add(self.config.interval),
            State::Queued { since } | State::Sent { since } => {
                since.checked_add(self.config.timeout)
            }
        }
    }

    /// What is due at `now`. A ping that is due counts as queued.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.deadline()? > now {
            return None;
        }
        if let State::Resting = self.state {
            self.last_ping = now;
            self.state = State::Queued { since: now };
            Some(Due::Ping)
        } else {
            Some(Due::Dead)
        }
    }

    /// The socket took bytes.
    pub(super) fn progressed(&mut self, now: Instant) {
        if let State::Queued { since } = &mut self.state {
            *since = now;
        }
    }

    /// The socket took the ping.
    pub(super) fn ping_sent(&mut self, now: Instant) {
        if let State::Queued { .. } = self.state {
            self.state = State::Sent { since: now };
        }
    }

    /// Bytes arrived.
    pub(super) fn received(&mut self, now: Instant) {
        match &mut self.state {
            State::Resting => {}
            // Sent before the peer could know of the ping: it stays watched.
            State::Queued { since } => *since = now,
            State::Sent { .. } => self.state = State::Resting,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.config.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::tests::{epoch, seconds};

    fn heartbeat() -> Heartbeat {
        let config = Keepalive { interval: seconds(20), timeout: seconds(10) };
        Heartbeat::new(config, epoch())
    }

    #[test]
    fn pings_keep_their_interval_while_the_peer_answers() {
        let mut heartbeat = heartbeat();
        for round in 1..5 {
            let due = epoch() + seconds(20) * round;
            assert_eq!(heartbeat.deadline(), Some(due));
            assert_eq!(heartbeat.due(due.checked_sub(seconds(1)).expect("after the epoch")), None);
            assert_eq!(heartbeat.due(due), Some(Due::Ping));
            heartbeat.ping_sent(due);
            heartbeat.received(due + seconds(5));
        }
    }

    #[test]
    fn silence_after_a_sent_ping_is_death() {
        let mut heartbeat = heartbeat();
        let pinged = epoch() + seconds(20);
        assert_eq!(heartbeat.due(pinged), Some(Due::Ping));
        heartbeat.received(pinged + seconds(1)); // was under way before the ping went out
        heartbeat.ping_sent(pinged + seconds(3));
        heartbeat.progressed(pinged + seconds(9)); // the kernel taking bytes is no longer a sign
        assert_eq!(heartbeat.due(pinged + seconds(12)), None);
        assert_eq!(heartbeat.due(pinged + seconds(13)), Some(Due::Dead));
    }

    #[test]
    fn a_ping_behind_a_long_message_waits_while_the_socket_takes_bytes() {
        let mut heartbeat = heartbeat();
        let pinged = epoch() + seconds(20);
        assert_eq!(heartbeat.due(pinged), Some(Due::Ping));
        for step in 1..20 {
            heartbeat.progressed(pinged + seconds(9) * step);
            assert_eq!(heartbeat.due(pinged + seconds(9) * step + seconds(8)), None);
        }
        assert_eq!(heartbeat.due(pinged + seconds(9 * 19 + 10)), Some(Due::Dead));
    }

    #[test]
    fn endless_times_are_no_overflow() {
        let config = Keepalive { interval: Duration::MAX, timeout: Duration::MAX };
        let mut heartbeat = Heartbeat::new(config, epoch());
        assert_eq!(heartbeat.deadline(), None);
        assert_eq!(heartbeat.due(epoch() + seconds(1 << 30)), None);
    }
}
