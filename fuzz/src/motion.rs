//! What a robot that is served is seen to do, and what must hold of it for any policies.

use std::sync::{Mutex, MutexGuard};

/// What a robot is seen to do. It is moved for one policy at a time, by one thing at a time, and for
/// nobody after `on_disconnect`.
#[derive(Debug, Default)]
pub struct Motion(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    is_connected: bool,
    is_moving: bool,
    /// The numbers of the actions that were applied.
    applied: Vec<u32>,
    dropped: u64,
}

/// The robot moves; at most one of these lives.
#[derive(Debug)]
pub struct Moving<'a>(&'a Motion);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.lock().is_moving = false;
    }
}

impl Motion {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no panic is survived")
    }

    /// A policy has connected.
    ///
    /// # Panics
    /// When there is one already.
    pub fn connect(&self) {
        assert!(!std::mem::replace(&mut self.lock().is_connected, true), "two policies at once");
    }

    /// The policy has gone, and the robot holds.
    pub fn disconnect(&self) {
        self.lock().is_connected = false;
    }

    /// The robot is asked for something that does not move it.
    ///
    /// # Panics
    /// When there is no policy.
    pub fn ask(&self) {
        assert!(self.lock().is_connected, "asked by nobody");
    }

    /// The robot begins to move.
    ///
    /// # Panics
    /// When there is no policy, or it moves already.
    pub fn begin(&self) -> Moving<'_> {
        let mut seen = self.lock();
        assert!(seen.is_connected, "the robot is moved for nobody");
        assert!(!std::mem::replace(&mut seen.is_moving, true), "two things move the robot");
        Moving(self)
    }

    /// The robot applies the action of this number.
    pub fn apply(&self, number: u32) {
        self.lock().applied.push(number);
    }

    /// The robot is told of actions that it does not get.
    pub fn note_dropped(&self, count: u64) {
        self.lock().dropped += count;
    }

    /// Checks that the actions came in the order of their numbers.
    ///
    /// # Panics
    /// When they did not.
    pub fn check_order(&self) {
        assert!(self.lock().applied.is_sorted(), "actions out of order");
    }

    /// Checks that the robot was told of the end, and, if so many were sent, that it got no more.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn check_end(&self, sent: Option<u32>) {
        let seen = self.lock();
        assert!(!seen.is_connected, "the robot was not told of the end");
        let count = seen.applied.len() as u64 + seen.dropped;
        assert!(sent.is_none_or(|sent| count <= sent.into()), "more actions than were sent");
    }
}
