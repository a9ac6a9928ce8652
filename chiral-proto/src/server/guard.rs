use std::time::{Duration, Instant};

use super::periods::Periods;
use crate::pacer::instant_after;
use crate::{ActionSpec, Arming, ArmingState, StopReason};

/// Whether a policy's actions move the robot; [`ArmingState`] has the diagram.
#[derive(Debug)]
pub(super) struct Guard {
    arming: Arming,
    state: ArmingState,
    stop_timeout: Option<Duration>,
    /// The last sign of life, while actions move the robot and nothing else does.
    silent_since: Option<Instant>,
    /// The last sign of life, also while the robot has not moved: an action came that was let
    /// through, or the policy could act again.
    last_sign: Option<Instant>,
    /// The last sign of life since the robot was armed or has stepped, of those that are not taken
    /// back: the arrival of an action that the robot was given, or that the policy could act again.
    given: Option<Instant>,
    /// A reset that is being worked on has begun since the robot was last stopped.
    reset_arms: bool,
    /// When the robot was last stopped: what was decided on something older is of before it.
    stopped_at: Option<Instant>,
    /// The robot is not told of its stop yet.
    untold: Option<StopReason>,
    pub(super) periods: Periods,
    pub(super) stops: u64,
}

impl Guard {
    pub(super) fn new(spec: &ActionSpec) -> Self {
        let declared = spec.declaration();
        let state = match declared.arming {
            Arming::OnConnect => ArmingState::Armed,
            Arming::OnReset | Arming::Manual => ArmingState::Disarmed,
        };
        Self {
            arming: declared.arming,
            state,
            stop_timeout: spec.stop_timeout(),
            silent_since: None,
            last_sign: None,
            given: None,
            reset_arms: false,
            stopped_at: None,
            untold: None,
            periods: Periods::new(declared.rate),
            stops: 0,
        }
    }

    pub(super) fn state(&self) -> ArmingState {
        self.state
    }

    /// Whether the robot may be given an action now.
    pub(super) fn is_armed(&self) -> bool {
        self.state.takes_actions()
    }

    /// Whether an action that comes now may be given later: now, or when the reset before it arms
    /// the robot.
    pub(super) fn may_admit(&self, is_resetting: bool) -> bool {
        self.is_armed() || (is_resetting && self.arming == Arming::OnReset)
    }

    /// Whether what was taken at this instant may be of before the last stop.
    pub(super) fn is_of_before_stop(&self, taken: Instant) -> bool {
        self.stopped_at.is_some_and(|stopped_at| taken <= stopped_at)
    }

    // ---- what arms and stops ------------------------------------------------------------------

    /// Arms the robot. False when it was armed already.
    pub(super) fn arm(&mut self) -> bool {
        if self.is_armed() {
            return false;
        }
        self.wait_for_first_action(ArmingState::Armed);
        true
    }

    pub(super) fn stop(&mut self, now: Instant, reason: StopReason) {
        if self.state != ArmingState::Stopped {
            self.stops += 1;
            self.untold = Some(reason);
        }
        self.wait_for_first_action(ArmingState::Stopped);
        self.reset_arms = false;
        self.stopped_at = Some(now);
    }

    /// The connection has ended.
    pub(super) fn end(&mut self) {
        self.wait_for_first_action(ArmingState::Disarmed);
        self.untold = None;
    }

    /// The robot is told to reset itself.
    pub(super) fn begin_reset(&mut self) {
        self.reset_arms = self.arming == Arming::OnReset;
    }

    /// The robot has reset itself, which may arm it.
    pub(super) fn finish_reset(&mut self) {
        if std::mem::take(&mut self.reset_arms) || self.is_armed() {
            self.wait_for_first_action(ArmingState::Armed);
        }
    }

    fn wait_for_first_action(&mut self, state: ArmingState) {
        self.state = state;
        self.pause();
        self.given = None;
    }

    // ---- actions ------------------------------------------------------------------------------

    /// An action has come that is let through.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        self.last_sign = Some(now);
        // While something else moves the robot, silence does not count.
        if self.silent_since.is_some() {
            self.silent_since = Some(now);
            self.periods.note_action(now);
        }
    }

    /// The robot is given an action, which came at this instant. While the policy `awaits_answer` of a
    /// reset or a step it cannot act, so silence begins only when that leaves.
    pub(super) fn note_given(&mut self, came: Instant, awaits_answer: bool) {
        // The first one may have waited, and others may have come since.
        if self.state == ArmingState::Armed && !awaits_answer {
            let since = self.last_sign.map_or(came, |sign| sign.max(came));
            self.silent_since = Some(since);
            self.periods.note_action(since);
        }
        self.state = ArmingState::Moving;
        self.given = self.given.max(Some(came));
    }

    /// The robot is given a step.
    pub(super) fn begin_step(&mut self) {
        self.wait_for_first_action(ArmingState::Moving);
    }

    /// The action that came last is not given to the robot.
    pub(super) fn take_back(&mut self) {
        self.last_sign = self.given;
        if self.silent_since.is_some() {
            self.silent_since = self.given;
            self.periods.take_back();
        }
    }

    /// The robot is told to hold.
    pub(super) fn note_hold(&mut self) {
        if self.state == ArmingState::Moving {
            self.state = ArmingState::Holding;
        }
    }

    /// A reset or a step has come.
    pub(super) fn pause(&mut self) {
        self.silent_since = None;
        self.periods.pause();
    }

    /// Its answer leaves: from now on the policy can act.
    pub(super) fn resume(&mut self, now: Instant) {
        (self.last_sign, self.given) = (Some(now), Some(now));
        if matches!(self.state, ArmingState::Moving | ArmingState::Holding) {
            self.silent_since = Some(now);
            self.periods.resume(now);
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    /// Stops the robot when it has been silent for too long; true when that is now.
    pub(super) fn check(&mut self, now: Instant) -> bool {
        self.periods.advance(now);
        let is_due = self.next_timeout().is_some_and(|timeout| timeout <= now);
        if let Some(since) = self.silent_since.filter(|_| is_due) {
            let silent_for = now.duration_since(since);
            self.stop(now, StopReason::MissedPeriods { silent_for });
        }
        is_due
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(instant_after(self.silent_since?, self.stop_timeout?))
    }

    pub(super) fn has_untold(&self) -> bool {
        self.untold.is_some()
    }

    /// Why the robot was stopped, if it is to be told.
    pub(super) fn take_untold(&mut self) -> Option<StopReason> {
        self.untold.take()
    }
}
