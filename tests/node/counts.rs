use std::fmt;

/// What a robot or a policy has counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// The policies, or the robots, that it was connected to, one after the other.
    pub(crate) connections: u64,
    /// Actions: of a robot's own policy, or sent.
    pub(crate) actions: u64,
    /// Observations: of a policy's own robot, or made.
    pub(crate) observations: u64,
    /// What was meant for, or came from, somebody else.
    pub(crate) foreign: u64,
    /// Actions or observations that did not arrive, or that arrived twice or in another order.
    pub(crate) astray: u64,
    /// Requests that were sent again, and answers that nobody waited for.
    pub(crate) repeated: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, actions, observations, foreign, astray, repeated } = self;
        write!(f, "counts connections={connections} actions={actions} ")?;
        write!(f, "observations={observations} foreign={foreign} astray={astray} ")?;
        write!(f, "repeated={repeated}")
    }
}
