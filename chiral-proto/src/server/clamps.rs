use std::mem::discriminant;

use super::event::Event;
use crate::ActionError;

/// The actions that were clamped: counted, and to be told, merged by what was wrong with them.
#[derive(Debug, Default)]
pub(super) struct Clamps {
    pub(super) count: u64,
    /// At most one of each kind, with the latest details.
    untold: Vec<(u64, ActionError)>,
}

impl Clamps {
    /// An action was clamped, for the first time or once more.
    pub(super) fn record(&mut self, error: ActionError, is_first: bool) {
        self.count += u64::from(is_first);
        let same = |(_, told): &&mut (u64, ActionError)| discriminant(told) == discriminant(&error);
        match self.untold.iter_mut().find(same) {
            Some((count, latest)) => (*count, *latest) = (*count + 1, error),
            None => self.untold.push((1, error)),
        }
    }

    /// The connection has ended; nothing is told after that.
    pub(super) fn end(&mut self) {
        self.untold.clear();
    }

    pub(super) fn is_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        let (count, error) = self.untold.pop()?;
        Some(Event::ActionsClamped { count, error })
    }
}
