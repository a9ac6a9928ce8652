//! What happens in front of a simulated robot's cameras.

use chiral_driver::RobotError;
use chiral_proto::{Action, Map};

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is carried out.
    CarriedOut,
    /// Nothing, and why.
    Ignored(&'static str),
}

/// How an episode stands after a legacy step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct StepOutcome {
    pub(crate) reward: f64,
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
}

/// What happens in front of a simulated robot's cameras.
pub(crate) trait Environment: Send + Sync + 'static {
    /// What an action must look like, for the metadata.
    fn action_space(&self) -> Map {
        Map::new()
    }

    /// Takes an action, to be carried out as time passes.
    fn apply(&self, action: &Action) -> Result<Effect, RobotError>;

    /// Carries an action out at once; the sensors then show its effect. May take a while.
    fn step(&self, action: &Action) -> Result<StepOutcome, RobotError> {
        self.apply(action)?;
        Ok(StepOutcome::default())
    }

    /// Starts over, and says how; the sensors then show the new start. May take a while.
    fn reset(&self) -> Map {
        Map::new()
    }

    /// Stops where it is.
    fn hold_still(&self) {}
}
