//! What arms and stops the robot.

use std::time::Instant;

use super::{DropReason, Server};
use crate::StopReason;

impl Server {
    /// Lets the policy's actions move the robot, after a stop too, whatever
    /// [arms it](crate::ActionSpec::arming) otherwise: for the robot's own program, and its operator.
    /// It holds until the robot is stopped or the connection ends; the next connection is not armed
    /// by it.
    ///
    /// What came before was dropped when it came, except what is behind a reset that is not answered
    /// yet, with [`Arming::OnReset`](crate::Arming::OnReset): that is executed after the reset.
    pub fn arm(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.lifecycle.is_ended() && self.guard.arm() {
            self.note_armed(now);
        }
    }

    /// Stops the robot, for its own program and its operator: what waits is dropped,
    /// [`Event::Stopped`](super::Event::Stopped) tells to hold still, and no action is told until the robot is armed again.
    /// A step that waits ends the connection in its turn, as one that comes afterwards does. It is no
    /// emergency stop.
    pub fn stop_motion(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.lifecycle.is_ended() {
            self.guard.stop(now, StopReason::Requested);
            self.note_stopped(now);
        }
    }

    pub(super) fn note_armed(&mut self, now: Instant) {
        if self.answers.has_barrier() {
            self.watchdog.pause();
        } else {
            self.watchdog.arm(now);
        }
        self.changes.forget();
    }

    pub(super) fn note_stopped(&mut self, now: Instant) {
        self.answers.note_stop(now);
        self.watchdog.pause();
        self.changes.forget();
        let state = self.guard.state();
        self.inbox.note_stop(&DropReason::NotArmed { state });
    }
}
