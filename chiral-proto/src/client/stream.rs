use std::time::Instant;

use crate::pacer::{Pacer, Rate};

/// The grid on which the observation stream asks. A tick that finds the window full waits, and
/// fires when an answer makes room: a slow robot lowers the rate, it never piles up requests.
#[derive(Debug, Default)]
pub(super) struct ObservationStream {
    /// The rate, also while there is no connection.
    rate: Option<Rate>,
    /// The grid, while there is one.
    pacer: Option<Pacer>,
    /// A tick has come and its request has not left yet.
    pub(super) due: bool,
    /// Ticks that came while an earlier one was still waiting, or were given up by a stop.
    pub(super) missed: u64,
}

impl ObservationStream {
    pub(super) fn start(&mut self, now: Instant, rate: Rate) {
        self.set_rate(rate);
        self.resume(now);
    }

    /// Sets the rate for when the connection is there again.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.suspend();
        self.rate = Some(rate);
    }

    pub(super) fn stop(&mut self) {
        self.suspend();
        self.rate = None;
    }

    /// Begins a grid with the rate that was set, if one was.
    pub(super) fn resume(&mut self, now: Instant) {
        self.pacer = self.rate.map(|rate| Pacer::new(now, rate));
    }

    /// Has no tick come until it is resumed.
    pub(super) fn suspend(&mut self) {
        self.pacer = None;
        self.missed += u64::from(std::mem::take(&mut self.due));
    }

    pub(super) fn is_running(&self) -> bool {
        self.rate.is_some()
    }

    /// Notes the ticks that have come up to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        let ticks = self.pacer.as_mut().map_or(0, |pacer| pacer.ticks(now));
        if ticks > 0 {
            self.missed += ticks - 1 + u64::from(self.due);
            self.due = true;
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.pacer.as_ref().map(Pacer::next_tick)
    }
}
