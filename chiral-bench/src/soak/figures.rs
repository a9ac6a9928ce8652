//! What the policies have seen.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chiral_proto::stats::Histogram;

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Pools, buffers and the allocator reach their sizes; not compared.
    WarmUp,
    /// The first quarter behind it.
    First,
    /// The second and third.
    Middle,
    /// The last quarter.
    Last,
}

impl Phase {
    pub(super) const COUNT: usize = 4;

    pub(super) fn at(elapsed: Duration, warm_up: Duration, length: Duration) -> Self {
        let quarter = length.saturating_sub(warm_up) / 4;
        match elapsed {
            elapsed if elapsed < warm_up => Self::WarmUp,
            elapsed if elapsed < warm_up + quarter => Self::First,
            elapsed if elapsed + quarter < length => Self::Middle,
            _ => Self::Last,
        }
    }
}

/// Figures of the connections over intact links.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) observations: u64,
    /// How long connections streamed, together.
    pub(super) streaming: Duration,
    /// Round trips of observations that were asked for.
    pub(super) round_trips: Histogram,
}

impl Seen {
    /// Observations per second of a connection.
    pub(super) fn hz(&self) -> f64 {
        self.observations as f64 / self.streaming.as_secs_f64().max(1e-9)
    }

    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.round_trips.quantile(quantile).as_secs_f64() * 1e3
    }
}

/// What the policies of all lines have seen together.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    by_phase: [Seen; Phase::COUNT],
    /// Since the last row.
    minute: Seen,
}

impl Default for State {
    fn default() -> Self {
        Self { phase: Phase::WarmUp, by_phase: Default::default(), minute: Seen::default() }
    }
}

impl Figures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics with it")
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Notes an observation of a stream, and how long after the one before it came.
    pub(super) fn note_observation(&self, after: Duration) {
        self.record(|seen| {
            seen.observations += 1;
            seen.streaming += after;
        });
    }

    pub(super) fn note_round_trip(&self, took: Duration) {
        self.record(|seen| seen.round_trips.record(took));
    }

    fn record(&self, record: impl Fn(&mut Seen)) {
        let state = &mut *self.lock();
        record(&mut state.minute);
        record(&mut state.by_phase[state.phase as usize]);
    }

    pub(super) fn take_minute(&self) -> Seen {
        std::mem::take(&mut self.lock().minute)
    }

    pub(super) fn of(&self, phase: Phase) -> Seen {
        self.lock().by_phase[phase as usize].clone()
    }
}
