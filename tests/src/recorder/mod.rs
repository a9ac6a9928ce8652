//! A robot that records what happens to it, and that a test can hold and release.

mod make;
mod work;

use std::sync::{Arc, Mutex, MutexGuard};

use chiral_proto::sensors::Sensors;
use chiral_proto::server::DropReason;
use chiral_proto::{Action, ConnectionError};
use event_listener::{Event, Listener};

use crate::{Patience, SOON};

/// A robot that numbers its answers, so that swapped answers are noticed, and records what it is
/// told. A test can make it slow or faulty.
///
/// It works with every runtime: its own methods block only for a lock, and where it is held it
/// can be waited for with or without blocking. The test's own waits block.
pub struct Recorder {
    sensors: Sensors,
    /// Shared with the observations that it makes when they are sent.
    record: Arc<Record>,
    /// Blocks the thread while it is held, in async code too.
    blocks: bool,
    /// Observations are made when they are sent.
    observes_late: bool,
    fault: Option<Fault>,
}

/// What is recorded, and what is notified of it.
#[derive(Default)]
struct Record {
    state: Mutex<State>,
    changed: Event,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify(usize::MAX);
        result
    }
}

#[derive(Default)]
struct State {
    /// How many answers were made.
    serial: u64,
    history: Vec<Entry>,
    /// By kind of work: how often it was begun, and whether it is held.
    begun: [usize; Work::KINDS],
    held: [bool; Work::KINDS],
}

/// Something that happened to a [`Recorder`].
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A policy connected.
    Connected,
    /// An action was applied.
    Applied(Action),
    /// It was reset.
    Reset,
    /// It took a step, with its action.
    Stepped(Action),
    /// The watchdog fired.
    Watchdog,
    /// It was stopped.
    Stopped,
    /// It was told of actions that it does not get.
    ActionsDropped(u64, DropReason),
    /// The policy disconnected.
    Disconnected(ConnectionError),
}

impl Entry {
    /// Whether an action was applied.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// What a robot does for its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Describes itself.
    Describe,
    /// Makes an observation.
    Observe,
    /// Makes the observation that it has put off until the answer is sent. Only a robot with
    /// [`late_observations`](Recorder::late_observations) does; it blocks.
    ObserveLate,
    /// Applies an action.
    Apply,
    /// Resets itself.
    Reset,
    /// Takes a step.
    Step,
}

impl Work {
    const KINDS: usize = 6;
}

/// Faults of a [`Recorder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Work of a kind ends in an error.
    Fails(Work),
    /// Work of a kind ends in a panic.
    Panics(Work),
    /// Observations panic when they are evaluated, just before they are sent.
    LateObservationsPanic,
}

/// The test's side.
impl Recorder {
    /// Holds it at a kind of work, from when it is begun until [`release`](Self::release).
    pub fn hold(&self, work: Work) {
        self.change(|state| state.held[work as usize] = true);
    }

    /// Lets a kind of work go on, both what has begun and what follows.
    pub fn release(&self, work: Work) {
        self.change(|state| state.held[work as usize] = false);
    }

    /// Lets everything go on.
    pub fn release_all(&self) {
        self.change(|state| state.held = Default::default());
    }

    /// How often work of a kind was begun.
    pub fn begun(&self, work: Work) -> usize {
        self.lock().begun[work as usize]
    }

    /// What happened to the robot, in order.
    pub fn history(&self) -> Vec<Entry> {
        self.lock().history.clone()
    }

    /// The actions that were applied.
    pub fn applied(&self) -> Vec<Action> {
        let applied = |entry| match entry {
            Entry::Applied(action) => Some(action),
            _ => None,
        };
        self.history().into_iter().filter_map(applied).collect()
    }

    /// How many recorded events match.
    pub fn count(&self, is_meant: impl Fn(&Entry) -> bool) -> usize {
        self.lock().history.iter().filter(|entry| is_meant(entry)).count()
    }

    /// Blocks until a kind of work was begun that often.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_for_begun(&self, work: Work, times: usize) {
        self.wait_for_state(|state| (state.begun[work as usize] >= times).then_some(()));
    }

    /// Blocks until that many recorded events match.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn until(&self, count: usize, is_meant: impl Fn(&Entry) -> bool) {
        self.wait_for_state(|state| {
            let found = state.history.iter().filter(|entry| is_meant(entry)).count();
            (found >= count).then_some(())
        });
    }

    /// Blocks until that many actions were applied.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_for_applied(&self, count: usize) {
        self.until(count, Entry::is_applied);
    }

    /// Blocks until that many policies have disconnected, and returns the last one's reason.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_for_disconnects(&self, policies: usize) -> ConnectionError {
        self.wait_for_state(|state| {
            let gone = state.history.iter().filter_map(|entry| match entry {
                Entry::Disconnected(reason) => Some(reason),
                _ => None,
            });
            let mut gone = gone.skip(policies - 1);
            gone.next().map(|reason| gone.last().unwrap_or(reason).clone())
        })
    }

    #[track_caller]
    fn wait_for_state<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut patience = Patience::new(SOON);
        loop {
            let changed = self.record.changed.listen();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            let history = || self.lock().history.clone();
            assert!(
                !patience.is_over(),
                "still waiting after {SOON:?}; its history: {:?}",
                history()
            );
            changed.wait_timeout(Patience::LOOK);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.record.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.record.change(change)
    }
}
