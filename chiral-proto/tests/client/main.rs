//! How the policy's machine behaves, on a clock that the tests turn by hand.

#[path = "../support/mod.rs"]
mod support;

mod deadlines;
mod dispatch;
mod end;
mod lossy;
mod outgoing;
mod over_a_network;
mod reconnect;
mod requests;
mod silence;
mod stream;
mod timeouts;
mod undispatched;
mod wake;

use std::time::{Duration, Instant};

use chiral_proto::Rate;
use chiral_proto::client::{Client, Config, Event, RequestError, RequestKey, TimeoutCause};
use chiral_proto::wire::{ClientMessage, Limits, RequestKind, ServerMessage};

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

    /// What the client tells; of a request that timed out, only that it did.
    fn events(&mut self) -> Vec<Event> {
        let next = || self.client.poll_event();
        let bare = |event| match event {
            Event::Failed { id, error: RequestError::TimedOut { .. } } => timed_out(id),
            other => other,
        };
        std::iter::from_fn(next).map(bare).collect()
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
    Config {
        request_timeout: None,
        motion_timeout: None,
        silence: None,
        undispatched: None,
        ..Config::default()
    }
}

fn hz(hz: f64) -> Rate {
    Rate::hz(hz).expect("a sensible rate")
}

fn timed_out(id: impl Into<RequestKey>) -> Event {
    let (request, waited, cause) = (RequestKind::Metadata, Duration::ZERO, TimeoutCause::Slow);
    Event::Failed { id: id.into(), error: RequestError::TimedOut { request, waited, cause } }
}

fn cancelled(id: impl Into<RequestKey>) -> Event {
    Event::Failed { id: id.into(), error: RequestError::Cancelled }
}
