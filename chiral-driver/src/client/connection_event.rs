//! What is told of the connection itself: that it was lost, made again, or has ended.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chiral_proto::{ActionSpec, ConnectionError};

use crate::panic::panic_message;

/// Something that has happened to a client's connection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The connection was lost, and is being made again.
    #[non_exhaustive]
    Disconnected {
        /// Why it was lost.
        error: ConnectionError,
    },
    /// It was made again.
    #[non_exhaustive]
    Reconnected {
        /// How often that was tried, the last time included.
        attempts: u32,
        /// For how long there was none.
        down_for: Duration,
    },
    /// The robot that is there now declares another contract than the one before: it may be another robot.
    #[non_exhaustive]
    ContractChanged {
        /// What was declared before.
        before: Box<ActionSpec>,
        /// What is declared now.
        after: Box<ActionSpec>,
    },
    /// The connection has ended, for good. Nothing comes after this.
    #[non_exhaustive]
    Ended {
        /// Why.
        error: ConnectionError,
    },
}

/// One line, for a log.
impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected { error } => write!(f, "the connection was interrupted: {error}"),
            Self::Reconnected { attempts, down_for } => {
                let tries = if *attempts == 1 { "try" } else { "tries" };
                write!(f, "connected again after {down_for:.1?}, {attempts} {tries}")
            }
            Self::ContractChanged { .. } => f.write_str(
                "the robot declares another contract than before: another one may be there now",
            ),
            Self::Ended { error } => write!(f, "the connection has ended: {error}"),
        }
    }
}

type Call = dyn Fn(&ConnectionEvent) + Send + Sync;

/// What is called with each event of a client's connection; by default nothing.
#[derive(Clone, Default)]
pub struct OnConnection(Option<Arc<Call>>);

impl OnConnection {
    /// Has a function called.
    pub fn new(call: impl Fn(&ConnectionEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(call)))
    }

    /// Calls it. A panic of the user's function is not one of the connection's.
    pub(super) fn call(&self, event: &ConnectionEvent) {
        if let Some(call) = &self.0
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(event)))
        {
            tracing::error!("`on_connection` panicked: {}", panic_message(&*panic));
        }
    }
}

impl fmt::Debug for OnConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_some() { "a function" } else { "nothing" };
        write!(f, "OnConnection({what})")
    }
}

/// The last events, for those who look at them at their own times.
#[derive(Debug, Default)]
pub(super) struct ConnectionEvents {
    recent: VecDeque<ConnectionEvent>,
    /// How many there were, those that are forgotten included.
    count: u64,
    /// How many the hook was called with.
    hooked: u64,
}

impl ConnectionEvents {
    /// How many are kept for whoever does not look for a while.
    const KEPT: usize = 64;

    pub(super) fn push(&mut self, event: ConnectionEvent) {
        if self.recent.len() == Self::KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        self.count += 1;
    }

    /// The first event of those that are kept behind the first `seen`, and how many are seen with it.
    /// `Err`: there is none, and whether none will come.
    pub(super) fn after(&self, seen: u64) -> Result<(ConnectionEvent, u64), bool> {
        let forgotten = self.count - self.recent.len() as u64;
        let next = seen.max(forgotten);
        let event = usize::try_from(next - forgotten).ok().and_then(|at| self.recent.get(at));
        let has_ended = || matches!(self.recent.back(), Some(ConnectionEvent::Ended { .. }));
        event.map(|event| (event.clone(), next + 1)).ok_or_else(has_ended)
    }

    /// The next event for the hook.
    pub(super) fn next_for_hook(&mut self) -> Option<ConnectionEvent> {
        let (event, hooked) = self.after(self.hooked).ok()?;
        self.hooked = hooked;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reconnected(attempts: u32) -> ConnectionEvent {
        ConnectionEvent::Reconnected { attempts, down_for: Duration::from_secs(1) }
    }

    #[test]
    fn everybody_gets_each_event_once_and_the_last_ones_if_they_come_late() {
        let mut events = ConnectionEvents::default();
        assert_eq!(events.after(0), Err(false));
        (1..=3).for_each(|number| events.push(reconnected(number)));
        let (first, seen) = events.after(0).expect("there are three");
        assert_eq!((first, seen), (reconnected(1), 1));
        assert_eq!(events.next_for_hook(), Some(reconnected(1)));
        assert_eq!(events.after(seen), Ok((reconnected(2), 2)));
        (4..=100).for_each(|number| events.push(reconnected(number)));
        assert_eq!(events.after(seen), Ok((reconnected(37), 37)), "64 are kept");
        assert_eq!(events.after(100), Err(false));
        events.push(ConnectionEvent::Ended { error: ConnectionError::ClosedLocally });
        assert!(events.after(100).is_ok());
        assert_eq!(events.after(101), Err(true));
    }
}
