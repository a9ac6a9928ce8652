//! What a robot that is served is seen to do, and what must hold of it for any policies.

use std::sync::{Mutex, MutexGuard};

use chiral_proto::{ActionSpec, Arming, Rate};

/// What a robot is seen to do. It is moved for one policy at a time, by one thing at a time, for
/// nobody after `on_disconnect`, and with a [`contract`] by no action unless it is armed.
#[derive(Debug, Default)]
pub struct Motion(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Only a reset arms the robot.
    has_contract: bool,
    is_armed: bool,
    is_connected: bool,
    is_moving: bool,
    /// The numbers of the actions that were applied.
    applied: Vec<u32>,
    dropped: u64,
}

/// A contract of a robot that a reset arms, and that is stopped for a short silence.
pub fn contract() -> ActionSpec {
    let rate = Rate::hz(200).expect("a rate");
    ActionSpec::vector(1).rate(rate).stop_after(2).arming(Arming::OnReset)
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
    /// Of a robot with a [`contract`], or of one that every connection arms.
    pub fn new(has_contract: bool) -> Self {
        Self(Mutex::new(Seen { has_contract, ..Seen::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no panic is survived")
    }

    /// A policy has connected.
    ///
    /// # Panics
    /// When there is one already.
    pub fn connect(&self) {
        let mut seen = self.lock();
        assert!(!std::mem::replace(&mut seen.is_connected, true), "two policies at once");
        seen.is_armed = !seen.has_contract;
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

    /// As [`begin`](Self::begin), for what an action or a step says.
    ///
    /// # Panics
    /// As there, and when it is not armed.
    pub fn begin_commanded(&self) -> Moving<'_> {
        assert!(self.lock().is_armed, "a robot that is not armed is moved");
        self.begin()
    }

    /// The robot applies the action of this number.
    pub fn apply(&self, number: u32) {
        self.lock().applied.push(number);
    }

    /// The robot has reset itself.
    pub fn arm(&self) {
        self.lock().is_armed = true;
    }

    /// The robot is told that it is stopped.
    ///
    /// # Panics
    /// When nothing can stop it.
    pub fn stop(&self) {
        let mut seen = self.lock();
        assert!(seen.has_contract, "a stop for no reason");
        seen.is_armed = false;
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
