use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiral_proto::ConnectionError;
use chiral_proto::server::{Server, Stats};

use crate::line::Line;
use crate::operate::ServerSide;
use crate::runtime::{Runtime, by};
use crate::server::ServerConfig;
use crate::shared::{Shared, now};
use crate::turn::Turn;

/// How many handshakes may be going on at once; when another one comes the oldest is given up.
const HANDSHAKES: u64 = 32;
/// How many policies may have come and gone while the robot is still at the first one's last
/// command: more would wait for it for ever, and without bound, when it hangs.
const STUCK: u64 = 16;
/// How long a policy waits for the one before it that may just be going: its end and the new
/// connection reach the server independently.
const HANDOVER: Duration = Duration::from_millis(250);

/// Sees to it that the robot has one policy at a time.
pub(crate) struct Office {
    pub(crate) config: ServerConfig,
    state: Mutex<State>,
    changed: event_listener::Event,
}

#[derive(Default)]
pub(crate) struct State {
    /// The connection of the policy that has the robot.
    current: Option<Arc<Shared<ServerSide>>>,
    /// Policies that were let in, and those of them with which the robot is done.
    let_in: u64,
    done: u64,
    /// Connections that have come, let in or not.
    arrivals: u64,
    shutting_down: bool,
}

impl State {
    /// Whether the robot is done with all policies before one, by its number.
    pub(crate) fn is_turn_of(&self, number: u64) -> bool {
        self.done == number
    }

    /// Policies that have gone, or are going, and with which the robot is not done.
    fn gone(&self) -> u64 {
        self.let_in - self.done
    }

    /// Why nobody is let in at the moment.
    fn why_not(&self) -> NoEntry {
        match self.gone() {
            gone if gone >= STUCK => NoEntry::Stuck(gone),
            _ => NoEntry::Taken,
        }
    }
}

/// Why a policy is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEntry {
    #[error("this robot already has a policy; it takes one at a time")]
    Taken,
    #[error("the robot's server is shutting down")]
    ShuttingDown,
    #[error("this robot is still busy with {0} policies that have gone")]
    Stuck(u64),
}

impl Office {
    pub(crate) fn new(config: ServerConfig) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default(), changed: event_listener::Event::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify(usize::MAX);
        result
    }

    /// Waits until `ready` finds something in the state.
    pub(crate) async fn until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = {
                let mut state = self.lock();
                if let Some(ready) = ready(&mut state) {
                    return ready;
                }
                self.changed.listen()
            };
            changed.await;
        }
    }

    /// Notes that a connection has come, and returns its number.
    pub(crate) fn arrive(&self) -> u64 {
        self.change(|state| {
            state.arrivals += 1;
            state.arrivals
        })
    }

    /// Waits until the handshake of a connection, by its number, is not worth going on with.
    pub(crate) async fn until_unwanted(&self, arrival: u64) {
        self.until(|state| {
            let is_unwanted = state.shutting_down || state.arrivals >= arrival + HANDSHAKES;
            is_unwanted.then_some(())
        })
        .await;
    }

    /// Takes the robot for a new connection, if it is free or is just becoming so.
    pub(crate) async fn enter<R: Runtime>(&self) -> Result<Arc<Shared<ServerSide>>, NoEntry> {
        let free = self.until(|state| {
            if state.shutting_down {
                return Some(Err(NoEntry::ShuttingDown));
            }
            // One that only waits for its peer to answer the close no longer has the robot.
            if state.current.as_ref().is_some_and(|current| current.error().is_none()) {
                return None;
            }
            if state.gone() >= STUCK {
                return None;
            }
            let shared = Shared::new(ServerSide::new(Server::new(self.config.machine.clone())));
            state.current = Some(Arc::clone(&shared));
            Some(Ok(shared))
        });
        by::<R, _>(now() + HANDOVER, free).await.unwrap_or_else(|| Err(self.lock().why_not()))
    }

    /// Gives the robot free.
    pub(crate) fn leave(&self, shared: &Arc<Shared<ServerSide>>) {
        self.change(|state| state.current.take_if(|current| Arc::ptr_eq(current, shared)));
    }

    /// Serves the robot over a connection that has [entered](Self::enter), to its end. When this is
    /// dropped, the connection is closed.
    ///
    /// `operate` begins to operate the robot for the policy's turn, and `carry` to drive its line.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        shared: Arc<Shared<ServerSide>>,
        operate: impl FnOnce(Turn),
        carry: impl FnOnce(Line),
    ) -> ConnectionError {
        let hang_up = HangUp(Arc::clone(&shared));
        let number = self.change(|state| {
            state.let_in += 1;
            state.let_in - 1
        });
        let turn = Turn::new(number, Arc::clone(self), Arc::clone(&shared));
        let (office, ended) = (Arc::clone(self), Arc::clone(&shared));
        carry(Line::new(Arc::clone(&shared), move || office.leave(&ended)));
        operate(turn);
        shared.wait_for_end().await;
        drop(hang_up);
        shared.error().unwrap_or(ConnectionError::ClosedLocally)
    }

    /// Whether the robot is done with all policies before one, by its number.
    pub(crate) fn is_turn_of(&self, number: u64) -> bool {
        self.lock().is_turn_of(number)
    }

    /// The robot is done with a policy.
    pub(crate) fn turn_is_over(&self) {
        self.change(|state| state.done += 1);
    }

    /// Takes no more policies, and waits until the one that there is has its answers and the robot
    /// is at rest.
    pub(crate) async fn shut_down(&self) {
        self.take_leave(self.config.shutdown_timeout);
        self.until(|state| {
            let is_at_rest = state.current.is_none() && state.done == state.let_in;
            is_at_rest.then_some(())
        })
        .await;
    }

    /// Takes no more policies, and sends the one that there is away, after `grace` at the latest.
    pub(crate) fn take_leave(&self, grace: Duration) {
        let current = self.change(|state| {
            state.shutting_down = true;
            state.current.clone()
        });
        if let Some(current) = current {
            current.call(|side, now| side.machine.shut_down(now + grace));
        }
    }

    pub(crate) async fn until_shut_down(&self) {
        self.until(|state| state.shutting_down.then_some(())).await;
    }

    #[cfg(feature = "zenoh")]
    pub(crate) fn zenoh_stats(&self) -> Option<chiral_zenoh::Stats> {
        let current = self.lock().current.clone()?;
        let side = current.lock();
        Some(side.zenoh.as_ref()?.read())
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        let current = self.lock().current.clone()?;
        let side = current.lock();
        Some(side.machine.stats())
    }
}

/// Closes a connection, if it is not closed yet, once nobody serves it any more.
struct HangUp(Arc<Shared<ServerSide>>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.call(|side, _| side.machine.close());
    }
}
