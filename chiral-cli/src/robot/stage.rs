//! What happens in front of a simulated robot's cameras.

use chiral_driver::RobotError;
use chiral_proto::{Action, Map};

/// What an action did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Effect {
    pub(crate) reward: f64,
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
}

/// What happens in front of a simulated robot's cameras. As it stands here, nothing does.
pub(crate) trait Stage: Send + Sync + 'static {
    /// What an action must look like, for the metadata.
    fn action_space(&self) -> Map {
        Map::new()
    }

    /// Takes an action, to be carried out as time passes.
    fn apply(&self, action: &Action) -> Result<(), RobotError> {
        let _ = action;
        Ok(())
    }

    /// Carries an action out at once; the sensors then show its effect. May take a while.
    fn step(&self, action: &Action) -> Result<Effect, RobotError> {
        self.apply(action)?;
        Ok(Effect::default())
    }

    /// Starts over, and says how; the sensors then show the new start. May take a while.
    fn reset(&self) -> Map {
        Map::new()
    }

    /// Stops where it is.
    fn hold_still(&self) {}
}
