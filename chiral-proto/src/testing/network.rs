use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ConnectionError;
use crate::random::SplitMix;
use crate::wire::Frame;

/// One direction of a connection: how long frames take, and what becomes of them.
///
/// Frames keep their order, and the end of the connection comes behind them. The default takes no
/// time and loses nothing.
#[derive(Debug, Clone)]
pub struct Network {
    latency: Duration,
    bytes_per_second: Option<f64>,
    loss: f64,
    repetition: f64,
    random: SplitMix,
    /// Until when the sender's socket is busy with the last frame.
    busy_until: Option<Instant>,
    under_way: VecDeque<(Instant, Delivery)>,
    closed: bool,
    /// Frames that were lost so far.
    pub lost: u64,
}

/// What the network brings.
#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Frame(Frame),
    /// The sender has ended the connection.
    End(ConnectionError),
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            bytes_per_second: None,
            loss: 0.0,
            repetition: 0.0,
            random: SplitMix::new(0),
            busy_until: None,
            under_way: VecDeque::new(),
            closed: false,
            lost: 0,
        }
    }
}

impl Network {
    /// The network with a delay from the end of sending to arrival.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// The network with a bandwidth, above zero: the sender takes no other frame while one is being
    /// written.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes_per_second: f64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// The network with a share of frames, 0 to 1, that it loses; which ones, `seed` says.
    #[must_use]
    pub fn loss(mut self, share: f64, seed: u64) -> Self {
        self.loss = share;
        self.random = SplitMix::new(seed);
        self
    }

    /// The network with a share of frames, 0 to 1, that it delivers twice.
    #[must_use]
    pub fn repetition(mut self, share: f64) -> Self {
        self.repetition = share;
        self
    }

    pub(super) fn can_send(&self, now: Instant) -> bool {
        self.busy_until.is_none_or(|until| until <= now)
    }

    pub(super) fn send(&mut self, now: Instant, frame: Frame) {
        let writing = self.bytes_per_second.map_or(0.0, |bandwidth| frame.len() as f64 / bandwidth);
        let written = now + Duration::from_secs_f64(writing);
        self.busy_until = Some(written);
        let frame = Delivery::Frame(frame);
        let arrives = written + self.latency;
        if self.random.share() < self.loss {
            self.lost += 1;
            return;
        }
        if self.random.share() < self.repetition {
            self.under_way.push_back((arrives, frame.clone()));
        }
        self.under_way.push_back((arrives, frame));
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<Delivery> {
        self.under_way.front().filter(|(arrives, _)| *arrives <= now)?;
        self.under_way.pop_front().map(|(_, delivery)| delivery)
    }

    /// Lets the receiver know that the sender has ended the connection, unless it knows.
    pub(super) fn close(&mut self, now: Instant, error: &ConnectionError) {
        if error.is_ours() && !std::mem::replace(&mut self.closed, true) {
            let code = Some(error.close_code());
            let end = ConnectionError::ClosedByPeer { code, reason: error.to_string() };
            self.under_way.push_back((now + self.latency, Delivery::End(end)));
        }
    }

    /// Loses what is under way.
    pub(super) fn cut(&mut self) {
        self.under_way.clear();
    }

    /// Carries another connection, as it did the one before.
    pub(super) fn reopen(&mut self) {
        self.cut();
        self.busy_until = None;
        self.closed = false;
    }

    /// When the network next does something by itself after `now`.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let arrival = self.under_way.front().map(|(arrives, _)| *arrives);
        let free = self.busy_until.filter(|until| *until > now);
        arrival.into_iter().chain(free).min()
    }

    /// How many frames are under way.
    pub fn in_flight(&self) -> usize {
        let is_frame = |(_, delivery): &&(_, Delivery)| matches!(delivery, Delivery::Frame(_));
        self.under_way.iter().filter(is_frame).count()
    }
}
