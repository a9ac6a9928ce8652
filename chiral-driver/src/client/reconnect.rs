//! What it takes to connect a client again whose connection was lost; for all adapters.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use chiral_proto::ConnectionError;
use chiral_proto::client::{Backoff, ConnectionState};
use chiral_proto::ws::redacted;

use super::settings::{ClientSettings, random};
use super::state::ClientState;
use super::waiting::WaitForServer;
use crate::connection::Connection;
use crate::error::ConnectError;
use crate::transport::Extension;

/// Supervises the connection of a client: tells when to connect again, and of what becomes of it.
///
/// Whoever drives the connection, a task or a thread, asks it for an [`Outage`] after each transport
/// that is done, makes the next transport while it polls that, and goes on with it. Its drop is the
/// end of the connection.
pub struct Supervisor {
    connection: Arc<Connection<ClientState>>,
    settings: ClientSettings,
    /// The pauses between the tries; `None`: a connection that is lost is not made again.
    backoff: Option<Arc<Mutex<Backoff>>>,
    uri: String,
    connected_at: Instant,
}

impl Supervisor {
    /// Of a connection that has just been made, and that cannot be made again.
    pub(super) fn without_reconnect(
        connection: Arc<Connection<ClientState>>,
        settings: ClientSettings,
    ) -> Self {
        let (uri, connected_at) = (String::new(), Instant::now());
        Self { connection, settings, backoff: None, uri, connected_at }
    }

    /// Of a connection to this URI that has just been made. It is made again if the settings say so.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(super) fn new(
        connection: Arc<Connection<ClientState>>,
        settings: ClientSettings,
        uri: &str,
    ) -> Result<Self, ConnectError> {
        let backoff = match &settings.reconnect {
            Some(reconnect) => {
                let backoff = reconnect.backoff(u64::from_ne_bytes(random()?));
                Some(Arc::new(Mutex::new(backoff)))
            }
            None => None,
        };
        let uri = redacted(uri);
        Ok(Self { connection, settings, backoff, uri, connected_at: Instant::now() })
    }

    /// The connection.
    pub fn connection(&self) -> &Arc<Connection<ClientState>> {
        &self.connection
    }

    /// The settings with which it is connected.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// The outage that has begun with the end of a transport; `None` if the client has ended.
    pub fn outage(&self) -> Option<Outage<'_>> {
        self.connection.call_hook(&self.settings);
        let ConnectionState::Interrupted { since, error } = self.connection.state() else {
            return None;
        };
        let Some(backoff) = &self.backoff else {
            self.connection.give_up(error);
            return None;
        };
        let pause = {
            let mut backoff = backoff.lock().unwrap_or_else(PoisonError::into_inner);
            backoff.begin(since.saturating_duration_since(self.connected_at));
            backoff.next_pause()
        };
        let limit = self.settings.reconnect.as_ref().and_then(|settings| settings.give_up_after);
        let pause = limit.map_or(pause, |limit| pause.min(limit));
        let first_try = since + pause;
        tracing::warn!("the connection to the robot was interrupted: {error}; connecting again");
        Some(Outage { connection: &self.connection, first_try, since })
    }

    /// What tells the next transport's maker when to try again, and when to give up.
    pub fn wait(&self, outage: &Outage<'_>) -> WaitForServer {
        WaitForServer::again(&self.uri, &self.settings, outage.since, self.backoff.clone())
    }

    /// Takes the outcome of connecting again. A transport that was made is to be driven next, also if
    /// the client was closed meanwhile: the server is then told. Else this is the client's end.
    pub fn resume(&mut self, outcome: Result<Option<Extension>, ConnectError>) {
        match outcome {
            Ok(extension) => {
                let attempts = self.backoff.as_ref().map_or(0, |backoff| {
                    backoff.lock().unwrap_or_else(PoisonError::into_inner).attempts()
                });
                self.connection.begin(attempts, extension);
                self.connected_at = Instant::now();
            }
            Err(error) => {
                if let ConnectionState::Interrupted { error: lost, .. } = self.connection.state() {
                    let (lost, found) = (Box::new(lost), error.to_string());
                    self.connection.give_up(ConnectionError::NotReconnected { lost, found });
                }
            }
        }
        self.connection.call_hook(&self.settings);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let stopped = || ConnectionError::Lost("what drove it was stopped".to_owned());
        // What ends the connection may leave it open for another one, of which there will be none.
        self.connection.disconnect(Instant::now(), stopped());
        self.connection.give_up(stopped());
        self.connection.finish(stopped());
        self.connection.call_hook(&self.settings);
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// The time in which a client has no connection.
pub struct Outage<'a> {
    connection: &'a Connection<ClientState>,
    first_try: Instant,
    since: Instant,
}

/// What [`Outage::poll`] has come to.
#[derive(Debug)]
pub enum OutageProgress<T> {
    /// To be polled again when the waker is woken, or at this instant.
    Waiting {
        /// When, at the latest.
        until: Option<Instant>,
    },
    /// The next transport has been made, or cannot be.
    Connected(T),
    /// The client was closed: nobody needs the next transport.
    Over,
}

impl Outage<'_> {
    /// Lets time pass, makes the next transport when it is time to, and notices that nobody needs it
    /// any more.
    pub fn poll<F: Future>(
        &self,
        cx: &mut Context<'_>,
        connecting: Pin<&mut F>,
    ) -> OutageProgress<F::Output> {
        self.connection.register(cx.waker());
        if !self.connection.is_interrupted() {
            return OutageProgress::Over;
        }
        let now = Instant::now();
        if self.first_try <= now
            && let Poll::Ready(outcome) = connecting.poll(cx)
        {
            return OutageProgress::Connected(outcome);
        }
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
        }
        let first_try = Some(self.first_try).filter(|at| now < *at);
        OutageProgress::Waiting {
            until: self.connection.poll_timeout().into_iter().chain(first_try).min(),
        }
    }
}

impl std::fmt::Debug for Outage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outage").field("since", &self.since).finish_non_exhaustive()
    }
}
