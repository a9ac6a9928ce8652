//! Whether a connection that was lost is made again, when that is tried, and what outlives it.

use std::time::{Duration, Instant};

use super::lifecycle::Lifecycle;
use super::silence::Silence;
use super::{Client, ConnectionState, Event, RequestError, RequestKey};
use crate::ConnectionError;
use crate::random::SplitMix;
use crate::wire::RequestKind;

/// What a client does when its connection is lost, beside failing.
///
/// ```
/// use std::time::Duration;
/// use chiral_proto::client::Reconnect;
///
/// let reconnect = Reconnect { give_up_after: Some(Duration::from_secs(60)), ..Reconnect::default() };
/// assert_eq!(reconnect.initial, Duration::from_millis(100));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnect {
    /// The pause before the first try. Each pause is twice as long as the one before, and each
    /// really lasts between half of that and the whole, by chance: the clients of a robot that
    /// restarts do not all come at once. Default: 100 ms.
    pub initial: Duration,
    /// How long the pause becomes, at most. Default: 5 s.
    pub max: Duration,
    /// After how long without a connection it is given up. Default: `None`, never.
    pub give_up_after: Option<Duration>,
    /// Whether calls wait for the connection, as [`WhenLost::HoldCalls`] says; else they fail while
    /// there is none. Default: false.
    pub hold_calls: bool,
}

impl Reconnect {
    /// The default, with calls that wait: for a policy that is to live through a restart of its
    /// robot without knowing of it.
    pub fn holding_calls() -> Self {
        Self { hold_calls: true, ..Self::default() }
    }

    /// What the state machine does when its connection is lost.
    pub fn when_lost(&self) -> WhenLost {
        if self.hold_calls { WhenLost::HoldCalls } else { WhenLost::FailCalls }
    }

    /// The pauses between the tries. The seed should be another one in each process.
    pub fn backoff(&self, seed: u64) -> Backoff {
        Backoff::new(self.initial, self.max).with_jitter(seed)
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            give_up_after: None,
            hold_calls: false,
        }
    }
}

/// What a [`Client`](super::Client) does when its connection is lost.
///
/// A connection counts as lost when [another one may last](crate::ConnectionError::may_pass).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenLost {
    /// The client ends with it. The default.
    #[default]
    End,
    /// Another connection is expected. All requests fail, and so do calls until it is there.
    FailCalls,
    /// Another connection is expected. Requests for metadata and for observations wait for it, within
    /// their deadline; those that were in flight are made again. A chunk that was decided on an
    /// observation of before is [discarded](crate::timeline::Placement::discarded) by
    /// [`follow`](super::Client::follow). What moves the robot in another way fails: resets, steps,
    /// and actions that are put or sent.
    HoldCalls,
}

impl WhenLost {
    /// Whether a request waits for the next connection.
    pub(super) fn holds(self, kind: RequestKind) -> bool {
        self == Self::HoldCalls && !kind.moves_robot()
    }
}

impl Client {
    /// Tells that another connection was made after an [interruption](Event::Interrupted): from now
    /// on messages of that one go in and out, and no more of the one before. False, and nothing
    /// happens, if the client is not interrupted: it was closed meanwhile.
    ///
    /// The observation stream and the dispatch go on at their rates, on grids that begin now, and the
    /// statistics are counted on. Nothing that was planned before is left, and a chunk that was
    /// decided on an observation of before is refused. A starved tick sends nothing until a row has
    /// left. If the robot's metadata was read before, it is asked for again: another robot may be
    /// there.
    ///
    /// A loop that connects again:
    /// ```
    /// # use std::time::{Duration, Instant};
    /// use chiral_proto::client::{Client, Config, Event, Reconnect};
    /// use chiral_proto::{ConnectionError, Rate};
    ///
    /// # #[expect(clippy::disallowed_methods, reason = "an application reads its clock")]
    /// # let mut now = Instant::now();
    /// let reconnect = Reconnect::default();
    /// let config = Config { when_lost: reconnect.when_lost(), ..Config::default() };
    /// let mut client = Client::new(config);
    /// let mut backoff = reconnect.backoff(42); // a seed of this process's own
    /// client.start_obs_stream(now, Rate::hz(30)?)?;
    /// assert!(client.poll_transmit(now).is_some(), "it asks for an observation");
    ///
    /// // The transport has failed. Until it is there again, calls fail.
    /// client.handle_disconnect(now, ConnectionError::Reset);
    /// assert!(matches!(client.poll_event(), Some(Event::Interrupted(_))));
    /// assert!(client.send_action(now, [0.0; 7].into()).is_err());
    /// loop {
    ///     now += backoff.next_pause(); // sleep, and call `handle_timeout` when it asks for it
    /// #   let has_connected = true;
    ///     // … connect …
    ///     if has_connected {
    ///         break;
    ///     }
    /// }
    /// assert!(client.begin_connection(now));
    /// assert!(client.poll_transmit(now).is_some(), "it goes on asking");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_connection(&mut self, now: Instant) -> bool {
        self.advance(now);
        let Lifecycle::Interrupted { since, .. } = self.lifecycle else { return false };
        self.lifecycle = Lifecycle::Open;
        self.stats.reconnects += 1;
        self.contract_status = None;
        self.requests.begin_connection(now);
        if self.told_contract.is_some() {
            let deadline = self.default_deadline(RequestKind::Metadata, now);
            self.requests.submit_metadata(now, deadline);
        }
        self.stream.resume(now);
        self.dispatch.begin_connection(now);
        self.clock.begin_connection();
        let down_for = now.saturating_duration_since(since);
        self.events.push_back(Event::Reconnected { down_for });
        self.advance(now);
        true
    }

    /// Whether there is a connection, and what has become of it if not.
    pub fn connection_state(&self) -> ConnectionState {
        self.lifecycle.state()
    }

    /// Whether the connection was lost and another one is expected.
    pub fn is_interrupted(&self) -> bool {
        self.lifecycle.is_interrupted()
    }

    /// Whether calls wait for a connection that is being made again: [`WhenLost::HoldCalls`].
    pub fn holds_calls(&self) -> bool {
        self.config.when_lost == WhenLost::HoldCalls
    }

    /// Ends the client, also while its connection is [interrupted](Event::Interrupted): none is made
    /// any more, for this reason.
    pub fn give_up(&mut self, now: Instant, reason: ConnectionError) {
        match self.lifecycle {
            Lifecycle::Open | Lifecycle::ShuttingDown { .. } => self.advance_parts(now),
            Lifecycle::Interrupted { .. } => self.expire_requests(now),
            Lifecycle::Ended(_) => return,
        }
        self.end_for_good(reason);
    }

    /// Takes the end of a connection after which another one is expected.
    pub(super) fn interrupt(&mut self, now: Instant, error: ConnectionError) {
        self.stream.suspend();
        self.dispatch.interrupt();
        self.tell_low();
        self.latest = None;
        self.silence = Silence::new(self.config.silence);
        self.answered = Default::default();
        self.stream_overdue = false;
        let when_lost = self.config.when_lost;
        let Self { requests, events, .. } = self;
        requests.interrupt(
            |kind| when_lost.holds(kind),
            |serial, request, sent| {
                let error = RequestError::Interrupted { request, sent, error: error.clone() };
                events.push_back(Event::Failed { id: RequestKey::of(serial), error });
            },
        );
        self.events.push_back(Event::Interrupted(error.clone()));
        self.lifecycle = Lifecycle::Interrupted { since: now, error };
    }
}

/// The pauses between tries to do something: each is twice as long as the one before, up to a
/// longest one.
///
/// ```
/// use std::time::Duration;
/// use chiral_proto::client::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
/// let pauses = [(); 3].map(|()| backoff.next_pause().as_millis());
/// assert_eq!(pauses, [100, 200, 300]);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
    /// Pauses that were made since [`begin`](Self::begin).
    attempts: u32,
    jitter: Option<SplitMix>,
}

impl Backoff {
    /// Less would keep a processor busy.
    const SHORTEST: Duration = Duration::from_millis(1);
    /// More may be more than a clock can tell.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

    /// Pauses from `initial` to `max`. One of less than a millisecond counts as one, one of more than
    /// a year as a year.
    pub fn new(initial: Duration, max: Duration) -> Self {
        let initial = initial.clamp(Self::SHORTEST, Self::LONGEST);
        let max = max.clamp(initial, Self::LONGEST);
        Self { initial, max, next: initial, attempts: 0, jitter: None }
    }

    /// With each pause taken, by chance and evenly, from its second half.
    #[must_use]
    pub fn with_jitter(mut self, seed: u64) -> Self {
        self.jitter = Some(SplitMix::new(seed));
        self
    }

    /// The pause before the next try.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        match &mut self.jitter {
            Some(random) => whole.div_f64(2.0) + whole.mul_f64(random.share() / 2.0),
            None => whole,
        }
    }

    /// Has the pauses begin anew with the shortest one.
    pub fn restart(&mut self) {
        self.next = self.initial;
    }

    /// A connection that `lasted` so long has been lost: the tries are counted anew. The pauses begin
    /// anew only if it lasted for longer than the longest of them: a robot that fails as soon as it
    /// is connected is not connected ever faster.
    pub fn begin(&mut self, lasted: Duration) {
        self.attempts = 0;
        if lasted >= self.max {
            self.restart();
        }
    }

    /// How many pauses were made since [`begin`](Self::begin), and so how many tries.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next_pause().as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_lasting_connection() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(pauses(&mut backoff, 6), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.attempts(), 6);
        backoff.begin(Duration::from_millis(999));
        assert_eq!(backoff.attempts(), 0);
        assert_eq!(pauses(&mut backoff, 1), [1000], "the connection did not last");
        backoff.begin(Duration::from_secs(1));
        assert_eq!(pauses(&mut backoff, 2), [100, 200]);
    }

    #[test]
    fn jitter_spreads_each_pause_evenly_over_its_second_half() {
        let spread = |whole: Duration, skip: usize| {
            let first = (0..4000_u64).map(|seed| {
                let mut backoff = Reconnect::default().backoff(seed);
                pauses(&mut backoff, skip);
                backoff.next_pause()
            });
            let mut tenths = [0; 10];
            for pause in first {
                let part = pause.as_secs_f64() / whole.as_secs_f64();
                assert!((0.5..=1.0).contains(&part), "{pause:?} of {whole:?}");
                tenths[(((part - 0.5) * 20.0) as usize).min(9)] += 1;
            }
            // 400 each; 100 is more than five times the standard deviation.
            assert!(tenths.iter().all(|count| (300..=500).contains(count)), "{tenths:?}");
        };
        spread(Duration::from_millis(100), 0);
        spread(Duration::from_millis(800), 3);
        spread(Duration::from_secs(5), 9);
    }

    #[test]
    fn a_seed_gives_the_same_pauses_and_another_one_gives_others() {
        let ten = |seed| pauses(&mut Reconnect::default().backoff(seed), 10);
        assert_eq!(ten(1), ten(1));
        assert_ne!(ten(1), ten(2));
    }

    #[test]
    fn senseless_pauses_are_made_usable() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO).with_jitter(0);
        assert!(backoff.next_pause() > Duration::ZERO);
        let mut backoff = Backoff::new(Duration::MAX, Duration::ZERO).with_jitter(0);
        assert!(backoff.next_pause() > Duration::from_secs(100 * 24 * 3600));
    }
}
