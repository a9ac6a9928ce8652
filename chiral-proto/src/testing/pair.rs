use std::time::{Duration, Instant};

use super::network::{Delivery, Network};
use crate::ConnectionError;
use crate::client::{self, Client};
use crate::server::{self, Server};

/// A client and a server, connected in memory, and the time.
#[derive(Debug)]
pub struct Pair {
    /// The policy's side.
    pub client: Client,
    /// The robot's side.
    pub server: Server,
    /// From client to server.
    pub to_server: Network,
    /// From server to client.
    pub to_client: Network,
    start: Instant,
    now: Instant,
}

/// Something that one of the machines has to tell.
#[derive(Debug)]
pub enum Happening {
    /// On the policy's side.
    Client(client::Event),
    /// On the robot's side.
    Server(server::Event),
}

impl Pair {
    /// A pair over networks that take no time, to be replaced or configured through the fields. Its
    /// clock begins at `start`, any instant, and time passes only in [`next`](Self::next).
    pub fn new(start: Instant, client: client::Config, server: server::Config) -> Self {
        Self {
            client: Client::new(client),
            server: Server::new(start, server),
            to_server: Network::default(),
            to_client: Network::default(),
            start,
            now: start,
        }
    }

    /// The time of the pair's clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How long the pair has been running on its clock.
    pub fn elapsed(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    /// Lets time run to the next thing that a machine has to tell, or to `until`; then `None`.
    ///
    /// # Panics
    /// When a machine keeps asking to be called without time passing, which is a fault of it.
    pub fn next(&mut self, until: Instant) -> Option<Happening> {
        let mut stuck = Stuck::default();
        loop {
            self.exchange();
            if let Some(event) = self.server.poll_event(self.now) {
                return Some(Happening::Server(event));
            }
            if let Some(event) = self.client.poll_event() {
                return Some(Happening::Client(event));
            }
            let next = [
                self.client.poll_timeout(),
                self.server.poll_timeout(),
                self.to_server.next_timeout(self.now),
                self.to_client.next_timeout(self.now),
            ];
            let next = next.into_iter().flatten().min().filter(|next| *next <= until);
            stuck.look(next, self.now, self.elapsed());
            self.now = self.now.max(next.unwrap_or(until));
            next?;
        }
    }

    /// Cuts the connection: both sides see it lost, and what was under way is gone.
    pub fn cut(&mut self) {
        let lost = ConnectionError::Lost("cut".to_owned());
        self.client.handle_disconnect(self.now, lost.clone());
        self.server.handle_disconnect(self.now, lost);
        self.to_server.cut();
        self.to_client.cut();
    }

    /// Connects the client again after a [`cut`](Self::cut), to a robot that has just started, over
    /// the same networks. False if the client does not expect it; see
    /// [`Client::begin_connection`].
    pub fn reconnect(&mut self, server: server::Config) -> bool {
        self.server = Server::new(self.now, server);
        self.to_server.reopen();
        self.to_client.reopen();
        self.client.begin_connection(self.now)
    }

    /// Moves everything that can move at this moment.
    fn exchange(&mut self) {
        let now = self.now;
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        while let Some(delivery) = self.to_server.receive(now) {
            match delivery {
                Delivery::Frame(frame) => self.server.handle_frame(now, &frame),
                Delivery::End(error) => self.server.handle_disconnect(now, error),
            }
        }
        while let Some(delivery) = self.to_client.receive(now) {
            match delivery {
                Delivery::Frame(frame) => self.client.handle_frame(now, &frame),
                Delivery::End(error) => self.client.handle_disconnect(now, error),
            }
        }
        while self.to_server.can_send(now)
            && let Some(frame) = self.client.poll_transmit(now)
        {
            self.to_server.send(now, frame);
        }
        while self.to_client.can_send(now)
            && let Some(frame) = self.server.poll_transmit(now)
        {
            self.to_client.send(now, frame);
        }
        if let Some(error) = self.client.error() {
            self.to_server.close(now, error);
        }
        if let Some(error) = self.server.error() {
            self.to_client.close(now, error);
        }
    }
}

/// Notices that a machine asks to be called in the past, again and again.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// Calls without time passing.
    rounds: u32,
}

impl Stuck {
    const LIMIT: u32 = 1000;

    pub(super) fn look(&mut self, next: Option<Instant>, now: Instant, elapsed: Duration) {
        self.rounds = if next.is_none_or(|next| next > now) { 0 } else { self.rounds + 1 };
        assert!(
            self.rounds < Self::LIMIT,
            "stuck {elapsed:?} after the start: a machine asks to be called again and again"
        );
    }
}
