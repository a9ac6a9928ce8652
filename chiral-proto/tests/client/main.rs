//! How the policy's machine behaves, on a clock that the tests turn by hand.

#[path = "../support/mod.rs"]
mod support;

mod deadlines;
mod dispatch;
mod end;
mod lossy;
mod over_a_link;
mod requests;
mod stream;

use std::time::{Duration, Instant};

use chiral_proto::Rate;
use chiral_proto::client::{Client, Config, Event, RequestError, RequestKey};
use chiral_proto::wire::{ClientMessage, Limits, ServerMessage};

/// A client, and the time.
struct Policy {
    client: Client,
    now: Instant,
}

impl Policy {
    fn new(config: Config) -> Self {
        Self { client: Client::new(config), now: support::start() }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now);
    }

    /// What the client sends now, as the robot would read it.
    fn sends(&mut self) -> Option<ClientMessage> {
        let frame = self.client.poll_transmit(self.now)?;
        Some(ClientMessage::decode(&frame, &Limits::default()).expect("the client's own frame"))
    }

    fn sends_all(&mut self) -> Vec<ClientMessage> {
        std::iter::from_fn(|| self.sends()).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "the tests read better so")]
    fn hears(&mut self, message: ServerMessage) {
        self.client.handle_message(self.now, message.encode().to_bytes());
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// How long until the client wants to be called.
    fn sleeps_for(&mut self) -> Option<Duration> {
        self.client.poll_timeout().map(|next| next.duration_since(self.now))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(untimed())
    }
}

/// A configuration without the deadlines and the silence that come by default.
fn untimed() -> Config {
    Config { request_timeout: None, motion_timeout: None, silence: None, ..Config::default() }
}

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).expect("a sensible rate")
}

fn timed_out(id: impl Into<RequestKey>) -> Event {
    Event::Failed { id: id.into(), error: RequestError::TimedOut }
}
