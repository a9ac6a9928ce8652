//! A robot whose every move a test can see and steer.

mod make;
mod work;

use std::sync::{Mutex, MutexGuard};

use chiral_proto::sensors::Sensors;
use chiral_proto::{Action, ConnectionError};
use event_listener::{Event, Listener};

use crate::{Patience, SOON};

/// A robot that numbers what it is asked, so that a swapped answer shows, and remembers what it is
/// told. As slow and as faulty as a test wants it.
///
/// It belongs to no runtime: its own methods block no longer than for a lock, and where it is held
/// up it can be waited for with or without blocking. The waits of the tests' side block.
pub struct Recorder {
    sensors: Sensors,
    state: Mutex<State>,
    changed: Event,
    /// Blocks the thread while it is held up, also in async code.
    blocks: bool,
    fault: Option<Fault>,
}

#[derive(Default)]
struct State {
    /// How many answers were made.
    serial: u64,
    history: Vec<Entry>,
    /// By kind of work: how often it was begun, and whether it is held up.
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
    /// The watchdog barked.
    Watchdog,
    /// The policy went.
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
    /// Applies an action.
    Apply,
    /// Resets itself.
    Reset,
    /// Takes a step.
    Step,
}

impl Work {
    const KINDS: usize = 5;
}

/// What can be wrong with a [`Recorder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Work of a kind ends in an error.
    Fails(Work),
    /// Work of a kind ends in a panic.
    Panics(Work),
    /// Observations end in a panic when they are about to leave.
    LateObservationsPanic,
}

/// What a test does to it, and sees of it.
impl Recorder {
    /// Holds it up at work of a kind, from when it is begun until [`release`](Self::release).
    pub fn hold(&self, work: Work) {
        self.change(|state| state.held[work as usize] = true);
    }

    /// Lets work of a kind go on, what has begun and what comes.
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

    /// How many entries of a kind the history has.
    pub fn count(&self, is_meant: impl Fn(&Entry) -> bool) -> usize {
        self.lock().history.iter().filter(|entry| is_meant(entry)).count()
    }

    /// Blocks until work of a kind was begun so often.
    ///
    /// # Panics
    /// When it is not soon.
    #[track_caller]
    pub fn wait_for_begun(&self, work: Work, times: usize) {
        self.wait_for_state(|state| (state.begun[work as usize] >= times).then_some(()));
    }

    /// Blocks until the history has so many entries of a kind.
    ///
    /// # Panics
    /// When it does not have them soon.
    #[track_caller]
    pub fn until(&self, count: usize, is_meant: impl Fn(&Entry) -> bool) {
        self.wait_for_state(|state| {
            let found = state.history.iter().filter(|entry| is_meant(entry)).count();
            (found >= count).then_some(())
        });
    }

    /// Blocks until so many actions were applied.
    ///
    /// # Panics
    /// When they are not soon.
    #[track_caller]
    pub fn wait_for_applied(&self, count: usize) {
        self.until(count, Entry::is_applied);
    }

    /// Blocks until so many policies have gone, and returns the last one's reason.
    ///
    /// # Panics
    /// When they have not gone soon.
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
            let changed = self.changed.listen();
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
        self.state.lock().expect("nothing panics with it")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify(usize::MAX);
        result
    }
}
