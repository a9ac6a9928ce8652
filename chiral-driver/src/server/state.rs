//! A server's connection: the machine, and whoever works for it.

use std::mem::discriminant;
use std::time::Instant;

use chiral_proto::ActionError;
use chiral_proto::server::{self, DropReason, Server};
use event_listener::{Event, EventListener};

use super::log_limit::Repeated;
use crate::connection::{Connection, State};
use crate::transport::Extension;

/// The server's machine, and what those who work for it wait for.
pub struct ServerState {
    pub(crate) machine: Server,
    /// The robot is moving: an action, a reset or a step, or its answer to an alarm, has begun and is
    /// not done.
    is_moving: bool,
    /// What the transport has beyond its frames.
    pub(crate) extension: Option<Extension>,
    /// For which reasons actions were dropped, and what of theirs was clamped, as far as the log has
    /// been told.
    dropped: Repeated<DropReason>,
    clamped: Repeated<ActionError>,
    /// Notified when there may be something to do with the robot's motion.
    on_motion: Event,
    /// Notified when there may be something to do with requests.
    on_request: Event,
    /// Notified when the connection has ended.
    on_end: Event,
}

impl ServerState {
    pub(crate) fn new(machine: Server) -> Self {
        Self {
            machine,
            is_moving: false,
            extension: None,
            dropped: Repeated::new(),
            clamped: Repeated::new(),
            on_motion: Event::new(),
            on_request: Event::new(),
            on_end: Event::new(),
        }
    }

    /// Whether the machine has something to tell, in whichever way it is polled.
    pub(crate) fn has_event(&self) -> bool {
        self.machine.has_motion() || self.machine.has_request()
    }

    pub(crate) fn listen_motion(&self) -> EventListener {
        self.on_motion.listen()
    }

    pub(crate) fn listen_request(&self) -> EventListener {
        self.on_request.listen()
    }

    pub(crate) fn listen_end(&self) -> EventListener {
        self.on_end.listen()
    }

    /// What the robot is to be told next of its motion: nothing before
    /// [it is done](Self::finish_motion) with what it was told last.
    pub(crate) fn poll_motion(&mut self) -> Option<server::Event> {
        if self.is_motion_held_back() {
            return None;
        }
        let event = self.machine.poll_motion(Instant::now());
        self.is_moving = event.is_some();
        event
    }

    /// The next request. A reset or a step stays with the machine until the robot is done with what
    /// moves it: a stop may come meanwhile.
    pub(crate) fn poll_request(&mut self) -> Option<server::Event> {
        if self.is_request_held_back() {
            return None;
        }
        let request = self.machine.poll_request();
        self.is_moving |=
            matches!(request, Some(server::Event::Reset(_) | server::Event::Step(..)));
        request
    }

    /// A reset or a step that may begin goes first: what is told of the motion without end, such as
    /// dropped actions, must not keep it waiting.
    fn is_motion_held_back(&self) -> bool {
        self.is_moving || self.machine.has_motion_request()
    }

    fn is_request_held_back(&self) -> bool {
        self.is_moving && self.machine.has_motion_request()
    }

    /// Of how many dropped actions the log is to be told now, if of any: of the first for each reason,
    /// then of what has come together every 10 s.
    fn note_drops(&mut self, count: u64, reason: &DropReason) -> Option<u64> {
        self.dropped.note(Instant::now(), count, reason, DropReason::is_like)
    }

    /// The same of clamped actions.
    fn note_clamps(&mut self, count: u64, error: &ActionError) -> Option<u64> {
        let is_like =
            |one: &ActionError, other: &ActionError| discriminant(one) == discriminant(other);
        self.clamped.note(Instant::now(), count, error, is_like)
    }

    /// What moved the robot is done: more of it may be waiting for just this.
    pub(crate) fn finish_motion(&mut self) {
        self.is_moving = false;
        self.dispatch_events();
    }
}

// Not under the lock, for which others would wait until the log has taken the line.
impl Connection<ServerState> {
    /// Tells the log that the robot does not get all actions.
    pub(crate) fn warn_of_drops(&self, count: u64, reason: &DropReason) {
        let told = self.lock().note_drops(count, reason);
        if let Some(count) = told {
            tracing::warn!("{count} actions did not reach the robot: {reason}");
        }
    }

    /// Tells the log that actions were clamped.
    pub(crate) fn warn_of_clamps(&self, count: u64, error: &ActionError) {
        let told = self.lock().note_clamps(count, error);
        if let Some(count) = told {
            tracing::warn!("{count} actions were clamped: {error}");
        }
    }
}

impl State for ServerState {
    type Machine = Server;

    fn machine(&mut self) -> &mut Server {
        &mut self.machine
    }

    fn wants_message(&self) -> bool {
        self.machine.wants_message()
    }

    fn dispatch_events(&mut self) {
        // Waking a task for nothing, several times an observation, would cost more than asking.
        if self.machine.has_motion() && !self.is_motion_held_back() {
            self.on_motion.notify(usize::MAX);
        }
        let has_ended = self.machine.error().is_some();
        if (self.machine.has_request() && !self.is_request_held_back()) || has_ended {
            self.on_request.notify(usize::MAX);
        }
        if has_ended {
            self.on_end.notify(usize::MAX);
        }
    }
}
