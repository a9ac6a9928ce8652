use std::fmt;

/// What a robot or a policy has counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// How many policies, or robots, it was connected to, one after another.
    pub(crate) connections: u64,
    /// Actions received from the robot's own policy, or sent.
    pub(crate) actions: u64,
    /// Observations received from the policy's own robot, or made.
    pub(crate) observations: u64,
    /// Actions or observations of another pair.
    pub(crate) foreign: u64,
    /// Actions or observations that were lost, duplicated or out of order.
    pub(crate) astray: u64,
    /// Requests that were retried, and replies that matched no request.
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
