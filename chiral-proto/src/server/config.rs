use std::time::Duration;

use crate::wire::Limits;

/// How a [`Server`](super::Server) behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bounds on what the client may send. Default: those of [`Limits`], but frames of at most
    /// 16 MiB: a client sends actions, not images, and a backlog of them must not fill the memory.
    pub limits: Limits,
    /// How many requests of the client may wait for their answer; one more ends the connection.
    /// Default: 64.
    pub pending_replies: usize,
    /// How many actions may wait to be polled, or for a reset to be over. When one more comes the
    /// oldest is dropped and counted: a robot that cannot keep up acts on the newest commands.
    /// Default: 64.
    pub action_backlog: usize,
    /// After this long without an action, once the first has come, [`Event::Watchdog`] tells the
    /// robot to hold still. A reset ends the watch until the next action, and so does a step until
    /// its answer leaves. Default: `None`, no watchdog.
    ///
    /// [`Event::Watchdog`]: super::Event::Watchdog
    pub watchdog: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits { frame_len: 16 << 20, ..Limits::default() },
            pending_replies: 64,
            action_backlog: 64,
            watchdog: None,
        }
    }
}
