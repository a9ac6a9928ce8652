//! When a peer is pinged, and when its silence means that it is gone: the same for every
//! transport that has pings.
//!
//! A [`Heartbeat`] decides; the transport sends. A [WebSocket session](crate::ws) has one inside.
//! A transport of your own, one that sees whole messages only for example, drives it with these
//! calls:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use chiral_proto::keepalive::{Heartbeat, Keepalive};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
//! let start = Instant::now();
//! let keepalive = Keepalive { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) };
//! let mut heartbeat = Heartbeat::new(start, Some(keepalive));
//!
//! // At `poll_timeout`, read what has arrived, then:
//! let due = heartbeat.poll_timeout().expect("the first ping is due in 20 s");
//! heartbeat.handle_timeout(due)?;
//! if heartbeat.take_ping() {
//!     // … hand a ping to the transport, and when all that was handed over is flushed:
//!     heartbeat.flushed(due);
//! }
//! // A message, or a part of one, has arrived:
//! heartbeat.received(due + Duration::from_secs(1));
//!
//! // Silence after the next ping is the peer's end.
//! let due = heartbeat.poll_timeout().expect("the next ping");
//! heartbeat.handle_timeout(due)?;
//! assert!(heartbeat.take_ping());
//! heartbeat.flushed(due);
//! assert!(heartbeat.handle_timeout(due + Duration::from_secs(10)).is_err());
//! # Ok::<(), chiral_proto::keepalive::Unresponsive>(())
//! ```

use std::time::{Duration, Instant};

use crate::ConnectionError;

/// When to ping, and how long to wait for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Time between pings. Default: 20 s.
    pub interval: Duration,
    /// Time that a peer may be silent after a ping. Default: 20 s.
    ///
    /// A sign of life is any received byte, not just the pong, which cannot overtake a large
    /// message that is still arriving; and, while the ping waits behind a message of this side,
    /// any byte that the transport takes.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(20) }
    }
}

/// A peer that gave no sign of life after a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer is unresponsive: no sign of life for {silence:?} after a ping")]
pub struct Unresponsive {
    /// How long it was given: [`Keepalive::timeout`], or what [`Heartbeat::probe`] allowed.
    pub silence: Duration,
}

impl From<Unresponsive> for ConnectionError {
    fn from(Unresponsive { silence }: Unresponsive) -> Self {
        Self::Unresponsive { silence }
    }
}

/// The pings of one connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Heartbeat {
    keepalive: Option<Keepalive>,
    last_ping: Instant,
    state: State,
}

/// Where the current ping is.
///
/// ```text
///            interval or probe            take_ping               ping_sent
///   Resting ──────────────────► Wanted ────────────────► Queued ────────────► Sent
///      ▲                                                                       │
///      └──────────────────────────────── received ─────────────────────────────┘
/// ```
/// In every state but `Resting`, the peer is gone when nothing happens for `allowed` after
/// `since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No ping is under way.
    Resting,
    /// A ping is to be handed to the transport.
    Wanted { since: Instant, allowed: Duration },
    /// The transport has the ping, behind what it is still writing.
    Queued { since: Instant, allowed: Duration },
    /// The ping was written.
    Sent { since: Instant, allowed: Duration },
}

impl Heartbeat {
    /// The heartbeat of a connection that begins at `now`; without a `keepalive` it pings only
    /// when it is [asked to](Self::probe).
    pub fn new(now: Instant, keepalive: Option<Keepalive>) -> Self {
        Self { keepalive, last_ping: now, state: State::Resting }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. It changes with every
    /// other call. `None` for times beyond what an `Instant` can hold.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting => self.last_ping.checked_add(self.keepalive?.interval),
            State::Wanted { since, allowed }
            | State::Queued { since, allowed }
            | State::Sent { since, allowed } => since.checked_add(allowed),
        }
    }

    /// Does what is due at `now`: wants a ping, or finds that the peer is gone. Read what has
    /// arrived first: after a long pause of this process, it may hold the sign of life.
    ///
    /// # Errors
    /// When the peer gave no sign of life in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Unresponsive> {
        if self.poll_timeout().is_none_or(|timeout| timeout > now) {
            return Ok(());
        }
        match self.state {
            State::Resting => {
                let allowed = self.keepalive.map_or(Duration::MAX, |keepalive| keepalive.timeout);
                self.want_ping(now, allowed);
                Ok(())
            }
            State::Wanted { allowed, .. }
            | State::Queued { allowed, .. }
            | State::Sent { allowed, .. } => Err(Unresponsive { silence: allowed }),
        }
    }

    /// Asks the peer for a sign of life within that time, because its silence matters now: another
    /// policy asks for the robot, for example. Of a ping that is under way, it shortens the wait.
    ///
    /// While the ping cannot be written, a byte that the transport takes counts too.
    pub fn probe(&mut self, now: Instant, within: Duration) {
        let sooner = now.checked_add(within);
        match &mut self.state {
            State::Resting => self.want_ping(now, within),
            State::Wanted { since, allowed }
            | State::Queued { since, allowed }
            | State::Sent { since, allowed } => {
                if since.checked_add(*allowed).is_none_or(|end| sooner.is_some_and(|at| at < end)) {
                    (*since, *allowed) = (now, within);
                }
            }
        }
    }

    /// Whether a ping is under way, and no sign of life has come since.
    pub fn is_waiting(&self) -> bool {
        self.state != State::Resting
    }

    /// Whether a ping is to be handed to the transport.
    pub fn wants_ping(&self) -> bool {
        matches!(self.state, State::Wanted { .. })
    }

    /// Whether a ping is to be handed to the transport now. Said once for each ping.
    #[must_use = "the ping is to be sent: it is not asked for again"]
    pub fn take_ping(&mut self) -> bool {
        let State::Wanted { since, allowed } = self.state else { return false };
        self.state = State::Queued { since, allowed };
        true
    }

    /// The transport took bytes, the ping not yet among them.
    pub fn progressed(&mut self, now: Instant) {
        if let State::Wanted { since, .. } | State::Queued { since, .. } = &mut self.state {
            *since = now;
        }
    }

    /// The transport wrote the ping.
    pub fn ping_sent(&mut self, now: Instant) {
        if let State::Queued { allowed, .. } = self.state {
            self.state = State::Sent { since: now, allowed };
        }
    }

    /// The transport wrote all that it was handed: for one that does not tell more.
    pub fn flushed(&mut self, now: Instant) {
        self.progressed(now);
        self.ping_sent(now);
    }

    /// Bytes of the peer arrived.
    pub fn received(&mut self, now: Instant) {
        match &mut self.state {
            State::Resting => {}
            // Sent before the peer could know of the ping: it stays watched.
            State::Wanted { since, .. } | State::Queued { since, .. } => *since = now,
            State::Sent { .. } => self.state = State::Resting,
        }
    }

    fn want_ping(&mut self, now: Instant, allowed: Duration) {
        self.last_ping = now;
        self.state = State::Wanted { since: now, allowed };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        // The tests' clock starts anywhere; only differences count.
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        Instant::now()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn heartbeat(start: Instant) -> Heartbeat {
        Heartbeat::new(start, Some(Keepalive { interval: seconds(20), timeout: seconds(10) }))
    }

    fn dead_after(secs: u64) -> Result<(), Unresponsive> {
        Err(Unresponsive { silence: seconds(secs) })
    }

    /// Lets time pass to `now`, where a ping must be due, and hands it over.
    fn ping(heartbeat: &mut Heartbeat, now: Instant) {
        assert_eq!(heartbeat.handle_timeout(now), Ok(()));
        assert!(heartbeat.take_ping() && !heartbeat.take_ping());
    }

    #[test]
    fn pings_keep_their_interval_while_pongs_arrive() {
        let start = start();
        let mut heartbeat = heartbeat(start);
        for round in 1..5 {
            let due = start + seconds(20) * round;
            assert_eq!(heartbeat.poll_timeout(), Some(due));
            assert_eq!(
                heartbeat.handle_timeout(start + seconds(u64::from(20 * round - 1))),
                Ok(())
            );
            assert!(!heartbeat.take_ping());
            ping(&mut heartbeat, due);
            heartbeat.ping_sent(due);
            heartbeat.received(due + seconds(5));
        }
    }

    #[test]
    fn silence_after_a_ping_times_out() {
        let start = start();
        let mut heartbeat = heartbeat(start);
        let pinged = start + seconds(20);
        ping(&mut heartbeat, pinged);
        heartbeat.received(pinged + seconds(1)); // was under way before the ping went out
        heartbeat.ping_sent(pinged + seconds(3));
        heartbeat.progressed(pinged + seconds(9)); // the kernel taking bytes is no longer a sign
        assert_eq!(heartbeat.handle_timeout(pinged + seconds(12)), Ok(()));
        assert_eq!(heartbeat.handle_timeout(pinged + seconds(13)), dead_after(10));
    }

    #[test]
    fn a_queued_ping_does_not_time_out_while_bytes_are_written() {
        let start = start();
        let mut heartbeat = heartbeat(start);
        let pinged = start + seconds(20);
        ping(&mut heartbeat, pinged);
        for step in 1..20 {
            heartbeat.progressed(pinged + seconds(9) * step);
            assert_eq!(heartbeat.handle_timeout(pinged + seconds(9) * step + seconds(8)), Ok(()));
        }
        assert_eq!(heartbeat.handle_timeout(pinged + seconds(9 * 19 + 10)), dead_after(10));
    }

    #[test]
    fn the_heartbeat_works_for_transports_with_whole_messages() {
        let start = start();
        let mut heartbeat = heartbeat(start);
        assert_eq!(heartbeat.handle_timeout(start + seconds(20)), Ok(()));
        heartbeat.flushed(start + seconds(25)); // a message of ours went out first
        assert!(heartbeat.take_ping());
        heartbeat.flushed(start + seconds(26));
        heartbeat.flushed(start + seconds(35)); // the kernel taking messages is no sign of life
        assert_eq!(heartbeat.poll_timeout(), Some(start + seconds(36)));
        assert_eq!(heartbeat.handle_timeout(start + seconds(36)), dead_after(10));
    }

    #[test]
    fn a_probe_pings_immediately_with_a_shorter_timeout() {
        let start = start();
        for keepalive in [None, Some(Keepalive::default())] {
            let mut heartbeat = Heartbeat::new(start, keepalive);
            assert!(!heartbeat.is_waiting());
            heartbeat.probe(start + seconds(5), seconds(1));
            assert!(heartbeat.take_ping() && heartbeat.is_waiting());
            heartbeat.ping_sent(start + seconds(5));
            assert_eq!(heartbeat.poll_timeout(), Some(start + seconds(6)));
            assert_eq!(heartbeat.handle_timeout(start + seconds(6)), dead_after(1));
            heartbeat.received(start + seconds(6));
            assert!(!heartbeat.is_waiting());
            let next = keepalive.map(|keepalive| start + seconds(5) + keepalive.interval);
            assert_eq!(heartbeat.poll_timeout(), next);
        }
    }

    #[test]
    fn a_probe_only_shortens_the_timeout_of_a_pending_ping() {
        let start = start();
        let mut heartbeat = heartbeat(start);
        ping(&mut heartbeat, start + seconds(20));
        heartbeat.ping_sent(start + seconds(20));
        heartbeat.probe(start + seconds(22), seconds(30));
        assert_eq!(heartbeat.poll_timeout(), Some(start + seconds(30)));
        heartbeat.probe(start + seconds(22), seconds(2));
        assert_eq!(heartbeat.poll_timeout(), Some(start + seconds(24)));
        assert!(!heartbeat.take_ping(), "one ping is enough");
    }

    #[test]
    fn very_long_intervals_do_not_overflow() {
        let start = start();
        let endless = Keepalive { interval: Duration::MAX, timeout: Duration::MAX };
        let mut heartbeat = Heartbeat::new(start, Some(endless));
        assert_eq!(heartbeat.poll_timeout(), None);
        assert_eq!(heartbeat.handle_timeout(start + seconds(1 << 30)), Ok(()));
        heartbeat.probe(start, Duration::MAX);
        assert_eq!(heartbeat.poll_timeout(), None);
    }
}
