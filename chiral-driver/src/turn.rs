use std::sync::Arc;

use crate::office::Office;
use crate::operate::ServerSide;
use crate::shared::Shared;

/// A policy's turn with the robot, from when it was let in until the robot is done with it: when
/// this is dropped, the next policy has its turn.
pub(crate) struct Turn {
    number: u64,
    office: Arc<Office>,
    pub(crate) shared: Arc<Shared<ServerSide>>,
}

impl Turn {
    pub(crate) fn new(number: u64, office: Arc<Office>, shared: Arc<Shared<ServerSide>>) -> Self {
        Self { number, office, shared }
    }

    /// Whether the settings want threads for the robot's code.
    pub(crate) fn wants_threads(&self) -> bool {
        self.office.config.robot_threads
    }

    /// Waits until the robot is done with the policies before.
    pub(crate) async fn has_come(&self) {
        self.office.until(|state| state.is_turn_of(self.number).then_some(())).await;
    }

    /// Whether the robot is done with the policies before.
    pub(crate) fn is_now(&self) -> bool {
        self.office.is_turn_of(self.number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The connection has ended, unless the robot's task could not be run to its end.
        self.shared.call(|side, _| side.machine.close());
        self.office.turn_is_over();
    }
}
