use crate::sensors::Sensors;
use crate::types::ChangeFrom;
use crate::{Action, ActionError, ActionKind, ActionSpec};

/// Remembers what the robot was given, from which the next step is measured.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The last row of the last action.
    last: Vec<f32>,
    since: Since,
}

/// What the robot was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Since {
    /// It was armed, reset or stopped: it may be anywhere.
    #[default]
    Start,
    /// It was told to hold.
    Hold,
    /// It was given an action, and nothing has happened since.
    Action,
}

impl Changes {
    /// Checks an action that is to be given to the robot, and clamps it; what was wrong with it, if it
    /// was clamped.
    pub(super) fn judge(
        &self,
        spec: &ActionSpec,
        sensors: Option<&Sensors>,
        action: &mut Action,
    ) -> Result<Option<ActionError>, ActionError> {
        if !spec.limits_change() {
            return Ok(None);
        }
        if self.since == Since::Action {
            return spec.judge_change(action, ChangeFrom::Values(&self.last));
        }
        if spec.declaration().kind == Some(ActionKind::Velocity) {
            return spec.judge_change(action, ChangeFrom::Rest);
        }
        let Some(stream) = spec.measuring_stream() else {
            let has_held = self.since == Since::Hold;
            let from = if has_held { ChangeFrom::Values(&self.last) } else { ChangeFrom::Unknown };
            return spec.judge_change(action, from);
        };
        let measured = sensors.and_then(|sensors| sensors.latest_proprio(stream));
        let measured = measured.filter(|values| Some(values.len()) == spec.row_len());
        let not_measured = || ActionError::NotMeasured { stream: stream.clone() };
        let values = measured.ok_or_else(not_measured)?;
        spec.judge_change(action, ChangeFrom::Values(&values.to_f32()))
    }

    /// The robot is given an action.
    pub(super) fn note_given(&mut self, spec: &ActionSpec, action: &Action) {
        let Some(len) = spec.row_len().filter(|_| spec.limits_change()) else { return };
        let values = action.to_f32();
        // An empty one moves nothing.
        if values.is_empty() {
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(&values[values.len().saturating_sub(len)..]);
        self.since = Since::Action;
    }

    /// The robot is told to hold.
    pub(super) fn note_hold(&mut self) {
        if self.since == Since::Action {
            self.since = Since::Hold;
        }
    }

    /// The robot was armed, reset or stopped.
    pub(super) fn forget(&mut self) {
        self.since = Since::Start;
    }
}
