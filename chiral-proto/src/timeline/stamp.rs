use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The timeline that an observation belongs to, and where in it the observation was taken: what a
/// client notes on each observation that it receives. An observation that was made otherwise has the
/// default, which says nothing.
///
/// Two are equal when they are of the same observation: of it and of its copies, not of another one
/// with the same contents.
#[derive(Debug, Clone, Default)]
pub struct Stamp(pub(super) Option<Arc<Noted>>);

impl Stamp {
    /// Whether no copy of this stamp is left. Who keeps one without its observation knows by that
    /// whether somebody still has the observation. Always true of the default.
    pub fn is_unique(&self) -> bool {
        self.0.as_ref().is_none_or(|noted| Arc::strong_count(noted) == 1)
    }

    fn address(&self) -> Option<*const Noted> {
        self.0.as_ref().map(Arc::as_ptr)
    }
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Stamp {}

impl Hash for Stamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

#[derive(Debug)]
pub(super) struct Noted {
    /// The client that received it.
    pub(super) client: Arc<()>,
    /// Resets and lost connections before it was taken.
    pub(super) epoch: u64,
    /// Steps that were sent when the request left, and when the reply arrived.
    pub(super) asked: u64,
    pub(super) arrived: u64,
    /// Steps that the robot had executed, if it is known.
    pub(super) executed: Option<u64>,
}

impl Noted {
    /// The first step that the robot had not executed.
    pub(super) fn base(&self) -> u64 {
        self.executed.unwrap_or(self.arrived)
    }
}

/// Where the timeline was when a request left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) steps: u64,
    pub(crate) epoch: u64,
}

/// An observation on which no chunk can be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BasisError {
    /// A reset was asked for after the observation was taken.
    #[error("the observation was taken before the last reset: decide on one of after it")]
    FormerEpoch,
    /// The connection was made again after the observation was taken, or is lost.
    #[error(
        "the observation came through a connection that was lost since: decide on one of the present connection"
    )]
    FormerConnection,
    /// The observation did not come through this client.
    #[error(
        "the observation did not come through this connection, so the steps since are not known: follow one that did, or use `Anchor::Next`"
    )]
    Foreign,
}
