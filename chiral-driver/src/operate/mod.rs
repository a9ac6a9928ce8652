//! How a robot is operated for a policy: it is [called](called), or it [pulls](pulled) its
//! commands.

pub(crate) mod called;
pub(crate) mod pulled;

use std::any::Any;

use chiral_proto::server::Server;

use crate::shared::Side;
use pulled::Clerk;

/// The server's machine, and what those who operate the robot wait for.
pub(crate) struct ServerSide {
    pub(crate) machine: Server,
    /// Notified when there may be something to do with the robot's motion.
    motion: event_listener::Event,
    /// Notified when there may be something to do with requests.
    requests: event_listener::Event,
    /// Something that moves the robot is being done.
    moving: bool,
    /// A reset or a step is next to move the robot: what came behind it waits.
    next_is_request: bool,
    /// Answers for a robot that pulls its commands.
    clerk: Option<Clerk>,
    /// What the link over Zenoh has carried.
    #[cfg(feature = "zenoh")]
    pub(crate) zenoh: Option<chiral_zenoh::Counts>,
}

impl ServerSide {
    pub(crate) fn new(machine: Server) -> Self {
        Self {
            machine,
            motion: event_listener::Event::new(),
            requests: event_listener::Event::new(),
            moving: false,
            next_is_request: false,
            clerk: None,
            #[cfg(feature = "zenoh")]
            zenoh: None,
        }
    }
}

impl Side for ServerSide {
    type Machine = Server;

    fn machine(&mut self) -> &mut Server {
        &mut self.machine
    }

    fn tell(&mut self) -> bool {
        if let Some(clerk) = &mut self.clerk {
            clerk.answer(&mut self.machine);
            return false;
        }
        // Waking a task for nothing, several times an observation, would cost more than asking.
        let mut woken = 0;
        if self.machine.has_motion() && !self.moving {
            woken += self.motion.notify(usize::MAX);
        }
        if self.machine.has_request() || self.machine.error().is_some() {
            woken += self.requests.notify(usize::MAX);
        }
        woken > 0
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "it panicked".to_owned(), |text| format!("it panicked: {text}"))
}
