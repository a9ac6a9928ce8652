//! How the robot's machine behaves, on a clock that the tests turn by hand.

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod answers;
mod apart;
mod bounds;
mod contract;
mod defaults;
mod deferred;
mod end;
mod handles;
mod refusals;
mod shut_down;
mod watchdog;

use std::time::{Duration, Instant};

use chiral_proto::server::{
    ActionQueue, Config, DropReason, Event, MetadataReply, ObserveReply, ResetReply, Server,
};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};

use support::{action, number_of};

const EVERY_ACTION: ActionQueue = ActionQueue::InOrder { capacity: 1000 };

/// A server, and the time.
struct Robot {
    server: Server,
    now: Instant,
}

impl Robot {
    fn new(config: Config) -> Self {
        let now = support::start();
        Self { server: Server::new(now, config), now }
    }

    /// A robot that is told every action, in order.
    fn in_order() -> Self {
        Self::new(Config { action_queue: EVERY_ACTION, ..Config::default() })
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
    }

    #[expect(clippy::needless_pass_by_value, reason = "the tests read better so")]
    fn hears(&mut self, message: ClientMessage) {
        self.server.handle_message(self.now, message.encode().to_bytes());
    }

    fn hears_action(&mut self, number: u32) {
        self.hears(ClientMessage::ApplyAction(action(number)));
    }

    fn is_told(&mut self) -> Option<Event> {
        self.server.poll_event(self.now)
    }

    fn is_told_to_observe(&mut self) -> ObserveReply {
        match self.is_told() {
            Some(Event::Observe(reply)) => reply,
            other => panic!("{other:?} instead of a request for an observation"),
        }
    }

    fn is_told_to_reset(&mut self) -> ResetReply {
        match self.is_told() {
            Some(Event::Reset(reply)) => reply,
            other => panic!("{other:?} instead of a reset"),
        }
    }

    fn is_asked_for_metadata(&mut self) -> MetadataReply {
        match self.is_told() {
            Some(Event::Metadata(reply)) => reply,
            other => panic!("{other:?} instead of a request for metadata"),
        }
    }

    /// The numbers of the actions that are told now, up to something else.
    fn is_told_to_act(&mut self) -> Vec<u32> {
        let mut told = Vec::new();
        loop {
            match self.is_told() {
                Some(Event::Action(action)) => told.push(number_of(&action)),
                None => return told,
                Some(other) => panic!("{other:?} after {told:?}"),
            }
        }
    }

    /// What the server sends now, as the policy would read it.
    fn sends(&mut self) -> Option<ServerMessage> {
        let frame = self.server.poll_transmit(self.now)?;
        Some(ServerMessage::decode(&frame, &Limits::default()).expect("the server's own frame"))
    }

    /// How long until the server wants to be called.
    fn sleeps_for(&mut self) -> Option<Duration> {
        self.server.poll_timeout().map(|next| next.duration_since(self.now))
    }
}

/// The number of the action that is told.
fn is_action(told: &Event) -> Option<u32> {
    match told {
        Event::Action(action) => Some(number_of(action)),
        _ => None,
    }
}

fn is_told_of_drops(robot: &mut Robot, expected: u64, because: &DropReason) {
    match robot.is_told() {
        Some(Event::ActionsDropped { count, reason }) => {
            assert_eq!((count, &reason), (expected, because));
        }
        other => panic!("{other:?} instead of {expected} actions dropped"),
    }
}

impl Default for Robot {
    fn default() -> Self {
        Self::new(Config::default())
    }
}
